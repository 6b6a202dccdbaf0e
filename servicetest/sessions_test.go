package servicetest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestSessionIsDetachedUnlessItsStreamIsOpen(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	if got := alice.state(); got != "detached" {
		t.Errorf("before its stream opens, the session is %s", got)
	}
	stream, ready := alice.listen()
	if ready.SessionID != alice.SessionID || ready.Resumed || len(ready.Rooms) != 0 {
		t.Errorf("the stream begins with %+v", ready)
	}
	if got := alice.state(); got != "online" {
		t.Errorf("with an open stream, the session is %s", got)
	}
	stream.disconnect()
	eventually(t, "the session is detached", func() bool { return alice.state() == "detached" })
}

func TestCreateSession(t *testing.T) {
	t.Parallel()
	s := newService(t)
	named, err := s.tokens.Sign(room.User{ID: "alice", Name: "Alice in the token"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, token, asked, want string
	}{
		{"the userID", s.token("alice", time.Hour), "", "alice"},
		{"the token's name", named, "", "Alice in the token"},
		{"the name that was asked for", named, "Alice", "Alice"},
	} {
		body := object{"token": c.token, "device": "phone"}
		if c.asked != "" {
			body["userName"] = c.asked
		}
		got := as[session](s.anonymous().call("POST", "/v1/sessions", body).is(http.StatusCreated))
		if got.UserName != c.want || got.UserID != "alice" {
			t.Errorf("%s: the session belongs to %s, %s", c.what, got.UserID, got.UserName)
		}
		if got.Limits.TextBytes != room.MaxTextBytes || got.Limits.Rooms != room.DefaultRoomsPerUser ||
			got.Limits.ExtendedDataBytes != room.MaxExtendedDataBytes || got.Limits.HeartbeatSeconds != 10 {
			t.Errorf("limits are %+v", got.Limits)
		}
		if left := time.Until(got.TokenExpiresAt); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the session's token expires after %s", left)
		}
		c := s.anonymous().withKey(got.SessionKey)
		seen := as[struct {
			Session struct {
				session
				Device string
			}
		}](c.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)).Session
		if seen.SessionID != got.SessionID || seen.UserName != got.UserName || seen.Device != "phone" ||
			!seen.TokenExpiresAt.Equal(got.TokenExpiresAt) {
			t.Errorf("getSession returned %+v, want %+v", seen, got)
		}
	}
}

// TestClientsLearnHeartbeat checks that the login and every stream say the interval: a client that
// resumes a session has no login reply, or one from before the operator changed the interval.
func TestClientsLearnHeartbeat(t *testing.T) {
	t.Parallel()
	const heartbeat = 60*time.Second + time.Millisecond
	s := newService(t, func(c *setup) { c.api.Heartbeat, c.hub.Heartbeat = heartbeat, heartbeat })
	c := s.login("alice")
	if got := c.Limits.HeartbeatSeconds; got != 61 {
		t.Errorf("the heartbeat is every %d s by the login, want 61", got)
	}
	for range 2 {
		if _, ready := c.listen(); ready.HeartbeatSeconds != 61 {
			t.Errorf("the heartbeat is every %d s by sessionReady, want 61", ready.HeartbeatSeconds)
		}
	}
}

func TestSessionKeysAreSecrets(t *testing.T) {
	t.Parallel()
	s := newService(t)
	one, two := s.login("alice"), s.login("alice")
	keys := []string{one.SessionKey, one.streamKey(), two.SessionKey, two.streamKey()}
	slices.Sort(keys)
	if len(slices.Compact(keys)) != 4 {
		t.Error("two of the keys are the same")
	}
	for _, c := range []*client{one, two} {
		if !strings.HasPrefix(c.SessionKey, "sk_") || !strings.HasPrefix(c.streamKey(), "ek_") {
			t.Errorf("the keys lack their prefixes: %.3s, %.3s", c.SessionKey, c.streamKey())
		}
	}
}

func TestStreamURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		publicURL, want string
	}{
		{"", "http://parlor.test:80/v1/events?stream_key=ek_"},
		{"https://example.com/chat", "https://example.com/chat/v1/events?stream_key=ek_"},
		{"https://example.com/", "https://example.com/v1/events?stream_key=ek_"},
	} {
		s := newService(t, func(s *setup) { s.api.PublicURL = c.publicURL })
		r := s.anonymous().call("POST", "/v1/sessions", object{"token": s.token("alice", time.Hour)},
			func(r *http.Request) { r.Host = "parlor.test:80" })
		if got := as[session](r.is(http.StatusCreated)).StreamURL; !strings.HasPrefix(got, c.want) {
			t.Errorf("with the public URL %q streamURL is %s", c.publicURL, got)
		}
	}
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	aliceStream, _ := alice.listen()
	bobStream, _ := bob.listen()
	expect[room.MembersJoined](aliceStream)

	alice.logout()

	if got := aliceStream.state(); got != "disconnected loggedOut" {
		t.Errorf("alice's state event is %s", got)
	}
	if got := expect[room.ConnectionStateChanged](aliceStream); got.Event != room.ConnectionLoggedOut {
		t.Errorf("the stream ends with %+v", got)
	}
	aliceStream.end()
	left := expect[room.MembersLeft](bobStream).MemberList
	want := []room.LeftMember{{User: room.User{ID: "alice", Name: "alice"}, Reason: room.ReasonLoggedOut}}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("membersLeft of the other members (-want +got):\n%s", diff)
	}
	alice.call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "session_ended")
	alice.call("DELETE", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "session_ended")
	alice.call("GET", "/v1/events", nil).refused(http.StatusUnauthorized, "session_ended")
	s.anonymous().call("GET", alice.StreamURL, nil).refused(http.StatusUnauthorized, "session_ended")
}

func TestRenewToken(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	stream, _ := alice.listen()

	later := s.token("alice", 2*time.Hour)
	got := as[session](alice.call("PUT", "/v1/sessions/current/token", object{"token": later}).is(http.StatusOK))
	if left := time.Until(got.TokenExpiresAt); left < 119*time.Minute {
		t.Errorf("the renewed token expires after %s", left)
	}
	seen := as[struct{ Session session }](alice.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)).Session
	if !seen.TokenExpiresAt.Equal(got.TokenExpiresAt) {
		t.Errorf("tokenExpiresAt is %s, want %s", seen.TokenExpiresAt, got.TokenExpiresAt)
	}
	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.token("bob", time.Hour)}).
		refused(http.StatusForbidden, "token_user_mismatch")
	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.token("alice", -time.Minute)}).
		refused(http.StatusUnauthorized, "token_expired")

	alice.enter("lobby") // its event must be the stream's next one
	if got := stream.state(); got != "connecting enter" {
		t.Errorf("the stream's next event is %s", got)
	}
}

// TestTokenExpires lets the token of one session expire, while another session of the user renews
// its token in time.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := newService(t)
	bob := s.login("bob")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	token := s.token("alice", 5*time.Second)
	lost, kept := s.loginWith(token), s.loginWith(token)
	lost.enter("lobby")
	kept.enter("cellar")
	expect[room.MembersJoined](bobStream)
	losing, _ := lost.listen()
	keeping, _ := kept.listen()

	for _, stream := range []*stream{losing, keeping} {
		if left := expect[room.TokenWillExpire](stream).SecondsLeft; left < 0 || left > 5 {
			t.Errorf("the event says that the token expires in %d s", left)
		}
	}
	kept.call("PUT", "/v1/sessions/current/token", object{"token": s.token("alice", time.Hour)}).is(http.StatusOK)
	if got := expect[room.ConnectionStateChanged](losing); got.Event != room.ConnectionTokenExpired {
		t.Errorf("the stream ends with %+v", got)
	}
	losing.end()
	lost.call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "token_expired")
	lost.call("GET", "/v1/events", nil).refused(http.StatusUnauthorized, "token_expired")
	lost.call("PUT", "/v1/sessions/current/token", object{"token": s.token("alice", time.Hour)}).
		refused(http.StatusUnauthorized, "token_expired")

	s.sweepUntilEvent(bobStream)
	if left := expect[room.MembersLeft](bobStream).MemberList; left[0].ID != "alice" || left[0].Reason != room.ReasonTokenExpired {
		t.Errorf("membersLeft lists %+v", left)
	}
	lost.call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "token_expired")
	kept.send("cellar", "still here")
	if got := keeping.text(); got != "still here" {
		t.Errorf("the stream of the renewed session received %q", got)
	}
}
