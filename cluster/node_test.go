package cluster

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"parlor/room"
	"parlor/store/storetest"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// advanceTime advances fake time and waits until everything that is due has happened.
func advanceTime(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// inWorld runs a test with nodes that hear each other, in fake time: over a bus that carries
// everything to all nodes, and over one that routes.
func inWorld(t *testing.T, test func(t *testing.T, w *world), nodes ...room.NodeID) {
	t.Helper()
	for _, routed := range []bool{false, true} {
		t.Run(fmt.Sprintf("routed %t", routed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(routed, nodes...)
				defer w.close()
				advanceTime(2 * beatInterval)
				test(t, w)
			})
		})
	}
}

// apply commits a change and applies it at a node.
func (w *world) apply(node room.NodeID, do func(c *room.Change)) { w.node(node).Apply(w.commit(do)) }

func TestAloneNodePublishesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "a")
		defer r.close()
		advanceTime(time.Second)
		w.apply("a", func(c *room.Change) { w.join(c, "1", 1); w.append(c, 1) })
		w.node("a").Resync()
		w.node("a").Settle(t.Context())
		advanceTime(time.Minute)
		if got := w.node("a").Stats(); got.Published != 0 || got.Others != 0 {
			t.Errorf("a node that is alone has %+v", got)
		}
		if !r.received(`"seq":1`) {
			t.Errorf("its stream received %v", r.events())
		}
	}, "a")
}

// TestNodeComesAndGoes checks that nodes notice each other, and that the one that is left is alone
// again.
func TestNodeComesAndGoes(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *world)
		// after is how long the other node may take to notice.
		after time.Duration
	}{
		{"stopped", func(w *world) { w.remove("b").stop() }, latency + time.Second/10},
		{"stopped, and in the database for a moment", func(w *world) {
			w.node("b").stop()
			time.AfterFunc(5*time.Second, func() { w.remove("b") })
		}, latency + 2*beatInterval},
		{"killed", func(w *world) { w.setCut("b", true); w.remove("b").stop() }, unheardAfter + 2*beatInterval},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				for _, id := range []room.NodeID{"a", "b"} {
					if got := w.node(id).Stats(); got.Others != 1 || got.Unheard != 0 {
						t.Errorf("%s has %+v", id, got)
					}
				}
				b := w.node("b")
				tt.end(w)
				<-b.done
				b.hub.Close()
				advanceTime(tt.after)
				before := w.node("a").Stats()
				advanceTime(10 * time.Second)
				if got := w.node("a").Stats(); got.Others != 0 || before.Unheard+got.Unheard != 0 || got.Published != before.Published {
					t.Errorf("the node that is left had %+v and has %+v", before, got)
				}
			}, "a", "b")
		})
	}
}

// TestMissedIsMended makes the bus lose a join and an event, and checks how soon the stream at the
// other node has them, and what the other node caches is evicted.
func TestMissedIsMended(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(w *world)
		// mend is when the fault ends; zero means never.
		mend, within time.Duration
	}{
		{"a packet is lost", func(w *world) { w.lose = 1 }, 0, 2 * beatInterval},
		{"the other node is cut off", func(w *world) { w.cut["b"] = true; close(w.recut); w.recut = make(chan struct{}) }, 0, 2 * doubtInterval},
		{"the other node is cut off for a moment", func(w *world) { w.cut["b"] = true; close(w.recut); w.recut = make(chan struct{}) }, 10 * latency, 2 * minRetry},
		{"this node is cut off", func(w *world) { w.cut["a"] = true; close(w.recut); w.recut = make(chan struct{}) }, 0, unheardAfter + beatInterval},
		{"the other node is deaf", func(w *world) { w.deaf["b"] = true }, 0, unheardAfter + beatInterval},
		{"the database is away", func(w *world) { w.lose, w.away = 1, true }, 10 * time.Second, 13 * time.Second}, // topics retry after 2 s at most
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				r := w.open("1", "b")
				defer r.close()
				advanceTime(beatInterval * 3 / 2) // between two beats
				if tt.mend > 0 {
					time.AfterFunc(tt.mend, w.heal)
				}
				b := w.node("b")
				if !b.trusted.Load() {
					t.Error("the other node does not trust what it caches")
				}
				w.commit(func(*room.Change) { tt.fault(w) })
				advanceTime(4 * latency)
				evicted := b.evicted.Load()
				w.apply("a", func(c *room.Change) { w.join(c, "1", 1); w.append(c, 1) })
				advanceTime(min(tt.within, unheardAfter+beatInterval) + time.Second/10)
				if b.evicted.Load() == evicted && b.trusted.Load() {
					t.Error("the other node trusts what it caches")
				}
				advanceTime(max(0, tt.within-unheardAfter-beatInterval))
				if !r.received(`"seq":1`) {
					t.Errorf("after %s, the stream has received %v", tt.within, r.events())
				}
				w.heal()
				advanceTime(unheardAfter + 2*beatInterval + maxRetry)
				if !b.trusted.Load() {
					t.Error("after the fault, the other node does not trust what it caches")
				}
			}, "a", "b")
		})
	}
}

