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

// patience is how long a test waits for something that must happen. It only makes a failing test slow, so it is long
// enough for a busy machine.
const waitTimeout = time.Minute

// event is a Server-Sent Event as it was read.
type event struct {
	ID   string
	Type string
	Data json.RawMessage
}

// declaredEvent is what x-sse-events says of an event.
type declaredEvent struct {
	// ID is true, false, or "stored" for an event that has an id where it has a
	// seq.
	ID     any    `json:"id"`
	Schema string `json:"schema"`
}

func (d declaredEvent) hasID(e event) bool {
	if d.ID == "stored" {
		return bytes.Contains(e.Data, []byte(`"seq":`))
	}
	return d.ID == true
}

// declaredEvents is the contract's x-sse-events of each operation that is a
// stream.
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

// check holds an event of an operation's stream against the contract.
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

// readEvents reads a stream to its end. Only the fields that Parlor writes are
// known, each at most once an event.
func readEvents(r io.Reader, each func(event), retry func(int), comment func()) error {
	var e event
	fields := make(map[string]bool)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if line != "" || len(fields) > 0 {
				return fmt.Errorf("the stream ends within an event: %q: %w", line, err)
			}
			return nil
		}
		line = strings.TrimSuffix(line, "\n")
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
			return fmt.Errorf("%s stands twice in an event", name)
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
			return fmt.Errorf("the stream has the line %q", line)
		}
		fields[name] = true
	}
}

// stream is an open event stream. Each event was checked when it was read.
type stream struct {
	t        testing.TB
	reply    *http.Response
	events   chan event // closed by the reader at the stream's end
	comments atomic.Int64
	// last is the newest event that the test has seen; id is its cursor.
	last event
	id   string
	// hungUp says that the test closed the stream.
	disconnected chan struct{}
	closed       sync.Once
}

// read lets a stream be read in the background, until it ends or the test does.
func read(t testing.TB, reply *http.Response) *stream {
	s := &stream{t: t, reply: reply, events: make(chan event, 10_000), disconnected: make(chan struct{})}
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
			s.events <- e
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

// hangUp ends the stream as a client does that vanishes.
func (s *stream) disconnect() {
	s.closed.Do(func() {
		close(s.disconnected)
		_ = s.reply.Body.Close() // whatever was on its way
	})
}

// next is the next event.
func (s *stream) next() event {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if !ok {
			s.t.Fatalf("the stream has ended after %s %s", s.last.Type, s.last.Data)
		}
		s.last = e
		if e.ID != "" {
			s.id = e.ID
		}
		return e
	case <-time.After(waitTimeout):
		s.t.Fatalf("nothing comes after %s %s", s.last.Type, s.last.Data)
	}
	panic("unreachable")
}

// end waits for the stream's end, before which no event may come.
func (s *stream) end() {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if ok {
			s.t.Fatalf("%s %s comes, and not the end", e.Type, e.Data)
		}
	case <-time.After(waitTimeout):
		s.t.Fatal("the stream does not end")
	}
}

// expect is the next event's body, which must be of this type.
func expect[B room.Body](s *stream) B {
	s.t.Helper()
	var body B
	e := s.next()
	if e.Type != string(body.Type()) {
		s.t.Fatalf("%s comes, and not %s: %s", e.Type, body.Type(), e.Data)
	}
	if err := json.Unmarshal(e.Data, &body); err != nil {
		s.t.Fatalf("%s: %v", e.Type, err)
	}
	return body
}

// skipTo is the next event of this type, whatever comes before.
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

// state expects a roomStateChanged and returns it as "state event".
func (s *stream) state() string {
	s.t.Helper()
	changed := expect[room.RoomStateChanged](s)
	return fmt.Sprintf("%s %s", changed.State, changed.Event)
}

// text expects one message and returns what it says.
func (s *stream) text() string {
	s.t.Helper()
	received := expect[room.MessagesReceived](s)
	if len(received.MessageList) != 1 {
		s.t.Fatalf("%d messages come at once", len(received.MessageList))
	}
	return received.MessageList[0].Text
}

// seq is the place of the last event in its log.
func (s *stream) seq() room.Seq {
	s.t.Helper()
	var place struct{ Seq room.Seq }
	if err := json.Unmarshal(s.last.Data, &place); err != nil {
		s.t.Fatal(err)
	}
	return place.Seq
}

// fenceRoom is a room that no test calls.
const fenceRoom = `"roomID":"fence"`

// fence makes the session's stream deliver two events, which fenceBegins and fenceEnds recognise, after everything
// that the session was notified of before.
func (c *client) fence() {
	c.hub.Apply(room.Change{Refused: []room.RefusedJoin{{Session: c.SessionID, Room: "fence", Call: room.RoomEnter}}})
}

func fenceBegins(e event) bool {
	return strings.Contains(string(e.Data), fenceRoom) && strings.Contains(string(e.Data), string(room.RoomConnecting))
}

func fenceEnds(e event) bool {
	return strings.Contains(string(e.Data), fenceRoom) && strings.Contains(string(e.Data), string(room.RoomDisconnected))
}
