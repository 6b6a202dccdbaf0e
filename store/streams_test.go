package store_test

import (
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
