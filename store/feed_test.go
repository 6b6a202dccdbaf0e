package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
)

// TestFeedContainsEachEventOnce reads the feed while clients do random things. Sometimes it loses
// what it has read but not yet stored. In the end it has every event of every room exactly once, in
// the order of its log.
func TestFeedContainsEachEventOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: 1000 * time.Hour, FeedPeers: true})
	const clients, rooms, steps = 8, 4, 250 // few clients, so that rooms become empty
	var working sync.WaitGroup
	for i := range clients {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 2))
			session := newSession(t, f.Store, fmt.Sprintf("user%d", i/2))
			for range steps {
				err := randomStep(t, f, random, &session, roomOf(random.IntN(rooms)), nil, i)
				var rule *room.Error
				if err != nil && (!errors.As(err, &rule) || rule.Kind == room.Unavailable) {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { defer close(finished); working.Wait() }()
	r := reader{fixture: f, random: rand.New(rand.NewPCG(1, 2)), parts: room.FeedParts{Sessions: true, Peers: true}}
	for more := true; more; {
		select {
		case <-finished:
			more = false
		default:
		}
		r.read(t)
		f.clock.advance(time.Second)
		sweep(t, f)
	}
	r.readAll(t)
	r.check(t)
	destroyed := query[int](t, f, "SELECT count(*) FROM rooms WHERE destroyed_at IS NOT NULL")
	t.Logf("%d events, %d rooms destroyed", len(r.kept), destroyed)
	if destroyed == 0 {
		t.Error("no room was destroyed")
	}
}

// A reader is a consumer of the feed: it stores what it has read, and its cursor.
type reader struct {
	fixture
	random *rand.Rand
	parts  room.FeedParts
	cursor room.FeedCursor
	kept   []room.FeedEvent
}

// read reads a page and stores a part of it, like a consumer that is restarted.
func (r *reader) read(t *testing.T) room.FeedPage {
	t.Helper()
	page, err := r.FeedAfter(t.Context(), r.cursor, r.parts, 1+r.random.IntN(20))
	if err != nil {
		t.Fatal(err)
	}
	if page.Ahead || r.cursor.Before(page.Trimmed) {
		t.Fatalf("after %v the feed returns %+v", r.cursor, page)
	}
	keep := len(page.Events)
	if keep > 0 && r.random.IntN(3) == 0 {
		keep = r.random.IntN(keep)
	}
	for _, e := range page.Events[:keep] {
		r.kept = append(r.kept, e)
		r.cursor = e.Cursor
	}
	return page
}

// readAll reads until nothing is left. Transactions of other tests on the same PostgreSQL may delay
// the feed.
func (r *reader) readAll(t *testing.T) {
	t.Helper()
	end, err := r.FeedEnd(t.Context(), room.FeedParts{})
	if err != nil {
		t.Fatal(err)
	}
	if xmax := query[uint64](t, r.fixture, "SELECT pg_snapshot_xmax(pg_current_snapshot())"); xmax > end.Xact {
		end.Xact = xmax
	}
	waitUntil(t, "the feed is read", func() bool {
		for len(r.read(t).Events) > 0 {
		}
		now, err := r.FeedEnd(t.Context(), room.FeedParts{})
		if err != nil {
			t.Fatal(err)
		}
		return now.Xact >= end.Xact && len(r.read(t).Events) == 0
	})
}

// check compares what was stored with the tables.
func (r *reader) check(t *testing.T) {
	t.Helper()
	logs, users := make(map[room.LogID][]string), make(map[room.LogID][]string)
	for i, e := range r.kept {
		if i > 0 && !r.kept[i-1].Cursor.Before(e.Cursor) {
			t.Errorf("%v comes after %v", e.Cursor, r.kept[i-1].Cursor)
		}
		g := e.Cursor.Log
		if g == 0 {
			users[g] = append(users[g], userEvent(t, e))
			continue
		}
		logs[g] = append(logs[g], fmt.Sprintf("%d %s", e.Cursor.Seq, e.Type))
		checkData(t, e)
	}
	conn, err := pgx.Connect(t.Context(), r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), `
		SELECT generation, 0 AS seq, 'roomCreated' AS type FROM rooms
		UNION ALL SELECT generation, seq, type FROM events WHERE peer_id IS NULL
		UNION ALL SELECT generation, last_seq + 1, 'roomDestroyed' FROM rooms JOIN logs USING (generation) WHERE destroyed_at IS NOT NULL
		ORDER BY generation, seq`)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[room.LogID][]string)
	for rows.Next() {
		var (
			g   room.LogID
			seq room.Seq
			typ room.EventType
		)
		if err := rows.Scan(&g, &seq, &typ); err != nil {
			t.Fatal(err)
		}
		want[g] = append(want[g], fmt.Sprintf("%d %s", seq, typ))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, logs); diff != "" {
		t.Errorf("stored (-) and in the feed (+):\n%s", diff)
	}
	r.checkUsers(t, users[0])
}

