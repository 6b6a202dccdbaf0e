package servicetest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

// TestFeedReconnectsWhileDraining checks that a draining server asks the readers of feeds to
// reconnect, and accepts them again until it stops.
func TestFeedReconnectsWhileDraining(t *testing.T) {
	t.Parallel()
	s := newService(t)
	feed, _ := s.admin().follow("")
	s.api.DrainFeeds(50 * time.Millisecond)
	if got := expect[room.Reconnect](feed); got.AfterMs > 100 {
		t.Errorf("the feed ends with %+v", got)
	}
	feed.end()
	again, ready := s.admin().follow(feed.id)
	if !ready.Resumed {
		t.Error("the feed did not resume")
	}
	s.login("alice").enter("lobby")
	skipTo[room.MembersJoined](again)
	s.api.EndFeeds()
	skipTo[room.Reconnect](again)
	again.end()
}

// TestDrainingMovesConnections checks that a server that is about to stop still replies, that
// clients open a new connection for their next call, over HTTP/1.1 and HTTP/2, and that streams
// stay open on their old connections.
func TestDrainingMovesConnections(t *testing.T) {
	overEveryTransport(t, func(t *testing.T, s *service, protocol int) {
		alice := s.login("alice")
		alice.enter("lobby")
		stream, _ := alice.listen()
		connections := make(map[string]bool)
		call := func() {
			reply := alice.call("GET", "/v1/sessions/current", nil, func(r *http.Request) { traceConnection(r, connections) }).is(http.StatusOK)
			if reply.ProtoMajor != protocol {
				t.Errorf("the call used HTTP/%d", reply.ProtoMajor)
			}
		}
		call()
		call()
		if len(connections) != 1 {
			t.Errorf("two calls used %d connections", len(connections))
		}
		s.api.DisableKeepAlives()
		call() // the last one on the old connection
		eventually(t, "calls use a new connection", func() bool {
			call()
			return len(connections) > 1
		})
		alice.send("lobby", "still here")
		if got := stream.text(); got != "still here" {
			t.Errorf("the stream received %q", got)
		}
	})
}

// TestAwaitCallsAndTransfers checks that a stopping server can wait for calls without transfers,
// and for transfers alone.
func TestAwaitCallsAndTransfers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	at := alice.call("POST", "/v1/media/uploads", nil, header("Tus-Resumable", "1.0.0"), header("Upload-Length", "10")).is(http.StatusCreated).Header.Get("Location")
	body, sending := io.Pipe()
	uploaded := make(chan struct{})
	r := alice.request("PATCH", at, nil, header("Tus-Resumable", "1.0.0"), header("Upload-Offset", "0"), header("Content-Type", "application/offset+octet-stream"))
	r.Body, r.ContentLength = body, 10
	go func() {
		defer close(uploaded)
		if reply, err := s.server.Client().Do(r); err == nil {
			_ = reply.Body.Close()
		}
	}()
	if _, err := sending.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the upload is in flight", func() bool { return s.api.Transfers() == 1 })
	s.api.AwaitCalls(t.Context()) // returns at once, because there are none
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.api.AwaitTransfers(ctx)
	if ctx.Err() == nil {
		t.Error("the server did not wait for the upload")
	}
	if _, err := sending.Write([]byte("67890")); err != nil {
		t.Fatal(err)
	}
	_ = sending.Close()
	s.api.AwaitTransfers(t.Context())
	<-uploaded
	if got := alice.call("HEAD", at, nil, header("Tus-Resumable", "1.0.0")).Header.Get("Upload-Offset"); got != "10" {
		t.Errorf("%s bytes were uploaded", strings.TrimSpace(got))
	}
}

// traceConnection records which connection a request uses.
func traceConnection(r *http.Request, seen map[string]bool) {
	*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { seen[c.Conn.LocalAddr().String()] = true },
	}))
}
