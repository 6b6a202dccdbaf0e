package handlers

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
)

// maxRequestIDBytes is the maximum length of a request ID that a caller sends. Those of proxies and
// tracing libraries have 16 to 64 bytes.
const maxRequestIDBytes = 128

type requestIDKey struct{}

// requestID returns the ID of a request, which is in its log lines and problems.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// requestIDOf returns the ID that the caller or a proxy has given to a request, so that all their
// logs have the same ID, or a new one if there is none or it is not fit for a log.
func requestIDOf(r *http.Request) string {
	if given := r.Header["X-Request-Id"]; len(given) == 1 && validRequestID(given[0]) {
		return given[0]
	}
	return rand.Text()
}

// validRequestID reports whether an ID is not too long and has only the characters of UUIDs,
// hexadecimal numbers, Base64 and trace headers.
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

// traceIDOf returns the trace ID in a request's traceparent header, or "" if there is none or the
// header is malformed (https://www.w3.org/TR/trace-context/#traceparent-header-field-values).
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

// traceHeaders are the headers that tracing libraries add to the calls of a web page: W3C Trace
// Context and Baggage (OpenTelemetry), Sentry, Zipkin, Jaeger, Datadog, New Relic, Elastic and AWS
// X-Ray. If CORS does not allow them, browsers do not make the call at all.
var traceHeaders = []string{
	"X-Request-Id", "X-Correlation-Id", "Traceparent", "Tracestate", "Baggage", "Sentry-Trace",
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", "Uber-Trace-Id",
	"X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Origin", "X-Datadog-Sampling-Priority", "X-Datadog-Tags",
	"Newrelic", "Elastic-Apm-Traceparent", "X-Amzn-Trace-Id",
}
