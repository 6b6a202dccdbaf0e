package hub

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
)

// benchStreams are streams in one room whose clients read everything at once.
type benchStreams struct {
	*testHub
	topic *topic
	data  []byte
	seq   room.Seq
	left  atomic.Int64
	done  chan struct{} // receives a value when left reaches 0
}

// countingSink is the sink of one of benchStreams.
type countingSink struct{ streams *benchStreams }

func (d countingSink) write(p []byte) (int, error) {
	if d.streams.left.Add(-1) == 0 {
		d.streams.done <- struct{}{}
	}
	return len(p), nil
}

func (countingSink) close() {}

func newBenchStreams(t testing.TB, streams int, compressed bool) *benchStreams {
	a := &benchStreams{testHub: newTestHub(t, overServe, Options{Workers: runtime.GOMAXPROCS(0)}), done: make(chan struct{}, 1)}
	event := a.store.append(1, 1, strings.Repeat("x", 100))[0]
	f, err := encodeEvent(event)
	if err != nil {
		t.Fatal(err)
	}
	a.data, a.seq = f.data, 1
	a.left.Store(2 * int64(streams)) // the stream head and sessionReady
	for _, id := range joinedSessions(a.testHub, streams) {
		s, start := a.open(id), a.streamStart(id, "")
		start.Gzip = compressed
		s.worker.do(func() { s.start(start, countingSink{a}) })
	}
	<-a.done
	a.topic = a.topics[1]
	a.eventually("the topic is loaded", func() bool {
		a.topic.mu.Lock()
		defer a.topic.mu.Unlock()
		return a.topic.loaded
	})
	for range 2 * maxRecentFrames { // until all buffers have grown
		a.deliver()
	}
	return a
}

// deliver publishes a frame and waits until every stream has written it.
func (a *benchStreams) deliver() {
	a.seq++
	a.left.Store(int64(len(a.streams)))
	a.topic.publish([]*Frame{{log: 1, seq: a.seq, carriesID: true, data: a.data}})
	<-a.done
}

func BenchmarkDeliver(b *testing.B) {
	for _, streams := range []int{1, 10, 100, 5000} {
		for _, compressed := range []bool{false, true} {
			b.Run(fmt.Sprintf("streams=%d/gzip=%t", streams, compressed), func(b *testing.B) {
				a := newBenchStreams(b, streams, compressed)
				b.ReportAllocs()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					a.deliver()
				}
				runtime.ReadMemStats(&after)
				deliveries := float64(streams) * float64(b.N)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/deliveries, "allocs/delivery")
			})
		}
	}
}

// TestDeliveryDoesNotAllocate checks that the allocations for an event do not depend on the number
// of streams. It is not parallel, because it counts the allocations of the process.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		perPublication := func(streams int) float64 {
			a := newBenchStreams(t, streams, compressed)
			return testing.AllocsPerRun(200, a.deliver)
		}
		// With gzip, each worker makes the pieces that no other has made before.
		one, many, most := perPublication(1), perPublication(40), 1.0
		if compressed {
			most = 20
		}
		if many-one > most {
			t.Errorf("%v allocations for one stream, %v for 40; compressed: %t", one, many, compressed)
		}
	}
}

func BenchmarkCursorAppend(b *testing.B) {
	for _, rooms := range []int{1, 5, 20} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			var c Cursor
			for i := range rooms {
				c = append(c, room.Position{Log: room.LogID(100_000 + i), Seq: room.Seq(1_000_000 + i)})
			}
			buf := make([]byte, 0, maxCursorBytes)
			b.ReportAllocs()
			for b.Loop() {
				buf = c.AppendTo(buf[:0])
			}
		})
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	for _, size := range []int{100, 4 << 10} {
		b.Run(fmt.Sprintf("text=%d", size), func(b *testing.B) {
			event := newMemoryStore().append(1, 1, strings.Repeat("x", size))[0]
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encodeEvent(event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdleStream measures the memory of idle streams in this process. Their clients and
// StreamStarts exist before the first measurement and after the last one, so they are not included;
// neither is the memory of the kernel.
func BenchmarkIdleStream(b *testing.B) {
	if !CanTakeOver {
		b.Fatal("TakeOver is not supported here")
	}
	const streams = 2000
	var bytes, goroutines float64
	for b.Loop() {
		s := newTestHub(b, overSocket, Options{})
		ids := joinedSessions(s, streams)
		starts := make([]*StreamStart, streams)
		for i, id := range ids {
			starts[i] = s.streamStart(id, "")
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		ends := make([]net.Conn, streams)
		for i := range ends {
			if ends[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
				b.Fatal(err)
			}
		}
		before, routines := heldBytes(), runtime.NumGoroutine()
		for i := range ends {
			conn, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			if err := s.open(ids[i]).TakeOver(starts[i], conn, nil); err != nil {
				b.Fatal(err)
			}
		}
		s.eventually("all streams have started", func() bool { return s.Stats().Delivered == streams })
		bytes += float64(heldBytes()-before) / streams
		goroutines += float64(runtime.NumGoroutine()-routines) / streams
		runtime.KeepAlive(starts)
		s.Close()
		for _, end := range ends {
			_ = end.Close()
		}
		_ = l.Close()
	}
	b.ReportMetric(bytes/float64(b.N), "bytes/stream")
	b.ReportMetric(goroutines/float64(b.N), "goroutines/stream")
	b.ReportMetric(0, "ns/op")
}

// heldBytes returns the memory in use after garbage collection.
func heldBytes() int64 {
	var m runtime.MemStats
	for range 3 { // finalizers run later
		runtime.GC()
		<-time.After(10 * time.Millisecond)
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
