package servicetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
)

// waitTimeout limits how long a test waits for something that must happen. It delays only failing
// tests, so it is long enough for a busy machine.
const waitTimeout = time.Minute

// event is a Server-Sent Event.
type event struct {
	ID   string
	Type string
	Data json.RawMessage
}

// declaredEvent is an event's entry in x-sse-events of the contract.
type declaredEvent struct {
	// ID is true or false, or "stored" if only events with a seq have an id.
	ID     any    `json:"id"`
	Schema string `json:"schema"`
}

func (d declaredEvent) hasID(e event) bool {
	if d.ID == "stored" {
		return bytes.Contains(e.Data, []byte(`"seq":`))
	}
	return d.ID == true
}

// declaredEvents returns x-sse-events of each operation of the contract that is a stream.
var declaredEvents = sync.OnceValue(func() map[string]map[string]declaredEvent {
	all := make(map[string]map[string]declaredEvent)
	for _, item := range openapi().Paths.Map() {
		for _, op := range item.Operations() {
			declared, ok := op.Extensions["x-sse-events"]
			if !ok {
				continue
			}
			data, err := json.Marshal(declared)
			if err != nil {
				panic(err)
			}
			var events map[string]declaredEvent
			if err := json.Unmarshal(data, &events); err != nil {
				panic(err)
			}
			all[op.OperationID] = events
		}
	}
	return all
})

// check checks an event of an operation's stream against the contract.
func (e event) check(operationID string) error {
	declared, ok := declaredEvents()[operationID][e.Type]
	switch {
	case !ok:
		return fmt.Errorf("the contract has no event %q in %s", e.Type, operationID)
	case declared.hasID(e) != (e.ID != ""):
		return fmt.Errorf("event %s: id is %q", e.Type, e.ID)
	}
	if err := matches(declared.Schema, e.Data); err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	if err := checkSecrecy(e.Data); err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	seen.event(operationID, e.Type)
	return nil
}

// readEvents reads a stream until it ends. It accepts only the fields that Parlor sends, each at
// most once in an event.
func readEvents(r io.Reader, each func(event), retry func(int), comment func()) error {
	var e event
	fields := make(map[string]bool)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if line != "" || len(fields) > 0 {
				return fmt.Errorf("the stream ended in the middle of an event: %q: %w", line, err)
			}
			return nil
		}
		line = strings.TrimSuffix(line, "\n")
		if at := strings.IndexFunc(line, breaksLine); at >= 0 {
			return fmt.Errorf("some readers break the line at %+.1q: %q", line[at:], line)
		}
		if line == "" {
			if e.Type != "" || e.Data != nil || e.ID != "" {
				each(e)
			}
			e = event{}
			clear(fields)
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		if name != "" && fields[name] {
			return fmt.Errorf("an event has two %s fields", name)
		}
		switch name {
		case "":
			comment()
			continue
		case "id":
			e.ID = value
		case "event":
			e.Type = value
		case "data":
			e.Data = json.RawMessage(value)
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("retry: %w", err)
			}
			retry(ms)
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("unexpected line in the stream: %q", line)
		}
		fields[name] = true
	}
}

// breaksLine reports whether some reader of text breaks a line at a character.
func breaksLine(c rune) bool { return c < ' ' || c == '\u0085' || c == '\u2028' || c == '\u2029' }

// stream is an open event stream. Events are checked against the contract as they are read.
type stream struct {
	t     testing.TB
	reply *http.Response
	// events is closed by the reading goroutine when the stream ends. It has room for all events that
	// a test leaves unread. They are pointers, because each of hundreds of streams has that room.
	events   chan *event
	comments atomic.Int64
	// last is the newest event that the test has received, and id is the newest cursor.
	last event
	id   string
	// disconnected is closed when the test disconnects.
	disconnected chan struct{}
	closed       sync.Once
}

