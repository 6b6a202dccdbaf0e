package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
)

// TestRoomLogsAreTrimmed: exactly the events that are too old are deleted, and readers that might
// miss them are informed. The room itself does not change.
func TestRoomLogsAreTrimmed(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Hour})
	session := func(user string) room.Session {
		return newSessionUntil(t, f.Store, user, f.clock.Now().Add(24*time.Hour))
	}
	alice, bob := session("alice"), session("bob")
	openStream(t, f, alice)
	openStream(t, f, bob)
	begin, err := f.FeedEnd(t.Context(), room.FeedParts{})
	if err != nil {
		t.Fatal(err)
	}
	enter(t, f, alice, "lobby")
	enter(t, f, bob, "quiet")
	if _, _, err := f.UpdateAttributes(t.Context(), as(alice), "lobby", room.AttributesUpdate{By: "alice", Set: map[string]string{"topic": "tea"}}); err != nil {
		t.Fatal(err)
	}
	d := textDraft("old")
	d.ClientMessageID = "1"
	old := postToLobby(t, f, alice, d)
	f.clock.advance(time.Millisecond)
	kept := postToLobby(t, f, alice, textDraft("kept"))
	before, err := f.Room(t.Context(), "lobby")
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Hour)
	end := f.clock.Now()
	f.clock.set(end.Add(-time.Millisecond))
	sweep(t, f)
	if r, err := f.Room(t.Context(), "lobby"); err != nil || r.OldestSeq != 1 {
		t.Errorf("a millisecond early the log begins at %d: %v", r.OldestSeq, err)
	}
	f.clock.set(end)
	sweep(t, f)

	page, err := f.EventsAfter(t.Context(), before.Generation, 0, 10)
	if err != nil || page.OldestSeq != kept.Seq || page.LastSeq != kept.Seq || len(page.Events) != 1 || page.Events[0].Seq != kept.Seq {
		t.Errorf("the log is %+v, %v", page, err)
	}
	after, err := f.Room(t.Context(), "lobby")
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.OldestSeq = kept.Seq
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("the room (-want +got):\n%s", diff)
	}
	if members, err := f.MembersByID(t.Context(), after.Generation, []room.UserID{"alice"}); err != nil || len(members.List) != 1 {
		t.Errorf("members %+v, %v", members, err)
	}
	history, err := f.OldestMessages(t.Context(), after, room.Span{Before: 100}, 10)
	if err != nil || !slices.Equal(texts(history), []string{"kept"}) {
		t.Errorf("the history is %v, %v", history, err)
	}
	if quiet, err := f.Room(t.Context(), "quiet"); err != nil || quiet.OldestSeq != quiet.LastSeq+1 {
		t.Errorf("a log of old events only begins at %d and ends at %d: %v", quiet.OldestSeq, quiet.LastSeq, err)
	}
	// Trimmed messages look like messages that never existed.
	if again := postToLobby(t, f, alice, d); again.ID == old.ID {
		t.Error("a trimmed message is found by its clientMessageID")
	}
	checkInvariants(t, f)

	// The feed reports a gap before its first event, and nowhere else.
	feed, err := f.FeedAfter(t.Context(), begin, room.FeedParts{}, 100)
	if err != nil || !begin.Before(feed.Trimmed) {
		t.Errorf("from the beginning the feed returns %+v, %v", feed, err)
	}
	waitUntil(t, "the feed is complete", func() bool {
		feed, err = f.FeedAfter(t.Context(), begin, room.FeedParts{}, 100)
		return err != nil || slices.ContainsFunc(feed.Events, func(e room.FeedEvent) bool { return e.Cursor.Seq == kept.Seq })
	})
	for _, e := range feed.Events {
		if e.Type == room.TypeMessagesReceived && e.Cursor.Before(feed.Trimmed) {
			t.Errorf("%v is retained, but reported as trimmed", e.Cursor)
		}
	}
}

// TestTrimmedRoomIsNotReportedAsUnused: the destroy reason of a room that was used does not depend
// on the events that show its use.
func TestTrimmedRoomIsNotReportedAsUnused(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Minute, FeedRetention: 24 * time.Hour, Defaults: defaults(func(c *room.Config) {
		c.DestroyDelay, c.UnusedTimeout = 600, 3600
	})})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "used")
	leave(t, f, alice, "used")
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "unused", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PostMessageAs(t.Context(), room.User{ID: "system"}, "unused", textDraft("hello?")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.clock.advance(5 * time.Minute)
		sweep(t, f)
	}
	f.clock.advance(time.Hour)
	sweep(t, f)
	for id, want := range map[room.RoomID]room.DestroyReason{"used": room.DestroyEmpty, "unused": room.DestroyUnused} {
		if got := query[room.DestroyReason](t, f, "SELECT coalesce(destroy_reason, '') FROM rooms WHERE room_id = $1", id); got != want {
			t.Errorf("the room %s is destroyed as %q", id, got)
		}
	}
}

