package hub

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// gunzip decompresses a stream as it arrives.
type gunzip struct {
	in   []byte // not read yet
	out  []byte // decompressed since the last call of write
	err  error  // how the stream ended: nil if it was complete
	next func() (struct{}, bool)
	stop func()
}

func newGunzip() *gunzip {
	g := &gunzip{}
	g.next, g.stop = iter.Pull(g.run)
	return g
}

// run reads the stream, and yields when it needs more bytes.
func (g *gunzip) run(yield func(struct{}) bool) {
	source := readerFunc(func(p []byte) (int, error) {
		if len(g.in) == 0 && !yield(struct{}{}) {
			return 0, io.EOF
		}
		n := copy(p, g.in)
		g.in = g.in[n:]
		return n, nil
	})
	r, err := gzip.NewReader(source)
	if err != nil {
		g.err = err
		return
	}
	r.Multistream(false)
	for buf := make([]byte, 4<<10); err == nil; {
		var n int
		n, err = r.Read(buf)
		g.out = append(g.out, buf[:n]...)
	}
	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		g.err = err
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// write returns what the stream says up to these bytes.
func (g *gunzip) write(p []byte) []byte {
	g.in, g.out = append(g.in, p...), g.out[:0]
	g.next()
	return g.out
}

// close returns nil if the stream is complete.
func (g *gunzip) close() error {
	g.stop()
	return g.err
}

// gzipped is a transport whose streams are compressed.
func gzipped(plain transport) transport {
	zipped := plain
	zipped.name += ", gzip"
	zipped.serve = func(t testingT, s *Stream, o *StreamStart, c *client) {
		t.Helper()
		o.Gzip = true
		c.gunzip = newGunzip()
		t.Cleanup(func() { c.update(c.gunzip.stop) })
		plain.serve(t, s, o, c)
	}
	return zipped
}

// TestGzip gives many members writes of random own and shared parts, and checks that each client
// receives exactly its writes, each at once, and that parts are compressed once for all.
func TestGzip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		shared := newPieces()
		compressors := []*compressor{newCompressor(shared), newCompressor(shared)}
		text := rapid.OneOf(
			rapid.StringMatching(`data: \{"text":"(a|bc|def){0,40}"\}`),
			rapid.StringN(0, 40, -1),
			rapid.Custom(func(t *rapid.T) string { return strings.Repeat("x", rapid.IntRange(0, 70_000).Draw(t, "length")) }),
		)
		members := make([]*gzipMember, 4)
		readers := make([]*gunzip, len(members))
		for i := range members {
			members[i], readers[i] = &gzipMember{}, newGunzip()
			defer readers[i].stop()
		}
		for range rapid.IntRange(1, 15).Draw(t, "writes") {
			type part struct {
				log  room.LogID // 0 if the part is the client's own
				text string
			}
			parts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) part {
				return part{room.LogID(rapid.IntRange(0, 2).Draw(t, "log")), text.Draw(t, "text")}
			}), 1, 6).Draw(t, "parts")
			idLength := rapid.IntRange(0, 2*maxGap).Draw(t, "length of the id")
			for i, m := range members {
				if rapid.IntRange(0, 4).Draw(t, "skips") == 0 {
					continue
				}
				c := compressors[rapid.IntRange(0, 1).Draw(t, "worker")]
				switch rapid.IntRange(0, 9).Draw(t, "strain") {
				case 0:
					c.forget()
				case 1:
					shared.age()
				case 2:
					c.spent.add(time.Now().Add(-time.Second), time.Now())
				case 3:
					c.spent = pace{window: DefaultWindow}
				}
				var write []byte
				var spans []span
				for _, p := range parts {
					if p.log == 0 {
						write = append(write, strings.Repeat(fmt.Sprint(i), idLength+i%2)...)
					}
					from := len(write)
					write = append(write, p.text...)
					if p.log != 0 && len(write) > from {
						spans = appendSpan(spans, span{from, len(write), p.log - 1})
					}
				}
				if len(write) == 0 {
					continue
				}
				zipped := m.appendTo(nil, write, spans, c)
				if got := readers[i].write(zipped); !bytes.Equal(got, write) {
					t.Fatalf("member %d: %d bytes were read after %d were written\n%.200q\n%.200q", i, len(got), len(write), got, write)
				}
			}
		}
		for i, m := range members {
			readers[i].write(m.appendEnd(nil))
			if err := readers[i].close(); err != nil {
				t.Fatalf("the end of member %d: %v", i, err)
			}
		}
	})
}

// gzipRoom is a room with compressed streams, for the sizes of what they receive.
type gzipRoom struct {
	t       *testing.T
	c       *compressor
	members []*gzipMember
}

// deliver delivers events to all members, behind an id of each member's own if id is not 0, and
// returns the sizes before and after compression.
func (r *gzipRoom) deliver(idLength int, events ...string) (plain, zipped int) {
	r.t.Helper()
	for i, m := range r.members {
		var write []byte
		var spans []span
		for _, e := range events {
			write = append(write, strings.Repeat(string(rune('a'+i%26)), idLength)...)
			spans = appendSpan(spans, span{len(write), len(write) + len(e), 1})
			write = append(write, e...)
		}
		plain += len(write)
		zipped += len(m.appendTo(nil, write, spans, r.c))
	}
	return plain, zipped
}

