package servicetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"parlor/room"
)

// TestStoppedReader checks that a client that stops reading does not affect the other members of
// its room. When it reads again, it is told why its stream ends, and resumes without a gap.
func TestStoppedReader(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) {
		c.server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			// With the default buffer, the kernel holds megabytes for a client that does not read.
			if err := conn.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
				t.Error(err)
			}
			return ctx
		}
	})
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	conn := alice.stall()
	eventually(t, "the stream is open", func() bool { return s.hub.Stats().Streams == 1 })
	var others []*stream
	for i := range 3 {
		other := s.login(room.UserID(fmt.Sprintf("other%d", i)))
		other.enter("lobby")
		stream, _ := other.listen()
		others = append(others, stream)
	}
	bob.enter("lobby")

	text := func(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", 10_000)) }
	sent := 0
	for ; s.hub.Stats().SlowConsumers == 0; sent++ {
		if sent == 1000 { // sockets and the stream's queue hold only a fraction of it
			t.Fatal("the stream of the client that does not read was not closed")
		}
		bob.send("lobby", text(sent))
	}
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	next, id, last := 0, "", event{}
	read := func(e event) {
		if last = e; e.ID != "" {
			id = e.ID
		}
		if e.Type != string(room.TypeMessagesReceived) {
			return
		}
		var received room.MessagesReceived
		if err := json.Unmarshal(e.Data, &received); err != nil || received.MessageList[0].Text != text(next) {
			t.Errorf("got %.40s, want message %d", e.Data, next)
		}
		next++
	}
	if err := readEvents(reply.Body, read, func(int) {}, func() {}); err != nil {
		t.Fatal(err)
	}
	var why room.ConnectionStateChanged
	if err := json.Unmarshal(last.Data, &why); err != nil || why.Event != room.ConnectionSlowConsumer {
		t.Errorf("the stream ends with %s %.80s", last.Type, last.Data)
	}
	if next == 0 || next == sent {
		t.Fatalf("the client that stopped reading received %d of %d messages", next, sent)
	}
	for _, stream := range others {
		for n := range sent {
			if got := skipTo[room.MessagesReceived](stream).MessageList[0].Text; got != text(n) {
				t.Fatalf("another member received message %d as %.20s", n, got)
			}
		}
	}
	stream, ready := alice.listen(resume(id))
	if !ready.Resumed {
		t.Error("the stream did not resume")
	}
	for ; next < sent; next++ {
		if got := skipTo[room.MessagesReceived](stream).MessageList[0].Text; got != text(next) {
			t.Fatalf("received message %d as %.20s", next, got)
		}
	}
}
