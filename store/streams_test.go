package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestOpenStreamReturnsMissedLeaves: a session that was removed from rooms while it had no stream
// gets the reasons once, whatever its cursor.
func TestOpenStreamReturnsMissedLeaves(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	openStream(t, f, bob)
	generations := map[room.RoomID]room.LogID{}
	for _, id := range []room.RoomID{"notified", "left", "lost"} {
		generations[id] = enter(t, f, bob, id).Generation
	}
	detach := func(streamNo int64) {
		t.Helper()
		f.Detach(alice.ID, streamNo, f.clock.Now())
		waitUntil(t, "the session is detached", func() bool { return detached(t, f, alice) })
	}
	wants := func(what string, logs []room.Position, ids ...room.RoomID) room.OpenedStream {
		t.Helper()
		opened, err := f.OpenStream(t.Context(), alice.ID, "", logs)
		if err != nil {
			t.Fatal(err)
		}
		var got []room.RoomID
		for _, d := range opened.Left {
			got = append(got, d.Room)
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		return opened
	}
	first := wants("at first", nil)
	for id := range generations {
		enter(t, f, alice, id)
	}
	leave(t, f, alice, "notified")
	f.clock.advance(time.Second)
	detach(first.StreamNo)
	leave(t, f, alice, "left")
	f.clock.advance(31 * time.Second)
	sweep(t, f)
	wants("after her stream was lost", nil, "lost")
	second := wants("while another stream is open", nil)
	f.clock.advance(time.Second)
	detach(second.StreamNo)
	wants("after the next loss", nil)
	wants("with a cursor", []room.Position{{Log: generations["notified"]}, {Log: generations["left"]}}, "notified", "left")
}

// TestManyStreamsEndAtOnce: when a proxy fails, thousands of streams end. The plan of the statement
// that detaches them was made when hardly any session had a stream.
func TestManyStreamsEndAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const n = 8000
	ids := query[[]room.SessionID](t, f, `WITH crowd AS (
			INSERT INTO sessions (session_id, user_id, user_name, device, key_hash, stream_key_hash, created_at, token_expires_at, stream_no, detached_at, inbox)
			SELECT gen_random_uuid(), 'user' || i, 'u', '', sha256(i::text::bytea), sha256(('s' || i)::bytea), now(), now() + interval '1 hour', 1, now(), 0
			FROM generate_series(1, $1) i RETURNING session_id
		) SELECT array_agg(session_id::text) FROM crowd`, n)
	execute := func(sql string) {
		t.Helper()
		hold(t, f, sql+"; COMMIT; BEGIN")()
	}
	execute("ANALYZE sessions")
	first := newSession(t, f.Store, "first")
	f.Detach(first.ID, openStream(t, f, first).StreamNo, f.clock.Now())
	waitUntil(t, "the first one is detached", func() bool { return detached(t, f, first) })
	execute("UPDATE sessions SET node_id = (SELECT node_id FROM nodes), detached_at = NULL WHERE stream_no = 1 AND user_id <> 'first'")
	for _, id := range ids {
		f.Detach(id, 1, f.clock.Now())
	}
	began := time.Now()
	waitUntil(t, "all are detached", func() bool { return query[int](t, f, "SELECT count(*) FROM sessions WHERE node_id IS NOT NULL") == 0 })
	t.Logf("%d sessions were detached in %s", n, time.Since(began))
}

// TestStreamsOpenTogether opens many streams at once, of sessions in rooms, of one that has ended
// and of one that another transaction has locked, some of them twice.
func TestStreamsOpenTogether(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const sessions = 60
	all := make([]room.Session, sessions)
	generations := make([]room.LogID, sessions)
	for i := range all {
		all[i] = newSession(t, f.Store, fmt.Sprintf("user%d", i%(sessions-2))) // two users have two sessions
		generations[i] = enter(t, f, all[i], room.RoomID(fmt.Sprintf("room%d", i%7))).Generation
	}
	ended, locked := all[0], all[1]
	if err := f.EndSession(t.Context(), as(ended)); err != nil {
		t.Fatal(err)
	}
	release := hold(t, f, "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", locked.ID)

	type result struct {
		session int
		opened  room.OpenedStream
		err     error
	}
	open := func(i int) result {
		opened, err := f.OpenStream(t.Context(), all[i].ID, "", nil)
		return result{i, opened, err}
	}
	var group sync.WaitGroup
	results, late := make(chan result, 2*sessions), make(chan result, 1)
	for i := range all {
		if i == 1 {
			group.Go(func() { late <- open(i) })
			continue
		}
		for range 1 + i%2 {
			group.Go(func() { results <- open(i) })
		}
	}
	waitUntil(t, "all but the locked session have their streams", func() bool { return len(results) == sessions-2+sessions/2 })
	if len(late) > 0 {
		t.Error("the locked session has a stream")
	}
	release()
	group.Wait()
	close(results)

	numbers := make(map[int][]int64)
	check := func(r result) {
		if r.session == 0 {
			if !errors.Is(r.err, room.ErrSessionEnded) {
				t.Errorf("the session that ended: %v", r.err)
			}
			return
		}
		if r.err != nil || len(r.opened.Presences) != 1 || r.opened.Presences[0].Room.Generation != generations[r.session] ||
			r.opened.Inbox.Log == 0 || r.opened.LastPresence < r.opened.Presences[0].ID {
			t.Errorf("session %d in log %d: %+v, %v", r.session, generations[r.session], r.opened, r.err)
		}
		numbers[r.session] = append(numbers[r.session], r.opened.StreamNo)
	}
	check(<-late)
	for r := range results {
		check(r)
	}
	for i := 1; i < sessions; i++ {
		want := []int64{1}
		if i != 1 && i%2 == 1 {
			want = []int64{1, 2}
		}
		slices.Sort(numbers[i])
		if diff := cmp.Diff(want, numbers[i]); diff != "" {
			t.Errorf("the numbers of the streams of session %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestStreamOfCallerThatGaveUp: a stream that is opened for a caller that does not wait any more
// ends at once.
func TestStreamOfCallerThatGaveUp(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	if _, err := f.PostPeerMessage(t.Context(), bob, "alice", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	inbox := openStream(t, f, alice).Inbox
	// The message in the cursor counts as delivered, which needs this lock.
	release := hold(t, f, "SELECT FROM inboxes WHERE log = $1 FOR UPDATE", inbox.Log)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := f.OpenStream(ctx, alice.ID, "", []room.Position{{Log: inbox.Log, Seq: 1}})
		gaveUp <- err
	}()
	waitForLocks(t, f, 1)
	cancel()
	if err := <-gaveUp; err == nil {
		t.Error("the caller got a stream")
	}
	release()
	waitUntil(t, "the session has no stream", func() bool {
		return query[int64](t, f, "SELECT stream_no FROM sessions WHERE session_id = $1", alice.ID) == 2 && detached(t, f, alice)
	})
}