// userEvent returns an event of a user in short form.
func userEvent(t *testing.T, e room.FeedEvent) string {
	switch data := e.Data.(type) {
	case room.Started:
		return fmt.Sprint("started ", data.SessionID, data.UserID)
	case room.Ended:
		return fmt.Sprint("ended ", data.SessionID, data.UserID, data.Reason)
	case room.Event:
		if m := room.MessagesOf(data.Body); len(m) == 1 {
			return fmt.Sprint("message ", m[0].ID)
		}
		if recalled, ok := data.Body.(room.PeerMessageRecalled); ok {
			return fmt.Sprint("recall ", recalled.MessageID)
		}
	}
	t.Errorf("at %v there is %+v", e.Cursor, e.Data)
	return ""
}

// checkUsers compares the events of users with the tables. The beginning of a session comes before
// its end, and a message before its recall.
func (r *reader) checkUsers(t *testing.T, got []string) {
	t.Helper()
	var want []string
	if r.parts.Sessions {
		want = append(want, query[[]string](t, r.fixture, `SELECT coalesce(array_agg(line), '{}') FROM (
			SELECT 'started ' || session_id || user_id AS line FROM sessions
			UNION ALL SELECT 'ended ' || session_id || user_id || end_reason FROM sessions WHERE ended_at IS NOT NULL) s`)...)
	}
	if r.parts.Peers {
		want = append(want, query[[]string](t, r.fixture, `SELECT coalesce(array_agg(DISTINCT CASE type
				WHEN 'peerMessageReceived' THEN 'message ' || (body::json #>> '{messageList,0,messageID}')
				ELSE 'recall ' || (body::json ->> 'messageID') END), '{}')
			FROM events WHERE type IN ('peerMessageReceived', 'peerMessageRecalled')`)...)
	}
	seen := make(map[string]bool)
	for _, line := range got {
		verb, of, _ := strings.Cut(line, " ")
		switch {
		case verb == "ended" && !seen["started "+of[:36]], verb == "recall" && !seen["message "+of]:
			t.Errorf("%s comes first", line)
		case verb == "started":
			seen["started "+of[:36]] = true
		default:
			seen[line] = true
		}
	}
	slices.Sort(want)
	got = slices.Sorted(slices.Values(got))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events of users: stored (-) and in the feed (+):\n%s", diff)
	}
}

// checkData compares the content of an event with its position.
func checkData(t *testing.T, e room.FeedEvent) {
	t.Helper()
	var g room.LogID
	switch data := e.Data.(type) {
	case room.Created:
		g = data.Room.Generation
	case room.Destroyed:
		g = data.Generation
	case room.Event:
		if g = data.Log; data.Seq != e.Cursor.Seq || data.Body.Type() != e.Type {
			t.Errorf("at %v there is %+v", e.Cursor, data)
		}
	}
	if g != e.Cursor.Log {
		t.Errorf("at %v there is %+v", e.Cursor, e.Data)
	}
}

// TestFeedWaitsForOlderTransactions: an event is not delivered while an older transaction can still
// write before it.
func TestFeedWaitsForOlderTransactions(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	slow, fast := enter(t, f, alice, "slow"), enter(t, f, bob, "fast")
	r := reader{fixture: f, random: rand.New(rand.NewPCG(1, 2))}
	r.readAll(t)
	before := len(r.kept)

	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	older, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := older.Exec(t.Context(), `WITH r AS (
			UPDATE logs SET last_seq = 2, last_xact = pg_current_xact_id() WHERE generation = $1 RETURNING *)
		INSERT INTO events (generation, seq, type, at, body, xact)
		SELECT generation, last_seq, 'roomMemberJoined', now(), '{"memberList":[]}', last_xact FROM r`, slow.Generation); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PostMessage(t.Context(), bob, "fast", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if page := r.read(t); len(page.Events) > 0 || !page.Busy {
			t.Fatalf("while an older transaction runs, the feed returns %+v", page)
		}
	}
	if err := older.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.readAll(t)
	r.check(t)
	var got []room.LogID
	for _, e := range r.kept[before:] {
		got = append(got, e.Cursor.Log)
	}
	if want := []room.LogID{slow.Generation, fast.Generation}; !slices.Equal(got, want) {
		t.Errorf("the next events are of %v, want %v", got, want)
	}
}

