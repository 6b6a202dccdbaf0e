package servicetest

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkSendBarrage measures a call that needs no database access, without the work of net/http:
// routing, authentication, decoding, validation, encoding the event and the reply.
func BenchmarkSendBarrage(b *testing.B) {
	s := newService(b, func(c *setup) { c.api.Log = slog.New(slog.DiscardHandler) })
	alice := s.login("alice")
	alice.enter("lobby")
	alice.stall()
	body := strings.NewReader(`{"kind":"barrage","text":"` + strings.Repeat("x", 64) + `"}`)
	call := httptest.NewRequest(http.MethodPost, roomPath("lobby", "/messages"), nil)
	call.Header.Set("Authorization", "Bearer "+alice.SessionKey)
	call.Header.Set("Content-Type", "application/json")
	call.ContentLength = body.Size()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		r := call.Clone(b.Context())
		r.Body = io.NopCloser(body)
		w := discarded{header: make(http.Header)}
		s.server.Config.Handler.ServeHTTP(&w, r)
		if w.status != http.StatusAccepted {
			b.Fatalf("status %d", w.status)
		}
	}
}

// discarded is a ResponseWriter that discards the body.
type discarded struct {
	header http.Header
	status int
}

func (w *discarded) Header() http.Header         { return w.header }
func (w *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (w *discarded) WriteHeader(status int)      { w.status = status }
