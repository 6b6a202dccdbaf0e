package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"parlor/room"
	"parlor/store"
)

func TestSessionByKeys(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	session := room.Session{
		ID: "0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10", User: room.User{ID: "alice", Name: "Älice"}, Device: "phone",
		Grants:    &room.Grants{Rooms: []room.Grant{{RoomID: "a*", Join: true}}, Peers: []room.UserID{"bob"}, Media: true},
		CreatedAt: f.clock.Now().UTC().Truncate(time.Millisecond),
	}
	session.DetachedAt = session.CreatedAt
	session.TokenExpiresAt = session.CreatedAt.Add(time.Hour)
	session.TokenIssuedAt = session.CreatedAt.Add(-time.Minute)
	key, streamKey := randomKey(t), randomKey(t)
	if _, err := f.CreateSession(t.Context(), as(session), session, named(session), key, streamKey); err != nil {
		t.Fatal(err)
	}
	session.Inbox = query[room.LogID](t, f, "SELECT log FROM inboxes WHERE user_id = 'alice'")

	for _, source := range []string{"cached by the login", "stored", "cached"} {
		if source == "stored" {
			f.Missed() // empties the cache
		}
		byKey, err := f.SessionByKey(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		byStreamKey, err := f.SessionByStreamKey(t.Context(), streamKey)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]room.Session{session, session}, []room.Session{byKey, byStreamKey}); diff != "" {
			t.Errorf("%s, by key and by stream key (-want +got):\n%s", source, diff)
		}
	}
	if _, err := f.SessionByKey(t.Context(), streamKey); !errors.Is(err, room.ErrStreamKeyRefused) {
		t.Errorf("a stream key used as a session key: %v", err)
	}
	if _, err := f.SessionByStreamKey(t.Context(), key); !errors.Is(err, room.ErrUnauthenticated) {
		t.Errorf("a session key used as a stream key: %v", err)
	}
	if _, err := f.SessionByKey(t.Context(), randomKey(t)); !errors.Is(err, room.ErrUnauthenticated) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestRenewSession(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	session := newSession(t, f.Store, "alice")
	later := session.TokenExpiresAt.Add(time.Hour)

	_, err := f.RenewSession(t.Context(), as(session), room.Claims{User: room.User{ID: "bob"}, ExpiresAt: later})
	if !errors.Is(err, room.ErrTokenUserMismatch) {
		t.Errorf("with another user's token: %v", err)
	}
	grants := &room.Grants{Rooms: []room.Grant{{RoomID: "only", Join: true}}, Peers: []room.UserID{}}
	renewed, err := f.RenewSession(t.Context(), as(session), room.Claims{User: session.User, ExpiresAt: later, Grants: grants})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := f.SessionByID(t.Context(), session.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !stored.TokenExpiresAt.Equal(later) || cmp.Diff(grants, stored.Grants) != "" || !renewed.TokenExpiresAt.Equal(later) {
		t.Errorf("stored until %v with %v, want until %v with %v", stored.TokenExpiresAt, stored.Grants, later, grants)
	}
}

func TestEndSessionLeavesItsRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	r := enter(t, f, alice, "lobby")
	enter(t, f, bob, "lobby")
	f.published.take()

	for range 2 { // ending again changes nothing
		if err := f.EndSession(t.Context(), as(alice)); err != nil {
			t.Fatal(err)
		}
	}
	got := f.published.take()
	want := room.Change{
		By: as(alice),
		Events: []room.Event{{
			Room: "lobby", Log: r.Generation, Seq: 3,
			Body: room.MembersLeft{MemberList: []room.LeftMember{{User: alice.User, Reason: room.ReasonLoggedOut}}, MemberCount: new(1)},
		}},
		Left:  []room.Left{{Session: alice.ID, Room: "lobby", Generation: r.Generation, Reason: room.ReasonLoggedOut}},
		Ended: []room.EndedSession{{Session: alice.ID, Reason: room.EndLoggedOut}},
	}
	if diff := cmp.Diff(want, got, ignoreTimes, ignorePresenceIDs); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	if _, err := f.JoinRoom(t.Context(), as(alice), "lobby", ""); !errors.Is(err, room.ErrSessionEnded) {
		t.Errorf("joining with an ended session: %v", err)
	}
	if _, err := f.OpenStream(t.Context(), alice.ID, "", nil); !errors.Is(err, room.ErrSessionEnded) {
		t.Errorf("a stream of an ended session: %v", err)
	}
}

func TestSessionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSessionUntil(t, f.Store, "alice", f.clock.Now().Add(time.Minute))
	enter(t, f, alice, "lobby")
	openStream(t, f, alice)

	f.clock.advance(time.Minute - time.Second)
	sweep(t, f)
	f.published.take()
	f.clock.advance(time.Second)
	sweep(t, f)
	c := f.published.take()
	if len(c.Ended) != 1 || c.Ended[0] != (room.EndedSession{Session: alice.ID, Reason: room.EndTokenExpired}) {
		t.Fatalf("ended: %v", c.Ended)
	}
	if len(c.Left) != 1 || c.Left[0].Reason != room.ReasonTokenExpired {
		t.Errorf("left: %v", c.Left)
	}
	stored, err := f.SessionByID(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := stored.Usable(f.clock.Now()); !errors.Is(err, room.ErrTokenExpired) {
		t.Errorf("afterwards: %v", err)
	}
	if n := query[int](t, f, "SELECT count(*) FROM rooms WHERE destroyed_at IS NULL"); n != 0 {
		t.Errorf("%d rooms still exist", n)
	}
}

// TestRevokedGrantRemovesSession runs a join and the renewal that revokes its grant at the same
// time, in every order. The session must not be in the room afterwards.
func TestRevokedGrantRemovesSession(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	enter(t, f, newSession(t, f.Store, "host"), "hall")
	for i := range 60 {
		session := newSession(t, f.Store, fmt.Sprintf("user%d", i))
		claims := room.Claims{User: session.User, ExpiresAt: session.TokenExpiresAt, Grants: &room.Grants{}}
		enter := []func() error{
			func() error {
				_, _, err := f.EnterRoom(t.Context(), as(session), roomOf(i), room.RoomOptions{})
				return err
			},
			func() error {
				_, err := f.CreateRoom(t.Context(), as(session), roomOf(i), room.RoomOptions{})
				return err
			},
			func() error { _, err := f.JoinRoom(t.Context(), as(session), "hall", ""); return err },
		}[i%3]
		begin := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() {
			<-begin
			if err := enter(); err != nil && !errors.Is(err, room.ErrNotGranted) {
				t.Errorf("joining: %v", err)
			}
		})
		both.Go(func() {
			<-begin
			if _, err := f.RenewSession(t.Context(), as(session), claims); err != nil {
				t.Errorf("renewing: %v", err)
			}
		})
		close(begin)
		both.Wait()
		rooms, err := f.SessionRooms(t.Context(), session.ID)
		if err != nil || len(rooms) != 0 {
			t.Fatalf("round %d: the session is in %v, %v", i, rooms, err)
		}
	}
}

// TestVoidTokensDuringLogins: whichever comes first, no session of a void token is left.
func TestVoidTokensDuringLogins(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	for i := range 20 {
		user := room.UserID(fmt.Sprintf("user%d", i))
		issued := f.clock.Now().Add(-time.Minute).UTC().Truncate(time.Second)
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				<-begin
				session := room.Session{
					ID: room.SessionID(uuid.Must(uuid.NewV7()).String()), User: room.User{ID: user, Name: "User"},
					TokenExpiresAt: f.clock.Now().Add(time.Hour), TokenIssuedAt: issued,
				}
				if _, err := f.CreateSession(t.Context(), as(session), session, named(session), randomKey(t), randomKey(t)); err != nil && !errors.Is(err, room.ErrTokenVoid) {
					t.Errorf("logging in: %v", err)
				}
			})
		}
		all.Go(func() {
			<-begin
			if _, err := f.VoidTokens(t.Context(), admin, user, f.clock.Now(), ""); err != nil {
				t.Errorf("voiding: %v", err)
			}
		})
		close(begin)
		all.Wait()
		if left, err := f.UserSessions(t.Context(), user); err != nil || len(left) != 0 {
			t.Fatalf("round %d: %d sessions are left, %v", i, len(left), err)
		}
	}
}
