package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// statusUsers returns a query that names users.
func statusUsers(users ...string) string { return "?" + url.Values{"userID": users}.Encode() }

// statuses returns the statuses of users as the client sees them, in short form.
func (c *client) statuses(users ...string) string {
	c.Helper()
	return shortStatuses(as[struct{ StatusList []room.UserStatus }](c.call("GET", "/v1/statuses"+statusUsers(users...), nil).is(http.StatusOK)).StatusList)
}

func shortStatuses(list []room.UserStatus) string {
	var short []string
	for _, s := range list {
		short = append(short, fmt.Sprintf("%s=%s%s", s.User, s.State, s.CustomStatus))
	}
	return strings.Join(short, " ")
}

type subscribed struct {
	ExpiresAt     room.Instant
	StatusList    []room.UserStatus
	ErrorUserList []string
}

func (c *client) subscribe(users ...string) subscribed {
	c.Helper()
	return as[subscribed](c.call("POST", "/v1/status-subscriptions", object{"userIDs": users, "durationSeconds": 3600}).is(http.StatusOK))
}

type subscriptionPage struct {
	SubscriptionList []room.StatusSubscription
	NextCursor       string
}

func (p subscriptionPage) users() (ids []string) {
	for _, s := range p.SubscriptionList {
		ids = append(ids, string(s.User))
	}
	return ids
}

func (c *client) subscriptions(query string) subscriptionPage {
	c.Helper()
	return as[subscriptionPage](c.call("GET", "/v1/status-subscriptions"+query, nil).is(http.StatusOK))
}

// TestStatusesAreDelivered: each session of a subscriber learns of each change of a user's status,
// until the subscription ends, and a later status has a later time wherever it comes from.
func TestStatusesAreDelivered(t *testing.T) {
	t.Parallel()
	s := newClockedService(t)
	bob := s.login("bob")
	phone := s.loginWith(s.token("host", 1000*time.Hour))
	onPhone, _ := phone.listen()
	if got := s.host.subscribe("bob", "nobody"); shortStatuses(got.StatusList) != "bob=online" || !slices.Equal(got.ErrorUserList, []string{"nobody"}) {
		t.Errorf("subscribed: %+v", got)
	}
	latest := room.Instant(0)
	expectStatus := func(want string) {
		t.Helper()
		s.sweepUntilEvent(s.hostStream)
		for _, on := range []*stream{s.hostStream, onPhone} {
			list := expect[room.StatusesUpdated](on).StatusList
			if got := shortStatuses(list); got != want {
				t.Fatalf("received %q, want %q", got, want)
			}
			if on == onPhone {
				continue
			}
			if list[0].UpdatedAt <= latest {
				t.Errorf("the status of %s is followed by that of %s", latest, list[0].UpdatedAt)
			}
			latest = list[0].UpdatedAt
		}
		if got := phone.statuses("bob"); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
		if list := s.host.subscriptions("").SubscriptionList; len(list) != 1 || list[0].UpdatedAt != latest || shortStatuses([]room.UserStatus{list[0].UserStatus}) != want {
			t.Errorf("listed %+v, want %q", list, want)
		}
	}
	bob.call("PUT", "/v1/status", object{"customStatus": " ☕"}).is(http.StatusNoContent)
	expectStatus("bob=online ☕")
	bobStream, _ := bob.listen()
	bobStream.disconnect()
	eventually(t, "bob is detached", func() bool { return bob.state() == "detached" })
	s.clockOffset.Add(int64(room.OfflineAfter))
	expectStatus("bob=offline ☕")
	bob.listen()
	expectStatus("bob=online ☕")
	bob.call("PUT", "/v1/status", object{}).is(http.StatusNoContent)
	expectStatus("bob=online")
	bob.logout()
	expectStatus("bob=loggedOut")
	bob = s.loginWith(s.freshToken("bob"))
	expectStatus("bob=online")
	s.admin().call("DELETE", "/v1/admin/users/bob/sessions", nil).is(http.StatusOK)
	expectStatus("bob=offline")

	phone.call("DELETE", "/v1/status-subscriptions"+statusUsers("bob", "nobody"), nil).is(http.StatusNoContent)
	if list := s.host.subscriptions("").SubscriptionList; len(list) != 0 {
		t.Errorf("listed %+v", list)
	}
	s.loginWith(s.freshToken("bob"))
	s.sweep()
	s.host.fence()
	if e := s.hostStream.next(); !fenceBegins(e) {
		t.Errorf("after the end of the subscription: %s %s", e.Type, e.Data)
	}
}

