package hub

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestModel lets anything happen in any order, and holds what each session gets
// against the simplest account of it: every event once, in order, from the
// session's coming in until its going, whatever befalls its connection.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := &model{testHub: newTestHub(t, overServe, Options{}), t: t}
			for _, id := range []room.SessionID{"a", "b", "c", "d"} {
				m.users = append(m.users, &user{id: id, at: make(map[room.LogID]room.Seq)})
			}
			t.Repeat(map[string]func(*rapid.T){
				"append":     m.append,
				"publish":    m.publish,
				"publish it": m.publish, // twice as often, lest most be found by Refresh
				"lose":       m.lose,
				"trim":       m.trim,
				"outage":     m.outage,
				"join":       m.join,
				"leave":      m.leave,
				"connect":    m.connect,
				"hang up":    m.hangUp,
				"throttle":   m.throttle,
				"elapse":     m.elapse,
			})
			m.finish()
		})
	})
}

type model struct {
	*testHub
	t           *rapid.T
	users       []*user
	unpublished []room.Event
}

// user is a session, and where it is in each room that it is in.
type user struct {
	id      room.SessionID
	at      map[room.LogID]room.Seq
	client  *client // nil while it has no connection
	read    int     // how many of the client's messages are accounted for
	lastID  string
	streams int64
}

func (m *model) anyUser() *user { return rapid.SampledFrom(m.users).Draw(m.t, "user") }

func (m *model) anyLog() room.LogID {
	return room.LogID(rapid.IntRange(1, 3).Draw(m.t, "log"))
}

func (m *model) append(t *rapid.T) {
	few, many, tooMany := rapid.IntRange(1, 5), rapid.IntRange(250, 600), rapid.IntRange(1100, 1500)
	n := rapid.OneOf(few, few, few, many, tooMany).Draw(t, "events")
	m.unpublished = append(m.unpublished, m.store.append(m.anyLog(), n, "hello")...)
}

// draw takes some events that were not published.
func (m *model) draw(t *rapid.T) []room.Event {
	if len(m.unpublished) == 0 {
		t.Skip("everything is published")
	}
	from := rapid.IntRange(0, len(m.unpublished)-1).Draw(t, "from")
	to := min(len(m.unpublished), from+rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 2000)).Draw(t, "events"))
	drawn := slices.Clone(m.unpublished[from:to])
	m.unpublished = slices.Delete(m.unpublished, from, to)
	return drawn
}

func (m *model) publish(t *rapid.T) {
	m.Apply(room.Change{Events: m.draw(t)})
}

// lose is a process that committed and could not tell.
func (m *model) lose(t *rapid.T) {
	m.draw(t)
	m.Resync()
}

func (m *model) trim(t *rapid.T) {
	g := m.anyLog()
	m.store.mu.Lock()
	oldest, last := m.store.room(g).oldest, m.store.room(g).last
	m.store.mu.Unlock()
	m.store.trim(g, room.Seq(rapid.Int64Range(int64(oldest), int64(last)+1).Draw(t, "oldest")))
}

func (m *model) outage(*rapid.T) { m.store.failReads(errors.New("the database is away")) }

func (m *model) join(t *rapid.T) {
	u, g := m.anyUser(), m.anyLog()
	if _, in := u.at[g]; in {
		t.Skip("it is in the room")
	}
	u.at[g] = m.testHub.join(u.id, g).From
}

// leave waits first, because up to where a session gets a room's events when it
// leaves in the middle of them is not defined.
func (m *model) leave(t *rapid.T) {
	u := m.anyUser()
	if len(u.at) == 0 {
		t.Skip("it is in no room")
	}
	g := rapid.SampledFrom(slices.Sorted(maps.Keys(u.at))).Draw(t, "room")
	if m.settle(); u.client != nil {
		u.client.resume()
		synctest.Wait()
		m.account(u)
		if open := !u.client.isEnded(); open && u.at[g] != m.store.last(g) {
			t.Fatalf("%s got log %d up to %d of %d", u.id, g, u.at[g], m.store.last(g))
		}
	}
	delete(u.at, g)
	m.testHub.leave(u.id, g, room.ReasonLeft)
}

