package handlers

import (
	"net/http"

	"parlor/room"
)

// Limit names what is bounded. Programs read the names in metrics.
type Limit string

// The limits that a caller may meet.
const (
	LimitConnections           Limit = "connections"
	LimitConnectionsPerAddress Limit = "connectionsPerAddress"
	LimitStreams               Limit = "streams"
	LimitStreamsPerAddress     Limit = "streamsPerAddress"
	LimitStreamsPerUser        Limit = "streamsPerUser"
	LimitTransfers             Limit = "transfers"
	LimitTransfersPerAddress   Limit = "transfersPerAddress"
)

// Limits is what one process allows. Zero means any number.
type Limits struct {
	// Streams that are open at once, the feeds of servers apart.
	Streams, StreamsPerAddress, StreamsPerUser int
	// Transfers are the uploads and downloads under way at once. Each has a file open.
	Transfers, TransfersPerAddress int
}

// fullRetry is after how many seconds a caller whom the server has no place for
// tries again. Places are freed as others go.
const fullRetry = 5

// Why a connection is refused. Any call may meet it, so both have the status that
// any call may have.
var (
	ErrServerFull         = full(newProblem(http.StatusServiceUnavailable, "server_full", "The server has as many connections and streams as it takes."))
	ErrTooManyConnections = full(newProblem(http.StatusServiceUnavailable, "too_many_connections", "There are too many connections from this address."))
)

var errTooManyStreams = full(newProblem(http.StatusTooManyRequests, "too_many_streams", "There are too many streams of this user or from this address."))

func full(p *problem) *problem {
	p.retryAfter = fullRetry
	return p
}

// met tells whoever looks after the server that a request met a limit.
func (a *api) met(r *http.Request, limit Limit) {
	if a.Limited != nil {
		a.Limited(limit, a.clientGroup(r))
	}
}

// takeStream takes the slot of a session's stream. A stream that takes the place of
// the session's older one meets no limit: the older one may be lost, and nobody
// knows yet. Errors: server_full, too_many_streams.
func (a *api) takeStream(r *http.Request, session room.Session) (free func(), err error) {
	free, met := a.streams.take(a.clientGroup(r), session.User.ID, a.Hub.Has(session.ID))
	switch met {
	case inAll:
		a.met(r, LimitStreams)
		return nil, ErrServerFull
	case perAddress:
		a.met(r, LimitStreamsPerAddress)
		return nil, errTooManyStreams
	case perUser:
		a.met(r, LimitStreamsPerUser)
		return nil, errTooManyStreams
	default:
		return free, nil
	}
}

// takeTransfer takes the slot of an upload or a download. Errors: server_full,
// too_many_connections.
func (a *api) takeTransfer(r *http.Request) (free func(), err error) {
	free, met := a.transfers.take(a.clientGroup(r), "", false)
	switch met {
	case inAll:
		a.met(r, LimitTransfers)
		return nil, ErrServerFull
	case perAddress:
		a.met(r, LimitTransfersPerAddress)
		return nil, ErrTooManyConnections
	default:
		return free, nil
	}
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
