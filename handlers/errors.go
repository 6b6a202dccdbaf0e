package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"parlor/room"
)

// problem is an RFC 9457 reply. It is also the error type of failures in HTTP itself; those of the
// rules are of type *room.Error.
type problem struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Code      string  `json:"code"`
	Detail    string  `json:"detail"`
	RequestID string  `json:"requestID,omitempty"`
	Errors    []fault `json:"errors,omitempty"`

	retryAfter int // seconds until a limit allows the request; 0 means the default of the status
}

// fault is one mistake in a request.
type fault struct {
	// Pointer is a JSON Pointer into the body, or path/NAME, query/NAME or header/NAME.
	Pointer string `json:"pointer"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

func (p *problem) Error() string { return p.Code + ": " + p.Detail }

func newProblem(status int, code, detail string) *problem {
	return &problem{
		Type:   "/docs/errors#" + code,
		Title:  http.StatusText(status),
		Status: status,
		Code:   code,
		Detail: detail,
	}
}

// The problems of HTTP itself, independent of any rule.
var (
	errNoRoute     = newProblem(http.StatusNotFound, "not_found", "There is nothing at this path: compare it with openapi.yaml.")
	errWrongMethod = newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "The path does not accept this method: use one of those in Allow.")
	errBodyTooBig  = newProblem(http.StatusRequestEntityTooLarge, "body_too_large", "The body is larger than 256 KiB: make it smaller.")
	errNotJSON     = notOfType("application/json")
	errEncoded     = newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "The body must not be compressed: send it without Content-Encoding.")
)

// notOfType returns the problem that a body does not have the content type that it must have.
func notOfType(want string) *problem {
	return newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "The Content-Type of the body must be "+want+".")
}

func malformed(detail string) *problem {
	return newProblem(http.StatusBadRequest, "malformed_json", detail)
}

const (
	// maxFaults bounds the number of faults in a reply, which would be much larger than the request
	// otherwise.
	maxFaults = room.MaxFaults
	// maxPointerBytes bounds the pointer of a fault, because the caller chooses the names in it.
	maxPointerBytes = 256
)

func invalid(faults ...fault) *problem {
	p := newProblem(http.StatusBadRequest, "invalid_request", "The request is not valid: errors lists what is wrong.")
	if len(faults) > maxFaults {
		p.Detail = fmt.Sprintf("The request is not valid: errors lists the first %d faults.", maxFaults)
		faults = faults[:maxFaults]
	}
	p.Errors = slices.Clone(faults)
	for i := range p.Errors {
		p.Errors[i].Pointer = shorten(p.Errors[i].Pointer, maxPointerBytes)
	}
	return p
}

// shorten returns text, cut after limit bytes and with an ellipsis if it is longer.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// within prefixes the pointers of faults in a part of a body with the pointer of that part.
func within(pointer string, err error) error {
	var p *problem
	if errors.As(err, &p) {
		for i := range p.Errors {
			p.Errors[i].Pointer = pointer + p.Errors[i].Pointer
		}
	}
	return err
}

// statuses maps the kinds of the rules' errors to HTTP statuses.
var statuses = map[room.Kind]int{
	room.Invalid:         http.StatusBadRequest,
	room.Unauthenticated: http.StatusUnauthorized,
	room.Forbidden:       http.StatusForbidden,
	room.NotFound:        http.StatusNotFound,
	room.Conflict:        http.StatusConflict,
	room.Outdated:        http.StatusPreconditionFailed,
	room.Exhausted:       http.StatusTooManyRequests,
	room.Unavailable:     http.StatusServiceUnavailable,
	room.Internal:        http.StatusInternalServerError,
}

// problemOf returns the problem that a caller gets for an error. An error that is not meant for
// callers becomes room.ErrInternal.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	public := room.Public(err)
	return newProblem(statuses[public.Kind], public.Code, public.Message)
}

// handle returns a handler that replies with a problem if h fails.
func (a *api) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.answerError(w, r, err)
		}
	}
}

// statusClientGone is the status in the log for a request that was canceled, which happens when its
// client disconnects before the reply. It is never sent.
const statusClientGone = 499

// outageLogInterval is the minimum time between two log lines about replies with 503.
const outageLogInterval = time.Second

func (a *api) answerError(w http.ResponseWriter, r *http.Request, err error) {
	p := *problemOf(err)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		if seen, ok := w.(*statusWriter); ok && seen.status == 0 {
			seen.status = statusClientGone
		}
		// The client may still be there: net/http also cancels all requests of a connection when
		// reading from it times out. Without a reply of its own, net/http would send an empty 200.
		closeAfterReply(w, r)
		p = *problemOf(room.ErrUnavailable)
		p.retryAfter = 1
	}
	p.RequestID = requestID(r.Context())
	p.Type = a.links.path(p.Type)
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
		if seen, ok := w.(*statusWriter); ok {
			seen.unlogged = true // a client that keeps hitting a limit would fill the log
		}
	}
	switch p.Status {
	case http.StatusInternalServerError:
		a.Log.Error("internal error", "requestID", p.RequestID, "error", err)
	case http.StatusServiceUnavailable:
		if p.retryAfter > 0 {
			break
		}
		if ok, suppressed := a.outages.allow(time.Now()); ok {
			a.Log.Warn("unavailable", "requestID", p.RequestID, "error", err, "suppressed", suppressed)
		} else if seen, ok := w.(*statusWriter); ok {
			seen.unlogged = true
		}
		w.Header().Set("Retry-After", "1")
	case http.StatusInsufficientStorage:
		a.Log.Warn("storage full", "requestID", p.RequestID, "error", err)
	case http.StatusTooManyRequests:
		if w.Header().Get("Retry-After") == "" { // set by the rate limiter
			w.Header().Set("Retry-After", "60")
		}
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="parlor"`) // RFC 9110, section 11.6.1
		// For a token, the log has more than the reply, such as why keys could not be fetched.
		a.Log.Debug("authentication failed", "requestID", p.RequestID, "client", a.client(r), "error", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	a.encode(w, r, p)
}

// closeAfterReply makes net/http close the connection of an HTTP/1 request after the reply. Over
// HTTP/2 the header would close the connection for all other requests as well.
func closeAfterReply(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// answer replies with a JSON body.
func (a *api) answer(w http.ResponseWriter, r *http.Request, status int, body any) error {
	maps.Copy(w.Header(), answerHeaders)
	w.WriteHeader(status)
	a.encode(w, r, body)
	return nil
}

// answerHeaders are shared by all replies with a body, like securityHeaders.
var answerHeaders = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}

// noContent replies with 204 No Content.
func noContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// encode writes a body. An error means that the client has disconnected, so it is only logged.
func (a *api) encode(w http.ResponseWriter, r *http.Request, body any) {
	if err := writeJSON(w, body); err != nil {
		a.Log.Debug("reply write failed", "requestID", requestID(r.Context()), "error", err)
	}
}

// jsonAppender is a body with an encoder of its own, because it is sent often.
type jsonAppender interface {
	AppendJSON(b []byte) ([]byte, error)
}

func writeJSON(w io.Writer, body any) error {
	appender, ok := body.(jsonAppender)
	if !ok {
		return json.NewEncoder(w).Encode(body)
	}
	encoded, err := appender.AppendJSON(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(append(encoded, '\n'))
	return err
}
