package handlers

import (
	"net/http"
)

// Limit names what is bounded. Programs read the names in metrics.
type Limit string

// The limits that a caller may meet.
const (
	LimitConnections           Limit = "connections"
	LimitConnectionsPerAddress Limit = "connectionsPerAddress"
)

// fullRetry is after how many seconds a caller whom the server has no place for
// tries again. Places are freed as others go.
const fullRetry = 5

// Why a connection is refused. Any call may meet it, so both have the status that
// any call may have.
var (
	ErrServerFull         = full(newProblem(http.StatusServiceUnavailable, "server_full", "The server has as many connections and streams as it takes."))
	ErrTooManyConnections = full(newProblem(http.StatusServiceUnavailable, "too_many_connections", "There are too many connections from this address."))
)

func full(p *problem) *problem {
	p.retryAfter = fullRetry
	return p
}

// refuseConnection answers what comes over a connection for which there is no
// place. Its client is told so; then the connection ends.
func (a *api) refuseConnection(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := a.Refused(r.Context())
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		if r.URL.Path == streamPath {
			a.answerStreamError(w, r, err)
			return
		}
		a.answerError(w, r, err)
	})
}
