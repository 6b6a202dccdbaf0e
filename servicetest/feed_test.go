package servicetest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parlor/handlers"
	"parlor/room"
)

// follow opens the feed at a cursor. An empty cursor means now.
func (c *client) follow(cursor string) (*stream, room.FeedReady) {
	c.Helper()
	var change []func(*http.Request)
	if cursor != "" {
		change = append(change, resume(cursor))
	}
	s := c.open("/v1/admin/events", change...)
	return s, expect[room.FeedReady](s)
}

// nextSummary returns the feed's next event in short form.
func (s *stream) nextSummary() string {
	s.t.Helper()
	switch e := s.next(); room.EventType(e.Type) {
	case room.TypeRoomCreated:
		return fmt.Sprintf("%s created", decoded[room.Created](s).Room.ID)
	case room.TypeRoomDestroyed:
		d := decoded[room.Destroyed](s)
		return fmt.Sprintf("%s destroyed: %s", d.RoomID, d.Reason)
	default:
		place := decoded[struct {
			RoomID room.RoomID
			Seq    room.Seq
		}](s)
		return fmt.Sprintf("%s %d %s", place.RoomID, place.Seq, e.Type)
	}
}

// nextSummaries returns the next n events of a feed in short form.
func (s *stream) nextSummaries(n int) []string {
	s.t.Helper()
	lines := make([]string, n)
	for i := range lines {
		lines[i] = s.nextSummary()
	}
	return lines
}

// TestFeedOfMemberStates checks that the feed says who is reconnecting.
func TestFeedOfMemberStates(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	s.admin().call("POST", "/v1/admin/rooms", object{"roomID": "lobby", "config": object{"memberStates": true}}).is(http.StatusCreated)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	feed, _ := s.admin().follow("")
	published := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			s.sweep() // one may not be enough, because it skips locked rows
			for len(feed.events) > 0 {
				if feed.nextSummary() == want {
					return true
				}
			}
			return false
		})
	}
	stream.disconnect()
	eventually(t, "alice is detached", func() bool { return alice.state() == "detached" })
	clock.advance(5 * time.Second)
	published("lobby 2 memberReconnecting")
	again, _ := alice.listen(resume(stream.id))
	defer again.disconnect()
	published("lobby 3 memberReconnected")
}

// TestFeed reads the events of several users' rooms from beginning to end, and again from each
// position in between.
func TestFeed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	feed, ready := s.admin().follow("")
	if ready != (room.FeedReady{}) {
		t.Errorf("the feed begins with %+v", ready)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := feed.reply.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	ids := []string{feed.id}
	alice.enter("lobby")
	bob.enter("cellar")
	bob.enter("lobby")
	sent := alice.send("lobby", "hello")
	alice.leave("lobby")
	bob.leave("cellar")
	bob.logout()
	want := []string{
		"lobby created", "lobby 1 roomMemberJoined", "cellar created", "cellar 1 roomMemberJoined", "lobby 2 roomMemberJoined",
		"lobby 3 roomMessageReceived", "lobby 4 roomMemberLeft", "cellar 2 roomMemberLeft", "cellar destroyed: empty",
		"lobby 5 roomMemberLeft", "lobby destroyed: empty",
	}
	for i := range want {
		if got := feed.nextSummary(); got != want[i] {
			t.Errorf("got feed event %s, want %s", got, want[i])
		}
		ids = append(ids, feed.id)
		if feed.last.Type == string(room.TypeMessagesReceived) {
			if got := decoded[room.MessagesReceived](feed).MessageList; !cmp.Equal(got, []room.Message{sent}) {
				t.Errorf("the feed delivered the messages %+v", got)
			}
		}
	}
	feed.disconnect()
	for i, id := range ids {
		for _, address := range []string{"/v1/admin/events", "/v1/admin/events?last_event_id=" + id} {
			again := s.admin().open(address, func(r *http.Request) {
				if r.URL.RawQuery == "" {
					r.Header.Set("Last-Event-ID", id)
				}
			})
			if ready := expect[room.FeedReady](again); !ready.Resumed || again.id != id {
				t.Errorf("with cursor %s, the feed begins with %+v at %s", id, ready, again.id)
			}
			if got := again.nextSummaries(len(want) - i); !slices.Equal(got, want[i:]) {
				t.Errorf("with cursor %s, the feed delivered %q", id, got)
			}
			again.disconnect()
		}
	}
	header, _ := s.admin().follow(ids[9])
	if got := header.nextSummary(); got != want[9] {
		t.Errorf("next feed event is %s", got)
	}
	both := s.admin().open("/v1/admin/events?last_event_id="+ids[1], resume(ids[9]))
	expect[room.FeedReady](both)
	if got := both.nextSummary(); got != want[9] {
		t.Errorf("the cursor in the query did not take precedence: next feed event is %s", got)
	}
}

