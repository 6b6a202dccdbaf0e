package handlers

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"parlor/room"
)

// Limit is the name of a limit, as it appears in metrics.
type Limit string

// The limits that a caller may reach.
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
	LimitInboxChanges     Limit = "inboxChanges"
	LimitStatuses         Limit = "statuses"
	LimitProfiles         Limit = "profiles"
)

// RateLimits are the limits on how often something may be done.
var RateLimits = []Limit{
	LimitMessages, LimitBarrage, LimitBarrageBytes, LimitLogins, LimitLoginsPerAddress, LimitRoomsCreated, LimitJoins, LimitAttributes,
	LimitInboxChanges,
	LimitStatuses,
	LimitProfiles,
}

// Limits are the limits of one process. 0 means no limit.
type Limits struct {
	// The numbers of streams that are open at once, without the feeds of servers.
	Streams, StreamsPerAddress, StreamsPerUser int
	// The numbers of uploads and downloads in progress at once. Each has a file open.
	Transfers, TransfersPerAddress int
}

// fullRetryAfter is after how many seconds a caller may retry when all slots are in use.
const fullRetryAfter = 5

// The errors for a refused connection. Any call may get them, so they have a status that every call
// may return.
var (
	ErrServerFull         = retryWhenFull(newProblem(http.StatusServiceUnavailable, "server_full", "The server accepts no more connections and streams: try again after Retry-After seconds."))
	ErrTooManyConnections = retryWhenFull(newProblem(http.StatusServiceUnavailable, "too_many_connections", "There are too many connections from this address: close some, or try again after Retry-After seconds."))
)

var errTooManyStreams = retryWhenFull(newProblem(http.StatusTooManyRequests, "too_many_streams", "There are too many open streams of this user or from this address: close some, or try again after Retry-After seconds."))

func retryWhenFull(p *problem) *problem {
	p.retryAfter = fullRetryAfter
	return p
}

// The errors of the rate limits.
var (
	errTooManyMessages     = newProblem(http.StatusTooManyRequests, "too_many_messages", "The user sends too many messages: wait Retry-After seconds.")
	errTooMuchBarrage      = newProblem(http.StatusTooManyRequests, "too_much_barrage", "The user sends too much barrage: discard some, or wait Retry-After seconds.")
	errTooManyLogins       = newProblem(http.StatusTooManyRequests, "too_many_logins", "There are too many logins of this user or from this address: wait Retry-After seconds.")
	errTooManyRoomsCreated = newProblem(http.StatusTooManyRequests, "too_many_rooms_created", "The user creates too many rooms: wait Retry-After seconds.")
	errTooManyJoins        = newProblem(http.StatusTooManyRequests, "too_many_joins", "The user joins and leaves rooms too often: wait Retry-After seconds.")
	errTooManyInboxChanges = newProblem(http.StatusTooManyRequests, "too_many_inbox_changes", "The user changes conversations or the block list too often: wait Retry-After seconds.")
	errTooManyStatuses     = newProblem(http.StatusTooManyRequests, "too_many_status_changes", "The user changes the status or subscribes to statuses too often: wait Retry-After seconds.")
	errTooManyProfiles     = newProblem(http.StatusTooManyRequests, "too_many_profile_changes", "The user changes the profile too often: wait Retry-After seconds.")
	errTooManyAttributes   = newProblem(http.StatusTooManyRequests, "too_many_attribute_changes", "The user changes attributes or settings too often: wait Retry-After seconds.")
)

// userLimiter limits how often a user does something. fault is the error for a user that is too
// fast.
type userLimiter struct {
	*limiter[room.UserID]
	fault *problem
}

// rates are the rate limiters of one process.
type rates struct {
	messages, barrage, barrageBytes, logins, roomsCreated, joins, attributes, inboxChanges,
	statuses, profiles userLimiter

	loginsPerAddress *limiter[netip.Prefix]
	// retries limits how many retries of stored messages are answered without counting as messages.
	retries *limiter[room.UserID]
}

// retryRate returns the limit on retries of stored messages, which do not count as messages. Each
// costs the server about as much as a message, so there must be one.
func retryRate(messages Rate) Rate {
	if messages.Count > 0 {
		messages.Count = max(100, 10*messages.Count)
	}
	return messages
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
		inboxChanges:     ofUsers(LimitInboxChanges, r.InboxChanges, "", errTooManyInboxChanges),
		statuses:         ofUsers(LimitStatuses, r.Statuses, "", errTooManyStatuses),
		profiles:         ofUsers(LimitProfiles, r.Profiles, "", errTooManyProfiles),
		loginsPerAddress: newLimiter[netip.Prefix](LimitLoginsPerAddress, r.LoginsPerAddress, ""),
		retries:          newLimiter[room.UserID](LimitMessages, retryRate(r.Messages), ""),
	}
}

// takeTokens takes tokens from a user's bucket. It fails with the limiter's fault if there are not
// enough.
func (a *api) takeTokens(w http.ResponseWriter, r *http.Request, l userLimiter, user room.UserID, n int) error {
	if l.allow(w, user, n) {
		return nil
	}
	a.reportLimit(r, l.limit)
	return l.fault
}

// checkLoginRate takes a token for a login from the bucket of the client's address. It runs before
// the token is verified, so the user is not known yet. Errors: too_many_logins.
func (a *api) checkLoginRate(w http.ResponseWriter, r *http.Request) error {
	l := a.rates.loginsPerAddress
	from := a.clientGroup(r)
	if l.rate.Count == 0 || !from.IsValid() {
		return nil
	}
	if _, wait := l.take(from, 1, time.Now()); wait > 0 { // no RateLimit header, which would reveal how busy an address is
		w.Header().Set("Retry-After", strconv.Itoa(seconds(wait)))
		a.reportLimit(r, l.limit)
		return errTooManyLogins
	}
	return nil
}

// checkRoomCreationRate takes a token for a room that a call may create. After the call, done must
// be called with whether it created the room; if not, done refunds the token. A user without a
// token may still join a room that exists. Errors: too_many_rooms_created, and those of Store.Room.
func (a *api) checkRoomCreationRate(w http.ResponseWriter, r *http.Request, user room.UserID, id room.RoomID) (done func(created bool), err error) {
	l := a.rates.roomsCreated
	if l.allow(w, user, 1) {
		return func(created bool) {
			if !created {
				l.refund(user)
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

// reportLimit calls Options.Limited for a request that has reached a limit.
func (a *api) reportLimit(r *http.Request, limit Limit) {
	if a.Limited != nil {
		a.Limited(limit, a.clientGroup(r))
	}
}

// acquireStream acquires a slot for a session's stream. No limit applies to a stream that replaces
// the session's older one, whose connection may be lost without the server having noticed. Errors:
// server_full, too_many_streams.
func (a *api) acquireStream(r *http.Request, session room.Session) (release func(), err error) {
	return a.acquireSlot(r, a.streams, session.User.ID, a.Hub.HasStream(session.ID))
}

// acquireTransfer acquires a slot for an upload or a download. Errors: server_full,
// too_many_connections.
func (a *api) acquireTransfer(r *http.Request) (release func(), err error) {
	return a.acquireSlot(r, a.transfers, "", false)
}

func (a *api) acquireSlot(r *http.Request, s *slots, user room.UserID, replaces bool) (release func(), err error) {
	release, reached := s.acquire(a.clientGroup(r), user, replaces)
	if reached != nil {
		a.reportLimit(r, reached.limit)
		return nil, reached.fault
	}
	return release, nil
}

// rejectRefusedConnection answers a request on a connection that is over a limit with the error,
// and closes the connection.
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
