package handlers

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	"parlor/room"
)

// statusStore has the store methods for the statuses of users.
type statusStore interface {
	Statuses(ctx context.Context, by room.UserID, users []room.UserID) ([]room.UserStatus, error)
	UpdateStatus(ctx context.Context, session room.Session, custom string) error
	SubscribeStatuses(ctx context.Context, by room.UserID, users []room.UserID, duration time.Duration) (until time.Time, statuses []room.UserStatus, err error)
	UnsubscribeStatuses(ctx context.Context, by room.UserID, users []room.UserID) error
	StatusSubscriptions(ctx context.Context, by, after room.UserID, n int) ([]room.StatusSubscription, error)
	MissedStatuses(ctx context.Context, by room.UserID, since time.Time) ([]room.UserStatus, error)
	StatusSubscriptionsTo(ctx context.Context, by room.UserID, users []room.UserID) ([]room.StatusSubscription, error)
}

const (
	defaultSubscriptionPage = 100
	maxSubscriptionPage     = 500
)

// statusOverlap is how long before the end of its last stream a client may have missed events, because
// the loss of its network is noticed late.
const statusOverlap = time.Minute

// missedStatuses returns what tells a stream the statuses that its client may have missed, or nil if
// there are none. Between two polls nothing is lost, and statuses that the client knows would end a
// poll at once, so for polls there is no overlap.
func (a *api) missedStatuses(user room.UserID, since time.Time, polls bool) func(context.Context) ([]room.Body, error) {
	if since.IsZero() {
		return nil
	}
	if !polls {
		since = since.Add(-statusOverlap)
	}
	return func(ctx context.Context) (bodies []room.Body, err error) {
		statuses, err := a.Store.MissedStatuses(ctx, user, since)
		for list := range slices.Chunk(statuses, room.MaxStatusesPerEvent) {
			bodies = append(bodies, room.StatusesUpdated{StatusList: list})
		}
		return bodies, err
	}
}

type statusListReply struct {
	StatusList []room.UserStatus `json:"statusList"`
}

func (a *api) listStatuses(w http.ResponseWriter, r *http.Request, session room.Session) error {
	users, err := readUserIDs(r)
	if err != nil {
		return err
	}
	granted := slices.DeleteFunc(slices.Clone(users), func(id room.UserID) bool { return !maySee(session, id) })
	statuses, err := a.Store.Statuses(r.Context(), session.User.ID, granted)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, statusListReply{withHidden(users, statuses, a.Store.Now())})
}

// readUserIDs reads a query that names users, each once.
func readUserIDs(r *http.Request) ([]room.UserID, error) {
	q := readQuery(r, "userID"+repeatable)
	users := q.userIDs("userID")
	if !q.has("userID") {
		q.fault("userID", "required", "is required")
	}
	seen := make(map[room.UserID]bool, len(users))
	users = slices.DeleteFunc(users, func(id room.UserID) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
	return users, q.err()
}

// maySee reports whether the session's token allows it to know the status of a user: if the token
// has grants, only that of users to whom it may send messages.
func maySee(session room.Session, id room.UserID) bool {
	return id == session.User.ID || session.Grants.CheckPeer(id) == nil
}

// withHidden returns statuses of all users: those that the store returned, and hidden ones for the
// others. Both lists are in the same order.
func withHidden(users []room.UserID, statuses []room.UserStatus, now time.Time) []room.UserStatus {
	all := make([]room.UserStatus, 0, len(users))
	for _, id := range users {
		if len(statuses) > 0 && statuses[0].User == id {
			all, statuses = append(all, statuses[0]), statuses[1:]
		} else {
			all = append(all, room.HiddenStatus(id, now))
		}
	}
	return all
}

type updateStatusRequest struct {
	CustomStatus string `json:"customStatus" validate:"maxBytes=128"`
}

func (a *api) updateStatus(w http.ResponseWriter, r *http.Request, session room.Session) error {
	var request updateStatusRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.statuses, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.UpdateStatus(r.Context(), session, request.CustomStatus); err != nil {
		return err
	}
	return noContent(w)
}

type subscribeStatusesRequest struct {
	UserIDs         []room.UserID `json:"userIDs" validate:"required,min=1,max=100,unique,dive,userID"`
	DurationSeconds room.Seconds  `json:"durationSeconds" validate:"required,min=60,max=2592000"`
}

type subscribeStatusesReply struct {
	ExpiresAt     room.Instant      `json:"expiresAt"`
	StatusList    []room.UserStatus `json:"statusList"`
	ErrorUserList []room.UserID     `json:"errorUserList"`
}

func (a *api) subscribeStatuses(w http.ResponseWriter, r *http.Request, session room.Session) error {
	var request subscribeStatusesRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.statuses, session.User.ID, 1); err != nil {
		return err
	}
	granted := slices.DeleteFunc(slices.Clone(request.UserIDs), func(id room.UserID) bool { return !maySee(session, id) })
	until, statuses, err := a.Store.SubscribeStatuses(r.Context(), session.User.ID, granted, request.DurationSeconds.Duration())
	if err != nil {
		return err
	}
	reply := subscribeStatusesReply{
		ExpiresAt: room.InstantOf(until), StatusList: []room.UserStatus{}, ErrorUserList: []room.UserID{},
	}
	for _, status := range withHidden(request.UserIDs, statuses, until) {
		if status.State == room.StatusUnknown {
			reply.ErrorUserList = append(reply.ErrorUserList, status.User)
		} else {
			reply.StatusList = append(reply.StatusList, status)
		}
	}
	return a.answer(w, r, http.StatusOK, reply)
}

func (a *api) unsubscribeStatuses(w http.ResponseWriter, r *http.Request, session room.Session) error {
	users, err := readUserIDs(r)
	if err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.statuses, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.UnsubscribeStatuses(r.Context(), session.User.ID, users); err != nil {
		return err
	}
	return noContent(w)
}

type statusSubscriptionListReply struct {
	SubscriptionList []room.StatusSubscription `json:"subscriptionList"`
	NextCursor       string                    `json:"nextCursor,omitempty"`
}

func (a *api) listStatusSubscriptions(w http.ResponseWriter, r *http.Request, session room.Session) error {
	q := readQuery(r, "limit", "cursor", "userID"+repeatable)
	limit := int(q.integer("limit", 1, maxSubscriptionPage, defaultSubscriptionPage))
	after, users := q.userCursor("cursor"), q.userIDs("userID")
	q.exclusive("userID", "limit", "cursor")
	if err := q.err(); err != nil {
		return err
	}
	if len(users) > 0 {
		list, err := a.Store.StatusSubscriptionsTo(r.Context(), session.User.ID, users)
		if err != nil {
			return err
		}
		return a.answer(w, r, http.StatusOK, statusSubscriptionListReply{SubscriptionList: list})
	}
	list, err := a.Store.StatusSubscriptions(r.Context(), session.User.ID, after, limit+1)
	if err != nil {
		return err
	}
	reply := statusSubscriptionListReply{SubscriptionList: list[:min(len(list), limit)]}
	if len(list) > limit {
		reply.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(list[limit-1].User))
	}
	return a.answer(w, r, http.StatusOK, reply)
}

// userCursor returns the user with whom the previous page of a list ended, or "" if there is no such
// parameter. A cursor is the ID in base64, so that clients treat it as opaque.
func (q *query) userCursor(name string) room.UserID {
	if !q.has(name) {
		return ""
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(q.values.Get(name))
	if err != nil || !room.UserID(text).Valid() {
		q.fault(name, "cursor", "must be a nextCursor of this list")
		return ""
	}
	return room.UserID(text)
}