// decoded returns the body of the stream's last event.
func decoded[T any](s *stream) T {
	s.t.Helper()
	return as[T](reply{TB: s.t, call: s.last.Type, body: s.last.Data})
}

// TestFeedAdminAndAttributeEvents covers events by admins and of attributes.
func TestFeedAdminAndAttributeEvents(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	feed, _ := admin.follow("")
	admin.call("POST", "/v1/admin/rooms", object{"roomID": "lobby"}).is(http.StatusCreated)
	alice.enter("lobby")
	alice.call("PATCH", roomPath("lobby", "/attributes"), object{"set": object{"topic": "x"}}).is(http.StatusOK)
	alice.call("PATCH", roomPath("lobby", "/member-attributes"), object{"userIDs": []string{"alice"}, "set": object{"hand": "up"}}).is(http.StatusOK)
	admin.call("DELETE", adminPath("lobby", ""), nil).is(http.StatusNoContent)
	want := []string{
		"lobby created", "lobby 1 roomMemberJoined", "lobby 2 roomAttributesUpdated", "lobby 3 roomMemberAttributesUpdated",
		"lobby 4 roomMemberLeft", "lobby destroyed: operator",
	}
	if diff := cmp.Diff(want, feed.nextSummaries(len(want))); diff != "" {
		t.Errorf("feed events (-want +got):\n%s", diff)
	}
}

// TestFeedOfUsers checks that a feed has the sessions and messages of users if it includes them, in
// an order that can be resumed at each event, and that a recall deletes the message from it.
func TestFeedOfUsers(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.store.FeedPeers = true })
	admin := s.admin()
	start := admin.feedEnd()
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	first := alice.sendTo("bob", "secret")
	bob.sendTo("alice", "kept")
	alice.call("DELETE", peerPath("bob")+"/"+string(first.ID), nil).is(http.StatusNoContent)
	admin.call("DELETE", "/v1/admin/users/bob/sessions?reason=enough", nil).is(http.StatusOK)
	alice.logout()
	var (
		sessions = []string{"started alice", "started bob", "ended bob kickedOut enough", "ended alice loggedOut "}
		peers    = []string{"to bob 1 recalled", "to alice 2 kept", "recall bob 1"}
		rooms    = []string{"lobby created by alice", "lobby roomMemberJoined", "lobby roomMemberLeft", "lobby destroyed: empty"}
	)
	for include, want := range map[string][]string{
		"":                               rooms,
		"include=sessions":               slices.Concat(sessions[:2], rooms[:2], sessions[2:], rooms[2:]),
		"include=peers":                  slices.Concat(rooms[:2], peers, rooms[2:]),
		"include=peers&include=sessions": slices.Concat(sessions[:2], rooms[:2], peers, sessions[2:], rooms[2:]),
	} {
		for cursor, i := start, 0; i < len(want); i++ {
			feed := admin.open("/v1/admin/events?"+include, resume(cursor))
			if ready := expect[room.FeedReady](feed); !ready.Resumed {
				t.Errorf("with %q, the feed begins with %+v", include, ready)
			}
			var got []string
			for range want[i:] {
				got = append(got, feed.nextUserSummary())
				if len(got) == 1 {
					cursor = feed.id
				}
			}
			if diff := cmp.Diff(want[i:], got); diff != "" {
				t.Errorf("feed with %q after event %d (-want +got):\n%s", include, i, diff)
			}
			feed.disconnect()
		}
	}
	for query, rule := range map[string]string{
		"include=rooms": "oneof", "include=": "oneof", "include=peers&include=peers": "unique", "include=peers,sessions": "oneof",
	} {
		admin.call("GET", "/v1/admin/events?"+query, nil).invalid("query/include", rule)
	}
}

