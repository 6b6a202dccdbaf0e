package handlers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
)

// routeByEscapedPath makes chi match the path as it was sent, so that an ID with an encoded slash
// or percent sign stays one segment. pathParam decodes it.
func routeByEscapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawPath = sentPath(r.URL)
		next.ServeHTTP(w, r)
	})
}

// sentPath returns the path of a request in the encoding of the client. EscapedPath replaces that
// encoding if the path contains a character that should have been encoded, such as |, and then
// turns an encoded slash into a slash.
func sentPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// setContext replaces the context of a request. The request is chi's own copy, which only later
// handlers use; another copy in each middleware would cost a third of a kilobyte of garbage.
func setContext(ctx context.Context, r *http.Request) { *r = *r.WithContext(ctx) }

// maxLoggedMethod and maxLoggedPath are the maximum lengths of a request's method and path in a log
// line, in bytes. Every path of the API is shorter.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 1 << 10
)

// observe gives the request an ID, and logs it after the reply: at level debug, or at info if the
// server failed. At info, a line for each message of a busy room would cost more than its delivery.
// The query is never logged, because it may contain a stream key.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := requestIDOf(r)
		w.Header().Set("X-Request-Id", id) // in canonical form, which spares Set the conversion
		seen := &statusWriter{ResponseWriter: w}
		setContext(context.WithValue(r.Context(), requestIDKey{}, id), r)
		next.ServeHTTP(seen, r)
		a.logReply(r, seen, id, time.Since(began))
	})
}

// logReply logs a request after its reply, and counts it. It is not a part of observe because a
// stream over HTTP/2 keeps the stack frames of all middlewares.
func (a *api) logReply(r *http.Request, seen *statusWriter, id string, took time.Duration) {
	route := chi.RouteContext(r.Context()).RoutePattern()
	level := slog.LevelDebug
	if seen.status >= http.StatusInternalServerError && !seen.unlogged {
		level = slog.LevelInfo
	}
	if a.Log.Enabled(r.Context(), level) {
		attrs := append(make([]slog.Attr, 0, 8),
			slog.String("method", shorten(r.Method, maxLoggedMethod)), slog.String("route", route),
			slog.String("path", shorten(r.URL.Path, maxLoggedPath)), slog.Int("status", seen.status),
			slog.Duration("took", took), slog.String("client", a.client(r).String()), slog.String("requestID", id))
		if trace := traceIDOf(r); trace != "" {
			attrs = append(attrs, slog.String("traceID", trace))
		}
		a.Log.LogAttrs(r.Context(), level, "request", attrs...)
	}
	if a.Observe != nil {
		a.Observe(route, r.Method, seen.status, took)
	}
}

// statusWriter records the status of a reply. http.ResponseController reaches most other methods of
// the ResponseWriter through Unwrap.
type statusWriter struct {
	http.ResponseWriter
	status   int
	unlogged bool // a failure that is logged elsewhere, or not at all
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Hijack takes over the connection. Only streams do that, and their status is 200.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusOK
	}
	return conn, buffered, err
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recoverPanic answers 500 if a handler panics. The panic value is only logged.
func (a *api) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch fault := recover(); fault {
			case nil:
			case http.ErrAbortHandler:
				panic(fault)
			default:
				a.Log.Error("handler panicked", "requestID", requestID(r.Context()), "panic", fault, "stack", string(debug.Stack()))
				a.answerError(w, r, fmt.Errorf("panic: %v", fault))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// setSecurityHeaders sets the headers that every reply has. Pages add their own policy.
func setSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, s := range securityHeaders {
			h[s.name] = s.values
		}
		next.ServeHTTP(w, r)
	})
}

// securityHeaders are shared by all replies. Setting such a header in a reply does not change them.
// They are not a map, whose iterator would stay on the stacks of streams over HTTP/2.
var securityHeaders = []struct {
	name   string
	values []string
}{
	{"X-Content-Type-Options", []string{"nosniff"}},
	{"Referrer-Policy", []string{"no-referrer"}},
	{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
}

// crossOrigin allows pages of the listed origins to call the API, without cookies.
func crossOrigin(origins []string) func(http.Handler) http.Handler {
	return cors.Handler(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: slices.Concat([]string{"Authorization", "Content-Type", "If-Match", "Last-Event-ID", "Range"}, tusRequestHeaders, traceHeaders),
		ExposedHeaders: append([]string{"Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"}, tusReplyHeaders...),
		MaxAge:         600,
	})
}

var errCallTimeout = errors.New("the call took too long")

// timeLimit limits the duration of a call. Streams and transfers do not use it.
func timeLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), callTimeout, errCallTimeout)
		defer cancel()
		setContext(ctx, r)
		next.ServeHTTP(w, r)
	})
}
