package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
)

// routeByEscapedPath makes chi match the path as it was sent, so that an ID with an
// encoded slash or percent sign stays one segment. pathParam decodes it.
func routeByEscapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawPath = r.URL.EscapedPath()
		next.ServeHTTP(w, r)
	})
}

// setContext gives a request another context. The request is chi's copy, which only
// the handlers below see; to copy it in each middleware again is a third of a
// kilobyte of garbage each time.
func setContext(ctx context.Context, r *http.Request) { *r = *r.WithContext(ctx) }

// maxLoggedMethod and maxLoggedPath bound what a line of the log takes from a request,
// in bytes. The longest path of the API is shorter.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 1 << 10
)

// observe names the request and logs it when it was answered: at the level debug, and
// at info where it failed for the server's fault. A line for each message of a busy room would
// cost more than its delivery. The query is never logged: it may hold a stream key.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := requestIDOf(r)
		w.Header().Set("X-Request-Id", id) // spelt as it is sent: Set would have to make it so
		seen := &statusWriter{ResponseWriter: w}
		setContext(context.WithValue(r.Context(), requestIDKey{}, id), r)
		next.ServeHTTP(seen, r)
		took := time.Since(began)
		route := chi.RouteContext(r.Context()).RoutePattern()
		level := slog.LevelDebug
		if seen.status >= http.StatusInternalServerError && !seen.unlogged {
			level = slog.LevelInfo
		}
		if a.Log.Enabled(r.Context(), level) {
			attrs := append(make([]slog.Attr, 0, 8), slog.String("method", shorten(r.Method, maxLoggedMethod)), slog.String("route", route),
				slog.String("path", shorten(r.URL.Path, maxLoggedPath)), slog.Int("status", seen.status), slog.Duration("took", took), slog.String("client", a.client(r).String()), slog.String("requestID", id))
			if trace := traceIDOf(r); trace != "" {
				attrs = append(attrs, slog.String("traceID", trace))
			}
			a.Log.LogAttrs(r.Context(), level, "request", attrs...)
		}
		if a.Observe != nil {
			a.Observe(route, r.Method, seen.status, took)
		}
	})
}

// statusWriter remembers the status. http.ResponseController finds everything
// else through Unwrap.
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

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recoverPanic answers 500 where a handler panics. The text stays in the log.
func (a *api) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch fault := recover(); fault {
			case nil:
			case http.ErrAbortHandler:
				panic(fault)
			default:
				a.Log.Error("panic", "requestID", requestID(r.Context()), "panic", fault, "stack", string(debug.Stack()))
				a.answerError(w, r, fmt.Errorf("panic: %v", fault))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// setSecurityHeaders sets the headers that every reply has. Pages add their own policy.
func setSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), securityHeaders)
		next.ServeHTTP(w, r)
	})
}

// secureHeaders has values that all replies share. To set such a header anew leaves
// them alone.
var securityHeaders = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"Referrer-Policy":         {"no-referrer"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
}

// crossOrigin lets browsers call from the listed origins, without cookies.
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

// timeLimit bounds a call. It is not for streams.
func timeLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), callTimeout, errCallTimeout)
		defer cancel()
		setContext(ctx, r)
		next.ServeHTTP(w, r)
	})
}
