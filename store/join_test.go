package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// A queue is calls that want to join a room while the first of them waits for a lock.
type queue struct {
	fixture
	*testing.T
	id      room.RoomID
	release func() // releases the lock of the logs
	waiting int
	calls   sync.WaitGroup
}

// An outcome is the result of a call.
type outcome struct {
	room    room.Room
	created bool
	err     error
}

// queueBehind locks the room for all calls, even if it does not exist, until unlock is called.
func queueBehind(t *testing.T, f fixture, id room.RoomID) *queue {
	t.Helper()
	release := hold(t, f, "LOCK TABLE logs IN EXCLUSIVE MODE")
	return &queue{fixture: f, T: t, id: id, release: release, waiting: -1}
}

// call adds a call to the queue. The outcome is set after unlock.
func (q *queue) call(call func() outcome) *outcome {
	q.Helper()
	var result outcome
	q.calls.Go(func() { result = call() })
	if q.waiting++; q.waiting == 0 {
		waitForLocks(q.T, q.fixture, 1) // the first call waits for the lock
		return &result
	}
	waitUntil(q, "the call waits", func() bool { return q.WaitingJoins(q.id) == q.waiting })
	return &result
}

func (q *queue) enter(s room.Session) *outcome {
	return q.enterWith(q.Context(), s)
}

func (q *queue) enterWith(ctx context.Context, s room.Session) *outcome {
	q.Helper()
	return q.call(func() (result outcome) {
		result.room, result.created, result.err = q.EnterRoom(ctx, as(s), q.id, room.RoomOptions{Name: string(s.User.ID)})
		return result
	})
}

func (q *queue) join(s room.Session) *outcome {
	q.Helper()
	return q.call(func() (result outcome) {
		result.room, result.err = q.JoinRoom(q.Context(), as(s), q.id, "")
		return result
	})
}

func (q *queue) unlock() {
	q.Helper()
	q.release()
	q.calls.Wait()
}

func TestWaitingJoinsShareATransaction(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MaxMembers = 5 })})
	session := func(user string) room.Session { return newSession(t, f.Store, user) }
	host := session("host")
	if _, err := f.CreateRoom(t.Context(), as(host), "hall", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.KickMembers(t.Context(), admin, "hall", []room.UserID{"banned"}, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	over, gone := session("over"), session("gone")
	if err := f.EndSession(t.Context(), as(over)); err != nil {
		t.Fatal(err)
	}
	f.published.take()

	first := session("first")
	q := queueBehind(t, f, "hall")
	ctx, giveUp := context.WithCancel(t.Context())
	in := []*outcome{q.enter(first), q.enter(session("two")), q.join(session("three"))}
	again := q.enter(session("two")) // another session of that user
	refused := map[*outcome]error{
		q.enter(over):              room.ErrSessionEnded,
		q.enter(session("banned")): room.ErrBanned,
		q.enterWith(ctx, gone):     context.Canceled,
		q.join(room.Session{ID: "01890000-0000-7000-8000-000000000000"}): room.ErrUnauthenticated,
	}
	in = append(in, q.enter(session("five")))
	refused[q.enter(session("six"))] = room.ErrRoomFull
	giveUp()
	q.unlock()

	for i, result := range in {
		if result.err != nil || result.created || result.room.MemberCount != i+2 || int(result.room.LastSeq) != i+2 {
			t.Errorf("number %d: %+v", i, result)
		}
	}
	if again.err != nil || again.room.MemberCount != 5 {
		t.Errorf("the second session of a user: %+v", again)
	}
	for result, want := range refused {
		if !errors.Is(result.err, want) {
			t.Errorf("got %v, want %v", result.err, want)
		}
	}
	// The transactions of the host, of the first call, of the batch, and of the second session of a
	// user.
	if n := query[int](t, f, "SELECT count(DISTINCT xmin::text) FROM attendances"); n != 4 {
		t.Errorf("%d transactions", n)
	}
	if query[bool](t, f, "SELECT EXISTS (SELECT FROM attendances WHERE session_id = $1)", gone.ID) {
		t.Error("a call that gave up has joined")
	}
	published := f.published.take()
	if len(published.Events) != 4 || len(published.Joined) != 5 {
		t.Errorf("%d events and %d joins were published", len(published.Events), len(published.Joined))
	}
	for _, a := range published.Joined {
		if want := query[room.PresenceID](t, f, "SELECT stay FROM attendances WHERE session_id = $1", a.Session); a.Presence != want {
			t.Errorf("presence %d was published, want %d", a.Presence, want)
		}
	}
	checkInvariants(t, f)
}

// TestJoinsOfAMissingRoom: the first join of a room may be rejected. Joins that wait behind it are
// not rejected with it, and do not see the room that was not created.
func TestJoinsOfAMissingRoom(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 1})
	busy := newSession(t, f.Store, "busy")
	if _, err := f.CreateRoom(t.Context(), as(busy), "elsewhere", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	session := make([]room.Session, 5)
	for i := range session {
		session[i] = newSession(t, f.Store, fmt.Sprintf("user%d", i))
	}
	q := queueBehind(t, f, "hall")
	early, refused := q.join(session[0]), q.enter(busy)
	creator, second, join := q.enter(session[1]), q.enter(session[2]), q.join(session[3])
	q.unlock()

	if !errors.Is(early.err, room.ErrRoomNotFound) || !errors.Is(join.err, room.ErrRoomNotFound) {
		t.Errorf("joining a missing room: %v, %v", early.err, join.err)
	}
	if !errors.Is(refused.err, room.ErrTooManyRooms) {
		t.Errorf("a user in too many rooms: %v", refused.err)
	}
	if creator.err != nil || !creator.created || creator.room.MemberCount != 1 || creator.room.Name != "user1" {
		t.Errorf("the creator: %+v", creator)
	}
	if second.err != nil || second.created || second.room.Generation != creator.room.Generation || second.room.MemberCount != 2 {
		t.Errorf("the second: %+v", second)
	}
	checkInvariants(t, f)
}