// TestFeedWithoutPeers checks that a server that does not keep messages between users says so.
func TestFeedWithoutPeers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, cursor := range []string{"", "&last_event_id=1.0.0"} {
		s.admin().call("GET", "/v1/admin/events?include=peers"+cursor, nil).refused(http.StatusConflict, "not_in_feed")
	}
}

// feedEnd returns the cursor from which a feed continues with what happens from now on.
func (c *client) feedEnd() string {
	c.Helper()
	feed, _ := c.follow("")
	defer feed.disconnect()
	return feed.id
}

// nextUserSummary returns the next event of a feed that includes users in short form.
func (s *stream) nextUserSummary() string {
	s.t.Helper()
	switch e := s.next(); room.EventType(e.Type) {
	case room.TypeSessionStarted:
		return fmt.Sprintf("started %s", decoded[room.Started](s).UserID)
	case room.TypeSessionEnded:
		ended := decoded[room.Ended](s)
		return fmt.Sprintf("ended %s %s %s", ended.UserID, ended.Reason, ended.AdminReason)
	case room.TypePeerMessagesReceived:
		m := decoded[room.PeerMessagesReceived](s).MessageList[0]
		if m.Recalled {
			return fmt.Sprintf("to %s %d recalled%s", m.Peer, m.Seq, m.Text)
		}
		return fmt.Sprintf("to %s %d %s", m.Peer, m.Seq, m.Text)
	case room.TypePeerMessageRecalled:
		recalled := decoded[room.PeerMessageRecalled](s)
		return fmt.Sprintf("recall %s %d", recalled.Peer, recalled.RecalledSeq)
	case room.TypeRoomCreated:
		created := decoded[room.Created](s)
		return fmt.Sprintf("%s created by %s", created.Room.ID, created.OperatedInfo.UserID)
	case room.TypeRoomDestroyed:
		d := decoded[room.Destroyed](s)
		return fmt.Sprintf("%s destroyed: %s", d.RoomID, d.Reason)
	default:
		return fmt.Sprintf("%s %s", decoded[struct{ RoomID room.RoomID }](s).RoomID, e.Type)
	}
}

func TestFeedInPages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	feed, _ := s.admin().follow("")
	start := feed.id
	feed.disconnect()
	lobby := alice.enter("lobby")
	const messages = 1200
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `WITH r AS (
			UPDATE logs SET last_seq = 1 + $2, last_xact = pg_current_xact_id() WHERE generation = $1 RETURNING *)
		INSERT INTO events (generation, seq, type, at, body, xact)
		SELECT generation, 1 + n, 'roomMemberJoined', now(), '{"memberList":[]}', last_xact FROM r, generate_series(1, $2) n`,
		lobby.Generation, messages); err != nil {
		t.Fatal(err)
	}
	feed, _ = s.admin().follow(start)
	if got := feed.nextSummary(); got != "lobby created" {
		t.Errorf("got feed event %s", got)
	}
	for i := range messages + 1 {
		if want, got := fmt.Sprintf("lobby %d roomMemberJoined", i+1), feed.nextSummary(); got != want {
			t.Fatalf("got feed event %s, want %s", got, want)
		}
	}
}

func TestFeedInvalidCursors(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.api.EndFeeds() // so that a valid cursor gets 503 instead of an endless feed
	admin := s.admin()
	for _, id := range []string{
		"", "x", "-", "1a:2f", "1.1", "1.1.1.1", "1..1", ".1.1", "1.1.", "01.1.1", "1.01.1", "1.1.01", "+1.1.1", "-1.1.1", "1.-1.1", "1.1.-1", "A.1.1",
		"1.1.1 ", " 1.1.1", "1.1.1\x00", "3w5e11264sgsg.0.0", "0.1y2p0ij32e8e8.0", "0.0.1y2p0ij32e8e8", "zzzzzzzzzzzzzzzzz.1.1",
	} {
		admin.call("GET", "/v1/admin/events?last_event_id="+url.QueryEscape(id), nil).invalid("query/last_event_id", "cursor")
	}
	for _, id := range []string{"", "x", "1.1", "1a:2f", "01.1.1"} {
		admin.call("GET", "/v1/admin/events", nil, resume(id)).invalid("header/Last-Event-ID", "cursor")
	}
	admin.call("GET", "/v1/admin/events?last_event_id=1.1.1&last_event_id=1.1.1", nil).invalid("query/last_event_id", "duplicate")
	admin.call("GET", "/v1/admin/events?roomID=lobby", nil).invalid("query/roomID", "unknown")
}

