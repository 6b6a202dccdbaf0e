package servicetest

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// These tests check what a lost stream means to the session and to other members: a reconnect
// before the room's memberTimeout, one after it, and none at all.

// lossCase is a room in which a stream is lost.
type lossCase struct {
	what   string
	config object // the room's config
	// secondSession makes another session of the same user enter the room.
	secondSession bool
}

const (
	// memberTimeout and destroyDelay are settings of the rooms. Both are long, because real time
	// passes too while a test makes its calls on a slow machine.
	memberTimeout = 120 * time.Second
	destroyDelay  = 120 * time.Second
)

var losses = []lossCase{
	{what: "in an ordinary room", config: object{"memberTimeout": int(memberTimeout.Seconds())}},
	{what: "in a room with a delay", config: object{"memberTimeout": int(memberTimeout.Seconds()), "destroyDelay": int(destroyDelay.Seconds())}},
	{what: "of one session of two", config: object{"memberTimeout": int(memberTimeout.Seconds())}, secondSession: true},
}

// lossTest is the situation after alice's stream was lost. The host is in the room and has a
// stream.
type lossTest struct {
	*clockedService
	lossCase
	alice      *client
	cursor     string // where alice's stream broke
	generation room.LogID
	// phone is alice's other session, or nil.
	phone   *client
	onPhone *stream
}

// testEachLoss runs a test for each lossCase.
func testEachLoss(t *testing.T, test func(*testing.T, *lossTest)) {
	t.Helper()
	t.Parallel()
	for _, l := range losses {
		t.Run(l.what, func(t *testing.T) {
			t.Parallel()
			a := &lossTest{clockedService: newClockedService(t), lossCase: l}
			a.generation = as[struct{ Room room.Room }](a.host.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": l.config}).
				is(http.StatusCreated)).Room.Generation
			for _, want := range []string{"connecting create", "connected created"} {
				if got := a.hostStream.state(); got != want {
					t.Fatalf("the host's state event is %s", got)
				}
			}
			a.alice = a.login("alice")
			a.alice.enter("lobby")
			aliceStream, _ := a.alice.listen()
			a.expectJoined("alice")
			if l.secondSession {
				a.phone = a.loginWith(a.token("alice", 1000*time.Hour))
				a.phone.enter("lobby")
				a.onPhone, _ = a.phone.listen()
			}
			a.host.send("lobby", "before")
			a.expectMessage("before")
			if got := aliceStream.text(); got != "before" {
				t.Fatalf("alice received %q", got)
			}
			a.cursor = aliceStream.id
			aliceStream.disconnect()
			eventually(t, "alice's session is detached", func() bool { return a.alice.state() == "detached" })
			test(t, a)
		})
	}
}

// expectJoined requires that the next event of each connected member is that a user joined.
func (a *lossTest) expectJoined(user room.UserID) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersJoined](listener).MemberList; len(got) != 1 || got[0].ID != user {
			a.Fatalf("membersJoined lists %+v, want %s", got, user)
		}
	}
}

// expectLeft requires that the next event of each connected member is that a user left.
func (a *lossTest) expectLeft(user room.UserID, reason room.LeaveReason) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersLeft](listener).MemberList; len(got) != 1 || got[0].ID != user || got[0].Reason != reason {
			a.Fatalf("membersLeft lists %+v, want %s with the reason %s", got, user, reason)
		}
	}
}

// expectMessage requires that the next event of each connected member is a message with this text.
func (a *lossTest) expectMessage(text string) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := listener.text(); got != text {
			a.Fatalf("received %q, want %q", got, text)
		}
	}
}

func (a *lossTest) listeners() []*stream {
	if a.onPhone == nil {
		return []*stream{a.hostStream}
	}
	return []*stream{a.hostStream, a.onPhone}
}

// timeOut advances the clock by the room's memberTimeout, and checks the event that the other
// members get.
func (a *lossTest) timeOut() {
	a.Helper()
	a.advanceUntil(memberTimeout, "alice's session timed out", func() bool { return !slices.Contains(a.rooms(), "lobby") })
	if !a.secondSession {
		a.expectLeft("alice", room.ReasonTimedOut)
	}
}

// passTime advances the clock by a time in which nothing expires.
func (a *lossTest) passTime(d time.Duration) {
	a.Helper()
	a.advanceUntil(d, "the store was swept", func() bool { return true })
}

