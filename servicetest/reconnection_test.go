package servicetest

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// What a lost stream means to the session and to everybody else, over real
// streams: back before the room's memberTimeout, back after it, never back.

// loss is where a stream is lost.
type lossCase struct {
	what   string
	config object // of the room
	// two says that the user is in the room with another session as well.
	secondSession bool
}

const (
	// stay is the rooms' memberTimeout, and delay is how long one of them
	// outlives its last member. Both leave a slow machine time: while a test
	// makes its calls, real time passes too.
	memberTimeout = 120 * time.Second
	destroyDelay  = 120 * time.Second
)

var losses = []lossCase{
	{what: "in an ordinary room", config: object{"memberTimeout": int(memberTimeout.Seconds())}},
	{what: "in a room with a delay", config: object{"memberTimeout": int(memberTimeout.Seconds()), "destroyDelay": int(destroyDelay.Seconds())}},
	{what: "of one session of two", config: object{"memberTimeout": int(memberTimeout.Seconds())}, secondSession: true},
}

// away is what is there once alice's stream is lost. The host is in the room
// and listens.
type lossTest struct {
	*clockedService
	lossCase
	alice      *client
	cursor     string // where her stream broke
	generation room.LogID
	// phone is her other session, where there are two.
	phone   *client
	onPhone *stream
}

// eachLoss runs a test after each loss.
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
					t.Fatalf("the host is %s", got)
				}
			}
			a.alice = a.login("alice")
			a.alice.enter("lobby")
			hers, _ := a.alice.listen()
			a.expectJoined("alice")
			if l.secondSession {
				a.phone = a.loginWith(a.token("alice", 1000*time.Hour))
				a.phone.enter("lobby")
				a.onPhone, _ = a.phone.listen()
			}
			a.host.send("lobby", "before")
			a.expectMessage("before")
			if got := hers.text(); got != "before" {
				t.Fatalf("she hears %q", got)
			}
			a.cursor = hers.id
			hers.disconnect()
			eventually(t, "she is detached", func() bool { return a.alice.state() == "detached" })
			test(t, a)
		})
	}
}

// joined expects that all who listen see a user come.
func (a *lossTest) expectJoined(user room.UserID) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersJoined](listener).MemberList; len(got) != 1 || got[0].ID != user {
			a.Fatalf("%+v are seen to come, and not %s", got, user)
		}
	}
}

// left expects that all who listen see a user go.
func (a *lossTest) expectLeft(user room.UserID, reason room.LeaveReason) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersLeft](listener).MemberList; len(got) != 1 || got[0].ID != user || got[0].Reason != reason {
			a.Fatalf("%+v are seen to go, and not %s: %s", got, user, reason)
		}
	}
}

// hear expects that a message is the very next that all who listen get.
func (a *lossTest) expectMessage(text string) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := listener.text(); got != text {
			a.Fatalf("%q is heard, and not %q", got, text)
		}
	}
}

func (a *lossTest) listeners() []*stream {
	if a.onPhone == nil {
		return []*stream{a.hostStream}
	}
	return []*stream{a.hostStream, a.onPhone}
}

// timeOut lets the room's memberTimeout pass, and expects what the others see.
func (a *lossTest) timeOut() {
	a.Helper()
	a.advanceUntil(memberTimeout, "she timed out", func() bool { return !slices.Contains(a.rooms(), "lobby") })
	if !a.secondSession {
		a.expectLeft("alice", room.ReasonTimedOut)
	}
}

// later lets time pass in which nothing is due.
func (a *lossTest) passTime(d time.Duration) {
	a.Helper()
	a.advanceUntil(d, "it was swept", func() bool { return true })
}

