package handlers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// overPipe serves one HTTP/2 connection in memory, which uses the time of the test's bubble, and
// returns a client for it.
func overPipe(t *testing.T, h http.HandlerFunc) *http.Client {
	t.Helper()
	near, far := net.Pipe()
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: protocols}
	conns := make(pipeListener, 1)
	conns <- near
	go func() { _ = server.Serve(conns) }()
	transport := &http.Transport{
		Protocols:   protocols,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return far, nil },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
	})
	return &http.Client{Transport: transport}
}

// pipeListener accepts the connections that it holds.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestSendLeavesNoDeadline checks that a stream may be silent for longer than a write may take.
func TestSendLeavesNoDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := overPipe(t, func(w http.ResponseWriter, _ *http.Request) {
			c := responseConn{w, http.NewResponseController(w)}
			for range 3 {
				if err := c.Send([]byte(":\n\n"), 10*time.Second); err != nil {
					t.Error(err)
				}
				<-time.After(15 * time.Second)
			}
		})
		if got := get(t, client); got != strings.Repeat(":\n\n", 3) {
			t.Errorf("the client received %q", got)
		}
	})
}

// TestDownloadWaitsForItsBucket checks that reading the next bytes of a file may take longer than a
// client may pause.
func TestDownloadWaitsForItsBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := overPipe(t, func(w http.ResponseWriter, _ *http.Request) {
			d := &download{ResponseWriter: w, control: http.NewResponseController(w)}
			for range 3 {
				if _, err := io.WriteString(d, "bytes "); err != nil {
					t.Error(err)
				}
				<-time.After(2 * downloadPause)
			}
		})
		if got := get(t, client); got != "bytes bytes bytes " {
			t.Errorf("the client received %q", got)
		}
	})
}

func get(t *testing.T, client *http.Client) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://parlor/", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Errorf("read of the body failed after %q: %v", body, err)
	}
	return string(body)
}

// TestUploadWaitsForItsBucket checks that storing a part of a file may take longer than its client
// may pause, and that a client that pauses for too long is still noticed.
func TestUploadWaitsForItsBucket(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		storing, pause time.Duration
		want           error
	}{
		{"a slow bucket", 2 * defaultUploadPause, 50 * time.Second, nil},
		{"a client that stops", 0, 2 * defaultUploadPause, errStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := overPipe(t, func(w http.ResponseWriter, r *http.Request) {
					b := &uploadBody{
						ctx: r.Context(), file: r.Body, left: 100, pause: defaultUploadPause,
						deadline: &bodyDeadline{control: http.NewResponseController(w)},
					}
					var err error
					for p := make([]byte, 1); err == nil; {
						_, err = b.Read(p)
						<-time.After(c.storing)
					}
					if !errors.Is(b.failed, c.want) {
						t.Errorf("the body ended with %v", err)
					}
				})
				body, sending := io.Pipe()
				var sent sync.WaitGroup
				defer sent.Wait()
				sent.Go(func() {
					for range 3 {
						_, _ = sending.Write([]byte("x"))
						<-time.After(c.pause)
					}
					_ = sending.Close()
				})
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://parlor/", body)
				if err != nil {
					t.Fatal(err)
				}
				reply, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = reply.Body.Close()
			})
		})
	}
}