// TestTimesFollowTheLog makes users join, write and leave on two servers that know the time with a
// difference, in a room that is large enough to publish joins in batches. The times of the log are
// in its order, and no member joined before the room was created.
func TestTimesFollowTheLog(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	began := time.Now()
	server := func(ahead time.Duration) *store.Store {
		return storetest.Open(t, f.address, store.Options{
			LockTimeout: time.Minute, DatabaseNow: func(at time.Time) time.Time { return at.Add(ahead) },
		})
	}
	servers := []*store.Store{server(700 * time.Millisecond), server(-700 * time.Millisecond)}
	const users = room.PresenceBatchThreshold + 40
	var running sync.WaitGroup
	var r room.Room
	for i := range users {
		s := servers[i%len(servers)]
		session := newSession(t, s, fmt.Sprintf("user%d", i))
		visit := func() {
			entered, _, err := s.EnterRoom(t.Context(), as(session), "lobby", room.RoomOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := s.PostMessage(t.Context(), toRoom(session, "lobby", textDraft("x"))); err != nil {
				t.Error(err)
			}
			if i%7 == 3 {
				if err := s.LeaveRoom(t.Context(), as(session), "lobby"); err != nil {
					t.Error(err)
				}
			}
			if i == 0 {
				r = entered
			}
		}
		if i == 0 {
			visit()
		} else {
			running.Go(visit)
		}
	}
	running.Wait()
	for _, s := range servers {
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	page, err := servers[0].EventsAfter(t.Context(), r.Generation, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	latest, joined := r.CreatedAt, r.CreatedAt
	for _, e := range page.Events {
		at := room.InstantOf(e.At)
		if e.Body.Type() != room.TypeMessagesReceived && at < latest {
			t.Errorf("event %d, %s, is at %s, after one of %s", e.Seq, e.Body.Type(), at, latest)
		}
		latest = max(latest, at)
		if list, ok := e.Body.(room.MembersJoined); ok {
			for _, m := range list.MemberList {
				if m.JoinedAt < joined || m.JoinedAt > at {
					t.Errorf("%s joined at %s, by event %d of %s, after another at %s", m.ID, m.JoinedAt, e.Seq, at, joined)
				}
				joined = m.JoinedAt
			}
		}
	}
	if joined.Time().Before(began) || len(page.Events) < 2*room.PresenceBatchThreshold {
		t.Errorf("%d events, the last join at %s", len(page.Events), joined)
	}
	checkInvariants(t, f)
}
