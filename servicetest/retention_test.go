package servicetest

import (
	"testing"
	"time"

	"parlor/room"
)

// TestRetention checks that purged events are in no history, and that a cursor for which events are
// missing causes a reset.
func TestRetention(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now, c.store.MessageRetention = clock.Now, time.Hour })
	alice := s.loginWith(s.token("alice", 24*time.Hour))
	stream, ready := alice.listen()
	generation := alice.enter("lobby").Generation
	stream.state() // connecting
	stream.state() // connected
	early := stream.id
	alice.send("lobby", "old")
	if stream.text() != "old" || len(ready.Rooms) != 0 {
		t.Errorf("the stream begins with %+v", ready)
	}
	late := stream.id
	clock.advance(time.Hour)
	kept := alice.send("lobby", "kept")
	if got := stream.text(); got != "kept" {
		t.Errorf("the stream received %q", got)
	}
	clock.advance(time.Second)
	s.sweep()
	if got := listMessages(alice, "lobby", "").texts(); got != "kept" {
		t.Errorf("the history is %q", got)
	}
	exact, ready := alice.listen(resume(late))
	if got := exact.text(); !ready.Resumed || got != "kept" {
		t.Errorf("resumed at the start of the log: %t, next message %q", ready.Resumed, got)
	}
	lacking, ready := alice.listen(resume(early))
	reset := expect[room.RoomReset](lacking)
	if ready.Resumed || reset.Reason != room.ResetLogTrimmed || reset.OldestSeq != kept.Seq || reset.Generation != generation || reset.Room.MemberCount != 1 {
		t.Errorf("resumed before that: %t, %+v", ready.Resumed, reset)
	}
	alice.send("lobby", "new")
	if got := lacking.text(); got != "new" {
		t.Errorf("next message is %q", got)
	}
}
