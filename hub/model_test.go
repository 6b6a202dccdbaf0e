package hub

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestModel runs random operations, and checks what each session receives against a simple model:
// every event once and in order, from joining a room until leaving it, whatever happens to the
// connection. Of an event for others it receives the position, and nothing of one that is not
// stored. Events that are not stored come in order and at most once.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := overServe
			if rapid.Bool().Draw(t, "gathering") {
				w = gathering(w)
			}
			m := &model{testHub: newTestHub(t, w, Options{}), t: t, audiences: make(map[room.Position][]room.UserID)}
			for _, id := range []room.SessionID{"a", "b", "c", "d"} {
				m.users = append(m.users, &user{id: id, at: make(map[room.LogID]room.Seq), heard: make(map[room.LogID]int)})
			}
			t.Repeat(map[string]func(*rapid.T){
				"append":    m.append,
				"recall":    m.recall,
				"whisper":   m.whisper,
				"publish":   m.publish,
				"publish 2": m.publish, // twice as often, so that not most events are found by Resync
				"skip":      m.skipPublish,
				"trim":      m.trim,
				"outage":    m.outage,
				"join":      m.join,
				"leave":     m.leave,
				"connect":   m.connect,
				"hang up":   m.hangUp,
				"throttle":  m.throttle,
				"elapse":    m.advanceTime,
				"strain":    m.strain,
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
	// audiences holds the events that are not for everybody.
	audiences map[room.Position][]room.UserID
	whispers  int // published so far
}

// user is a session and its position in each of its rooms.
type user struct {
	id room.SessionID
	at map[room.LogID]room.Seq
	// heard is the newest whisper of a room that the user received, or must not receive any more.
	heard   map[room.LogID]int
	client  *client // nil while it has no connection
	read    int     // how many of the client's messages are verified
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
	m.commit(m.store.append(m.anyLog(), n, "hello", m.anyAudience(t)...))
}

// anyAudience returns some users, or none for a message to all.
func (m *model) anyAudience(t *rapid.T) []room.UserID {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]room.UserID{"a", "b", "c", "d", "absent"}), 0, 3, rapid.ID).Draw(t, "to")
}

// commit records events that were appended.
func (m *model) commit(events []room.Event) {
	for _, e := range events {
		if users := room.Audience(e.Body); users != nil {
			m.audiences[room.Position{Log: e.Log, Seq: e.Seq}] = users
		}
	}
	m.unpublished = append(m.unpublished, events...)
}

// recall recalls any stored message, or recall of one: to the hub both are the same.
func (m *model) recall(t *rapid.T) {
	g := m.anyLog()
	m.store.mu.Lock()
	oldest, last := m.store.room(g).oldest, m.store.room(g).last
	m.store.mu.Unlock()
	if last < oldest {
		t.Skip("the log is empty")
	}
	m.commit([]room.Event{m.store.recall(g, room.Seq(rapid.Int64Range(int64(oldest), int64(last)).Draw(t, "recalled")))})
}

// whisper publishes a numbered event that is not stored, to some users or none.
func (m *model) whisper(t *rapid.T) {
	m.whispers++
	m.testHub.whisper(m.anyLog(), strconv.Itoa(m.whispers), append(m.anyAudience(t), "absent")...)
}

// takeUnpublished removes some events from those that were not published.
func (m *model) takeUnpublished(t *rapid.T) []room.Event {
	if len(m.unpublished) == 0 {
		t.Skip("all events are published")
	}
	from := rapid.IntRange(0, len(m.unpublished)-1).Draw(t, "from")
	to := min(len(m.unpublished), from+rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 2000)).Draw(t, "events"))
	drawn := slices.Clone(m.unpublished[from:to])
	m.unpublished = slices.Delete(m.unpublished, from, to)
	return drawn
}

func (m *model) publish(t *rapid.T) {
	m.Apply(room.Change{Events: m.takeUnpublished(t)})
}

// skipPublish is a process that committed events and failed before it published them.
func (m *model) skipPublish(t *rapid.T) {
	m.takeUnpublished(t)
	m.Resync()
}

func (m *model) trim(t *rapid.T) {
	g := m.anyLog()
	m.store.mu.Lock()
	oldest, last := m.store.room(g).oldest, m.store.room(g).last
	m.store.mu.Unlock()
	m.store.trim(g, room.Seq(rapid.Int64Range(int64(oldest), int64(last)+1).Draw(t, "oldest")))
}

// strain makes the hub gather the next events of a log, as if it had taken too much of the workers'
// time.
func (m *model) strain(*rapid.T) {
	logID := m.anyLog()
	m.Hub.mu.RLock()
	topic := m.topics[logID]
	m.Hub.mu.RUnlock()
	if topic == nil {
		return
	}
	topic.strain()
}

func (m *model) outage(*rapid.T) { m.store.failReads(errors.New("the database is away")) }