// TestChangeWhileAlone makes a node believe for a moment that it is alone, and checks that the
// other one learns of a kick in that moment.
func TestChangeWhileAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.apply("a", func(c *room.Change) { w.join(c, "1", 1) })
		r := w.open("1", "b")
		defer r.close()
		advanceTime(beatInterval * 3 / 2) // between two beats
		a := w.node("a")
		a.mu.Lock()
		delete(a.peers, "b")
		a.updateAlone()
		a.mu.Unlock()
		w.apply("a", func(c *room.Change) { w.leave(c, "1", 1) })
		advanceTime(2 * beatInterval)
		if !r.received(`"afterMs"`) {
			t.Errorf("the stream has received %v", r.events())
		}
	}, "a", "b")
}

// TestSendsAreCombined checks that what is published until the interval of the carrier is over is
// sent at once, and that the first change after a pause does not wait.
func TestSendsAreCombined(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const interval = 100 * time.Millisecond
		r := w.open("1", "b")
		defer r.close()
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(beatInterval + beatInterval/2) // between two beats
		a := w.node("a")
		a.interval.Store(int64(interval))
		before := a.sends.Load()
		say := func() { w.apply("a", func(c *room.Change) { w.append(c, 1) }) }
		say()
		advanceTime(2 * latency)
		if got := a.sends.Load() - before; got != 1 || !r.received(`"seq":1`) {
			t.Errorf("%d calls of Send after a pause; the stream has received %v", got, r.events())
		}
		for range 3 {
			say()
			advanceTime(interval / 5)
		}
		if got := a.sends.Load() - before; got != 1 {
			t.Errorf("%d calls of Send within the interval", got)
		}
		advanceTime(interval)
		if got := a.sends.Load() - before; got != 2 || !r.received(`"seq":4`) {
			t.Errorf("%d calls of Send in all; the stream has received %v", got, r.events())
		}
	}, "a", "b")
}

// TestTooMuchIsDropped checks that a node whose carrier takes nothing keeps a bounded amount, and
// says that something is missing.
func TestTooMuchIsDropped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		advanceTime(time.Second)
		a := w.node("a")
		w.setCut("a", true)
		message := room.Event{Room: "room-9", Log: 9, Body: room.MessagesReceived{MessageList: []room.Message{{
			Content: room.Content{Kind: room.KindBarrage, Text: strings.Repeat("x", 1<<20)},
		}}}}
		for range 2 * maxOutBytes >> 20 {
			a.Apply(room.Change{Events: []room.Event{message}})
		}
		w.apply("a", func(c *room.Change) { w.join(c, "1", 1); c.Events = []room.Event{message} })
		a.mu.Lock()
		waiting := a.out.bytes
		a.mu.Unlock()
		if waiting > maxOutBytes {
			t.Errorf("%d bytes wait", waiting)
		}
		w.setCut("a", false)
		advanceTime(sendTimeout + maxRetry)
		if !r.received(`"room-1"`) {
			t.Errorf("the stream has received %v", r.events())
		}
	}, "a", "b")
}

// TestNewerStreamElsewhere checks that a stream ends when its session opens one at another node.
func TestNewerStreamElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.openStreams("1", "a", 1)
		defer first.close()
		advanceTime(time.Second)
		second := w.open("1", "b")
		defer second.close()
		advanceTime(time.Second / 10)
		if !first.received(string(room.ConnectionSuperseded)) || second.received(string(room.ConnectionSuperseded)) {
			t.Errorf("the first stream received %v, and the second %v", first.events(), second.events())
		}
	}, "a", "b")
}