// rooms returns the rooms that alice's session is in.
func (a *lossTest) rooms() (ids []room.RoomID) {
	a.Helper()
	for _, r := range as[struct{ Rooms []room.Room }](a.alice.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms {
		ids = append(ids, r.ID)
	}
	return ids
}

// exists reports whether the room exists. The host asks, and may have left the room.
func (a *lossTest) exists() bool {
	a.Helper()
	return a.host.call("GET", roomPath("lobby", ""), nil).StatusCode != http.StatusNotFound
}

// expectDestroyed requires that the empty room is destroyed at once or, if it has a destroyDelay,
// after that delay and not before.
func (a *lossTest) expectDestroyed() {
	a.Helper()
	if a.config["destroyDelay"] == nil {
		if a.exists() {
			a.Fatal("the empty room was not destroyed")
		}
		return
	}
	a.passTime(destroyDelay / 2)
	if !a.exists() {
		a.Fatal("the room was destroyed before its destroyDelay")
	}
	a.advanceUntil(destroyDelay/2, "the room is destroyed", func() bool { return !a.exists() })
}

// TestReconnectInTime checks that other members do not notice a short loss, and that the session
// gets exactly the events that it missed.
func TestReconnectInTime(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		carol := a.login("carol")
		carol.listen()
		carol.enter("lobby")
		a.expectJoined("carol")
		a.host.send("lobby", "one")
		a.passTime(memberTimeout / 2)
		carol.send("lobby", "two")
		a.expectMessage("one")
		a.expectMessage("two")

		aliceStream, ready := a.alice.listen(resume(a.cursor))
		if !ready.Resumed || len(ready.Rooms) != 1 || ready.Rooms[0].ID != "lobby" || ready.Rooms[0].MemberCount != 3 {
			t.Errorf("alice's sessionReady is %+v", ready)
		}
		if got := expect[room.MembersJoined](aliceStream).MemberList; len(got) != 1 || got[0].ID != "carol" {
			t.Errorf("alice's membersJoined lists %+v", got)
		}
		next := aliceStream.seq()
		a.passTime(memberTimeout / 2) // no timeout is pending any more
		a.alice.send("lobby", "three")
		for _, text := range []string{"one", "two", "three"} {
			next++
			if got := aliceStream.text(); got != text || aliceStream.seq() != next {
				t.Errorf("alice received %q with seq %d, want %q with seq %d", got, aliceStream.seq(), text, next)
			}
		}
		a.expectMessage("three") // no event about the lost stream came before
		aliceStream.disconnect()
	})
}

// TestReconnectAfterTimeout checks that the other members get one event, when the last of the
// user's sessions times out, and that the session gets an event and can enter again.
func TestReconnectAfterTimeout(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.timeOut()
		a.host.send("lobby", "meanwhile")
		a.expectMessage("meanwhile")
		a.alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "too late"}).refused(http.StatusConflict, "not_in_room")

		aliceStream, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("alice's sessionReady is %+v", ready)
		}
		want := room.RoomStateChanged{RoomID: "lobby", Generation: a.generation, State: room.RoomDisconnected, Event: room.RoomNetworkTimeout}
		if diff := cmp.Diff(want, expect[room.RoomStateChanged](aliceStream)); diff != "" {
			t.Errorf("alice's state event (-want +got):\n%s", diff)
		}
		a.passTime(2 * memberTimeout) // the session does not time out twice
		if again := a.alice.enter("lobby"); again.Generation != a.generation || again.MemberCount != 2 {
			t.Errorf("the room that alice entered again is %+v", again)
		}
		for _, want := range []string{"connecting enter", "connected success"} {
			if got := aliceStream.state(); got != want {
				t.Errorf("alice's state event is %s, want %s", got, want)
			}
		}
		if !a.secondSession {
			a.expectJoined("alice")
		}
		a.host.send("lobby", "after")
		a.expectMessage("after")
		if got := aliceStream.text(); got != "after" {
			t.Errorf("alice's next message is %q", got)
		}
	})
}

// TestNoReconnect checks that the other members get one event, that the session ends silently when
// its token expires, and that the room is destroyed after its last member left.
func TestNoReconnect(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.timeOut()
		if got := a.alice.state(); got != "detached" {
			t.Errorf("alice's session is %s", got)
		}
		a.advanceUntil(2*time.Hour, "alice's token expired", func() bool {
			return a.alice.call("GET", "/v1/sessions/current", nil).StatusCode == http.StatusUnauthorized
		})
		a.alice.call("GET", "/v1/events", nil, resume(a.cursor)).refused(http.StatusUnauthorized, "token_expired")
		a.host.send("lobby", "nothing else")
		a.expectMessage("nothing else")
		if a.secondSession {
			a.phone.leave("lobby")
			if got := a.onPhone.state(); got != "disconnected success" {
				t.Errorf("the state event of the other session is %s", got)
			}
			a.onPhone = nil
			a.expectLeft("alice", room.ReasonLeft)
		}
		a.host.leave("lobby")
		a.expectDestroyed()
	})
}

