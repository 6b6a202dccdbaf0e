package handlers

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
)

// maxRequestIDBytes is how long a request ID of a caller may be: those of proxies and tracing libraries have 16 to 64.
const maxRequestIDBytes = 128

type requestIDKey struct{}

// requestID names a request in the log and in the problems it is answered with.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// requestIDOf is the ID that the caller or a proxy gave to a request, so that one ID finds it in all their logs; or a new one
// where there is none that a log could hold.
func requestIDOf(r *http.Request) string {
	if given := r.Header["X-Request-Id"]; len(given) == 1 && validRequestID(given[0]) {
		return given[0]
	}
	return rand.Text()
}

// validRequestID reports whether an ID is of a bounded length and of the characters that UUIDs, hexadecimal numbers, Base64
// and trace headers are made of.
func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.:=+/", c) >= 0) {
			return false
		}
	}
	return true
}

// traceIDOf is the trace that a request belongs to by its traceparent, or nothing where that is not well-formed
// (https://www.w3.org/TR/trace-context/#traceparent-header-field-values).
func traceIDOf(r *http.Request) string {
	given := r.Header["Traceparent"]
	if len(given) != 1 {
		return ""
	}
	const version, trace, parent, flags = 2, 32, 16, 2 // hexadecimal digits
	const length = version + 1 + trace + 1 + parent + 1 + flags
	text := given[0]
	// Later versions may add fields.
	if len(text) < length || len(text) > length && (text[:version] == "00" || text[length] != '-') {
		return ""
	}
	fields := strings.Split(text[:length], "-")
	if len(fields) != 4 || len(fields[0]) != version || len(fields[1]) != trace || len(fields[2]) != parent || len(fields[3]) != flags {
		return ""
	}
	for i, field := range fields {
		if strings.Trim(field, "0123456789abcdef") != "" || i == 0 && field == "ff" || (i == 1 || i == 2) && strings.Trim(field, "0") == "" {
			return ""
		}
	}
	return fields[1]
}

// traceHeaders are what tracing libraries add to the calls of a page: W3C Trace Context and Baggage (OpenTelemetry), Sentry,
// Zipkin, Jaeger, Datadog, New Relic, Elastic and AWS X-Ray. A browser that may not send them does not make the call at all.
var traceHeaders = []string{
	"X-Request-Id", "X-Correlation-Id", "Traceparent", "Tracestate", "Baggage", "Sentry-Trace",
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", "Uber-Trace-Id",
	"X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Origin", "X-Datadog-Sampling-Priority", "X-Datadog-Tags",
	"Newrelic", "Elastic-Apm-Traceparent", "X-Amzn-Trace-Id",
}