func (m *model) join(t *rapid.T) {
	u, g := m.anyUser(), m.anyLog()
	if _, in := u.at[g]; in {
		t.Skip("the session is in the room")
	}
	u.heard[g] = m.whispers
	u.at[g] = m.testHub.join(u.id, g).From
}

// leave waits until the session has received all events of the room: it is not defined how many of
// them it receives if it leaves before.
func (m *model) leave(t *rapid.T) {
	u := m.anyUser()
	if len(u.at) == 0 {
		t.Skip("the session is in no room")
	}
	g := rapid.SampledFrom(slices.Sorted(maps.Keys(u.at))).Draw(t, "room")
	if m.settle(); u.client != nil {
		u.client.readAll()
		synctest.Wait()
		m.verify(u)
		if open := !u.client.isEnded(); open && u.at[g] != m.store.last(g) {
			t.Fatalf("%s got log %d up to %d of %d", u.id, g, u.at[g], m.store.last(g))
		}
	}
	delete(u.at, g)
	m.testHub.leave(u.id, g, room.ReasonLeft)
}

// connect opens a stream, which supersedes an open one.
func (m *model) connect(*rapid.T) { m.reconnect(m.anyUser()) }

func (m *model) reconnect(u *user) {
	m.disconnect(u, false)
	for g := range u.at {
		u.heard[g] = m.whispers
	}
	m.transport = rapid.SampledFrom([]transport{overServe, gzipped(overServe)}).Draw(m.t, "transport")
	u.client, u.read = m.testHub.connect(u.id, u.lastID), 0
	u.streams++
	synctest.Wait()
}

func (m *model) hangUp(*rapid.T) { m.disconnect(m.anyUser(), true) }

// disconnect makes a user read nothing more from its connection. If closed is false, the server
// does not notice.
func (m *model) disconnect(u *user, closed bool) {
	if u.client == nil {
		return
	}
	u.client.stopReading()
	synctest.Wait()
	m.verify(u)
	u.lastID = u.client.lastID()
	if closed {
		u.client.close()
	}
	u.client = nil
}

// throttle makes a client stop reading after some bytes, or continue.
func (m *model) throttle(t *rapid.T) {
	if u := m.anyUser(); u.client != nil {
		if rapid.Bool().Draw(t, "resume") {
			u.client.readAll()
		} else {
			u.client.readMore(rapid.IntRange(0, 3000).Draw(t, "bytes"))
		}
	}
}

func (m *model) advanceTime(t *rapid.T) {
	advanceTime(rapid.SampledFrom([]time.Duration{
		0, time.Millisecond, minGapTimeout, time.Second, defaultWriteTimeout, segmentIdle, topicIdle + time.Second,
	}).Draw(t, "time"))
	for _, u := range m.users {
		m.verify(u)
	}
}

// settle waits until all events that can be delivered are delivered.
func (m *model) settle() {
	m.store.failReads(nil)
	m.Resync()
	advanceTime(maxReadRetry + time.Second)
}

// verify checks the messages that a user's client has received since the last call.
func (m *model) verify(u *user) {
	if u.client == nil {
		return
	}
	u.client.await("nothing", func() bool { return true }) // fails if the client has found the stream malformed
	for _, e := range u.client.received()[u.read:] {
		u.read++
		switch e.Event {
		case string(room.TypeMessagesReceived), string(room.TypeMessageRecalled), string(room.TypeRoomSeqAdvanced):
			p, err := positionOf(e)
			if err != nil {
				m.t.Fatalf("%s: %v", e.Data, err)
			}
			at, in := u.at[p.Generation]
			if p.Seq == 0 {
				said := data[room.MessagesReceived](m.t, e).MessageList[0]
				n, err := strconv.Atoi(said.Text)
				if err != nil || !in || n <= u.heard[p.Generation] || !slices.Contains(said.To, userOf(u.id)) {
					m.t.Fatalf("%s got %s after %d", u.id, e.Data, u.heard[p.Generation])
				}
				u.heard[p.Generation] = n
				continue
			}
			if !in || p.Seq != at+1 {
				m.t.Fatalf("%s got %+v at %d (in the room: %t)", u.id, p, at, in)
			}
			audience, some := m.audiences[room.Position{Log: p.Generation, Seq: p.Seq}]
			if hidden := some && !slices.Contains(audience, userOf(u.id)); hidden != (e.Event == string(room.TypeRoomSeqAdvanced)) {
				m.t.Fatalf("%s got %s, which is for %v: %s", u.id, e.Event, audience, e.Data)
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

// finish makes all clients catch up, and checks what they received and which ends of streams were
// reported.
func (m *model) finish() {
	for range 3 { // a stream that is behind may end because its log was trimmed, and the next one catches up
		for _, u := range m.users {
			if u.client == nil || u.client.isEnded() {
				m.reconnect(u)
			}
			u.client.readAll()
		}
		m.settle()
	}
	for _, u := range m.users {
		m.verify(u)
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
