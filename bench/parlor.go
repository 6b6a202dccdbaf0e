package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parlor/room"
)

// prepareCallers is the number of concurrent calls for logins and for entering rooms.
const prepareCallers = 256

// Parlor is one or several Parlor servers. The run creates its own users and rooms there.
type Parlor struct {
	// URLs are the URLs of the servers, such as http://127.0.0.1:8080. They share a database.
	URLs []string
	// Token returns a token for a user.
	Token func(room.UserID) (string, error)
	// AdminToken is an admin token, with which messages are sent through the admin API. Empty means
	// that the sessions send in turn.
	AdminToken string
	Kind       room.MessageKind
	// Size is the length of a message's text, or of a command's data, in bytes: at least MinSize.
	Size int
	// MessageIDs gives each message a clientMessageID, so that it can be sent again while the
	// server is unavailable.
	MessageIDs bool
	// Gzip asks for compressed streams. Decompressing them takes the load generator's time.
	Gzip bool
	// KeepSessions leaves the sessions logged in after the run, for a server that is then stopped.
	KeepSessions bool

	hosts   []string
	filling []byte
}

// MinSize is the minimum length of a message, which must contain a stamp.
const MinSize = stampBytes

func (p *Parlor) check() error {
	var faults []error
	if len(p.URLs) == 0 {
		faults = append(faults, errors.New("--url: is empty"))
	}
	for _, text := range p.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" || u.Host == "" {
			faults = append(faults, fmt.Errorf("--url: %q is not of the form http://host:port (TLS is not supported, because it would distort the measurement)", text))
		}
	}
	limit := room.MaxTextBytes
	switch p.Kind {
	case room.KindText, room.KindCustom:
	case room.KindBarrage, room.KindCommand:
		limit = room.MaxBarrageBytes
	default:
		faults = append(faults, fmt.Errorf("--kind: %q is not text, barrage, command or custom", p.Kind))
	}
	if p.Size < MinSize || p.Size > limit {
		faults = append(faults, fmt.Errorf("--size: %d is outside %d to %d", p.Size, MinSize, limit))
	}
	return errors.Join(faults...)
}

func (p *Parlor) addresses() (all []string, err error) {
	for _, text := range p.URLs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		all = append(all, hostPort(u))
	}
	return all, nil
}

// hostPort returns the address of a URL.
func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return u.Host + ":80"
	}
	return u.Host
}

func (p *Parlor) describe() string { return "Parlor, " + string(p.Kind) }

// prepare logs in a session for each stream and makes it enter its room.
func (p *Parlor) prepare(ctx context.Context, r *run) error {
	p.hosts = r.servers
	p.filling = bytes.Repeat([]byte("x"), p.Size)
	r.progress.setPhase("logging in")
	began, from := time.Now(), r.meter.read()
	if err := p.each(ctx, r.streams, p.login); err != nil {
		return err
	}
	r.report.setLogins(len(r.streams), time.Since(began), costOf(len(r.streams), from, r.meter.read()))
	r.progress.setPhase("joining the rooms")
	// The first stream of each room creates it.
	if err := p.each(ctx, r.streams[:len(r.rooms)], p.enter); err != nil {
		return err
	}
	return p.each(ctx, r.streams[len(r.rooms):], p.enter)
}

func (p *Parlor) login(ctx context.Context, c *caller, s *stream) error {
	// The users are the same in each run, because the server stores users for months.
	token, err := p.Token(room.UserID(fmt.Sprintf("bench-%06d", s.number)))
	if err != nil {
		return err
	}
	var reply struct{ SessionKey string }
	if err := p.call(ctx, c, http.MethodPost, "/v1/sessions", "", map[string]string{"token": token}, &reply); err != nil {
		return err
	}
	s.key = reply.SessionKey
	return nil
}

// enter makes a session enter its room. It stays a member as long as possible while its stream is
// disconnected.
func (p *Parlor) enter(ctx context.Context, c *caller, s *stream) error {
	body := map[string]any{"config": map[string]any{
		"maxMembers": room.MaxMaxMembers, "memberTimeout": int(room.MaxMemberTimeout.Seconds()),
	}}
	var reply struct{ Room struct{ Generation int64 } }
	if err := p.call(ctx, c, http.MethodPost, "/v1/rooms/"+s.room.id+"/enter", s.key, body, &reply); err != nil {
		return err
	}
	if s.number == s.room.number { // the first stream of the room
		s.room.log = reply.Room.Generation
	}
	return nil
}

// cleanUp ends the sessions, and with them the rooms.
func (p *Parlor) cleanUp(ctx context.Context, streams []*stream) {
	if p.KeepSessions {
		return
	}
	_ = p.each(ctx, streams, func(ctx context.Context, c *caller, s *stream) error {
		if s.key == "" {
			return nil
		}
		return p.call(ctx, c, http.MethodDelete, "/v1/sessions/current", s.key, nil, nil)
	})
}