// rooms is the rooms that her session is in.
func (a *lossTest) rooms() (ids []room.RoomID) {
	a.Helper()
	for _, r := range as[struct{ Rooms []room.Room }](a.alice.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms {
		ids = append(ids, r.ID)
	}
	return ids
}

// exists reports whether the room is there, to the host who may be out of it.
func (a *lossTest) exists() bool {
	a.Helper()
	return a.host.call("GET", roomPath("lobby", ""), nil).StatusCode != http.StatusNotFound
}

// goes expects that the room, which nobody is in, goes at once or after its
// delay, and not before.
func (a *lossTest) expectDestroyed() {
	a.Helper()
	if a.config["destroyDelay"] == nil {
		if a.exists() {
			a.Fatal("the room is still there")
		}
		return
	}
	a.passTime(destroyDelay / 2)
	if !a.exists() {
		a.Fatal("the room went before its delay was over")
	}
	a.advanceUntil(destroyDelay/2, "the room is gone", func() bool { return !a.exists() })
}

// TestReconnectInTime: the others notice nothing, and who comes back gets exactly
// what was missed.
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

		hers, ready := a.alice.listen(resume(a.cursor))
		if !ready.Resumed || len(ready.Rooms) != 1 || ready.Rooms[0].ID != "lobby" || ready.Rooms[0].MemberCount != 3 {
			t.Errorf("she comes back to %+v", ready)
		}
		if got := expect[room.MembersJoined](hers).MemberList; len(got) != 1 || got[0].ID != "carol" {
			t.Errorf("she sees %+v come", got)
		}
		next := hers.seq()
		a.passTime(memberTimeout / 2) // no clock runs any more
		a.alice.send("lobby", "three")
		for _, text := range []string{"one", "two", "three"} {
			next++
			if got := hers.text(); got != text || hers.seq() != next {
				t.Errorf("she hears %q as event %d, and not %q as %d", got, hers.seq(), text, next)
			}
		}
		a.expectMessage("three") // and nothing of her coming or going
		hers.disconnect()
	})
}

// TestReconnectAfterTimeout: the others saw the user go, once, for the last of the user's
// sessions; who comes back is told, and may enter again.
func TestReconnectAfterTimeout(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.timeOut()
		a.host.send("lobby", "meanwhile")
		a.expectMessage("meanwhile")
		a.alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "too late"}).refused(http.StatusConflict, "not_in_room")

		hers, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("she comes back to %+v", ready)
		}
		want := room.RoomStateChanged{RoomID: "lobby", Generation: a.generation, State: room.RoomDisconnected, Event: room.RoomNetworkTimeout}
		if diff := cmp.Diff(want, expect[room.RoomStateChanged](hers)); diff != "" {
			t.Errorf("she is told (-want +got):\n%s", diff)
		}
		a.passTime(2 * memberTimeout) // nobody times out twice
		if again := a.alice.enter("lobby"); again.Generation != a.generation || again.MemberCount != 2 {
			t.Errorf("she enters %+v", again)
		}
		for _, want := range []string{"connecting enter", "connected success"} {
			if got := hers.state(); got != want {
				t.Errorf("she is %s, and not %s", got, want)
			}
		}
		if !a.secondSession {
			a.expectJoined("alice")
		}
		a.host.send("lobby", "after")
		a.expectMessage("after")
		if got := hers.text(); got != "after" {
			t.Errorf("she goes on with %q", got)
		}
	})
}

// TestNoReconnect: the others saw the user go, once; the session ends with its
// token, of which nobody hears any more; the room goes with its last member.
func TestNoReconnect(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.timeOut()
		if got := a.alice.state(); got != "detached" {
			t.Errorf("her session is %s", got)
		}
		a.advanceUntil(2*time.Hour, "her token ran out", func() bool {
			return a.alice.call("GET", "/v1/sessions/current", nil).StatusCode == http.StatusUnauthorized
		})
		a.alice.call("GET", "/v1/events", nil, resume(a.cursor)).refused(http.StatusUnauthorized, "token_expired")
		a.host.send("lobby", "nothing else")
		a.expectMessage("nothing else")
		if a.secondSession {
			a.phone.leave("lobby")
			if got := a.onPhone.state(); got != "disconnected success" {
				t.Errorf("the other session is %s", got)
			}
			a.onPhone = nil
			a.expectLeft("alice", room.ReasonLeft)
		}
		a.host.leave("lobby")
		a.expectDestroyed()
	})
}

