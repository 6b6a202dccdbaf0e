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
)

// queue is callers who want into a room while the first of them is held up.
type queue struct {
	fixture
	*testing.T
	id      room.RoomID
	release func() // lets go of the logs
	waiting int
	calls   sync.WaitGroup
}

// outcome is what a caller got.
type outcome struct {
	room    room.Room
	created bool
	err     error
}

// queueBehind keeps everybody from locking a room, one that is not there too, until letGo.
func queueBehind(t *testing.T, f fixture, id room.RoomID) *queue {
	t.Helper()
	release := hold(t, f, "LOCK TABLE logs IN EXCLUSIVE MODE")
	return &queue{fixture: f, T: t, id: id, release: release, waiting: -1}
}

// call puts a caller at the end of the queue. The outcome is there after letGo.
func (q *queue) call(call func() outcome) *outcome {
	q.Helper()
	var o outcome
	q.calls.Go(func() { o = call() })
	if q.waiting++; q.waiting == 0 {
		waitForLocks(q.T, q.fixture, 1) // the first one is held up
		return &o
	}
	waitUntil(q, "the caller waits", func() bool { return q.WaitingJoins(q.id) == q.waiting })
	return &o
}

func (q *queue) enter(s room.Session) *outcome {
	return q.enterWith(q.Context(), s)
}

func (q *queue) enterWith(ctx context.Context, s room.Session) *outcome {
	q.Helper()
	return q.call(func() (o outcome) {
		o.room, o.created, o.err = q.EnterRoom(ctx, as(s), q.id, room.RoomOptions{Name: string(s.User.ID)})
		return o
	})
}

func (q *queue) join(s room.Session) *outcome {
	q.Helper()
	return q.call(func() (o outcome) {
		o.room, o.err = q.JoinRoom(q.Context(), as(s), q.id)
		return o
	})
}

func (q *queue) letGo() {
	q.Helper()
	q.release()
	q.calls.Wait()
}

func TestThoseWhoWaitEnterTogether(t *testing.T) {
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
	f.heard.take()

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
	q.letGo()

	for i, o := range in {
		if o.err != nil || o.created || o.room.MemberCount != i+2 || int(o.room.LastSeq) != i+2 {
			t.Errorf("number %d: %+v", i, o)
		}
	}
	if again.err != nil || again.room.MemberCount != 5 {
		t.Errorf("the second session of a user: %+v", again)
	}
	for o, want := range refused {
		if !errors.Is(o.err, want) {
			t.Errorf("%v, and not %v", o.err, want)
		}
	}
	// The host, the first one, those behind, and the second session of a user.
	if n := query[int](t, f, "SELECT count(DISTINCT xmin::text) FROM attendances"); n != 4 {
		t.Errorf("%d transactions", n)
	}
	if query[bool](t, f, "SELECT EXISTS (SELECT FROM attendances WHERE session_id = $1)", gone.ID) {
		t.Error("one who gave up was let in")
	}
	heard := f.heard.take()
	if len(heard.Events) != 4 || len(heard.Joined) != 5 {
		t.Errorf("the hub heard %d events and %d arrivals", len(heard.Events), len(heard.Joined))
	}
	for _, a := range heard.Joined {
		if want := query[room.PresenceID](t, f, "SELECT stay FROM attendances WHERE session_id = $1", a.Session); a.Presence != want {
			t.Errorf("the hub heard of stay %d, and it is %d", a.Presence, want)
		}
	}
	checkInvariants(t, f)
}

// A room begins with one session: those who wait behind it are not refused with
// it, and do not see a room that never was.
func TestWhoWaitsForARoomThatIsNotThere(t *testing.T) {
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
	founder, second, join := q.enter(session[1]), q.enter(session[2]), q.join(session[3])
	q.letGo()

	if !errors.Is(early.err, room.ErrRoomNotFound) || !errors.Is(join.err, room.ErrRoomNotFound) {
		t.Errorf("joining a room that is not there: %v, %v", early.err, join.err)
	}
	if !errors.Is(refused.err, room.ErrTooManyRooms) {
		t.Errorf("one who is in too many rooms: %v", refused.err)
	}
	if founder.err != nil || !founder.created || founder.room.MemberCount != 1 || founder.room.Name != "user1" {
		t.Errorf("the founder: %+v", founder)
	}
	if second.err != nil || second.created || second.room.Generation != founder.room.Generation || second.room.MemberCount != 2 {
		t.Errorf("the second: %+v", second)
	}
	checkInvariants(t, f)
}
