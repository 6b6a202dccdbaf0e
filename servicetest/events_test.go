package servicetest

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
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

// TestStreamURLOpensStream opens the stream as EventSource does, which sends no header except
// Last-Event-ID.
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
		t.Errorf("it received %q", got)
	}
	stream.disconnect()
	alice.send("lobby", "two")
	stream, ready = s.anonymous().listenAt(alice.StreamURL, resume(stream.id))
	if got := stream.text(); !ready.Resumed || got != "two" {
		t.Errorf("resumed: %t, next message is %q", ready.Resumed, got)
	}
}

// TestStreamStartsAtEnter checks that a stream without a cursor delivers all events since the
// session entered the room, and none from before.
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
			t.Errorf("resumed: %t, first message is %q", ready.Resumed, got)
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
			t.Fatalf("got message %q", got)
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
			t.Errorf("the stream did not resume from the cursor %s", c.what)
		}
		// The two logs may be delivered in either order.
		var got []string
		for range c.want {
			got = append(got, stream.text())
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("with the cursor %s, got messages %q", c.what, got)
		}
		stream.disconnect()
	}
}

// TestUnservableCursors checks that a cursor from which the stream cannot resume causes a reset
// with a snapshot, and that events follow.
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
			t.Errorf("the stream resumed from %.20s", c.cursor)
		}
		reset := expect[room.RoomReset](stream)
		if reset.RoomID != "lobby" || reset.Reason != c.reason || reset.Room.LastSeq < 2 || reset.OldestSeq != 1 {
			t.Errorf("with the cursor %.20s, got reset %+v", c.cursor, reset)
		}
		if c.reason == room.ResetCursorInvalid {
			if reset := expect[room.InboxReset](stream); reset.Reason != c.reason || reset.OldestSeq != 1 {
				t.Errorf("with the cursor %.20s, got reset %+v of the inbox", c.cursor, reset)
			}
		}
		alice.send("lobby", "next")
		if got := stream.text(); got != "next" {
			t.Errorf("with the cursor %.20s, next message is %q", c.cursor, got)
		}
		// The inbox was created before the room, so it comes first in the cursor.
		if got, want := stream.id, ","+cursorOf(lobby, stream.seq()); !strings.HasSuffix(got, want) {
			t.Errorf("next cursor is %s, want the end %s", got, want)
		}
		stream.disconnect()
	}
	// An unknown log in the cursor does not affect the session's own logs.
	stream, ready := alice.listen(resume(cursorOf(lobby, 2) + ",zzz:1"))
	if !ready.Resumed {
		t.Errorf("with an unknown log: %+v", ready)
	}
	if got := stream.text(); got != "next" {
		t.Errorf("with an unknown log: %q", got)
	}
}

// cursorOf returns a cursor in the server's format. Clients do not create any.
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
		t.Errorf("the newer stream received %q", got)
	}
	if got := alice.state(); got != "online" {
		t.Errorf("the session is %s", got)
	}
}

// TestRoomLeftWhileAway checks that a session that reconnects learns from which rooms it was
// removed, and why.
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
	bobStream, _ := bob.listen()
	alice := s.login("alice")
	for _, id := range []room.RoomID{"left", "lost", "kept"} {
		alice.enter(id)
		expect[room.MembersJoined](bobStream)
	}
	aliceStream, _ := alice.listen()
	aliceStream.disconnect()
	eventually(t, "alice's session is detached", func() bool { return alice.state() == "detached" })
	alice.leave("left")
	expect[room.MembersLeft](bobStream)
	late.Store(int64(31 * time.Second))
	s.sweepUntilEvent(bobStream)
	if left := expect[room.MembersLeft](bobStream); left.MemberList[0].Reason != room.ReasonTimedOut {
		t.Errorf("membersLeft lists %+v", left)
	}
	bob.send("kept", "meanwhile")

	aliceStream, ready := alice.listen(resume(aliceStream.id))
	if len(ready.Rooms) != 1 || ready.Rooms[0].ID != "kept" || !ready.Resumed {
		t.Errorf("sessionReady after the reconnect is %+v", ready)
	}
	var states []string
	for range 2 {
		changed := expect[room.RoomStateChanged](aliceStream)
		states = append(states, fmt.Sprintf("%s %s %s", changed.RoomID, changed.State, changed.Event))
	}
	slices.Sort(states)
	if want := []string{"left disconnected success", "lost disconnected networkTimeout"}; !slices.Equal(states, want) {
		t.Errorf("got state events %q", states)
	}
	if got := aliceStream.text(); got != "meanwhile" {
		t.Errorf("missed messages are %q", got)
	}
	alice.call("GET", roomPath("lost", ""), nil).refused(http.StatusConflict, "not_in_room")
}

