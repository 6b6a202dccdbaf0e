package cluster

import (
	"testing"
	"time"

	"parlor/room"
)

// said applies a message at a node, and returns how many packets another one hears of it.
func (w *world) said(at, other room.NodeID, log room.LogID) uint64 {
	before := w.node(other).Stats().Heard
	w.apply(at, func(c *room.Change) { w.append(c, log) })
	advanceTime(2 * latency)
	return w.node(other).Stats().Heard - before
}

// TestFollow checks that events of a log are published only if another node has a topic for it, and
// that a topic lacks nothing although the other nodes learn of it only after it was loaded.
func TestFollow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.node("b")
		advanceTime(beatInterval / 2) // between two beats
		if got := w.said("a", "b", 1); got != 0 {
			t.Errorf("%d packets of a log that nobody follows", got)
		}
		r := w.open("1", "b")
		defer r.close()
		advanceTime(2 * clockError)
		w.apply("a", func(c *room.Change) { w.sendBarrage(c, 1, "before") })
		advanceTime(clockError / 2)
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(latency / 2) // the topic is loaded, and the other node has not heard of it
		w.apply("a", func(c *room.Change) { w.append(c, 1); w.sendBarrage(c, 1, "meanwhile") })
		advanceTime(3 * latency)
		if !w.routed && (!r.received(`"meanwhile"`) || b.Stats().Mended > 0) {
			t.Errorf("the stream has received %v, after %+v", r.events(), b.Stats())
		}
		advanceTime(spreadTime + doubtInterval)
		if !r.received(`"seq":2`) || r.received(`"before"`) || b.Stats().Mended > 1 {
			t.Errorf("the stream has received %v, after %+v", r.events(), b.Stats())
		}
		if got := w.said("a", "b", 1); got != 1 || !r.received(`"seq":3`) {
			t.Errorf("%d packets of a log that is followed; the stream has received %v", got, r.events())
		}
		if got := w.said("a", "b", 2); got != 0 {
			t.Errorf("%d packets of another log", got)
		}
		w.apply("b", func(c *room.Change) { w.leave(c, "1", 1) })
		advanceTime(time.Minute + beatInterval) // the topic is evicted
		if got := w.said("a", "b", 1); got != 0 {
			t.Errorf("%d packets of a log that is not followed any more", got)
		}
		if got := w.node("a").Stats().Unheard + b.Stats().Unheard; got != 0 {
			t.Errorf("%d nodes are unheard", got)
		}
	}, "a", "b")
}

// TestEnterElsewhere checks that a session that enters a room through another node than that of its
// stream receives what is sent at once, and nothing from before.
func TestEnterElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		advanceTime(beatInterval * 3 / 2) // between two beats
		w.apply("a", func(c *room.Change) { w.sendBarrage(c, 1, "before") })
		w.apply("a", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(latency / 2) // the other node has not heard of it
		w.apply("a", func(c *room.Change) { w.append(c, 1); w.sendBarrage(c, 1, "after") })
		advanceTime(4 * latency)
		if !w.routed && (!r.received(`"after"`) || !r.received(`"seq":1`)) || r.received(`"before"`) {
			t.Errorf("the stream has received %v", r.events())
		}
	}, "a", "b")
}

// TestFollowIsLost makes the bus lose the beat of a node that begins to follow a log. The next one says
// that it follows another log, too, only since then.
func TestFollowIsLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		advanceTime(beatInterval / 4)                 // between two beats
		w.commit(func(*room.Change) { w.lose = 100 }) // the notice, too
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(3 * latency)
		w.commit(func(*room.Change) { w.lose = 0 })
		w.apply("a", func(c *room.Change) { w.append(c, 1) })
		advanceTime(2 * clockError)
		w.apply("b", func(c *room.Change) { w.join(c, "1", 2) })
		advanceTime(beatInterval / 4)
		if !r.received(`"seq":1`) {
			t.Errorf("the stream has received %v", r.events())
		}
	}, "a", "b")
}

// TestWithheldTooMuch checks that a node that cannot be sent everything that it has missed reads it.
func TestWithheldTooMuch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		advanceTime(beatInterval / 2) // between two beats
		a, b := w.node("a"), w.node("b")
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(latency / 2) // the topic is loaded
		w.apply("a", func(c *room.Change) { w.append(c, 1) })
		big := w.commit(func(c *room.Change) { w.sendBarrage(c, 2, string(make([]byte, maxWithheldBytes/8))) })
		for range 9 {
			a.Apply(big)
		}
		a.mu.Lock()
		kept := a.withheld.bytes
		a.mu.Unlock()
		if kept > maxWithheldBytes {
			t.Errorf("%d bytes are withheld", kept)
		}
		doubts := b.Stats().Doubts
		advanceTime(6*latency + gapTimeout)
		if !r.received(`"seq":1`) || b.Stats().Doubts == doubts {
			t.Errorf("the stream has received %v, after %d and %+v", r.events(), doubts, b.Stats())
		}
	}, "a", "b")
}

// TestFollowEverything checks that a node that does not say what it follows hears everything. Nodes of
// earlier releases do not.
func TestFollowEverything(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node("a")
		var sent numbering
		beat := func() {
			for _, p := range sent.packets("c", message{0, appendRecord(nil, recordBeat, textContent(""))}, a.PacketBytes()) {
				a.Node.hear(p.Text)
			}
		}
		advanceTime(beatInterval / 2) // between two beats
		if got := w.said("a", "b", 9); got != 0 {
			t.Errorf("%d packets of a log that nobody follows", got)
		}
		beat()
		advanceTime(2 * latency) // what greets the new node
		published := a.Stats().Published
		w.said("a", "b", 9)
		if a.Stats().Published == published {
			t.Error("no packet for a node that follows everything")
		}
	}, "a", "b")
}

// TestFeedsAreWoken checks that the feeds of a node learn of events of logs that it does not follow.
func TestFeedsAreWoken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "c")
		defer r.close()
		w.apply("c", func(c *room.Change) { w.join(c, "1", 2) })
		b := w.node("b")
		_, stop := b.hub.WatchCommands()
		advanceTime(beatInterval / 2)               // between two beats
		for log := room.LogID(1); log <= 2; log++ { // nobody follows the first
			before := b.woken.Load()
			w.said("a", "b", log)
			if got := b.woken.Load() - before; got != 1 {
				t.Errorf("woken %d times by an event of log %d", got, log)
			}
		}
		stop()
		advanceTime(2*beatInterval + beatInterval/2)
		before := b.woken.Load()
		w.said("a", "b", 1)
		if got := b.woken.Load() - before; got != 0 {
			t.Errorf("woken %d times although nothing is read", got)
		}
	}, "a", "b", "c")
}