// TestFeedOrderIsLogOrder: a transaction may get its number early, with the lock of its session,
// and lock a room after younger transactions have written there. Its events have the same order in
// the feed as in the log.
func TestFeedOrderIsLogOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, bob, "cellar")
	enter(t, f, alice, "lobby")
	open := holdLog(t, f, "cellar")
	switched := make(chan error, 1)
	go func() {
		_, _, err := f.SwitchRoom(context.Background(), as(bob), "cellar", "lobby", false, room.RoomOptions{})
		switched <- err
	}()
	waitForLocks(t, f, 1) // bob waits for the cellar
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	open()
	if err := <-switched; err != nil {
		t.Fatal(err)
	}
	r := reader{fixture: f, random: rand.New(rand.NewPCG(1, 2))}
	r.readAll(t)
	r.check(t)
}

// TestFeedRetentionOfDestroyedRooms: the events of destroyed rooms are retained for a time. A
// reader that has not read them by then is informed.
func TestFeedRetentionOfDestroyedRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	enter(t, f, alice, "cellar")
	leave(t, f, alice, "cellar")
	r := reader{fixture: f, random: rand.New(rand.NewPCG(1, 2))}
	r.readAll(t)
	end := r.kept[len(r.kept)-1]
	if d, ok := end.Data.(room.Destroyed); !ok || d.RoomID != "cellar" || d.Reason != room.DestroyEmpty {
		t.Fatalf("the feed ends with %+v", end)
	}
	leave(t, f, alice, "lobby")
	f.clock.advance(time.Minute - time.Millisecond)
	sweep(t, f)
	r.readAll(t)
	r.check(t)
	if _, err := f.JoinRoom(t.Context(), as(alice), "lobby", ""); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("a destroyed room that the feed retains can be joined: %v", err)
	}
	f.clock.advance(time.Millisecond)
	sweep(t, f)
	if n := query[int](t, f, "SELECT (SELECT count(*) FROM rooms) + (SELECT count(*) FROM events)"); n != 0 {
		t.Errorf("%d rows are kept after the retention", n)
	}
	page, err := f.FeedAfter(t.Context(), end.Cursor, room.FeedParts{}, 10)
	if err != nil || !end.Cursor.Before(page.Trimmed) {
		t.Errorf("a reader that has not read everything is not informed: %+v, %v", page, err)
	}
	page, err = f.FeedAfter(t.Context(), r.cursor, room.FeedParts{}, 10)
	if err != nil || page.Trimmed.Before(r.cursor) || r.cursor.Before(page.Trimmed) {
		t.Errorf("a reader that has read everything up to %v gets %+v, %v", r.cursor, page, err)
	}
}

// TestFeedRetentionOfUsers: the events of users are retained for a time, messages not longer than in
// the inboxes. Only a reader that includes them is informed.
func TestFeedRetentionOfUsers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Hour, PeerRetention: time.Minute, FeedPeers: true})
	begin, err := f.FeedEnd(t.Context(), room.FeedParts{})
	if err != nil {
		t.Fatal(err)
	}
	alice := newUser(t, f, "alice")
	newUser(t, f, "bob")
	postPeer(t, f, alice, "bob", textDraft("old"))
	f.clock.advance(time.Minute)
	postPeer(t, f, alice, "bob", textDraft("new"))
	check := func(what string, parts room.FeedParts, complete bool, want int) {
		t.Helper()
		waitUntil(t, "nothing holds the feed back", func() bool {
			page, err := f.FeedAfter(t.Context(), begin, parts, 10)
			if err != nil {
				t.Fatal(err)
			}
			if page.Busy {
				return false
			}
			if len(page.Events) != want || begin.Before(page.Trimmed) == complete {
				t.Errorf("%s, a feed with %+v returns %d events, and was trimmed up to %v", what, parts, len(page.Events), page.Trimmed)
			}
			return true
		})
	}
	rooms, sessions, peers := room.FeedParts{}, room.FeedParts{Sessions: true}, room.FeedParts{Peers: true}
	sweep(t, f)
	check("after a minute", peers, false, 1)
	check("after a minute", sessions, true, 2)
	check("after a minute", rooms, true, 0)
	f.clock.advance(time.Hour - time.Minute)
	sweep(t, f)
	check("after an hour", peers, false, 0)
	check("after an hour", sessions, false, 0)
	check("after an hour", rooms, true, 0)
	if n := query[int](t, f, "SELECT count(*) FROM user_events"); n != 0 {
		t.Errorf("%d rows are kept after the retention", n)
	}
}

