package hub

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sseMessage is an event as an SSE client dispatches it. ID is the id of its own frame; empty if
// the frame has none.
type sseMessage struct{ ID, Event, Data string }

// sseReader parses an event stream as WHATWG HTML specifies (section 9.2.6). A frame is dispatched
// at its blank line. One that is cut off before that was never received, and neither was its id.
type sseReader struct {
	messages []sseMessage
	lastID   string // what EventSource sends as Last-Event-ID
	retry    int    // milliseconds; 0 if there was none
	comments int
	invalid  []string // lines that Parlor does not write

	line    []byte
	afterCR bool
	frame   sseMessage
	hasID   bool
	data    []string
}

func (r *sseReader) write(p []byte) {
	for _, b := range p {
		afterCR := r.afterCR
		r.afterCR = b == '\r'
		switch {
		case b == '\n' && afterCR: // the second half of a line break
		case b == '\n' || b == '\r':
			r.endLine(string(r.line))
			r.line = r.line[:0]
		default:
			r.line = append(r.line, b)
		}
	}
}

func (r *sseReader) endLine(line string) {
	if line == "" {
		r.dispatch()
		return
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "":
		r.comments++
	case "event":
		r.frame.Event = value
	case "data":
		r.data = append(r.data, value)
	case "id":
		if !strings.Contains(value, "\x00") {
			r.frame.ID, r.hasID = value, true
		}
	case "retry":
		ms, err := strconv.Atoi(value)
		if err != nil {
			r.invalid = append(r.invalid, line)
			return
		}
		r.retry = ms
	default:
		r.invalid = append(r.invalid, line)
	}
}

func (r *sseReader) dispatch() {
	if r.hasID {
		r.lastID = r.frame.ID
	}
	if r.data != nil {
		r.frame.Data = strings.Join(r.data, "\n")
		r.messages = append(r.messages, r.frame)
	}
	r.frame, r.hasID, r.data = sseMessage{}, false, nil
}

func TestSSEReader(t *testing.T) {
	t.Parallel()
	stream := "retry: 250\n\nid: 1\nevent: a\ndata: x\n\n:\n\nevent:b\r\ndata: y\r\ndata:  z\r\n\r\nid: 2\nevent: c\ndata: cut off\n"
	want := []sseMessage{{ID: "1", Event: "a", Data: "x"}, {Event: "b", Data: "y\n z"}}
	for step := 1; step <= len(stream); step++ {
		var r sseReader
		for p := []byte(stream); len(p) > 0; p = p[min(step, len(p)):] {
			r.write(bytes.Clone(p[:min(step, len(p))]))
		}
		if diff := cmp.Diff(want, r.messages); diff != "" {
			t.Fatalf("in steps of %d (-want +got):\n%s", step, diff)
		}
		if r.lastID != "1" || r.retry != 250 || r.comments != 1 {
			t.Fatalf("in steps of %d: last id %q, retry %d, %d comments", step, r.lastID, r.retry, r.comments)
		}
	}
}