// TestGzipIsShared checks how often events are compressed, and how small they become. In fake time,
// compression takes none.
func TestGzipIsShared(t *testing.T) {
	t.Parallel()
	const members = 100
	for _, tt := range []struct {
		name     string
		idLength int
		run      int // events in one write
		minRatio float64
	}{
		{"single events", 0, 1, 4},
		{"single events with ids", 22, 1, 3},
		{"gathered events", 0, 10, 7},
		{"gathered events with ids", 22, 10, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				r := gzipRoom{t, newCompressor(newPieces()), make([]*gzipMember, members)}
				for i := range r.members {
					r.members[i] = &gzipMember{}
				}
				var plain, zipped int
				made := make(map[*piece]bool)
				const writes = 20
				for n := range writes {
					var events []string
					for i := range tt.run {
						events = append(events, barrageEvent(n*tt.run+i))
					}
					p, z := r.deliver(tt.idLength, events...)
					for _, p := range r.c.all.newer {
						made[p] = true
					}
					if n > 2 {
						plain, zipped = plain+p, zipped+z
					}
				}
				t.Logf("%d bytes became %d", plain, zipped)
				if ratio := float64(plain) / float64(zipped); ratio < tt.minRatio {
					t.Errorf("%d bytes became %d: 1/%.2f", plain, zipped, ratio)
				}
				want := writes
				if tt.idLength > 0 {
					want *= tt.run
				}
				if len(made) != want {
					t.Errorf("%d pieces were compressed, want %d", len(made), want)
				}
			})
		})
	}
}

// TestGzipTakesLittleTime checks that nothing is compressed while that takes too much of the
// worker's time, and that streams stay readable.
func TestGzipTakesLittleTime(t *testing.T) {
	t.Parallel()
	c := newCompressor(newPieces())
	own := []byte(strings.Repeat("own ", 100))
	m, r := &gzipMember{}, newGunzip()
	defer r.stop()
	sizes := make([]int, 0, 3)
	for range 3 {
		zipped := m.appendTo(nil, own, nil, c)
		sizes = append(sizes, len(zipped))
		if got := r.write(zipped); !bytes.Equal(got, own) {
			t.Fatalf("%q was read", got)
		}
		if len(sizes) == 1 {
			c.spent.add(time.Now().Add(-time.Second), time.Now())
		} else {
			c.spent = pace{window: DefaultWindow}
		}
	}
	if sizes[0] > 50 || sizes[1] < len(own) || sizes[2] > 50 {
		t.Errorf("writes took %v bytes", sizes)
	}
}

// TestGzipKeepsSecretsApart checks that what only some clients receive is never compressed together
// with what others have written: the length would say whether the texts are alike.
func TestGzipKeepsSecretsApart(t *testing.T) {
	t.Parallel()
	message := func(text string, to ...room.UserID) *Frame {
		m := room.Message{Content: room.Content{Kind: room.KindCommand, Text: text}, To: to, Priority: room.PriorityHigh}
		f, err := encodeEvent(room.Event{Room: "r", Log: 1, Body: room.MessagesReceived{MessageList: []room.Message{m}}})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const secret = "the secret of alice is gamma-epsilon-17"
	for _, tt := range []struct {
		name   string
		inbox  bool
		secret *Frame
		apart  bool
	}{
		{"to some members", false, message(secret, "alice"), true},
		{"in an inbox", true, message(secret), true},
		{"to all members", false, message(secret), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			size := func(guess string) int {
				stream, out := blockableStream(t)
				sizes := make(chan int)
				stream.worker.do(func() {
					stream.gzip = &gzipMember{}
					if tt.inbox {
						stream.subscriptions[0].presence = 0
					}
					stream.deliver(1, []*Frame{message(guess)})
					before := len(out.took)
					stream.deliver(1, []*Frame{tt.secret})
					sizes <- len(out.took) - before
				})
				return <-sizes
			}
			near, far := size(secret), size("something else that nobody has asked for")
			if apart := near == far; apart != tt.apart {
				t.Errorf("the secret took %d bytes after a text that is like it, and %d after another", near, far)
			}
		})
	}
}

// BenchmarkGzip measures what compression adds to a delivery: an event that each member gets behind an
// id of its own.
func BenchmarkGzip(b *testing.B) {
	for _, members := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			c, n := newCompressor(newPieces()), 0
			all := make([]*gzipMember, members)
			for i := range all {
				all[i] = &gzipMember{}
			}
			var out []byte
			id := "id: k3x9.1a:0,1z:5\n"
			for b.Loop() {
				n++
				write := []byte(id + barrageEvent(n))
				c.spent = pace{window: DefaultWindow}
				for _, m := range all {
					out = m.appendTo(out[:0], write, []span{{len(id), len(write), 1}}, c)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
		})
	}
}

// barrageEvent returns an event of one of 50 senders.
func barrageEvent(n int) string {
	return fmt.Sprintf("event: roomMessageReceived\ndata: {\"roomID\":\"show\",\"generation\":71,\"messageList\":[{\"messageID\":%q,\"roomID\":\"show\","+
		"\"kind\":\"barrage\",\"text\":\"hello %d\",\"sender\":{\"userID\":\"user-%d\",\"userName\":\"User %d\"},\"priority\":\"medium\",\"sentAt\":\"2026-05-04T03:02:%02d.123Z\"}]}\n\n",
		fmt.Sprintf("%012x", n*0x9e3779b97f4a7), n, n%50, n%50, n%60)
}