func TestFeedCursorAheadOfTheFeed(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	for range 3 {
		end, err := f.FeedEnd(t.Context(), room.FeedParts{})
		if err != nil {
			t.Fatal(err)
		}
		if page, err := f.FeedAfter(t.Context(), end, room.FeedParts{}, 1); err != nil || page.Ahead {
			t.Errorf("the feed's own end %v is in the future: %v", end, err)
		}
		end.Xact += 1_000_000
		if page, err := f.FeedAfter(t.Context(), end, room.FeedParts{}, 1); err != nil || !page.Ahead {
			t.Errorf("%v is not in the future: %v", end, err)
		}
		newSession(t, f.Store, "alice")
	}
}

// TestFeedAfterARestoredDump: a dump contains the feed positions of another database, which may be
// far in the future of this one. They must not delay the feed.
func TestFeedAfterARestoredDump(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	enter(t, f, alice, "cellar")
	leave(t, f, alice, "cellar")
	for _, position := range []string{"events.xact", "rooms.created_xact", "logs.last_xact", "rooms.destroyed_xact", "feed_trimmed.xact", "user_events.xact"} {
		table, column, _ := strings.Cut(position, ".")
		query[int](t, f, fmt.Sprintf("WITH moved AS (UPDATE %[1]s SET %[2]s = (%[2]s::text::bigint + 1000000000)::text::xid8 RETURNING 1) SELECT count(*) FROM moved", table, column))
	}
	restored := f
	restored.Store = openOn(t, f.address, store.Options{Now: f.clock.Now})
	if _, err := restored.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	trimmed := query[uint64](t, f, "SELECT xact FROM feed_trimmed")
	r := reader{fixture: restored, random: rand.New(rand.NewPCG(1, 2)), cursor: room.FeedCursor{Xact: trimmed}}
	r.readAll(t)
	r.check(t)
}

func TestFeedContainsDestroyReasons(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "empty at once")
	leave(t, f, alice, "empty at once")
	if _, err := f.CreateRoom(t.Context(), as(alice), "empty later", room.RoomOptions{Settings: room.Settings{DestroyDelay: new(room.Seconds(1))}}); err != nil {
		t.Fatal(err)
	}
	leave(t, f, alice, "empty later")
	unused := room.RoomOptions{Settings: room.Settings{UnusedTimeout: new(room.Seconds(1))}}
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "never entered", unused); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "destroyed", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.DestroyRoom(t.Context(), admin, "destroyed", ""); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(5 * time.Second)
	sweep(t, f)
	r := reader{fixture: f, random: rand.New(rand.NewPCG(1, 2))}
	r.readAll(t)
	got := make(map[room.RoomID]room.DestroyReason)
	for _, e := range r.kept {
		if d, ok := e.Data.(room.Destroyed); ok {
			got[d.RoomID] = d.Reason
		}
	}
	want := map[room.RoomID]room.DestroyReason{
		"empty at once": room.DestroyEmpty, "empty later": room.DestroyEmpty, "never entered": room.DestroyUnused,
		"destroyed": room.DestroyAdmin,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCommittedWakesReaders checks that every commit wakes all readers that waited before it.
func TestCommittedWakesReaders(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "hall")
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"a sweep", func() { sweep(t, f) }},
		{"a member", func() { enter(t, f, alice, "lobby") }},
		{"a message", func() {
			if _, err := f.PostMessage(t.Context(), alice, "hall", textDraft("hello")); err != nil {
				t.Error(err)
			}
		}},
	} {
		first, second := f.Committed(), f.Committed()
		step.do()
		for _, reader := range []<-chan struct{}{first, second} {
			select {
			case <-reader:
			case <-time.After(time.Minute):
				t.Errorf("%s does not wake a reader", step.what)
			}
		}
	}
}