// connect opens a stream; one that is open already is superseded.
func (m *model) connect(*rapid.T) { m.reconnect(m.anyUser()) }

func (m *model) reconnect(u *user) {
	m.disconnect(u, false)
	u.client, u.read = m.testHub.connect(u.id, u.lastID), 0
	u.streams++
	synctest.Wait()
}

func (m *model) hangUp(*rapid.T) { m.disconnect(m.anyUser(), true) }

// disconnect ends what a user takes from its connection; closed says whether the
// server can know.
func (m *model) disconnect(u *user, closed bool) {
	if u.client == nil {
		return
	}
	u.client.pause()
	synctest.Wait()
	m.account(u)
	u.lastID = u.client.lastID()
	if closed {
		u.client.hangUp()
	}
	u.client = nil
}

// throttle makes a connection stop after some bytes, or go on.
func (m *model) throttle(t *rapid.T) {
	if u := m.anyUser(); u.client != nil {
		if rapid.Bool().Draw(t, "resume") {
			u.client.resume()
		} else {
			u.client.allow(rapid.IntRange(0, 3000).Draw(t, "bytes"))
		}
	}
}

func (m *model) elapse(t *rapid.T) {
	advanceTime(rapid.SampledFrom([]time.Duration{
		0, time.Millisecond, gapTimeout, time.Second, defaultWriteTimeout, segmentIdle, topicIdle + time.Second,
	}).Draw(t, "time"))
	for _, u := range m.users {
		m.account(u)
	}
}

// settle lets everything come that can.
func (m *model) settle() {
	m.store.failReads(nil)
	m.Resync()
	advanceTime(maxReadRetry + time.Second)
}

// account takes what a user's client got into the account.
func (m *model) account(u *user) {
	if u.client == nil {
		return
	}
	u.client.await("nothing", func() bool { return true }) // fails with what the client itself found wrong
	for _, e := range u.client.received()[u.read:] {
		u.read++
		switch e.Event {
		case string(room.TypeMessagesReceived):
			p, err := positionOf(e)
			if err != nil {
				m.t.Fatalf("%s: %v", e.Data, err)
			}
			at, in := u.at[p.Generation]
			if !in || p.Seq != at+1 {
				m.t.Fatalf("%s got %+v at %d (in the room: %t)", u.id, p, at, in)
			}
			u.at[p.Generation] = p.Seq
		case string(room.TypeRoomReset):
			reset := data[room.RoomReset](m.t, e)
			at, in := u.at[reset.Generation]
			if !in || reset.Reason != room.ResetLogTrimmed || at+1 >= reset.OldestSeq {
				m.t.Fatalf("%s got %+v at %d (in the room: %t)", u.id, reset, at, in)
			}
			u.at[reset.Generation] = reset.Room.LastSeq
		}
	}
}

// finish brings everybody up to date and looks at what they got, and at what
// the database was told.
func (m *model) finish() {
	for range 3 { // a trimmed log may end a stream that was behind, and the next one has it all
		for _, u := range m.users {
			if u.client == nil || u.client.isEnded() {
				m.reconnect(u)
			}
			u.client.resume()
		}
		m.settle()
	}
	for _, u := range m.users {
		m.account(u)
		for g, at := range u.at {
			if last := m.store.last(g); at != last {
				m.t.Fatalf("%s got log %d up to %d of %d; %s", u.id, g, at, last, u.client.summary())
			}
		}
	}
	m.Close()
	numbers := make(map[room.SessionID][]int64)
	for _, d := range m.detachments() {
		numbers[d.Session] = append(numbers[d.Session], d.StreamNo)
	}
	for _, u := range m.users {
		slices.Sort(numbers[u.id])
		for i := range u.streams {
			if int64(len(numbers[u.id])) != u.streams || numbers[u.id][i] != i+1 {
				m.t.Fatalf("of the %d streams of %s, those detached are %v", u.streams, u.id, numbers[u.id])
			}
		}
	}
}
