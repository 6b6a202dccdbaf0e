package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"parlor/hub"
	"parlor/room"
)

// Bounds of the parameter wait, in seconds. Many proxies end a request without a reply after a
// minute.
const minWait, maxWait = 1, 60

// pollReply is the reply to a poll: what a stream would send, up to its first events.
type pollReply struct {
	Events []polledEvent `json:"events"`
	// Cursor is the one to send with the next poll; empty if it has not changed.
	Cursor string `json:"cursor,omitempty"`
}

type polledEvent struct {
	Event room.EventType  `json:"event"`
	ID    string          `json:"id,omitempty"`
	Data  json.RawMessage `json:"data"`
}

// servePoll serves a stream that ends as soon as it has sent events, or when wait has passed, and
// answers with the events. Errors: room.ErrUnavailable.
func (a *api) servePoll(w http.ResponseWriter, r *http.Request, o *openedStream) error {
	defer o.release()
	ctx, cancel := context.WithTimeoutCause(r.Context(), o.wait, hub.ErrEnough)
	defer cancel()
	p := &poll{since: o.start.Cursor, reply: pollReply{Events: []polledEvent{}}}
	if err := o.stream.Serve(ctx, o.start, p); err != nil {
		return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
	}
	if r.Context().Err() != nil {
		return nil // nobody is waiting for the reply
	}
	body, err := json.Marshal(p.reply)
	if err != nil {
		return fmt.Errorf("encode the events of a poll: %w", err)
	}
	maps.Copy(w.Header(), answerHeaders)
	w.WriteHeader(http.StatusOK)
	if err := (responseConn{w, http.NewResponseController(w)}).Send(append(body, '\n'), replyTimeout); err != nil {
		a.Log.Debug("reply write failed", "requestID", requestID(r.Context()), "error", err)
	}
	return nil
}

// poll is the connection of a stream whose events are collected.
type poll struct {
	since hub.Cursor // which the client has sent
	rest  []byte     // the beginning of an event
	reply pollReply
}

// Send implements hub.Conn. It returns hub.ErrEnough if there are events for the reply.
func (p *poll) Send(b []byte, _ time.Duration) error {
	p.rest = append(p.rest, b...)
	for {
		frame, rest, found := bytes.Cut(p.rest, []byte("\n\n"))
		if !found {
			break
		}
		p.rest = rest
		p.add(frame)
	}
	if len(p.reply.Events) > 0 {
		return hub.ErrEnough
	}
	return nil
}

// add adds an event to the reply, unless the frame is a comment or says nothing new.
func (p *poll) add(frame []byte) {
	var e polledEvent
	for line := range bytes.Lines(frame) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\n'}), []byte(": "))
		switch string(name) {
		case "event":
			e.Event = room.EventType(value)
		case "id":
			e.ID = string(value)
		case "data":
			e.Data = value
		}
	}
	if e.ID != "" {
		p.reply.Cursor = e.ID
	}
	if e.Event == "" || e.Event == room.TypeSessionReady && p.knows(e.Data) {
		return
	}
	p.reply.Events = append(p.reply.Events, e)
}

// knows reports whether a sessionReady says nothing that the client does not know: the stream
// resumes, and the session is in no room that the client's cursor lacks. What else has happened
// follows in other events.
func (p *poll) knows(data []byte) bool {
	var ready struct {
		Resumed bool
		Rooms   []struct{ Generation room.LogID }
	}
	if err := json.Unmarshal(data, &ready); err != nil || !ready.Resumed {
		return false
	}
	for _, r := range ready.Rooms {
		if _, known := p.since.Seq(r.Generation); !known {
			return false
		}
	}
	return true
}