// TestLastMemberLosesStream: who is away is a member, so the room stays; it goes
// with the member's time, or not at all while another session is there.
func TestLastMemberLosesStream(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		a.host.leave("lobby")
		a.hostStream.state()
		if a.secondSession {
			expect[room.MembersLeft](a.onPhone)
		}
		a.passTime(memberTimeout / 2)
		if !a.exists() {
			t.Fatal("the room went while she may still come back")
		}
		a.advanceUntil(memberTimeout/2, "she timed out", func() bool { return len(a.rooms()) == 0 })
		if a.secondSession {
			a.phone.send("lobby", "still here")
			if got := a.onPhone.text(); got != "still here" {
				t.Errorf("the other session hears %q", got)
			}
		} else {
			a.expectDestroyed()
		}
		hers, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("she comes back to %+v", ready)
		}
		if got := hers.state(); got != "disconnected networkTimeout" {
			t.Errorf("she is %s", got)
		}
		if again := a.alice.enter("lobby"); (again.Generation == a.generation) != a.secondSession {
			t.Errorf("she enters life %d of the room, after %d", again.Generation, a.generation)
		}
	})
}

// TestReenterBeforeRoomIsDestroyed: a member who timed out as the last may come
// back to the same room while its delay runs, which stops the clock.
func TestReenterBeforeRoomIsDestroyed(t *testing.T) {
	testEachLoss(t, func(t *testing.T, a *lossTest) {
		if a.config["destroyDelay"] == nil {
			return // there is no time to come back in
		}
		a.host.leave("lobby")
		a.advanceUntil(memberTimeout, "she timed out", func() bool { return len(a.rooms()) == 0 })
		hers, _ := a.alice.listen(resume(a.cursor))
		if got := hers.state(); got != "disconnected networkTimeout" {
			t.Errorf("she is %s", got)
		}
		if again := a.alice.enter("lobby"); again.Generation != a.generation || !again.DestroyAt.IsZero() {
			t.Errorf("she enters %+v", again)
		}
		a.passTime(2 * destroyDelay)
		if !a.exists() {
			t.Error("the room went with her in it")
		}
	})
}

// TestTimeoutInRoomOutsideCursor: a room that was entered after the event whose
// id the client kept is in no cursor, and that it was lost is told all the same. Told of
// is what others did: that she left she knows.
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
		hers, _ := alice.listen()
		before := hers.id
		alice.enter("left")
		alice.enter("lost")
		for range 4 {
			hers.state()
		}
		hers.disconnect()
		eventually(t, "she is detached", func() bool { return alice.state() == "detached" })
		alice.leave("left")
		s.advanceUntil(31*time.Second, "she timed out", func() bool {
			return alice.call("GET", roomPath("lost", ""), nil).StatusCode == http.StatusConflict
		})
		hers, _ = alice.listen(step.back(before)...)
		if got := expect[room.RoomStateChanged](hers); got.RoomID != "lost" || got.Event != room.RoomNetworkTimeout {
			t.Errorf("%s she is told %+v", step.what, got)
		}
		alice.enter("left")
		if got := hers.state(); got != "connecting enter" {
			t.Errorf("%s she is then %s", step.what, got)
		}
		alice.logout()
	}
}

// TestResumeOnAnotherServer, where others read the room: what was said through the first
// one meanwhile comes to the one who is back, and to those who were there.
func TestResumeOnAnotherServer(t *testing.T) {
	t.Parallel()
	first := newService(t)
	second := newService(t, func(c *setup) { c.database = first.database })
	there := func(c *client) *client {
		second.log.secret(c.SessionKey)
		return &client{service: second, http: second.http, session: c.session}
	}
	bob := first.login("bob")
	bob.enter("lobby")
	his, _ := there(bob).listen()
	alice := first.login("alice")
	alice.enter("lobby")
	hers, _ := alice.listen()
	bob.send("lobby", "one")
	if got := hers.text(); got != "one" {
		t.Errorf("the first brings %q", got)
	}
	hers.disconnect()
	for _, text := range []string{"two", "three"} {
		bob.send("lobby", text)
	}
	hers, ready := there(alice).listen(resume(hers.id))
	if !ready.Resumed {
		t.Error("the stream is not resumed")
	}
	for _, want := range []string{"two", "three"} {
		if got := hers.text(); got != want {
			t.Errorf("the second server brings %q, and not %q", got, want)
		}
	}
	expect[room.MembersJoined](his)
	for _, want := range []string{"one", "two", "three"} {
		if got := his.text(); got != want {
			t.Errorf("to who was there the second server brings %q, and not %q", got, want)
		}
	}
}