// TestFeedReset checks that the feed reports missing events and delivers the rest.
func TestFeedReset(t *testing.T) {
	t.Parallel()
	var late atomic.Int64
	s := newService(t, func(c *setup) {
		c.store.FeedRetention = time.Minute
		c.store.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	})
	alice := s.login("alice")
	feed, _ := s.admin().follow("")
	listening, _ := alice.listen()
	defer listening.disconnect()
	alice.enter("lobby")
	alice.enter("cellar")
	feed.nextSummaries(4)
	before := feed.id
	alice.leave("cellar")
	feed.nextSummaries(2)
	after := feed.id
	feed.disconnect()
	alice.send("lobby", "kept")
	late.Store(int64(2 * time.Minute))
	if err := s.store.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, cursor string
		want         room.FeedReady
		begins       string
	}{
		{"before the hole", before, room.FeedReady{Reason: room.ResetLogTrimmed}, "lobby 2 roomMessageReceived"},
		{"behind the hole", after, room.FeedReady{Resumed: true}, "lobby 2 roomMessageReceived"},
		{"of the future", "zzzzzzz.1.1", room.FeedReady{Reason: room.ResetCursorAhead}, "lobby created"},
	} {
		feed, ready := s.admin().follow(c.cursor)
		if ready != c.want {
			t.Errorf("with a cursor %s, the feed begins with %+v", c.what, ready)
		}
		if got := feed.nextSummary(); got != c.begins {
			t.Errorf("with a cursor %s, the next feed event is %s", c.what, got)
		}
		feed.disconnect()
	}
}

// TestFeedEndsWhenTokenExpires sets the clock that verifies tokens to shortly before the token
// expires.
func TestFeedEndsWhenTokenExpires(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	s := newService(t, func(c *setup) {
		c.api.Tokens.Now = func() time.Time { return end.Add(-50 * time.Millisecond) }
	})
	feed, _ := s.anonymous().withKey(s.signed(func(c jwt.MapClaims) { c["scope"], c["exp"] = "admin", end.Unix() })).follow("")
	if got := expect[room.ConnectionStateChanged](feed); got.Event != room.ConnectionTokenExpired || got.State != "disconnected" {
		t.Errorf("the feed ends with %+v", got)
	}
	feed.end()
	eventually(t, "the log contains the reason", func() bool { return s.log.contains(`"msg":"feed ended","reason":"the token expired"`) })
}

// TestFeedEndsWhenTheServerStops checks that a stopping server ends its feeds, because it waits for
// its requests.
func TestFeedEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin := s.admin()
	feed, _ := admin.follow("")
	s.api.EndFeeds()
	if after := expect[room.Reconnect](feed).AfterMs; after < 400 || after > 800 {
		t.Errorf("the reader is asked to reconnect after %d ms", after)
	}
	feed.end()
	eventually(t, "the log contains the reason", func() bool { return s.log.contains(`"msg":"feed ended","reason":"the server is stopping"`) })
	admin.call("GET", "/v1/admin/events", nil).refused(http.StatusServiceUnavailable, "unavailable")
	s.login("alice").call("GET", "/v1/sessions/current", nil).is(http.StatusOK) // over the same connection
}

func TestFeedLimit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin := s.admin()
	var first *stream
	for i := range 64 {
		feed, _ := admin.follow("")
		if i == 0 {
			first = feed
		}
	}
	admin.call("GET", "/v1/admin/events", nil).refused(http.StatusServiceUnavailable, "unavailable")
	first.disconnect()
	eventually(t, "another feed can be opened after one has ended", func() bool {
		reply, err := admin.http.Do(admin.request("GET", "/v1/admin/events", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		return reply.StatusCode == http.StatusOK
	})
}

// TestFeedWaitsForOlderTransaction checks that the feed delivers no event before an older
// transaction ends, and that comments keep the connection open meanwhile.
func TestFeedWaitsForOlderTransaction(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Heartbeat = 20 * time.Millisecond })
	alice := s.login("alice")
	feed, _ := s.admin().follow("")
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	older, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := older.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	alice.enter("lobby")
	comments := feed.comments.Load()
	eventually(t, "comments arrive on the waiting feed", func() bool { return feed.comments.Load() > comments+3 })
	if len(feed.events) > 0 {
		t.Errorf("the feed delivered %s before an older transaction ended", feed.nextSummary())
	}
	if err := older.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := feed.nextSummary(); got != "lobby created" {
		t.Errorf("next feed event is %s", got)
	}
}

