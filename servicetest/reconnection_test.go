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
type loss struct {
	what   string
	config object // of the room
	// two says that the user is in the room with another session as well.
	two bool
}

const (
	// stay is the rooms' memberTimeout, and delay is how long one of them
	// outlives its last member. Both leave a slow machine time: while a test
	// makes its calls, real time passes too.
	stay  = 120 * time.Second
	delay = 120 * time.Second
)

var losses = []loss{
	{what: "in an ordinary room", config: object{"memberTimeout": int(stay.Seconds())}},
	{what: "in a room with a delay", config: object{"memberTimeout": int(stay.Seconds()), "destroyDelay": int(delay.Seconds())}},
	{what: "of one session of two", config: object{"memberTimeout": int(stay.Seconds())}, two: true},
}

// away is what is there once alice's stream is lost. The host is in the room
// and listens.
type away struct {
	*scene
	loss
	alice  *client
	cursor string // where her stream broke
	life   room.LogID
	// phone is her other session, where there are two.
	phone   *client
	onPhone *stream
}

// eachLoss runs a test after each loss.
func eachLoss(t *testing.T, test func(*testing.T, *away)) {
	t.Helper()
	t.Parallel()
	for _, l := range losses {
		t.Run(l.what, func(t *testing.T) {
			t.Parallel()
			a := &away{scene: newScene(t), loss: l}
			a.life = as[struct{ Room room.Room }](a.host.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": l.config}).
				is(http.StatusCreated)).Room.Generation
			for _, want := range []string{"connecting create", "connected created"} {
				if got := a.his.state(); got != want {
					t.Fatalf("the host is %s", got)
				}
			}
			a.alice = a.login("alice")
			a.alice.enter("lobby")
			hers, _ := a.alice.listen()
			a.joined("alice")
			if l.two {
				a.phone = a.loginWith(a.token("alice", 1000*time.Hour))
				a.phone.enter("lobby")
				a.onPhone, _ = a.phone.listen()
			}
			a.host.send("lobby", "before")
			a.hear("before")
			if got := hers.text(); got != "before" {
				t.Fatalf("she hears %q", got)
			}
			a.cursor = hers.id
			hers.hangUp()
			eventually(t, "she is detached", func() bool { return a.alice.state() == "detached" })
			test(t, a)
		})
	}
}

// joined expects that all who listen see a user come.
func (a *away) joined(user room.UserID) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersJoined](listener).MemberList; len(got) != 1 || got[0].ID != user {
			a.Fatalf("%+v are seen to come, and not %s", got, user)
		}
	}
}

// left expects that all who listen see a user go.
func (a *away) left(user room.UserID, reason room.LeaveReason) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := expect[room.MembersLeft](listener).MemberList; len(got) != 1 || got[0].ID != user || got[0].Reason != reason {
			a.Fatalf("%+v are seen to go, and not %s: %s", got, user, reason)
		}
	}
}

// hear expects that a message is the very next that all who listen get.
func (a *away) hear(text string) {
	a.Helper()
	for _, listener := range a.listeners() {
		if got := listener.text(); got != text {
			a.Fatalf("%q is heard, and not %q", got, text)
		}
	}
}

func (a *away) listeners() []*stream {
	if a.onPhone == nil {
		return []*stream{a.his}
	}
	return []*stream{a.his, a.onPhone}
}

// timeOut lets the room's memberTimeout pass, and expects what the others see.
func (a *away) timeOut() {
	a.Helper()
	a.passes(stay, "she timed out", func() bool { return !slices.Contains(a.rooms(), "lobby") })
	if !a.two {
		a.left("alice", room.ReasonTimedOut)
	}
}

// later lets time pass in which nothing is due.
func (a *away) later(d time.Duration) {
	a.Helper()
	a.passes(d, "it was swept", func() bool { return true })
}

