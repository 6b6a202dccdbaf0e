package store_test

import (
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestChangesNameTheirActor makes every kind of change, and checks the actor in the room.Change.
func TestChangesNameTheirActor(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob, carol := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob"), newSession(t, f.Store, "carol")
	inLobby := func(session room.Session) {
		t.Helper()
		if _, _, err := f.EnterRoom(t.Context(), as(session), "lobby", room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	inLobby(bob)
	inLobby(carol)
	sent, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello"))
	if err != nil {
		t.Fatal(err)
	}
	f.published.take()
	for _, c := range []struct {
		what string
		by   room.Actor
		call func(by room.Actor) error
	}{
		{"createRoom", as(alice), func(by room.Actor) error {
			_, err := f.CreateRoom(t.Context(), by, "cellar", room.RoomOptions{})
			return err
		}},
		{"switchRoom", as(alice), func(by room.Actor) error {
			_, _, err := f.SwitchRoom(t.Context(), by, "cellar", "attic", true, room.RoomOptions{})
			return err
		}},
		{"leaveRoom", as(alice), func(by room.Actor) error { return f.LeaveRoom(t.Context(), by, "attic") }},
		{"joinRoom", as(alice), func(by room.Actor) error {
			_, err := f.JoinRoom(t.Context(), by, "lobby", "")
			return err
		}},
		{"updateRoomAttributes", as(alice), func(by room.Actor) error {
			_, _, err := f.UpdateAttributes(t.Context(), by, "lobby", room.AttributesUpdate{Set: set("mode", "quiet")})
			return err
		}},
		{"renewToken", as(alice), func(by room.Actor) error {
			_, err := f.RenewSession(t.Context(), by, room.Claims{User: alice.User, ExpiresAt: time.Now().Add(2 * time.Hour)})
			return err
		}},
		{"leaveAllRooms", as(alice), func(by room.Actor) error {
			_, err := f.LeaveAllRooms(t.Context(), by)
			return err
		}},
		{"sendBarrage", as(bob), func(by room.Actor) error {
			barrage := room.Draft{Content: room.Content{Kind: room.KindBarrage, Text: "hello"}}
			_, _, err := f.Store.PostMessage(t.Context(), room.RoomSend{Sender: bob.Sender(by), Room: "lobby", Draft: barrage})
			return err
		}},
		{"sendPeerMessage", as(bob), func(by room.Actor) error {
			_, _, err := f.Store.PostPeerMessage(t.Context(), room.PeerSend{Sender: bob.Sender(by), Peer: "carol", Draft: textDraft("hello")})
			return err
		}},
		{"recallMessage", as(bob), func(by room.Actor) error { return f.Recall(t.Context(), by, bob.User.ID, "lobby", sent.ID) }},
		{"kick", admin, func(by room.Actor) error {
			_, err := f.KickMembers(t.Context(), by, "lobby", []room.UserID{"bob"}, "", 0)
			return err
		}},
		{"destroyRoom", admin, func(by room.Actor) error { return f.DestroyRoom(t.Context(), by, "lobby", "") }},
		{"kickSession", admin, func(by room.Actor) error { return f.KickSession(t.Context(), by, "carol", carol.ID, "") }},
		{"kickUser", admin, func(by room.Actor) error {
			_, err := f.KickUser(t.Context(), by, "bob", "")
			return err
		}},
		{"endSession", as(alice), func(by room.Actor) error { return f.EndSession(t.Context(), by) }},
	} {
		if err := c.call(c.by); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if by := f.published.take().By; by != c.by {
			t.Errorf("%s is the change of %+v, not of %+v", c.what, by, c.by)
		}
	}

	expiring := newSessionUntil(t, f.Store, "dave", f.clock.Now().Add(time.Minute))
	f.published.take()
	f.clock.advance(2 * time.Minute)
	sweep(t, f)
	if c := f.published.take(); c.By != room.Server() || len(c.Ended) != 1 || c.Ended[0].Session != expiring.ID {
		t.Errorf("the end of an expired session is %+v", c)
	}
}

// TestRefusedJoinsReachTheSession: a session that is not in the room is notified of the refusal.
// One that is in the room is not, because it stays there.
func TestRefusedJoinsReachTheSession(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	if _, err := f.CreateRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	f.published.take()
	if _, err := f.CreateRoom(t.Context(), as(bob), "lobby", room.RoomOptions{}); err == nil {
		t.Error("a room is created twice")
	}
	refused := f.published.take().Refused
	if len(refused) != 1 || refused[0].Session != bob.ID || refused[0].Call != room.RoomCreate || refused[0].Problem.Code != room.ErrRoomExists.Code {
		t.Errorf("refused: %+v", refused)
	}
	if _, err := f.CreateRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err == nil {
		t.Error("a room is created twice")
	}
	if c := f.published.take(); len(c.Refused) != 0 {
		t.Errorf("a member is notified that it was refused: %+v", c.Refused)
	}
}