// each calls do for each stream, concurrently, until the first error.
func (p *Parlor) each(ctx context.Context, streams []*stream, do func(context.Context, *caller, *stream) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		callers sync.WaitGroup
		next    atomic.Int64
	)
	for i := range min(prepareCallers, len(streams)) {
		callers.Go(func() {
			c := newCaller(p.hosts[i%len(p.hosts)])
			defer c.close()
			for i := next.Add(1) - 1; i < int64(len(streams)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := do(ctx, c, streams[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	callers.Wait()
	return context.Cause(ctx)
}

func (p *Parlor) call(ctx context.Context, c *caller, method, path, key string, body, reply any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	status, got, err := c.call(ctx, appendCall(nil, method, path, c.address, key, text))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if status < 200 || status >= 300 {
		return fmt.Errorf("%s %s: status %d: %s", method, path, status, firstLine(got))
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(got, reply); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (p *Parlor) appendRequest(b []byte, s *stream) []byte {
	b = fmt.Appendf(b, "GET /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", p.hosts[s.server], s.key)
	if p.Gzip {
		b = append(b, "Accept-Encoding: gzip\r\n"...)
	}
	return append(appendLastID(b, s), "\r\n"...)
}

// appendLastID appends the header with which a stream resumes.
func appendLastID(b []byte, s *stream) []byte {
	if len(s.cursor) == 0 {
		return b
	}
	return append(append(append(b, "Last-Event-ID: "...), s.cursor...), "\r\n"...)
}

func (p *Parlor) opensOnHead() bool { return false } // the event sessionReady opens it
func (p *Parlor) mustDeliver() bool { return p.Kind.Stored() }
func (p *Parlor) stored() bool      { return p.Kind.Stored() }
func (p *Parlor) canRetry() bool    { return p.MessageIDs && p.Kind.Stored() }

// handleFrame checks the order of the stream's events, and stores its cursor.
func (p *Parlor) handleFrame(s *stream, f frame, t *tally) error {
	switch string(f.event) {
	case string(room.TypeSessionReady):
		s.greeted = true
		if s.seq == 0 {
			s.seq = positionIn(f.id, s.room.log)
		}
	case string(room.TypeRoomReset):
		t.resets++
	case string(room.TypeConnectionStateChanged):
		return fmt.Errorf("%w: %s", errStream, f.data)
	default:
		s.follow(f.data)
	}
	if len(f.id) > 0 {
		s.cursor = append(s.cursor[:0], f.id...)
	}
	return nil
}

// follow counts gaps and duplicates in the seqs of the room's events. The data of an event begins
// with {"roomID":"…","generation":7,"seq":42,…
func (s *stream) follow(data []byte) {
	const before, between = `","generation":`, `,"seq":`
	rest, ok := bytes.CutPrefix(data, []byte(`{"roomID":"`))
	if !ok || !bytes.HasPrefix(rest, []byte(s.room.id)) {
		return
	}
	rest, ok = bytes.CutPrefix(rest[len(s.room.id):], []byte(before))
	if !ok {
		return
	}
	_, rest, ok = bytes.Cut(rest[:min(len(rest), 64)], []byte(between))
	if !ok {
		return // not stored
	}
	seq, ok := leadingNumber(rest)
	switch {
	case !ok:
	case seq <= s.seq:
		s.twice++
	default:
		s.lost += seq - s.seq - 1
		s.seq = seq
	}
}

// positionIn returns the seq of a log in a cursor such as "1a:2f,1c:3" (base 36), or 0 if the
// cursor does not contain the log.
func positionIn(cursor []byte, log int64) int64 {
	for part := range strings.SplitSeq(string(cursor), ",") {
		name, position, _ := strings.Cut(part, ":")
		if n, err := strconv.ParseInt(name, 36, 64); err != nil || n != log {
			continue
		}
		seq, _ := strconv.ParseInt(position, 36, 64)
		return seq
	}
	return 0
}

// appendMessage makes the members of a room send in turn, so that each of them stays within its
// rate limit for as long as possible.
func (p *Parlor) appendMessage(b []byte, rm *runRoom, server, turn int, stamp []byte) []byte {
	body := make([]byte, 0, p.Size*4/3+400)
	body = append(append(append(body, `{"kind":"`...), p.Kind...), '"')
	if p.Kind == room.KindCommand {
		// The data of a command is Base64, in which a reader cannot find the stamp without
		// decoding.
		body = append(append(append(body, `,"extendedData":"`...), stamp...), `","data":"`...)
		body = base64.StdEncoding.AppendEncode(body, p.filling)
	} else {
		body = append(append(append(body, `,"text":"`...), stamp...), p.filling[len(stamp):]...)
	}
	body = append(body, '"')
	if p.Kind == room.KindCustom {
		body = append(body, `,"subType":1`...)
	}
	if p.canRetry() {
		body = fmt.Appendf(body, `,"clientMessageID":"%s-%s"`, rm.id, stamp[len(stampMark):len(stampMark)+stampNumber])
	}
	body = append(body, '}')
	if p.AdminToken != "" {
		body = append(append([]byte(`{"sender":{"userID":"bench"},"message":`), body...), '}')
		return appendCall(b, http.MethodPost, "/v1/admin/rooms/"+rm.id+"/messages", p.hosts[server], p.AdminToken, body)
	}
	sender := rm.streams[turn%len(rm.streams)]
	return appendCall(b, http.MethodPost, "/v1/rooms/"+rm.id+"/messages", p.hosts[server], sender.key, body)
}

func (p *Parlor) rejected(status int, reply []byte) error {
	if status == http.StatusTooManyRequests {
		return errors.New("the limit of messages per user was reached (429): use more streams, " +
			"send with --as admin, or start the server with PARLOR_MESSAGE_RATE=0, PARLOR_BARRAGE_RATE=0 and PARLOR_BARRAGE_BYTES=0")
	}
	return fmt.Errorf("send a message: status %d: %s", status, firstLine(reply))
}
