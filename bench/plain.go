package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Plain is a server that streams by GET and publishes by POST, without sessions, such as nchan or
// the floor of parlor-bench.
type Plain struct {
	// Subscribe and Publish are URLs of the same server. {room} in them is replaced by the name of
	// the room.
	Subscribe, Publish string
	// Envelope is the JSON body of a request that publishes. {room} in it is replaced by the name of
	// the room, and {message} by the message. Empty means that the body is the message.
	Envelope string
	// Greets says that the first frame of a stream opens it, and not the head of the reply.
	Greets bool
	// Size is the length of a message in bytes, at least MinSize.
	Size int

	subscribe, publish *url.URL
	filling            []byte
}

const (
	roomHolder    = "{room}"
	messageHolder = "{message}"
)

func (p *Plain) check() error {
	var faults []error
	if p.Size < MinSize || p.Size > maxPlainSize {
		faults = append(faults, fmt.Errorf("--size: %d is outside %d to %d", p.Size, MinSize, maxPlainSize))
	}
	for _, flag := range []struct {
		name, value, named string // named must contain the room
		parsed             **url.URL
	}{
		{"--subscribe-url", p.Subscribe, p.Subscribe, &p.subscribe},
		{"--publish-url", p.Publish, p.Publish + p.Envelope, &p.publish},
	} {
		u, err := url.Parse(flag.value)
		if err != nil || u.Scheme != "http" || u.Host == "" || !strings.Contains(flag.named, roomHolder) {
			faults = append(faults, fmt.Errorf("%s: %q is not of the form http://host:port/path with %s in the path", flag.name, flag.value, roomHolder))
			continue
		}
		*flag.parsed = u
	}
	if len(faults) == 0 && p.subscribe.Host != p.publish.Host {
		faults = append(faults, errors.New("--subscribe-url and --publish-url must name the same server"))
	}
	p.filling = bytes.Repeat([]byte("x"), max(p.Size, 0))
	return errors.Join(faults...)
}

// maxPlainSize is a size that the floor of parlor-bench accepts with the head of the request.
const maxPlainSize = 64 << 10

func (p *Plain) addresses() ([]string, error) { return []string{hostPort(p.subscribe)}, nil }

func (p *Plain) describe() string { return "plain SSE" }

func (p *Plain) prepare(context.Context, *run) error { return nil }

func (p *Plain) cleanUp(context.Context, []*stream) {}

// requestTarget returns the request target of a URL for a room.
func requestTarget(u *url.URL, rm *runRoom) string {
	path, _ := url.PathUnescape(u.RequestURI())
	return strings.ReplaceAll(path, roomHolder, rm.id)
}

func (p *Plain) appendRequest(b []byte, s *stream) []byte {
	b = fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", requestTarget(p.subscribe, s.room), p.subscribe.Host)
	return append(appendLastID(b, s), "\r\n"...)
}

func (p *Plain) handleFrame(s *stream, f frame, _ *tally) error {
	s.greeted = true
	if len(f.id) > 0 {
		s.cursor = append(s.cursor[:0], f.id...)
	}
	return nil
}

func (p *Plain) opensOnHead() bool { return !p.Greets }
func (p *Plain) mustDeliver() bool { return true }
func (p *Plain) stored() bool      { return false }
func (p *Plain) canRetry() bool    { return false }

func (p *Plain) appendMessage(b []byte, rm *runRoom, _, _ int, stamp []byte) []byte {
	kind, body := "application/json", p.Envelope
	if body == "" {
		kind, body = "text/plain", messageHolder
	}
	before, after, _ := strings.Cut(strings.ReplaceAll(body, roomHolder, rm.id), messageHolder)
	b = fmt.Appendf(b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		requestTarget(p.publish, rm), p.publish.Host, kind, len(before)+p.Size+len(after), before)
	b = append(append(b, stamp...), p.filling[len(stamp):]...)
	return append(b, after...)
}

func (p *Plain) rejected(status int, reply []byte) error {
	return fmt.Errorf("publish: status %d %s: %s", status, http.StatusText(status), firstLine(reply))
}
