package handlers

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnreadReplyTimesOut checks that the connection of a client that does not read the reply is
// closed.
func TestUnreadReplyTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		a := &api{Options: Options{BodyTimeout: defaultBodyTimeout}}
		written := make(chan error, 1)
		server := &http.Server{Handler: a.deadlines(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			written <- err
		}))}
		conns := make(pipeListener, 1)
		conns <- near
		go func() { _ = server.Serve(conns) }()
		began := time.Now()
		if _, err := io.WriteString(far, "GET / HTTP/1.1\r\nHost: parlor\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err == nil || time.Since(began) != callTimeout+replyTimeout {
			t.Errorf("the write returned %[2]v after %[1]s", time.Since(began), err)
		}
		synctest.Wait()
		_ = server.Close()
	})
}
