package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

var retrySeed = flag.Uint64("seed", 0, "of TestEachMessageOnce; 0: another with each run")

// TestEachMessageOnce sends each kind of message three times with the same clientMessageID, to a
// room and to a user, some concurrently, over connections that are cut at random positions, to
// readers whose connections are cut too. Each stored message arrives once at each reader and is
// once in the history, and all replies are the same. A message that is not stored is a new one with
// each try.
func TestEachMessageOnce(t *testing.T) {
	t.Parallel()
	seed := *retrySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	s := newService(t)
	alice, phone, bob, carol := s.login("alice"), s.login("alice"), s.login("bob"), s.login("carol")
	for _, c := range []*client{alice, phone, bob, carol} {
		c.enter("lobby")
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var following sync.WaitGroup
	readers := map[string]*follower{}
	for i, c := range []*client{phone, bob, carol} {
		f := &follower{client: c, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		readers[string(c.UserID)] = f
		following.Go(func() { f.follow(ctx) })
		eventually(t, "a reader has its first cursor", func() bool { _, listens := f.position(); return listens })
	}

	var tries []*retriedMessage
	for _, path := range []string{roomPath("lobby", "/messages"), peerPath("bob")} {
		for i, body := range eachKind(alice) {
			if path == peerPath("bob") && body["kind"] == "barrage" {
				continue // for rooms only
			}
			body["clientMessageID"] = fmt.Sprint("m", i)
			tries = append(tries, &retriedMessage{client: alice, path: path, body: raw(encoded(t, body)), stored: room.MessageKind(body["kind"].(string)).Stored()})
		}
	}
	random := rand.New(rand.NewPCG(seed, math.MaxUint64))
	random.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
	const senders = 4
	var sending sync.WaitGroup
	for i := range senders {
		random := rand.New(rand.NewPCG(seed, uint64(1000+i)))
		sending.Go(func() {
			for n := i; n < len(tries); n += senders {
				tries[n].send(random)
			}
		})
	}
	sending.Wait()
	const enough = 10
	stored := map[string]int{"room": 1, "alice": 1, "bob": 1} // the ends
	cuts := func() (n int64) {
		for _, f := range readers {
			n += f.cuts.Load()
		}
		return n
	}
	for ; cuts() < enough; stored["room"]++ { // too few streams were cut by chance
		var filler strings.Builder
		for range room.MaxTextBytes / 32 {
			_, _ = fmt.Fprintf(&filler, "%016x", random.Uint64()) // compression does not spare it the cut
		}
		seen := alice.send("lobby", filler.String())
		eventually(t, "carol has received it", func() bool { return readers["carol"].has(seen.ID) })
	}
	toAll, toBob := alice.send("lobby", "the end"), alice.sendTo("bob", "the end")
	for _, f := range readers {
		eventually(t, string(f.UserID)+" has received all messages", func() bool {
			return f.has(toAll.ID) && (f.UserID == "carol" || f.has(toBob.ID))
		})
	}
	stop()
	following.Wait()

	unheard := 0
	for _, f := range readers {
		f.check()
	}
	histories := map[string]map[room.MessageID][]json.RawMessage{
		"room": history(carol, roomPath("lobby", "/messages")), "alice": history(alice, peerPath("bob")), "bob": history(bob, peerPath("alice")),
	}
	for _, try := range tries {
		unheard += try.lostReplies
		if !try.stored {
			try.checkUnstored(readers, histories)
			continue
		}
		m, text := try.checkReplies()
		if m.Peer == "" {
			stored["room"]++
			try.expectOnce("history", m, text, histories["room"][m.ID])
			for _, f := range readers {
				try.expectOnce(string(f.UserID), m, text, f.messages[m.ID])
			}
			continue
		}
		stored["alice"]++
		stored["bob"]++
		try.expectOnce("her history", m, text, histories["alice"][m.ID])
		try.expectOnce("alice", m, text, readers["alice"].messages[m.ID])
		bobs := readers["bob"].messages[m.ID]
		if len(bobs) == 1 {
			var got room.Message
			if err := json.Unmarshal(bobs[0], &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m.With("alice", got.Seq), got); diff != "" {
				t.Errorf("%s: bob received (-want +got):\n%s", try, diff)
			}
			text = bobs[0]
		}
		try.expectOnce("bob", m, text, bobs)
		try.expectOnce("bob's history", m, text, histories["bob"][m.ID])
		if len(readers["carol"].messages[m.ID]) > 0 {
			t.Errorf("carol received %s", try)
		}
	}
	for where, messages := range histories {
		if len(messages) != stored[where] {
			t.Errorf("the history of %s has %d messages, want %d", where, len(messages), stored[where])
		}
	}
	t.Logf("%d messages; %d replies did not arrive; %d streams were cut", len(tries), unheard, cuts())
	if unheard == 0 {
		t.Error("no connection of a sender was cut")
	}
}

// eachKind returns short and long messages of each kind.
func eachKind(owner *client) []object {
	owner.Helper()
	media := func(name string) string { return string(owner.upload(name, file(owner, name)).Media.ID) }
	picture := media("alpha.png")
	kinds := []object{
		{"kind": "text", "text": "x", "extendedData": "\u2028<&>\"\\"},
		{"kind": "text", "text": strings.Repeat("é", 16384)},
		{"kind": "custom", "text": "{\"a\":1}\n", "subType": 0},
		{"kind": "custom", "text": strings.Repeat("x", 32768), "subType": 200},
		{"kind": "combine", "title": "t", "messageList": []object{quote("text", object{"text": "x"}), quote("image", object{"mediaID": picture})}},
		{"kind": "combine", "title": strings.Repeat("t", 256), "messageList": quotes(100)},
		{"kind": "image", "mediaID": picture},
		{"kind": "image", "mediaID": picture, "priority": "low"},
		{"kind": "file", "mediaID": media("README.md")},
		{"kind": "audio", "mediaID": media("cbr.mp3")},
		{"kind": "video", "mediaID": media("h265.mov")},
		{"kind": "command", "data": "AAH/"},
		{"kind": "barrage", "text": "x"},
	}
	return kinds
}

// retriedMessage is one message that is sent three times.
type retriedMessage struct {
	*client
	path   string
	body   raw
	stored bool

	mu          sync.Mutex // guards the fields below, while the message is sent
	replies     [][]byte
	lostReplies int // replies that did not arrive
}

func (m *retriedMessage) String() string { return fmt.Sprintf("%.60s to %s", m.body, m.path) }

// send sends the message three times, concurrently or one after the other. One of the connections
// is not cut.
func (m *retriedMessage) send(random *rand.Rand) {
	holds, together := random.IntN(3), random.IntN(2) == 0
	var sending sync.WaitGroup
	for i := range 3 {
		writes, reads := int64(math.MaxInt64), int64(math.MaxInt64)
		if i != holds {
			// Cut within the request, or within the reply to a complete request.
			if random.IntN(2) == 0 {
				writes = random.Int64N(int64(len(m.body)) + 400)
			} else {
				reads = random.Int64N(1200)
			}
		}
		sending.Go(func() { m.try(writes, reads) })
		if !together {
			sending.Wait()
		}
	}
	sending.Wait()
}

func (m *retriedMessage) try(writes, reads int64) {
	reply, err := m.httpClient(cutTransport(writes, reads)).Do(m.request("POST", m.path, m.body)) //nolint:bodyclose // drain closes it
	var body []byte
	if err == nil {
		body, err = drain(reply.Body)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil && max(writes, reads) == math.MaxInt64 && min(writes, reads) == math.MaxInt64:
		m.Errorf("%s: %v", m, err)
	case err != nil:
		m.lostReplies++
	case m.stored != (reply.StatusCode == http.StatusCreated) || !m.stored != (reply.StatusCode == http.StatusAccepted):
		m.Errorf("%s: got status %d: %s", m, reply.StatusCode, body)
	default:
		m.replies = append(m.replies, body)
	}
}

// checkReplies requires that all replies are the same, and returns the message.
func (m *retriedMessage) checkReplies() (message room.Message, text []byte) {
	if len(m.replies) == 0 {
		m.Fatalf("%s: got no reply", m)
	}
	for _, reply := range m.replies[1:] {
		if !bytes.Equal(reply, m.replies[0]) {
			m.Errorf("%s: got two different replies: %s and %s", m, m.replies[0], reply)
		}
	}
	var first struct{ Message json.RawMessage }
	if err := json.Unmarshal(m.replies[0], &first); err != nil {
		m.Fatal(err)
	}
	if err := json.Unmarshal(first.Message, &message); err != nil {
		m.Fatal(err)
	}
	return message, first.Message
}

// expectOnce requires that a message was found exactly once, with the same bytes as in the reply.
func (m *retriedMessage) expectOnce(where string, message room.Message, want []byte, got []json.RawMessage) {
	if len(got) != 1 {
		m.Errorf("%s: message %s was found %d times with %s", m, message.ID, len(got), where)
		return
	}
	if !bytes.Equal(got[0], want) {
		m.Errorf("%s: with %s, got %.300s, want %.300s", m, where, got[0], want)
	}
}

// checkUnstored requires that each try was a new message that no reader received twice and no
// history contains.
func (m *retriedMessage) checkUnstored(readers map[string]*follower, histories map[string]map[room.MessageID][]json.RawMessage) {
	var ids []room.MessageID
	for _, body := range m.replies {
		var reply struct{ Message room.Message }
		if err := json.Unmarshal(body, &reply); err != nil {
			m.Fatal(err)
		}
		if slices.Contains(ids, reply.Message.ID) || reply.Message.Seq != 0 {
			m.Errorf("%s is stored: %s", m, body)
		}
		ids = append(ids, reply.Message.ID)
		for user, f := range readers {
			if n := len(f.messages[reply.Message.ID]); n > 1 {
				m.Errorf("%s: %s received it %d times", m, user, n)
			}
		}
		for user, messages := range histories {
			if len(messages[reply.Message.ID]) > 0 {
				m.Errorf("%s is in the history of %s", m, user)
			}
		}
	}
}

// history returns all messages of a history, read in small pages.
func history(c *client, path string) map[room.MessageID][]json.RawMessage {
	c.Helper()
	all := map[room.MessageID][]json.RawMessage{}
	for query := "?limit=7&after=0"; query != ""; {
		page := as[struct {
			MessageList []json.RawMessage
			NextCursor  room.Seq
		}](c.call("GET", path+query, nil).is(http.StatusOK))
		for _, text := range page.MessageList {
			collect(c, all, text)
		}
		query = ""
		if page.NextCursor > 0 {
			query = fmt.Sprintf("?limit=7&after=%d", page.NextCursor)
		}
	}
	return all
}

func collect(t testing.TB, all map[room.MessageID][]json.RawMessage, text json.RawMessage) {
	var m room.Message
	if err := json.Unmarshal(text, &m); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	all[m.ID] = append(all[m.ID], text)
}

// follower reads a session's stream over a series of connections, each of which is cut at a random
// position and resumes from the last cursor.
type follower struct {
	*client
	random *rand.Rand
	cuts   atomic.Int64

	mu     sync.Mutex // guards the fields below
	cursor string
	events []event
	// messages holds the messages of the events, filled by check.
	messages map[room.MessageID][]json.RawMessage
}

// follow reads the stream until the context ends.
func (f *follower) follow(ctx context.Context) {
	for ; ctx.Err() == nil; f.cuts.Add(1) {
		reads, encoding := 600+f.random.Int64N(100_000), "identity" // from time to time, the cut is within the largest message
		if f.random.IntN(2) == 0 {
			reads, encoding = 600+f.random.Int64N(4000), "" // net/http asks for gzip
		}
		cursor, resumes := f.position()
		if !resumes {
			reads = 4000 // long enough for the first cursor, before which delivery is not guaranteed
		}
		r := f.request("GET", "/v1/events", nil).WithContext(ctx)
		if resumes {
			r.Header.Set("Last-Event-ID", cursor)
		}
		if encoding != "" {
			r.Header.Set("Accept-Encoding", encoding)
		}
		reply, err := f.httpClient(cutTransport(math.MaxInt64, reads)).Do(r)
		if err != nil {
			continue // cut within the header
		}
		if reply.StatusCode != http.StatusOK {
			f.Errorf("opening the stream: got status %d", reply.StatusCode)
			return
		}
		_ = readEvents(reply.Body, f.receive, func(int) {}, func() {}) //nolint:errcheck // an event that was cut comes again
		_ = reply.Body.Close()
	}
}

func (f *follower) receive(e event) {
	if err := e.check("streamEvents"); err != nil {
		f.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	if e.ID != "" {
		f.cursor = e.ID
	}
}

// position returns the cursor, if there is one.
func (f *follower) position() (cursor string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor, f.cursor != ""
}

func (f *follower) has(id room.MessageID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.events, func(e event) bool { return bytes.Contains(e.Data, []byte(id)) })
}

// check requires that the events of each log arrived once and in order.
func (f *follower) check() {
	f.messages = map[room.MessageID][]json.RawMessage{}
	last := map[room.RoomID]room.Seq{}
	for i, e := range f.events {
		var body struct {
			RoomID      room.RoomID
			Seq         room.Seq
			Resumed     bool
			MessageList []json.RawMessage
		}
		if err := json.Unmarshal(e.Data, &body); err != nil {
			f.Fatal(err)
		}
		if t := room.EventType(e.Type); t == room.TypeRoomReset || t == room.TypeInboxReset || t == room.TypeSessionReady && i > 0 && !body.Resumed {
			f.Errorf("%s could not resume: %s %s", f.UserID, e.Type, e.Data)
		}
		if body.Seq > 0 {
			if before := last[body.RoomID]; before > 0 && body.Seq != before+1 {
				f.Errorf("%s received seq %d after %d in %q", f.UserID, body.Seq, before, body.RoomID)
			}
			last[body.RoomID] = body.Seq
		}
		for _, text := range body.MessageList {
			collect(f, f.messages, text)
		}
	}
}

var errCut = errors.New("the line is cut")

// cutTransport returns a transport whose connections are cut after this many bytes in either
// direction.
func cutTransport(writes, reads int64) http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &cutConn{Conn: conn}
		c.writes.Store(writes)
		c.reads.Store(reads)
		return c, nil
	}}
}

type cutConn struct {
	net.Conn
	writes, reads atomic.Int64 // remaining bytes
}

func (c *cutConn) Write(p []byte) (int, error) {
	left := c.writes.Add(-int64(len(p)))
	if left >= 0 {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:max(0, int64(len(p))+left)])
	_ = c.Close()
	return n, errors.Join(errCut, err)
}

// Read cuts the connection after a read, so that a request that is in flight is not affected.
func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	left := c.reads.Add(-int64(n))
	if err != nil || left >= 0 {
		return n, err
	}
	_ = c.Close()
	return int(max(0, int64(n)+left)), errCut
}
