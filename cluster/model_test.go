package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestModel runs random operations at random nodes, over a bus that loses, repeats, delays and
// reorders packets and from which nodes are cut off. Every session receives every event once and in
// order, from joining a room until leaving it, and nothing that is sent after the call that removed
// it. Of a message to others it receives the position, and nothing more.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := &model{world: newWorld(rapid.Bool().Draw(t, "routed"), "a", "b"), t: t, last: make(map[place]room.Seq)}
			defer m.close()
			defer m.stopReaders()
			advanceTime(2 * beatInterval) // the nodes find each other
			for _, id := range []room.SessionID{"1", "2", "3"} {
				m.readers = append(m.readers, m.open(id, "a"))
			}
			t.Repeat(map[string]func(*rapid.T){
				"":        func(*rapid.T) { synctest.Wait() },
				"say":     m.say,
				"say 2":   m.say,
				"join":    m.joinRoom,
				"kick":    m.kick,
				"move":    m.move,
				"faults":  m.faults,
				"cut":     m.cutOff,
				"deaf":    m.deafen,
				"outage":  m.outage,
				"heal":    func(*rapid.T) { m.heal() },
				"elapse":  m.elapse,
				"elapse2": m.elapse,
			})
			m.finish()
		})
	})
}

type place struct {
	session room.SessionID
	log     room.LogID
}

type model struct {
	*world
	t       *rapid.T
	readers []*reader
	// last is the last event of a room that a session may receive, because it was removed
	// afterwards.
	last map[place]room.Seq
}

func (m *model) anyLog() room.LogID { return room.LogID(rapid.IntRange(1, 2).Draw(m.t, "log")) }
func (m *model) anyReader() *reader {
	return m.readers[rapid.IntRange(0, len(m.readers)-1).Draw(m.t, "session")]
}
func (m *model) anyNode() *testNode { return m.node(m.anyNodeID()) }
func (m *model) anyNodeID() room.NodeID {
	return rapid.SampledFrom([]room.NodeID{"a", "b"}).Draw(m.t, "node")
}

func (m *model) elapse(t *rapid.T) {
	advanceTime(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
}
func (m *model) deafen(*rapid.T)     { m.set(func() { m.deaf[m.anyNodeID()] = true }) }
func (m *model) cutOff(*rapid.T)     { m.setCut(m.anyNodeID(), true) }
func (m *model) set(do func())       { m.mu.Lock(); defer m.mu.Unlock(); do() }
func (m *model) outage(*rapid.T)     { m.set(func() { m.away = true }) }
func (m *model) isAway() (away bool) { m.set(func() { away = m.away }); return away }

func (m *model) faults(t *rapid.T) {
	lose, repeat, delay := rapid.IntRange(0, 3).Draw(t, "lose"), rapid.IntRange(0, 3).Draw(t, "repeat"), rapid.IntRange(0, 5).Draw(t, "delay")
	m.set(func() { m.lose, m.repeat, m.delay = lose, repeat, delay })
}

// loseNext sometimes makes the bus lose the next packet, so that a notice is lost and not only
// beats.
func (m *model) loseNext(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
		m.set(func() { m.lose = 1 })
	}
}

func (m *model) say(t *rapid.T) {
	if m.isAway() {
		t.Skip("nothing can be stored")
	}
	at, log := m.anyNode(), m.anyLog()
	to := rapid.SliceOfNDistinct(rapid.SampledFrom([]room.UserID{"1", "2", "3", "absent"}), 0, 2, rapid.ID).Draw(t, "to")
	for range rapid.IntRange(1, 4).Draw(t, "messages") {
		at.Apply(m.commit(func(c *room.Change) { m.append(c, log, to...) }))
	}
}

func (m *model) joinRoom(t *rapid.T) {
	at, r, log := m.anyNode(), m.anyReader(), m.anyLog()
	var member bool
	m.set(func() { _, member = m.session(r.id).presences[log] })
	if member || m.isAway() {
		t.Skip("a member already")
	}
	delete(m.last, place{r.id, log})
	m.loseNext(t)
	at.Apply(m.commit(func(c *room.Change) { m.join(c, r.id, log) }))
}

// kick removes a session from a room. Nothing that is sent afterwards may reach it: at once if the
// bus works, and otherwise when the other node has noticed that.
func (m *model) kick(t *rapid.T) {
	at, r, log := m.anyNode(), m.anyReader(), m.anyLog()
	var member bool
	m.set(func() { _, member = m.session(r.id).presences[log] })
	if !member || m.isAway() {
		t.Skip("no member")
	}
	m.loseNext(t)
	faulty := m.faulty()
	at.Apply(m.commit(func(c *room.Change) { m.leave(c, r.id, log) }))
	at.Settle(t.Context())
	if faulty || m.faulty() {
		advanceTime(unheardAfter + beatInterval + time.Second)
	}
	m.set(func() { m.last[place{r.id, log}] = room.Seq(len(m.logs[log])) })
	m.anyNode().Apply(m.commit(func(c *room.Change) { m.append(c, log) }))
}

// move makes a client open its stream at another node.
func (m *model) move(*rapid.T) {
	r, to := m.anyReader(), m.anyNodeID()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = to
	r.hangUp()
}

func (m *model) finish() {
	m.heal()
	advanceTime(10 * time.Second)
	synctest.Wait()
	m.stopReaders()
	for _, r := range m.readers {
		m.check(r)
	}
}

func (m *model) stopReaders() {
	for _, r := range m.readers {
		r.close()
	}
}

// check checks what a session has received.
func (m *model) check(r *reader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for log, got := range r.got {
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			m.t.Errorf("session %s received the events %v of log %d", r.id, got, log)
		}
		for _, seq := range got {
			audience := room.Audience(m.logs[log][seq-1].Body)
			if hidden := audience != nil && !slices.Contains(audience, userOf(r.id)); hidden != r.hidden[position{log, seq}] {
				m.t.Errorf("session %s received event %d of log %d, which is for %v, as hidden %t", r.id, seq, log, audience, !hidden)
			}
		}
		if last, removed := m.last[place{r.id, log}]; removed && got[len(got)-1] > last {
			m.t.Errorf("session %s was removed from log %d at %d and received %d", r.id, log, last, got[len(got)-1])
		}
	}
	for log, p := range m.session(r.id).presences {
		end := room.Seq(len(m.logs[log]))
		for seq := p.From + 1; seq <= end; seq++ {
			if !slices.Contains(r.got[log], seq) {
				m.t.Errorf("session %s joined log %d at %d and did not receive %d of %d", r.id, log, p.From, seq, end)
				break
			}
		}
	}
}