// TestMissedStatusesAreDelivered: a client whose stream was lost, or that polls, gets the statuses that
// were published meanwhile, and a poll ends for no other.
func TestMissedStatusesAreDelivered(t *testing.T) {
	t.Parallel()
	s := newClockedService(t)
	bob, carol := s.login("bob"), s.login("carol")
	s.host.subscribe("bob", "carol")
	set := func(c *client, text string) {
		t.Helper()
		c.call("PUT", "/v1/status", object{"customStatus": text}).is(http.StatusNoContent)
		s.sweep()
	}
	set(bob, "1")
	if got := shortStatuses(expect[room.StatusesUpdated](s.hostStream).StatusList); got != "bob=online1" {
		t.Fatalf("received %q", got)
	}
	s.hostStream.disconnect()
	eventually(t, "the host is detached", func() bool { return s.host.state() == "detached" })
	s.clockOffset.Add(int64(2 * time.Minute)) // the status of bob was received
	set(carol, "2")
	set(bob, "3")
	onStream, _ := s.host.listen(resume(s.hostStream.id))
	if got := shortStatuses(expect[room.StatusesUpdated](onStream).StatusList); got != "bob=offline3 carol=offline2" {
		t.Errorf("after the stream was lost: received %q", got)
	}
	onStream.disconnect()

	poll := &poller{client: s.host, cursor: onStream.id}
	eventually(t, "the host is detached", func() bool { return s.host.state() == "detached" })
	set(carol, "4")
	if got := poll.poll("60"); got.types() != string(room.TypeStatusesUpdated) || !strings.Contains(string(got.Events[0].Data), `"customStatus":"4"`) || strings.Contains(string(got.Events[0].Data), "bob") {
		t.Errorf("polled %+v", got)
	}
	eventually(t, "the host is detached", func() bool { return s.host.state() == "detached" })
	if got := poll.poll("1"); len(got.Events) != 0 {
		t.Errorf("polled again: %+v", got)
	}
}

// TestStatusSubscriptionPages: pages have every subscription once.
func TestStatusSubscriptionPages(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.store.StatusSubscriptions = 4 })
	alice := s.login("alice")
	users := []string{"a/b 100%", "alice", "bob", "~"}
	for _, user := range users {
		s.login(room.UserID(user))
	}
	s.login("more")
	alice.subscribe(users...)
	alice.call("POST", "/v1/status-subscriptions", object{"userIDs": []string{"bob", "more"}, "durationSeconds": 60}).
		refused(http.StatusConflict, "status_subscription_limit")
	for limit := 1; limit <= 5; limit++ {
		var all []string
		for cursor := ""; ; {
			page := alice.subscriptions(fmt.Sprintf("?limit=%d%s", limit, cursor))
			all = append(all, page.users()...)
			if page.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + page.NextCursor
		}
		if !slices.Equal(all, users) {
			t.Errorf("pages of %d have %q", limit, all)
		}
	}
	if got := alice.subscriptions(statusUsers("~", "more", "alice", "~")).users(); !slices.Equal(got, []string{"alice", "~"}) {
		t.Errorf("looked up %q", got)
	}
	if got := alice.statuses("~", "more", "nobody", "~", "alice"); got != "~=online more=online nobody=unknown alice=online" {
		t.Errorf("read %q", got)
	}
}

// TestStatusBadInput: each bad input gets a reply that says what is wrong.
func TestStatusBadInput(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	const most = 100
	many := make([]string, most+1)
	for i := range many {
		many[i] = fmt.Sprint("user", i)
	}
	for _, path := range []string{"/v1/statuses", "/v1/status-subscriptions"} {
		method := map[string]string{"/v1/statuses": "GET", "/v1/status-subscriptions": "DELETE"}[path]
		alice.call(method, path, nil).invalid("query/userID", "required")
		alice.call(method, path+"?userID=", nil).invalid("query/userID", "userID")
		alice.call(method, path+statusUsers("ok", " no"), nil).invalid("query/userID", "userID")
		alice.call(method, path+statusUsers(many...), nil).invalid("query/userID", "max")
		alice.call(method, path+"?userID=a&limit=1", nil).invalid("query/limit", "unknown")
	}
	if got := alice.statuses(many[1:]...); strings.Count(got, "=unknown") != most {
		t.Errorf("read %q", got)
	}
	for _, cursor := range []string{"", "!", "IA", "YQ=", "YR"} { // no ID, not base64, a space, padded, not canonical
		alice.call("GET", "/v1/status-subscriptions?cursor="+cursor, nil).invalid("query/cursor", "cursor")
	}
	alice.call("GET", "/v1/status-subscriptions?userID=a&limit=1", nil).invalid("query/limit", "exclusive")
	alice.call("PUT", "/v1/status", object{"customStatus": strings.Repeat("é", room.MaxCustomStatusBytes/2)}).is(http.StatusNoContent)
	alice.call("PUT", "/v1/status", object{"customStatus": strings.Repeat("é", room.MaxCustomStatusBytes/2) + "x"}).invalid("/customStatus", "maxBytes")
	for _, seconds := range []int{60, 30 * 24 * 3600} {
		alice.call("POST", "/v1/status-subscriptions", object{"userIDs": many[1:], "durationSeconds": seconds}).is(http.StatusOK)
	}
}

// TestStatusGrants: a token with grants sees the statuses of the users to whom it may send messages,
// and those of its own user.
func TestStatusGrants(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Rates = handlers.Rates{} })
	for _, user := range []room.UserID{"bob", "carol"} {
		s.login(user)
	}
	alice := s.loginWith(s.signed(set("peers", []string{"b*"})))
	if got := alice.statuses("carol", "bob", "alice"); got != "carol=unknown bob=online alice=online" {
		t.Errorf("read %q", got)
	}
	if got := alice.subscribe("carol", "bob"); shortStatuses(got.StatusList) != "bob=online" || !slices.Equal(got.ErrorUserList, []string{"carol"}) {
		t.Errorf("subscribed: %+v", got)
	}
	restricted := s.loginWith(s.signed(set("rooms", []object{{"roomID": "lobby", "join": true}})))
	if got := restricted.subscribe("bob"); len(got.StatusList) != 0 {
		t.Errorf("subscribed: %+v", got)
	}
	if got := restricted.subscriptions("").users(); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("the user's subscriptions: %q", got)
	}
}