// TestTrimmingInBatches makes the database count what each statement deletes, while members
// continue to send.
func TestTrimmingInBatches(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Hour})
	alice := newSessionUntil(t, f.Store, "alice", f.clock.Now().Add(24*time.Hour))
	openStream(t, f, alice)
	r := enter(t, f, alice, "lobby")
	const old = 21_500
	execute(t, f, `INSERT INTO events (generation, seq, type, at, sender_id, body, xact)
		SELECT $1, seq, 'roomMessageReceived', $2, 'alice', '{"messageList":[{}]}', '1' FROM generate_series(2, $3 + 1) seq`, r.Generation, f.clock.Now(), old)
	execute(t, f, "UPDATE logs SET last_seq = $2 + 1 WHERE generation = $1", r.Generation, old)
	execute(t, f, `CREATE TABLE deletions (txid xid8, rows bigint);
		CREATE FUNCTION count_deletions() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO deletions SELECT pg_current_xact_id(), count(*) FROM gone; RETURN NULL; END $$;
		CREATE TRIGGER deletions AFTER DELETE ON events REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_deletions()`)
	f.clock.advance(2 * time.Hour)
	stop := make(chan struct{})
	var (
		sending sync.WaitGroup
		slowest time.Duration
		sent    int
	)
	sending.Go(func() {
		for ; ; sent++ {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			postToLobby(t, f, alice, textDraft("meanwhile"))
			slowest = max(slowest, time.Since(began))
		}
	})
	for _, want := range []int{1_501, 0, 0} {
		sweep(t, f)
		if left := query[int](t, f, "SELECT count(*) FROM events WHERE seq <= $1", old+1); left != want {
			t.Errorf("%d old events are left, want %d", left, want)
		}
	}
	close(stop)
	sending.Wait()
	t.Logf("%d messages meanwhile, the slowest after %s", sent, slowest)
	most := query[int](t, f, "SELECT max(rows) FROM (SELECT sum(rows) AS rows FROM deletions GROUP BY txid) each")
	if most != 1000 {
		t.Errorf("a transaction deletes %d events", most)
	}
	checkInvariants(t, f)
}

// TestTrimmedSpaceIsReused: a vacuum makes the space of trimmed events available for new ones, also
// if they were a small part of the table.
func TestTrimmedSpaceIsReused(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Hour})
	r := enter(t, f, newUser(t, f, "alice"), "lobby")
	const events, old = 20_000, 300
	insert := func(from, to int) {
		t.Helper()
		execute(t, f, `INSERT INTO events (generation, seq, type, at, sender_id, body, xact)
			SELECT $1, seq, 'roomMessageReceived', $2::timestamptz - make_interval(hours => (seq <= $5)::int * 2), 'alice',
				'{"messageList":[{"text":"' || repeat('x', 200) || '"}]}', '1'
			FROM generate_series($3::int, $4::int) seq`, r.Generation, f.clock.Now(), from, to, old)
	}
	insert(2, events)
	execute(t, f, "UPDATE events SET at = $1 WHERE seq = 1", f.clock.Now().Add(-2*time.Hour))
	execute(t, f, "UPDATE logs SET last_seq = $2 WHERE generation = $1", r.Generation, events)
	sweep(t, f)
	if left := query[int](t, f, "SELECT count(*) FROM events"); left != events-old {
		t.Fatalf("%d events are left", left)
	}
	execute(t, f, "VACUUM events")
	before := query[int](t, f, "SELECT pg_relation_size('events')")
	insert(events+1, events+old*3/4)
	if after := query[int](t, f, "SELECT pg_relation_size('events')"); after != before {
		t.Errorf("the table grew from %d to %d bytes", before, after)
	}
}

func execute(t *testing.T, f fixture, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestTrimmingCoversAllRooms: each sweep checks a part of the rooms, and the next one continues.
func TestTrimmingCoversAllRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Hour})
	execute(t, f, `WITH made AS (
		INSERT INTO rooms (room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user, history_visible,
			member_count, created_at, destroy_at)
		SELECT 'room' || i, '', 0, 86400, 30, 1, 'allow', 'all', 0, $1::timestamptz, $1::timestamptz + interval '1 day' FROM generate_series(1, 2100) i RETURNING generation
	), logs AS (
		INSERT INTO logs (generation, last_seq) SELECT generation, 1 FROM made)
		INSERT INTO events (generation, seq, type, at, body, xact) SELECT generation, 1, 'roomMemberLeft', $1, '{"memberList":[]}', '1' FROM made`, f.clock.Now())
	f.clock.advance(2 * time.Hour)
	sweeps := 0
	for left := 2100; left > 0; sweeps++ {
		if sweeps > 2100/200+3 {
			t.Fatalf("after %d sweeps %d logs are not trimmed", sweeps, left)
		}
		sweep(t, f)
		left = query[int](t, f, "SELECT count(*) FROM events")
	}
	checkSeqs := query[int](t, f, "SELECT count(*) FROM rooms WHERE oldest_seq <> 2")
	if checkSeqs > 0 {
		t.Errorf("%d logs begin at another seq", checkSeqs)
	}
	// It starts again after the last room.
	f.clock.advance(time.Hour)
	if _, err := f.PostMessageAs(t.Context(), room.User{ID: "system"}, "room1", textDraft("x")); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Hour)
	for range 4 {
		sweep(t, f)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events"); n != 0 {
		t.Errorf("%d events are left of the first room", n)
	}
}