// TestWatchCommands checks that a node that watches commands gets those of all nodes once, whether it
// follows the log or not, and nothing else.
func TestWatchCommands(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1) })
		advanceTime(time.Second)
		n := 0
		send := func(node room.NodeID, log room.LogID, kind room.MessageKind) {
			n++
			m := room.Message{Content: room.Content{Kind: kind, Text: fmt.Sprint("message", n)}}
			w.apply(node, func(c *room.Change) {
				c.Events = append(c.Events, room.Event{Room: roomOf(log), Log: log, Body: room.MessagesReceived{MessageList: []room.Message{m.In(roomOf(log), 0)}}})
			})
			w.apply(node, func(c *room.Change) { // between users: two inboxes, with the point of view of each
				m.Sender.ID = "alice"
				for i, peer := range []room.UserID{"bob", "alice"} {
					c.Events = append(c.Events, room.Event{Log: room.LogID(100 + i), Body: room.PeerMessagesReceived{MessageList: []room.Message{m.With(peer, 0)}}})
				}
			})
		}
		all := func(kind room.MessageKind) {
			for _, node := range []room.NodeID{"a", "b"} {
				for _, log := range []room.LogID{1, 2} {
					send(node, log, kind)
				}
			}
			advanceTime(time.Second)
		}
		all(room.KindCommand) // nobody watches
		commands, stop := w.node("b").hub.WatchCommands()
		advanceTime(time.Second)
		all(room.KindBarrage)
		w.apply("a", func(c *room.Change) { w.append(c, 1) })
		n = 0
		all(room.KindCommand)
		stop()
		advanceTime(time.Second)
		all(room.KindCommand)
		got := make(map[string]int)
		for len(commands) > 0 {
			data := string(<-commands)
			for i := 1; i <= 4; i++ {
				if strings.Contains(data, fmt.Sprintf(`"message%d"`, i)) {
					got[fmt.Sprint(i, strings.HasPrefix(data, "event: "+string(room.TypeMessagesReceived)))]++
				}
			}
			if !strings.Contains(data, `"kind":"command"`) || strings.Contains(data, `"userID":"alice","kind"`) {
				t.Errorf("got %s", data)
			}
		}
		want := map[string]int{"1 true": 1, "2 true": 1, "3 true": 1, "4 true": 1, "1 false": 1, "2 false": 1, "3 false": 1, "4 false": 1}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if ones := strings.Count(fmt.Sprint(r.events()), `"message1"`); ones == 0 {
			t.Errorf("the stream received %v", r.events())
		}
	}, "a", "b")
}

// TestLateJoin checks that a join that is heard late neither brings a session back into a room nor
// shows it what was sent after it had left.
func TestLateJoin(t *testing.T) {
	for _, tt := range []struct {
		name string
		// late is how much later the join is heard, and reopened says that the session opens its
		// stream again in between.
		late     time.Duration
		reopened bool
	}{
		{"a stream that was open before", 2 * maxJoinAge, false},
		{"a stream that was opened after the leave", maxJoinAge / 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				r := w.open("1", "b")
				defer func() { r.close() }()
				advanceTime(time.Second)
				joined := w.commit(func(c *room.Change) { w.join(c, "1", 1) })
				left := w.commit(func(c *room.Change) { w.leave(c, "1", 1); w.append(c, 1) })
				records := appendChange(t, nil, joined, nil, time.Now())
				if tt.reopened {
					r.close()
					r = w.open("1", "b")
				}
				w.node("b").hub.Expect(room.Position{Log: 1, Seq: 1})
				advanceTime(tt.late)
				b := w.node("b")
				for _, packet := range new(numbering).packets("c", message{0, records}, b.PacketBytes()) {
					b.Node.hear(packet.Text)
				}
				advanceTime(time.Second)
				b.Apply(left)
				advanceTime(time.Second)
				if r.received(`"seq":1`) {
					t.Errorf("the stream received %v", r.events())
				}
			}, "a", "b")
		})
	}
}

// TestGarbage checks that what no node has sent changes nothing.
func TestGarbage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := w.open("1", "b")
		defer r.close()
		w.apply("b", func(c *room.Change) { w.join(c, "1", 1); w.append(c, 1) })
		advanceTime(time.Second)
		b := w.node("b")
		received := len(r.events())
		for _, text := range []string{
			"", "garbage", "parlor/1 x 1 0 1 1\ngarbage", "parlor/1 x 2 1 1 1\nframes 0000000003\nabc", "parlor/1 x 3 2 1 1\nnotice 0000000002\n[]",
			"parlor/1 x 4 3 1 1\npong 0000000001\nb", "parlor/1 a 9 8 1 1\nbeat 0000000006\n1 AAAA", "parlor/1 x 5 4 1 1\npong 0000000003\nb x", "parlor/1 x 6 5 1 1\nunknown 0000000001\nx",
			"parlor/2 x 7 6 1 1\ngone 0000000000\n", "parlor/1 a 1 0 1 1\ngone 0000000000\n",
			"parlor/1 x 8 7 1 1\nframes 0000000012\n1 1 0 0 3\nabc", "parlor/1 x 9 8 1 1\nframes 9999999999\n",
		} {
			b.Node.hear([]byte(text))
		}
		advanceTime(time.Second)
		w.apply("a", func(c *room.Change) { w.append(c, 1) })
		advanceTime(time.Second)
		if !r.received(`"seq":2`) || len(r.events()) != received+1 {
			t.Errorf("the stream received %v", r.events())
		}
	}, "a", "b")
}
