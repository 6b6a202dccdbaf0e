package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

// parsed is a copy of a frame that outlives the buffer.
type parsed struct{ id, event, data string }

// scanIn scans a stream that arrives in pieces. As in a loop, each is appended to what scan has
// left of the previous ones.
func scanIn(t testing.TB, pieces ...[]byte) (frames []parsed, left int) {
	t.Helper()
	var tail []byte
	for _, piece := range pieces {
		b := slices.Concat(tail, piece)
		done, err := scan(b, func(f frame) error {
			frames = append(frames, parsed{string(f.id), string(f.event), string(f.data)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if done < 0 || done > len(b) {
			t.Fatalf("%d of %d bytes are frames", done, len(b))
		}
		tail = b[done:]
	}
	return frames, len(tail)
}

const someFrames = ":\n\nid: 1:2,3:4\nevent: roomMessageReceived\ndata: {\"seq\":4}\n\n: hi\r\n\r\nid:x\r\ndata:  two spaces\r\n\r\n" +
	"event: reconnect\ndata: {}\nretry: 5\n\nnonsense\n\ndata: cut"

func TestFramesAtEveryBoundary(t *testing.T) {
	t.Parallel()
	want := []parsed{{"1:2,3:4", "roomMessageReceived", `{"seq":4}`}, {"x", "", " two spaces"}, {"", "reconnect", "{}"}}
	for i := range len(someFrames) + 1 {
		for j := i; j <= len(someFrames); j++ {
			got, left := scanIn(t, []byte(someFrames[:i]), []byte(someFrames[i:j]), []byte(someFrames[j:]))
			if !slices.Equal(got, want) || left != len("data: cut") {
				t.Fatalf("cut at %d and %d: %q, and %d bytes left", i, j, got, left)
			}
		}
	}
}

func TestScanStopsAtAnError(t *testing.T) {
	t.Parallel()
	n := 0
	_, err := scan([]byte("data: 1\n\ndata: 2\n\n"), func(frame) error { n++; return errEnded })
	if err == nil || n != 1 {
		t.Errorf("%v after %d frames", err, n)
	}
}

// FuzzScan compares scan with a simple line reader, with the stream split at any boundary.
func FuzzScan(f *testing.F) {
	f.Add([]byte(someFrames), 7)
	f.Add([]byte("id: \n\n\n\ndata\n\n:data: x\n\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		at = max(0, min(at, len(b)))
		got, left := scanIn(t, b[:at], b[at:])
		want, wantLeft := readFrames(b)
		if !slices.Equal(got, want) || left != wantLeft {
			t.Errorf("%q: %q and %d left, want %q and %d", b, got, left, want, wantLeft)
		}
	})
}

func readFrames(b []byte) (frames []parsed, left int) {
	var f parsed
	var given bool
	for line := range bytes.Lines(b) {
		left += len(line)
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		if text == "" {
			if given {
				frames = append(frames, f)
			}
			f, given, left = parsed{}, false, 0
			continue
		}
		name, value, colon := strings.Cut(text, ":")
		if !colon {
			continue
		}
		value = strings.TrimPrefix(value, " ")
		field := map[string]*string{"id": &f.id, "event": &f.event, "data": &f.data}[name]
		if field != nil {
			*field, given = value, true
		}
	}
	return frames, left
}

func TestStamps(t *testing.T) {
	t.Parallel()
	stamp := appendStamp(nil, 42, 1234567890123)
	if len(stamp) != MinSize {
		t.Errorf("%s has %d bytes", stamp, len(stamp))
	}
	for data, want := range map[string]string{
		fmt.Sprintf(`{"text":"%sxxx"}`, stamp):                            "42 1234567890123 true",
		string(stamp):                                                     "42 1234567890123 true",
		string(stamp[:len(stamp)-1]):                                      "0 0 false",
		strings.Replace(string(stamp), ":0000001", ":x000001", 1):         "0 1234567890123 false",
		strings.Replace(string(stamp), "42:", "42;", 1):                   "42 1234567890123 false",
		"~bench:~bench:0000000042:00000000000000000000000000000000000000": "0 0 false",
		"": "0 0 false",
	} {
		n, at, found := readStamp([]byte(data))
		if got := fmt.Sprint(n, at, found); got != want && (found || strings.HasSuffix(want, "true")) {
			t.Errorf("%q: %s, want %s", data, got, want)
		}
	}
}

func chunked(t testing.TB, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := httputil.NewChunkedWriter(&b)
	for _, part := range parts {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func unwrapIn(pieces ...[]byte) (string, error) {
	var c chunks
	var all []byte
	for _, piece := range pieces {
		b := bytes.Clone(piece)
		n, err := c.unwrap(b)
		if err != nil {
			return "", err
		}
		all = append(all, b[:n]...)
	}
	return string(all), nil
}

func TestChunksAtEveryBoundary(t *testing.T) {
	t.Parallel()
	b := chunked(t, "data: one\n\n", strings.Repeat("x", 300), "\n", "z")
	want := "data: one\n\n" + strings.Repeat("x", 300) + "\nz"
	for i := range len(b) + 1 {
		got, err := unwrapIn(b[:i], b[i:])
		if err != nil || got != want {
			t.Fatalf("cut at %d: %q, %v", i, got, err)
		}
	}
	if got, err := unwrapIn([]byte("3;ext=1\r\nabc\r\n0\r\n\r\n")); got != "abc" || err != nil {
		t.Errorf("with an extension: %q, %v", got, err)
	}
	for _, bad := range []string{"3\r\nabcd\r\n", "fffffffffffffffff\r\n"} {
		if _, err := unwrapIn([]byte(bad)); err == nil {
			t.Errorf("%q is accepted as chunks", bad)
		}
	}
}

// FuzzChunks compares chunks with net/http's decoder for valid input, and checks that invalid input
// does no harm.
func FuzzChunks(f *testing.F) {
	f.Add("data: x\n\n", "y", 5, []byte("5\r\nhello\r\n"))
	f.Fuzz(func(t *testing.T, one, two string, at int, raw []byte) {
		b := chunked(t, one, two)
		at = max(0, min(at, len(b)))
		if got, err := unwrapIn(b[:at], b[at:]); err != nil || got != one+two {
			t.Errorf("%q: %q, %v", b, got, err)
		}
		_, _ = unwrapIn(raw) //nolint:errcheck // any error will do, as long as it does not panic
	})
}

// TestReceivedAtEveryBoundary splits a reply, plain, chunked and compressed, at every position, and
// checks that the stream receives the same.
func TestReceivedAtEveryBoundary(t *testing.T) {
	t.Parallel()
	roomID := "bench-x-0"
	message := func(n, seq int) string {
		return fmt.Sprintf("id: 1:0,7:%d\nevent: roomMessageReceived\ndata: {\"roomID\":\"%s\",\"generation\":7,\"seq\":%d,\"messageList\":[{\"text\":\"%s\"}]}\n\n",
			seq, roomID, seq, appendStamp(nil, int64(n), 5))
	}
	ready := "id: 1:0,7:3\nevent: sessionReady\ndata: {\"resumed\":false}\n\n"
	body := ":\n\n" + ready + message(1, 4) + message(2, 5)
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	for name, reply := range map[string]string{
		"plain":  head + "\r\n" + body,
		"chunks": head + "Transfer-Encoding: chunked\r\n\r\n" + string(chunked(t, body[:50], body[50:])),
		"gzip":   head + "Content-Encoding: gzip\r\n\r\n" + string(gzipped(t, body[:50], body[50:])),
	} {
		for i := range len(reply) + 1 {
			l, s := newTestLoop(t, &Parlor{URLs: []string{"http://127.0.0.1:1"}, Kind: "text", Size: MinSize})
			s.room.id, s.room.log = roomID, 7
			s.state, l.opening = streamRequested, 1
			for _, piece := range []string{reply[:i], reply[i:]} {
				kept := len(s.tail)
				err := l.received(s, slices.Concat(s.tail, []byte(piece)), kept)
				if err != nil && (name != "chunks" || !errors.Is(err, errEnded)) {
					t.Fatalf("%s cut at %d: %v", name, i, err)
				}
			}
			if s.state != streamLive || l.tally.live != 1 || l.opening != 0 || s.received != 2 || s.sum != 3 || s.seq != 5 || s.lost+s.twice != 0 || string(s.cursor) != "1:0,7:5" {
				t.Fatalf("%s cut at %d: %+v, %+v", name, i, s, l.tally)
			}
			if s.gunzip != nil {
				s.gunzip.stop()
			}
		}
	}
}

// gzipped returns a stream that is compressed and flushed after each of its parts.
func gzipped(t *testing.T, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, part := range parts {
		_, err := w.Write([]byte(part))
		if err := errors.Join(err, w.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// newTestLoop returns a loop without sockets, and its stream.
func newTestLoop(t testing.TB, target Target) (*loop, *stream) {
	t.Helper()
	r := &run{Options: Options{Target: target}, clock: newClock()}
	return &loop{readers: &readers{run: r, failed: make(chan struct{})}, local: newHistogram(), cross: newHistogram()}, &stream{room: &runRoom{}}
}

func TestHeads(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"HTTP/1.1 404 Not Found\r\n\r\n{\"code\":\"no\"}\n": `HTTP/1.1 404 Not Found: {"code":"no"}`,
		"HTTP/1.1 503 Busy\r\n\r\n":                         errBusy.Error(),
		"SSH-2.0\r\n\r\n":                                   "the reply begins with",
	} {
		l, s := newTestLoop(t, &Plain{})
		s.state = streamRequested
		if err := l.received(s, []byte(reply), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", reply, err)
		}
	}
	l, s := newTestLoop(t, &Plain{})
	s.state = streamRequested
	if err := l.received(s, bytes.Repeat([]byte("x"), readBuffer/2), 0); err == nil {
		t.Error("a head of any length is accepted")
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	s := &stream{room: &runRoom{id: "r"}, seq: 4}
	for _, seq := range []int{5, 6, 9, 9, 10} {
		s.follow(fmt.Appendf(nil, `{"roomID":"r","generation":7,"seq":%d,"x":1}`, seq))
	}
	s.follow([]byte(`{"roomID":"r","generation":7,"messageList":[{"seq":99}]}`))
	s.follow([]byte(`{"roomID":"rr","generation":7,"seq":99}`))
	s.follow([]byte(`{"seq":99}`))
	if s.lost != 2 || s.twice != 1 || s.seq != 10 {
		t.Errorf("%d lost, %d twice, at %d", s.lost, s.twice, s.seq)
	}
	if n := positionIn([]byte("1:3,1a:2f,1c:3"), 46); n != 87 {
		t.Errorf("position %d", n)
	}
	if n := positionIn([]byte("-"), 46); n != 0 {
		t.Errorf("position %d", n)
	}
}

func BenchmarkReceived(b *testing.B) {
	l, s := newTestLoop(b, &Parlor{})
	s.room.id, s.seq, s.state = "bench-x-0", 1, streamLive
	l.from.Store(0)
	l.until.Store(1 << 62)
	var frames bytes.Buffer
	w := bufio.NewWriter(&frames)
	for range 100 {
		_, _ = fmt.Fprintf(w, "id: 1:0,7:2\nevent: roomMessageReceived\ndata: {\"roomID\":\"bench-x-0\",\"generation\":7,\"seq\":2,\"messageList\":[{\"messageID\":\"0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4\",\"text\":\"%s\"}]}\n\n", appendStamp(nil, 1, 5))
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(frames.Len()))
	for b.Loop() {
		if err := l.received(s, frames.Bytes(), 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/frame")
}