// read reads a stream in the background until the stream or the test ends.
func read(t testing.TB, reply *http.Response) *stream {
	s := &stream{t: t, reply: reply, events: make(chan *event, 10_000), disconnected: make(chan struct{})}
	ended := make(chan struct{})
	operationID := ""
	if route, _, ok := operation(reply.Request); ok {
		operationID = route.Operation.OperationID
	}
	go func() {
		defer close(ended)
		defer close(s.events)
		err := readEvents(reply.Body, func(e event) {
			if err := e.check(operationID); err != nil {
				t.Error(err)
			}
			s.events <- &e
		}, func(int) {}, func() { s.comments.Add(1) })
		select {
		case <-s.disconnected:
		default:
			if err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		s.disconnect()
		<-ended
	})
	return s
}

// disconnect closes the connection without any notice, as a client that vanishes.
func (s *stream) disconnect() {
	s.closed.Do(func() {
		close(s.disconnected)
		_ = s.reply.Body.Close() // an unread rest is discarded
	})
}

// next returns the next event.
func (s *stream) next() event {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if !ok {
			s.t.Fatalf("the stream ended unexpectedly after %s %s", s.last.Type, s.last.Data)
		}
		s.last = *e
		if e.ID != "" {
			s.id = e.ID
		}
		return *e
	case <-time.After(waitTimeout):
		s.t.Fatalf("timed out waiting for the event after %s %s", s.last.Type, s.last.Data)
	}
	panic("unreachable")
}

// end requires that the stream ends without another event.
func (s *stream) end() {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if ok {
			s.t.Fatalf("got event %s %s, want the end of the stream", e.Type, e.Data)
		}
	case <-time.After(waitTimeout):
		s.t.Fatal("the stream does not end")
	}
}

// expect returns the body of the next event, which must have the type of B.
func expect[B room.Body](s *stream) B {
	s.t.Helper()
	var body B
	e := s.next()
	if e.Type != string(body.Type()) {
		s.t.Fatalf("got event %s, want %s: %s", e.Type, body.Type(), e.Data)
	}
	if err := json.Unmarshal(e.Data, &body); err != nil {
		s.t.Fatalf("%s: %v", e.Type, err)
	}
	return body
}

// skipTo returns the body of the next event of the type of B, and discards the events before it.
func skipTo[B room.Body](s *stream) B {
	s.t.Helper()
	var body B
	for {
		e := s.next()
		if e.Type != string(body.Type()) {
			continue
		}
		if err := json.Unmarshal(e.Data, &body); err != nil {
			s.t.Fatalf("%s: %v", e.Type, err)
		}
		return body
	}
}

// state expects a roomStateChanged event and returns its state and event, separated by a space.
func (s *stream) state() string {
	s.t.Helper()
	changed := expect[room.RoomStateChanged](s)
	return fmt.Sprintf("%s %s", changed.State, changed.Event)
}

// text expects an event with one message and returns the message's text.
func (s *stream) text() string {
	s.t.Helper()
	received := expect[room.MessagesReceived](s)
	if len(received.MessageList) != 1 {
		s.t.Fatalf("got an event with %d messages, want one message", len(received.MessageList))
	}
	return received.MessageList[0].Text
}

// seq returns the seq of the last event.
func (s *stream) seq() room.Seq {
	s.t.Helper()
	var place struct{ Seq room.Seq }
	if err := json.Unmarshal(s.last.Data, &place); err != nil {
		s.t.Fatal(err)
	}
	return place.Seq
}

// fenceRoom is the ID of a room that no test uses, as it appears in events.
const fenceRoom = `"roomID":"fence"`

// fence makes the session's stream deliver two events, which fenceBegins and fenceEnds recognise.
// They come after all events that the session has been notified of before.
func (c *client) fence() {
	c.hub.Apply(room.Change{Refused: []room.RefusedJoin{{Session: c.SessionID, Room: "fence", Call: room.RoomEnter}}})
}

func fenceBegins(e event) bool {
	return strings.Contains(string(e.Data), fenceRoom) && strings.Contains(string(e.Data), string(room.RoomConnecting))
}

func fenceEnds(e event) bool {
	return strings.Contains(string(e.Data), fenceRoom) && strings.Contains(string(e.Data), string(room.RoomDisconnected))
}
