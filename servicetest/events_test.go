package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
)

func TestStreamHeader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for _, address := range []string{"/v1/events", alice.StreamURL} {
		stream, _ := alice.listenAt(address)
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
		} {
			if got := stream.reply.Header.Get(name); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		stream.disconnect()
	}
}

// TestStreamURLOpensStream opens the stream as EventSource does, which sends no
// header of its own but Last-Event-ID.
func TestStreamURLOpensStream(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, ready := s.anonymous().listenAt(alice.StreamURL)
	if ready.SessionID != alice.SessionID || len(ready.Rooms) != 1 || ready.Rooms[0].ID != "lobby" {
		t.Errorf("the stream begins with %+v", ready)
	}
	alice.send("lobby", "one")
	if got := stream.text(); got != "one" {
		t.Errorf("it brings %q", got)
	}
	stream.disconnect()
	alice.send("lobby", "two")
	stream, ready = s.anonymous().listenAt(alice.StreamURL, resume(stream.id))
	if got := stream.text(); !ready.Resumed || got != "two" {
		t.Errorf("resumed: %t, it goes on with %q", ready.Resumed, got)
	}
}

// TestStreamStartsAtEnter: without a cursor nothing is missed
// since then, and nothing from before is shown.
func TestStreamStartsAtEnter(t *testing.T) {
	t.Parallel()
	s := newService(t)
	bob, alice := s.login("bob"), s.login("alice")
	bob.enter("lobby")
	bob.send("lobby", "before")
	alice.enter("lobby")
	bob.send("lobby", "after")
	for range 2 {
		stream, ready := alice.listen()
		if got := stream.text(); ready.Resumed || got != "after" {
			t.Errorf("resumed: %t, the stream begins with %q", ready.Resumed, got)
		}
		stream.disconnect()
	}
}

func TestCursorInHeaderAndQuery(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	alice.enter("cellar")
	stream, _ := alice.listen()
	var ids []string
	for i := range 4 {
		alice.send([]room.RoomID{"lobby", "cellar"}[i%2], fmt.Sprint(i))
		if got := stream.text(); got != fmt.Sprint(i) {
			t.Fatalf("%q comes", got)
		}
		ids = append(ids, stream.id)
	}
	stream.disconnect()
	query := func(id string) string { return "?last_event_id=" + url.QueryEscape(id) }
	byURL := func(id string) string { return alice.StreamURL + "&last_event_id=" + url.QueryEscape(id) }
	for _, c := range []struct {
		what, address string
		header        string
		want          []string
	}{
		{"in the header", "/v1/events", ids[1], []string{"2", "3"}},
		{"in the query", "/v1/events" + query(ids[1]), "", []string{"2", "3"}},
		{"in the stream's URL", byURL(ids[2]), "", []string{"3"}},
		{"in both, of which the header is the newer", byURL(ids[0]), ids[2], []string{"3"}},
		{"of the end", "/v1/events", ids[3], nil},
	} {
		stream, ready := alice.listenAt(c.address, func(r *http.Request) {
			if c.header != "" {
				r.Header.Set("Last-Event-ID", c.header)
			}
		})
		if !ready.Resumed {
			t.Errorf("the cursor %s is not resumed", c.what)
		}
		// Two logs may come in either order.
		var got []string
		for range c.want {
			got = append(got, stream.text())
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("with the cursor %s come %q", c.what, got)
		}
		stream.disconnect()
	}
}

