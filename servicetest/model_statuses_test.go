package servicetest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"parlor/room"
)

// offlineAfter is how long a user without a stream is online.
const offlineAfter = 30 * time.Second

// seenUser is what the reference model knows of the sessions of a user that have ended.
type seenUser struct {
	exists    bool
	until     time.Duration // when the user was online in them
	loggedOut bool          // of the one that was online last
}

// recordEnd records the end of a session.
func (w *referenceModel) recordEnd(v *modelSession, loggedOut bool) {
	until := v.detachedAt
	if v.online {
		until = w.now
	}
	if seen := w.seen[v.user]; until >= seen.until {
		seen.until, seen.loggedOut = until, loggedOut && w.now-until < offlineAfter
		w.seen[v.user] = seen
	}
}

// status returns the status of a user.
func (w *referenceModel) status(user room.UserID) string {
	seen := w.seen[user]
	if !seen.exists {
		return fmt.Sprintf("%s=unknown", user)
	}
	last, loggedOut := seen.until, seen.loggedOut
	for _, v := range w.sessions {
		switch {
		case v.user != user:
		case v.online, w.now-v.detachedAt < offlineAfter:
			return fmt.Sprintf("%s=online", user)
		case v.detachedAt > last:
			last, loggedOut = v.detachedAt, false
		}
	}
	if loggedOut {
		return fmt.Sprintf("%s=loggedOut since %v", user, last)
	}
	return fmt.Sprintf("%s=offline since %v", user, last)
}

// observer is a user outside of the reference model, who subscribes to all others.
type observer struct {
	*client
	stream *stream
	// received holds the newest status of each user.
	received map[room.UserID]room.UserStatus
}

func (m *model) newObserver() *observer {
	c := m.loginWith(m.token("observer", 1000*time.Hour))
	onStream, _ := c.listen()
	return &observer{client: c, stream: onStream, received: make(map[room.UserID]room.UserStatus)}
}

// watch subscribes the observer to a user.
func (m *model) watch(user room.UserID) {
	for _, status := range m.observer.subscribe(string(user)).StatusList {
		m.observer.received[user] = status
	}
}

// receive reads the events that the observer has been sent. Statuses that were published just now may
// come after the fence.
func (m *model) receive() {
	o := m.observer
	o.fence()
	for e := o.stream.next(); !fenceEnds(e); e = o.stream.next() {
		if e.Type != string(room.TypeStatusesUpdated) {
			continue
		}
		for _, status := range bodyOf[room.StatusesUpdated](m, e).StatusList {
			m.t.Logf("\tthe observer: %s is %s", status.User, status.State)
			if was := o.received[status.User]; status.UpdatedAt <= was.UpdatedAt || status.SameAs(was) {
				m.t.Fatalf("the observer received %+v after %+v", status, was)
			}
			o.received[status.User] = status
		}
	}
}

// compareStatuses compares the statuses as they are read, and after a sweep also those that were
// published, with the reference model.
func (m *model) compareStatuses(swept bool) {
	short := func(s room.UserStatus) string {
		text := fmt.Sprintf("%s=%s", s.User, s.State)
		if s.LastSeenAt != 0 {
			text += fmt.Sprint(" since ", s.LastSeenAt.Time().Sub(m.reference.began))
		}
		return text
	}
	names := make([]string, len(modelUsers))
	for i, user := range modelUsers {
		names[i] = string(user)
	}
	listed := as[subscriptionPage](m.observer.call("GET", "/v1/status-subscriptions", nil).is(http.StatusOK)).SubscriptionList
	for _, status := range as[struct{ StatusList []room.UserStatus }](m.observer.call("GET", "/v1/statuses"+statusUsers(names...), nil).is(http.StatusOK)).StatusList {
		want := m.reference.status(status.User)
		m.same("the status of "+string(status.User), want, short(status))
		i := slices.IndexFunc(listed, func(p room.StatusSubscription) bool { return p.User == status.User })
		if i < 0 {
			continue // the user does not exist
		}
		eventually(m, fmt.Sprintf("the observer receives %+v", listed[i].UserStatus), func() bool {
			m.receive()
			return m.observer.received[status.User].SameAs(listed[i].UserStatus)
		})
		if swept {
			m.same("the published status of "+string(status.User), want, short(listed[i].UserStatus))
		}
	}
}