// TestTimeoutInQuietRoom checks that a session that lost its stream before the room had any event
// learns why it was removed.
func TestTimeoutInQuietRoom(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	aliceStream, _ := alice.listen()
	alice.enter("quiet")
	for range 2 { // connecting and connected
		expect[room.RoomStateChanged](aliceStream)
	}
	aliceStream.disconnect()
	s.admin().call("DELETE", adminPath("quiet", "/members/alice?reason=spam"), nil).is(http.StatusNoContent)
	aliceStream, ready := alice.listen(resume(aliceStream.id))
	if len(ready.Rooms) != 0 {
		t.Errorf("sessionReady lists rooms %+v", ready.Rooms)
	}
	if out := expect[room.RoomStateChanged](aliceStream); out.RoomID != "quiet" || out.Event != room.RoomKickedOut || out.Reason != "spam" {
		t.Errorf("got state event %+v", out)
	}
}

// TestBrokenStreams checks that a client receives each event once and in order, however often its
// stream breaks.
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
	next := make(map[int]int) // number of each sender's next message
	for got := range messages * senders {
		if got%7 == 3 { // alternate between EventSource, fetch and a cursor in the query
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
			t.Fatalf("after event %d got event %d with message %d/%d, want message %d", last, seq, sender, i, next[sender])
		}
		last++
		next[sender]++
	}
	sending.Wait()
}

// TestServerDrainsStreams checks that a draining server asks each stream to reconnect and accepts
// it again, and that a closed server accepts none.
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
		t.Error("the stream did not resume")
	}
	s.hub.Shutdown(t.Context())
	if got := expect[room.Reconnect](stream); got.AfterMs > 1000 {
		t.Errorf("the stream ends with %+v", got)
	}
	stream.end()
	alice.call("GET", "/v1/events", nil).refused(http.StatusServiceUnavailable, "unavailable")
	again := s.anonymous().open(alice.StreamURL)
	if got := expect[room.Reconnect](again); got.AfterMs < 500 || got.AfterMs > room.MinMemberTimeout.Milliseconds()/2 {
		t.Errorf("EventSource received %+v", got)
	}
	again.end()
}

// TestStreamEncodings resumes a session's stream with different encodings, and checks the bytes that
// arrive until a newer stream ends each.
func TestStreamEncodings(t *testing.T) {
	t.Parallel()
	compressing := newService(t).login("alice")
	plain := newService(t, func(c *setup) { c.api.CompressStreams = false }).login("alice")
	for _, tt := range []struct {
		alice  *client
		accept string
		gzip   bool
	}{
		{compressing, "gzip, deflate, br, zstd", true},
		{compressing, "", false},
		{compressing, "*;q=0.1", true},
		{compressing, "gzip;q=0, *", false},
		{compressing, "br, identity;q=0", false},
		{plain, "gzip", false},
	} {
		alice := tt.alice
		alice.enter("lobby")
		before, _ := alice.listen()
		alice.send("lobby", "before")
		before.text()
		before.disconnect()
		alice.send("lobby", "while away")

		r := alice.request("GET", "/v1/events", nil, resume(before.id), func(r *http.Request) {
			r.Header["Accept-Encoding"] = []string{tt.accept} // net/http then leaves the reply as it is
		})
		reply, err := alice.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		encoding := reply.Header.Get("Content-Encoding")
		if (encoding == "gzip") != tt.gzip || !slices.Contains(reply.Header.Values("Vary"), "Accept-Encoding") {
			t.Errorf("%q: Content-Encoding %q, Vary %q", tt.accept, encoding, reply.Header.Values("Vary"))
		}
		body := io.Reader(reply.Body)
		if tt.gzip {
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		lines := bufio.NewScanner(body)
		until := func(text string) {
			for lines.Scan() {
				if strings.Contains(lines.Text(), text) {
					return
				}
			}
			t.Fatalf("%q: no %s: %v", tt.accept, text, lines.Err())
		}
		until(`"resumed":true`)
		until(`"text":"while away"`)
		alice.send("lobby", "at once")
		until(`"text":"at once"`)
		newer, _ := alice.listen()
		until(string(room.ConnectionSuperseded))
		for lines.Scan() {
		}
		if err := lines.Err(); err != nil { // gzip has verified the checksum
			t.Errorf("%q: the end of the stream: %v", tt.accept, err)
		}
		newer.disconnect()
	}
}