// TestUnservableCursors: what cannot be continued is said, with a fresh
// snapshot, and the stream goes on from there.
func TestUnservableCursors(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	lobby := alice.enter("lobby")
	alice.send("lobby", "seen")
	ahead := cursorOf(lobby, 999)
	for _, c := range []struct {
		cursor string
		reason room.ResetReason
	}{
		{"nonsense", room.ResetCursorInvalid},
		{"1:1,1:1", room.ResetCursorInvalid},
		{"-1:5", room.ResetCursorInvalid},
		{strings.Repeat("1", 2048), room.ResetCursorInvalid},
		{ahead, room.ResetCursorAhead},
	} {
		stream, ready := alice.listen(resume(c.cursor))
		if ready.Resumed {
			t.Errorf("%.20s is resumed", c.cursor)
		}
		reset := expect[room.RoomReset](stream)
		if reset.RoomID != "lobby" || reset.Reason != c.reason || reset.Room.LastSeq < 2 || reset.OldestSeq != 1 {
			t.Errorf("%.20s is answered with %+v", c.cursor, reset)
		}
		if c.reason == room.ResetCursorInvalid {
			if reset := expect[room.InboxReset](stream); reset.Reason != c.reason || reset.OldestSeq != 1 {
				t.Errorf("%.20s is answered with %+v for the inbox", c.cursor, reset)
			}
		}
		alice.send("lobby", "next")
		if got := stream.text(); got != "next" {
			t.Errorf("after %.20s comes %q", c.cursor, got)
		}
		// The inbox is older than the room, and stands before it.
		if got, want := stream.id, ","+cursorOf(lobby, stream.seq()); !strings.HasSuffix(got, want) {
			t.Errorf("the cursor is then %s, and not %s", got, want)
		}
		stream.disconnect()
	}
	// A log that is none of the session's is no reason to lose others.
	stream, ready := alice.listen(resume(cursorOf(lobby, 2) + ",zzz:1"))
	if !ready.Resumed {
		t.Errorf("with an unknown log: %+v", ready)
	}
	if got := stream.text(); got != "next" {
		t.Errorf("with an unknown log: %q", got)
	}
}

// cursorOf is a cursor as the server writes it. Clients do not make any.
func cursorOf(r room.Room, seq room.Seq) string {
	return strconv.FormatInt(int64(r.Generation), 36) + ":" + strconv.FormatInt(int64(seq), 36)
}

func TestNewerStreamSupersedes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	older, _ := alice.listen()
	newer, _ := s.anonymous().listenAt(alice.StreamURL)
	if got := expect[room.ConnectionStateChanged](older); got.Event != room.ConnectionSuperseded || got.State != "disconnected" {
		t.Errorf("the older stream ends with %+v", got)
	}
	older.end()
	alice.send("lobby", "hello")
	if got := newer.text(); got != "hello" {
		t.Errorf("the newer stream brings %q", got)
	}
	if got := alice.state(); got != "online" {
		t.Errorf("the session is %s", got)
	}
}

// TestRoomLeftWhileAway: a session that comes back learns of the rooms that it
// was taken out of, and why.
func TestRoomLeftWhileAway(t *testing.T) {
	t.Parallel()
	var late atomic.Int64 // how far the store's clock is ahead
	s := newService(t, func(c *setup) {
		c.store.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	})
	bob := s.login("bob")
	for _, id := range []room.RoomID{"left", "lost", "kept"} {
		bob.call("POST", "/v1/rooms", object{"roomID": id, "config": object{"memberTimeout": map[room.RoomID]int{"left": 300, "lost": 30, "kept": 300}[id]}}).is(http.StatusCreated)
	}
	his, _ := bob.listen()
	alice := s.login("alice")
	for _, id := range []room.RoomID{"left", "lost", "kept"} {
		alice.enter(id)
		expect[room.MembersJoined](his)
	}
	hers, _ := alice.listen()
	hers.disconnect()
	eventually(t, "the session is detached", func() bool { return alice.state() == "detached" })
	alice.leave("left")
	expect[room.MembersLeft](his)
	late.Store(int64(31 * time.Second))
	s.sweepUntilEvent(his)
	if left := expect[room.MembersLeft](his); left.MemberList[0].Reason != room.ReasonTimedOut {
		t.Errorf("the others see %+v", left)
	}
	bob.send("kept", "meanwhile")

	hers, ready := alice.listen(resume(hers.id))
	if len(ready.Rooms) != 1 || ready.Rooms[0].ID != "kept" || !ready.Resumed {
		t.Errorf("she comes back to %+v", ready)
	}
	var told []string
	for range 2 {
		changed := expect[room.RoomStateChanged](hers)
		told = append(told, fmt.Sprintf("%s %s %s", changed.RoomID, changed.State, changed.Event))
	}
	slices.Sort(told)
	if want := []string{"left disconnected success", "lost disconnected networkTimeout"}; !slices.Equal(told, want) {
		t.Errorf("she is told %q", told)
	}
	if got := hers.text(); got != "meanwhile" {
		t.Errorf("what she missed is %q", got)
	}
	alice.call("GET", roomPath("lost", ""), nil).refused(http.StatusConflict, "not_in_room")
}

