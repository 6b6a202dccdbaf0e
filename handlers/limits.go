package handlers

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

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

	LimitMessages         Limit = "messages"
	LimitBarrage          Limit = "barrage"
	LimitBarrageBytes     Limit = "barrageBytes"
	LimitLogins           Limit = "logins"
	LimitLoginsPerAddress Limit = "loginsPerAddress"
	LimitRoomsCreated     Limit = "roomsCreated"
	LimitJoins            Limit = "joins"
	LimitAttributes       Limit = "attributes"
)

// RateLimits is the limits of how often something may be done.
var RateLimits = []Limit{
	LimitMessages, LimitBarrage, LimitBarrageBytes, LimitLogins, LimitLoginsPerAddress, LimitRoomsCreated, LimitJoins, LimitAttributes,
}

// Limits is what one process allows. Zero means any number.
type Limits struct {
	// Streams that are open at once, the feeds of servers apart.
	Streams, StreamsPerAddress, StreamsPerUser int
	// Transfers are the uploads and downloads under way at once. Each has a file open.
	Transfers, TransfersPerAddress int
}

// fullRetryAfter is after how many seconds a caller whom the server has no place for
// tries again. Places are freed as others go.
const fullRetryAfter = 5

// Why a connection is refused. Any call may meet it, so both have the status that
// any call may have.
var (
	ErrServerFull         = retryWhenFull(newProblem(http.StatusServiceUnavailable, "server_full", "The server accepts no more connections and streams: try again after Retry-After seconds."))
	ErrTooManyConnections = retryWhenFull(newProblem(http.StatusServiceUnavailable, "too_many_connections", "There are too many connections from this address: close some, or try again after Retry-After seconds."))
)

var errTooManyStreams = retryWhenFull(newProblem(http.StatusTooManyRequests, "too_many_streams", "There are too many open streams of this user or from this address: close some, or try again after Retry-After seconds."))

func retryWhenFull(p *problem) *problem {
	p.retryAfter = fullRetryAfter
	return p
}

// What callers who are too fast are told.
var (
	errTooManyMessages     = newProblem(http.StatusTooManyRequests, "too_many_messages", "The user sends too many messages: wait Retry-After seconds.")
	errTooMuchBarrage      = newProblem(http.StatusTooManyRequests, "too_much_barrage", "The user sends too much barrage: discard some, or wait Retry-After seconds.")
	errTooManyLogins       = newProblem(http.StatusTooManyRequests, "too_many_logins", "There are too many logins of this user or from this address: wait Retry-After seconds.")
	errTooManyRoomsCreated = newProblem(http.StatusTooManyRequests, "too_many_rooms_created", "The user creates too many rooms: wait Retry-After seconds.")
	errTooManyJoins        = newProblem(http.StatusTooManyRequests, "too_many_joins", "The user joins and leaves rooms too often: wait Retry-After seconds.")
	errTooManyAttributes   = newProblem(http.StatusTooManyRequests, "too_many_attribute_changes", "The user changes attributes too often: wait Retry-After seconds.")
)

// userLimiter limits what a user does. fault is what a caller is told who is too fast.
type userLimiter struct {
	*limiter[room.UserID]
	fault *problem
}

// rates is the limiters of one process.
type rates struct {
	messages, barrage, barrageBytes, logins, roomsCreated, joins, attributes userLimiter
	loginsPerAddress                                                         *limiter[netip.Prefix]
}

func newRates(r Rates) rates {
	ofUsers := func(limit Limit, rate Rate, unit string, fault *problem) userLimiter {
		return userLimiter{newLimiter[room.UserID](limit, rate, unit), fault}
	}
	return rates{
		messages:         ofUsers(LimitMessages, r.Messages, "", errTooManyMessages),
		barrage:          ofUsers(LimitBarrage, r.Barrage, "", errTooMuchBarrage),
		barrageBytes:     ofUsers(LimitBarrageBytes, r.BarrageBytes, "content-bytes", errTooMuchBarrage),
		logins:           ofUsers(LimitLogins, r.Logins, "", errTooManyLogins),
		roomsCreated:     ofUsers(LimitRoomsCreated, r.RoomsCreated, "", errTooManyRoomsCreated),
		joins:            ofUsers(LimitJoins, r.Joins, "", errTooManyJoins),
		attributes:       ofUsers(LimitAttributes, r.Attributes, "", errTooManyAttributes),
		loginsPerAddress: newLimiter[netip.Prefix](LimitLoginsPerAddress, r.LoginsPerAddress, ""),
	}
}

// takeTokens takes tokens of a user's bucket, and fails with the limiter's fault where
// there are not enough.
func (a *api) takeTokens(w http.ResponseWriter, r *http.Request, l userLimiter, user room.UserID, n int) error {
	if l.allow(w, user, n) {
		return nil
	}
	a.reportLimit(r, l.limit)
	return l.fault
}

// checkLoginRate fails with too_many_logins where there are too many from an address.
// Which user it is nobody knows yet.
func (a *api) checkLoginRate(w http.ResponseWriter, r *http.Request) error {
	l := a.rates.loginsPerAddress
	from := a.clientGroup(r)
	if l.rate.Count == 0 || !from.IsValid() {
		return nil
	}
	if _, wait := l.take(from, 1, time.Now()); wait > 0 { // how busy an address is, is nobody's business
		w.Header().Set("Retry-After", strconv.Itoa(seconds(wait)))
		a.reportLimit(r, l.limit)
		return errTooManyLogins
	}
	return nil
}

// checkRoomCreationRate takes a token for a room that a call may create, and returns what is to
// be told whether it did. A user without tokens may still enter rooms that are
// there. Errors: too_many_rooms_created, and those of Store.Room.
func (a *api) checkRoomCreationRate(w http.ResponseWriter, r *http.Request, user room.UserID, id room.RoomID) (done func(created bool), err error) {
	l := a.rates.roomsCreated
	if l.allow(w, user, 1) {
		return func(created bool) {
			if !created {
				l.give(user)
			}
		}, nil
	}
	_, err = a.Store.Room(r.Context(), id)
	switch {
	case errors.Is(err, room.ErrRoomNotFound):
		a.reportLimit(r, l.limit)
		return nil, l.fault
	case err != nil:
		return nil, err
	}
	w.Header().Del("Retry-After")
	return func(bool) {}, nil
}

// reached tells whoever looks after the server that a request met a limit.
func (a *api) reportLimit(r *http.Request, limit Limit) {
	if a.Limited != nil {
		a.Limited(limit, a.clientGroup(r))
	}
}

// acquireStream takes the slot of a session's stream. A stream that takes the place of
// the session's older one meets no limit: the older one may be lost, and nobody
// knows yet. Errors: server_full, too_many_streams.
func (a *api) acquireStream(r *http.Request, session room.Session) (free func(), err error) {
	return a.acquireSlot(r, a.streams, session.User.ID, a.Hub.HasStream(session.ID))
}

// acquireTransfer takes the slot of an upload or a download. Errors: server_full,
// too_many_connections.
func (a *api) acquireTransfer(r *http.Request) (free func(), err error) {
	return a.acquireSlot(r, a.transfers, "", false)
}

func (a *api) acquireSlot(r *http.Request, s *slots, user room.UserID, instead bool) (free func(), err error) {
	free, met := s.acquire(a.clientGroup(r), user, instead)
	if met != nil {
		a.reportLimit(r, met.limit)
		return nil, met.fault
	}
	return free, nil
}

// rejectRefusedConnection answers what comes over a connection for which there is no
// place. Its client is told so; then the connection ends.
func (a *api) rejectRefusedConnection(next http.Handler) http.Handler {
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