// rooms is the rooms that her session is in.
func (a *away) rooms() (ids []room.RoomID) {
	a.Helper()
	for _, r := range as[struct{ Rooms []room.Room }](a.alice.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms {
		ids = append(ids, r.ID)
	}
	return ids
}

// exists reports whether the room is there, to the host who may be out of it.
func (a *away) exists() bool {
	a.Helper()
	return a.host.call("GET", roomPath("lobby", ""), nil).StatusCode != http.StatusNotFound
}

// goes expects that the room, which nobody is in, goes at once or after its
// delay, and not before.
func (a *away) goes() {
	a.Helper()
	if a.config["destroyDelay"] == nil {
		if a.exists() {
			a.Fatal("the room is still there")
		}
		return
	}
	a.later(delay / 2)
	if !a.exists() {
		a.Fatal("the room went before its delay was over")
	}
	a.passes(delay/2, "the room is gone", func() bool { return !a.exists() })
}

// TestBackInTime: the others notice nothing, and who comes back gets exactly
// what was missed.
func TestBackInTime(t *testing.T) {
	eachLoss(t, func(t *testing.T, a *away) {
		carol := a.login("carol")
		carol.listen()
		carol.enter("lobby")
		a.joined("carol")
		a.host.send("lobby", "one")
		a.later(stay / 2)
		carol.send("lobby", "two")
		a.hear("one")
		a.hear("two")

		hers, ready := a.alice.listen(resume(a.cursor))
		if !ready.Resumed || len(ready.Rooms) != 1 || ready.Rooms[0].ID != "lobby" || ready.Rooms[0].MemberCount != 3 {
			t.Errorf("she comes back to %+v", ready)
		}
		if got := expect[room.MembersJoined](hers).MemberList; len(got) != 1 || got[0].ID != "carol" {
			t.Errorf("she sees %+v come", got)
		}
		next := hers.seq()
		a.later(stay / 2) // no clock runs any more
		a.alice.send("lobby", "three")
		for _, text := range []string{"one", "two", "three"} {
			next++
			if got := hers.text(); got != text || hers.seq() != next {
				t.Errorf("she hears %q as event %d, and not %q as %d", got, hers.seq(), text, next)
			}
		}
		a.hear("three") // and nothing of her coming or going
		hers.hangUp()
	})
}

// TestBackTooLate: the others saw the user go, once, for the last of the user's
// sessions; who comes back is told, and may enter again.
func TestBackTooLate(t *testing.T) {
	eachLoss(t, func(t *testing.T, a *away) {
		a.timeOut()
		a.host.send("lobby", "meanwhile")
		a.hear("meanwhile")
		a.alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "too late"}).refused(http.StatusConflict, "not_in_room")

		hers, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("she comes back to %+v", ready)
		}
		want := room.RoomStateChanged{RoomID: "lobby", Generation: a.life, State: room.RoomDisconnected, Event: room.RoomNetworkTimeout}
		if diff := cmp.Diff(want, expect[room.RoomStateChanged](hers)); diff != "" {
			t.Errorf("she is told (-want +got):\n%s", diff)
		}
		a.later(2 * stay) // nobody times out twice
		if again := a.alice.enter("lobby"); again.Generation != a.life || again.MemberCount != 2 {
			t.Errorf("she enters %+v", again)
		}
		for _, want := range []string{"connecting enter", "connected success"} {
			if got := hers.state(); got != want {
				t.Errorf("she is %s, and not %s", got, want)
			}
		}
		if !a.two {
			a.joined("alice")
		}
		a.host.send("lobby", "after")
		a.hear("after")
		if got := hers.text(); got != "after" {
			t.Errorf("she goes on with %q", got)
		}
	})
}