// TestTimeoutInQuietRoom: who lost the stream before the room's log brought
// anything is told why it is out, like everybody else.
func TestTimeoutInQuietRoom(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	hers, _ := alice.listen()
	alice.enter("quiet")
	for range 2 { // connecting, connected
		expect[room.RoomStateChanged](hers)
	}
	hers.disconnect()
	s.admin().call("DELETE", adminPath("quiet", "/members/alice?reason=spam"), nil).is(http.StatusNoContent)
	hers, ready := alice.listen(resume(hers.id))
	if len(ready.Rooms) != 0 {
		t.Errorf("she is in %+v", ready.Rooms)
	}
	if out := expect[room.RoomStateChanged](hers); out.RoomID != "quiet" || out.Event != room.RoomKickedOut || out.Reason != "spam" {
		t.Errorf("she is told %+v", out)
	}
}

// TestBrokenStreams: however often a stream breaks, its reader gets each event
// once and in order.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	const messages, senders = 60, 4
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() {
			for i := range messages {
				bob.send("lobby", fmt.Sprintf("%d/%d", n, i))
			}
		})
	}
	stream, _ := alice.listen()
	expect[room.MembersJoined](stream)
	last := stream.seq()
	next := make(map[int]int) // each sender's next message
	for got := range messages * senders {
		if got%7 == 3 { // EventSource, fetch, and a cursor in the query in turn
			id := stream.id
			stream.disconnect()
			switch got % 3 {
			case 0:
				stream, _ = s.anonymous().listenAt(alice.StreamURL, resume(id))
			case 1:
				stream, _ = alice.listen(resume(id))
			case 2:
				stream, _ = alice.listenAt("/v1/events?last_event_id=" + url.QueryEscape(id))
			}
		}
		var sender, i int
		if _, err := fmt.Sscanf(stream.text(), "%d/%d", &sender, &i); err != nil {
			t.Fatal(err)
		}
		if seq := stream.seq(); seq != last+1 || i != next[sender] {
			t.Fatalf("after event %d comes %d, message %d/%d and not %d", last, seq, sender, i, next[sender])
		}
		last++
		next[sender]++
	}
	sending.Wait()
}

// TestServerDrainsStreams: every stream is asked to come back and may do so, until the
// end, from which no new one is taken.
func TestServerDrainsStreams(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	stream, _ := alice.listen()
	s.hub.Drain(t.Context(), 50*time.Millisecond)
	if got := expect[room.Reconnect](stream); got.AfterMs < 0 || got.AfterMs > 100 {
		t.Errorf("the stream ends with %+v", got)
	}
	stream.end()
	stream, ready := alice.listen(resume(stream.id))
	if !ready.Resumed {
		t.Error("the stream is not resumed")
	}
	s.hub.Shutdown(t.Context())
	if got := expect[room.Reconnect](stream); got.AfterMs > 1000 {
		t.Errorf("the stream ends with %+v", got)
	}
	stream.end()
	alice.call("GET", "/v1/events", nil).refused(http.StatusServiceUnavailable, "unavailable")
	again := s.anonymous().open(alice.StreamURL)
	if got := expect[room.Reconnect](again); got.AfterMs < 500 || got.AfterMs > room.MinMemberTimeout.Milliseconds()/2 {
		t.Errorf("EventSource is answered with %+v", got)
	}
	again.end()
}