// TestFeedReadErrors checks that the feed asks its reader to reconnect if it cannot be read, and
// then continues.
func TestFeedReadErrors(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		what string
		fail func(room.FeedPage) (room.FeedPage, error)
	}{
		{"no database", func(room.FeedPage) (room.FeedPage, error) { return room.FeedPage{}, room.ErrUnavailable }},
		// The reader is so slow that its next event has been purged.
		{"a purge", func(p room.FeedPage) (room.FeedPage, error) {
			p.Trimmed = room.FeedCursor{Xact: 1 << 60}
			return p, nil
		}},
	} {
		var failing atomic.Bool
		s := newService(t, func(c *setup) {
			c.wrap = func(s handlers.Store) handlers.Store { return brokenFeed{s, &failing, step.fail} }
		})
		feed, _ := s.admin().follow("")
		failing.Store(true)
		s.login("alice").enter("lobby")
		if e := feed.next(); e.Type != string(room.TypeReconnect) {
			t.Errorf("with %s, the feed delivered %s", step.what, e.Type)
		}
		feed.end()
		failing.Store(false)
		feed, _ = s.admin().follow(feed.id)
		if got := feed.nextSummary(); got != "lobby created" {
			t.Errorf("after %s, the next feed event is %s", step.what, got)
		}
	}
}

// brokenFeed is a store whose feed cannot be read as long as it fails.
type brokenFeed struct {
	handlers.Store
	failing *atomic.Bool
	fail    func(room.FeedPage) (room.FeedPage, error)
}

func (b brokenFeed) FeedAfter(ctx context.Context, after room.FeedCursor, parts room.FeedParts, n int) (room.FeedPage, error) {
	page, err := b.Store.FeedAfter(ctx, after, parts, n)
	if err == nil && b.failing.Load() {
		return b.fail(page)
	}
	return page, err
}

// TestFeedOfCommands checks that a feed that includes commands has those of rooms and users once, as
// messages without a seq and an id.
func TestFeedOfCommands(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	s.login("bob")
	alice.enter("lobby")
	feed := s.admin().open("/v1/admin/events?include=commands")
	expect[room.FeedReady](feed)
	without, _ := s.admin().follow("")
	start := feed.id
	command := func(path string) room.Message {
		alice.call("POST", path, object{"kind": "barrage", "text": `"kind":"command"`})
		return message(alice.call("POST", path, object{"kind": "command", "data": "AAH/"}).is(http.StatusAccepted))
	}
	for _, want := range []room.Message{command(roomPath("lobby", "/messages")), command(peerPath("bob"))} {
		e := feed.next()
		for e.Type == string(room.TypeRoomCreated) || e.Type == string(room.TypeMembersJoined) {
			start, e = feed.id, feed.next() // older transactions of other databases held the feed back
		}
		got := decoded[room.MessagesReceived](feed).MessageList
		if len(got) != 1 || !cmp.Equal(got[0], want) || e.ID != "" || feed.id != start {
			t.Errorf("at %q, the feed delivered %s %+v, want %+v", e.ID, e.Type, got, want)
		}
	}
	sent := alice.send("lobby", "stored")
	for _, s := range []*stream{feed, without} {
		if got := skipTo[room.MessagesReceived](s).MessageList; len(got) != 1 || got[0].ID != sent.ID {
			t.Errorf("the feed delivered %+v, want %+v", got, sent)
		}
	}
	feed.disconnect()
	command(roomPath("lobby", "/messages"))
	again := s.admin().open("/v1/admin/events?include=commands", resume(feed.id))
	expect[room.FeedReady](again)
	if last := alice.send("lobby", "last"); skipTo[room.MessagesReceived](again).MessageList[0].ID != last.ID {
		t.Errorf("a command from before the feed was delivered: %+v", again.last)
	}
}