// TestNeverBack: the others saw the user go, once; the session ends with its
// token, of which nobody hears any more; the room goes with its last member.
func TestNeverBack(t *testing.T) {
	eachLoss(t, func(t *testing.T, a *away) {
		a.timeOut()
		if got := a.alice.state(); got != "detached" {
			t.Errorf("her session is %s", got)
		}
		a.passes(2*time.Hour, "her token ran out", func() bool {
			return a.alice.call("GET", "/v1/sessions/current", nil).StatusCode == http.StatusUnauthorized
		})
		a.alice.call("GET", "/v1/events", nil, resume(a.cursor)).refused(http.StatusUnauthorized, "token_expired")
		a.host.send("lobby", "nothing else")
		a.hear("nothing else")
		if a.two {
			a.phone.leave("lobby")
			if got := a.onPhone.state(); got != "disconnected success" {
				t.Errorf("the other session is %s", got)
			}
			a.onPhone = nil
			a.left("alice", room.ReasonLeft)
		}
		a.host.leave("lobby")
		a.goes()
	})
}

// TestTheLastOneVanishes: who is away is a member, so the room stays; it goes
// with the member's time, or not at all while another session is there.
func TestTheLastOneVanishes(t *testing.T) {
	eachLoss(t, func(t *testing.T, a *away) {
		a.host.leave("lobby")
		a.his.state()
		if a.two {
			expect[room.MembersLeft](a.onPhone)
		}
		a.later(stay / 2)
		if !a.exists() {
			t.Fatal("the room went while she may still come back")
		}
		a.passes(stay/2, "she timed out", func() bool { return len(a.rooms()) == 0 })
		if a.two {
			a.phone.send("lobby", "still here")
			if got := a.onPhone.text(); got != "still here" {
				t.Errorf("the other session hears %q", got)
			}
		} else {
			a.goes()
		}
		hers, ready := a.alice.listen(resume(a.cursor))
		if len(ready.Rooms) != 0 {
			t.Errorf("she comes back to %+v", ready)
		}
		if got := hers.state(); got != "disconnected networkTimeout" {
			t.Errorf("she is %s", got)
		}
		if again := a.alice.enter("lobby"); (again.Generation == a.life) != a.two {
			t.Errorf("she enters life %d of the room, after %d", again.Generation, a.life)
		}
	})
}

// TestBackBeforeAnEmptyRoomGoes: a member who timed out as the last may come
// back to the same room while its delay runs, which stops the clock.
func TestBackBeforeAnEmptyRoomGoes(t *testing.T) {
	eachLoss(t, func(t *testing.T, a *away) {
		if a.config["destroyDelay"] == nil {
			return // there is no time to come back in
		}
		a.host.leave("lobby")
		a.passes(stay, "she timed out", func() bool { return len(a.rooms()) == 0 })
		hers, _ := a.alice.listen(resume(a.cursor))
		if got := hers.state(); got != "disconnected networkTimeout" {
			t.Errorf("she is %s", got)
		}
		if again := a.alice.enter("lobby"); again.Generation != a.life || !again.DestroyAt.IsZero() {
			t.Errorf("she enters %+v", again)
		}
		a.later(2 * delay)
		if !a.exists() {
			t.Error("the room went with her in it")
		}
	})
}

// TestBackToARoomThatNoCursorNames: a room that was entered after the event whose
// id the client kept is in no cursor, and that it was lost is told all the same. Told of
// is what others did: that she left she knows.
func TestBackToARoomThatNoCursorNames(t *testing.T) {
	t.Parallel()
	s := newScene(t)
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
		alice := s.loginWith(s.fresh("alice"))
		hers, _ := alice.listen()
		before := hers.id
		alice.enter("left")
		alice.enter("lost")
		for range 4 {
			hers.state()
		}
		hers.hangUp()
		eventually(t, "she is detached", func() bool { return alice.state() == "detached" })
		alice.leave("left")
		s.passes(31*time.Second, "she timed out", func() bool {
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

// TestBackAtAnotherServer, where others read the room: what was said through the first
// one meanwhile comes to the one who is back, and to those who were there.
func TestBackAtAnotherServer(t *testing.T) {
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
	hers.hangUp()
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