// TestLastMemberLosesStream checks that a room exists as long as a member without a stream can
// reconnect, and that it is destroyed when that member times out, unless the user's other session
// is in it.
func TestLastMemberLosesStream(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.host.leave("lobby")
		a.hostStream.state()
		if a.secondSession {
			expect[room.MembersLeft](a.onPhone)
		}
		a.passTime(memberTimeout / 2)
		if !a.exists() {
			t.Fatal("the room was destroyed before alice's session timed out")
		}
		a.advanceUntil(memberTimeout/2, "alice's session timed out", func() bool { return len(a.rooms()) == 0 })
		if a.secondSession {
			a.phone.send("lobby", "still here")
			if got := a.onPhone.text(); got != "still here" {
				t.Errorf("the other session received %q", got)
			}
		} else {
			a.expectDestroyed()
		}
		aliceStream, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("alice's sessionReady is %+v", ready)
		}
		if got := aliceStream.state(); got != "disconnected networkTimeout" {
			t.Errorf("alice's state event is %s", got)
		}
		if again := a.alice.enter("lobby"); (again.Generation == a.generation) != a.secondSession {
			t.Errorf("alice entered generation %d of the room, the one before was %d", again.Generation, a.generation)
		}
	})
}

// TestReenterBeforeRoomIsDestroyed checks that a member who timed out can enter the same empty room
// during its destroyDelay, which cancels the destruction.
func TestReenterBeforeRoomIsDestroyed(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		if a.config["destroyDelay"] == nil {
			return // the room is destroyed at once
		}
		a.host.leave("lobby")
		a.advanceUntil(memberTimeout, "alice's session timed out", func() bool { return len(a.rooms()) == 0 })
		aliceStream, _ := a.alice.listen(resume(a.cursor))
		if got := aliceStream.state(); got != "disconnected networkTimeout" {
			t.Errorf("alice's state event is %s", got)
		}
		if again := a.alice.enter("lobby"); again.Generation != a.generation || again.DestroyAt != 0 {
			t.Errorf("the room that alice entered again is %+v", again)
		}
		a.passTime(2 * destroyDelay)
		if !a.exists() {
			t.Error("the room was destroyed with alice in it")
		}
	})
}

// TestTimeoutInRoomOutsideCursor checks that a session learns that it timed out in a room that it
// entered after the event of its cursor. The stream reports only what others did, so it does not
// mention the room that the session has left itself.
func TestTimeoutInRoomOutsideCursor(t *testing.T) {
	t.Parallel()
	s := newClockedService(t)
	for _, step := range []struct {
		what string
		back func(string) []func(*http.Request)
	}{
		{"with a cursor", func(id string) []func(*http.Request) { return []func(*http.Request){resume(id)} }},
		{"without a cursor", func(string) []func(*http.Request) { return nil }},
	} {
		for _, id := range []room.RoomID{"lost", "left"} {
			s.host.enter(id)
		}
		alice := s.loginWith(s.freshToken("alice"))
		aliceStream, _ := alice.listen()
		before := aliceStream.id
		alice.enter("left")
		alice.enter("lost")
		for range 4 {
			aliceStream.state()
		}
		aliceStream.disconnect()
		eventually(t, "alice's session is detached", func() bool { return alice.state() == "detached" })
		alice.leave("left")
		s.advanceUntil(31*time.Second, "alice's session timed out", func() bool {
			return alice.call("GET", roomPath("lost", ""), nil).StatusCode == http.StatusConflict
		})
		aliceStream, _ = alice.listen(step.back(before)...)
		if got := expect[room.RoomStateChanged](aliceStream); got.RoomID != "lost" || got.Event != room.RoomNetworkTimeout {
			t.Errorf("%s, alice's state event is %+v", step.what, got)
		}
		alice.enter("left")
		if got := aliceStream.state(); got != "connecting enter" {
			t.Errorf("%s, alice's next state event is %s", step.what, got)
		}
		alice.logout()
	}
}
