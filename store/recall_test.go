package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

func recallFixture(t *testing.T) (f fixture, alice, bob room.Session) {
	t.Helper()
	f = setup(t, store.Options{})
	alice, bob = newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	for _, s := range []room.Session{alice, bob} {
		enter(t, f, s, "lobby")
	}
	return f, alice, bob
}

func postToLobby(t *testing.T, f fixture, s room.Session, d room.Draft) room.Message {
	t.Helper()
	m, err := f.PostMessage(t.Context(), s, "lobby", d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRecalledContentIsGone looks for the content in the whole database.
func TestRecalledContentIsGone(t *testing.T) {
	t.Parallel()
	f, alice, _ := recallFixture(t)
	d := textDraft("a secret")
	d.ClientMessageID, d.ExtendedData = "1", "a secret too"
	postToLobby(t, f, alice, textDraft("before")) // in the same millisecond, because the clock does not move
	m := postToLobby(t, f, alice, d)
	after := postToLobby(t, f, alice, textDraft("after"))
	f.published.take()

	if err := f.Recall(t.Context(), as(alice), alice.User.ID, "lobby", m.ID); err != nil {
		t.Fatal(err)
	}
	published := f.published.take().Events
	want := room.MessageRecalled{MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: &room.OperatedInfo{UserID: "alice"}}
	if len(published) != 1 || published[0].Seq != after.Seq+1 || !cmp.Equal(published[0].Body, room.Body(want)) {
		t.Errorf("published events: got %+v", published)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events e WHERE e::text LIKE '%secret%'"); n != 0 {
		t.Errorf("%d events contain the content, want none", n)
	}
	page, err := f.EventsAfter(t.Context(), published[0].Log, m.Seq-1, 3)
	if err != nil || len(page.Events) != 3 || page.LastSeq != published[0].Seq {
		t.Fatalf("log from the recalled message on: got %+v, %v", page, err)
	}
	tombstone := page.Events[0].Body.(room.MessagesReceived).MessageList[0]
	wanted := m
	wanted.Text, wanted.ExtendedData, wanted.Recalled = "", "", true
	if diff := cmp.Diff(wanted, tombstone); diff != "" {
		t.Errorf("tombstone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(published[0], page.Events[2]); diff != "" {
		t.Errorf("events differ (-published +stored):\n%s", diff)
	}

	// A second recall and a retry change nothing.
	if err := f.Recall(t.Context(), as(alice), alice.User.ID, "lobby", m.ID); err != nil {
		t.Errorf("second recall: %v", err)
	}
	if retried := postToLobby(t, f, alice, d); !cmp.Equal(retried, tombstone) {
		t.Errorf("retry: got %+v, want the tombstone", retried)
	}
	if published := f.published.take().Events; len(published) != 0 {
		t.Errorf("got events %+v, want none", published)
	}
	checkInvariants(t, f)
}

func TestRecallPermissions(t *testing.T) {
	t.Parallel()
	f, alice, bob := recallFixture(t)
	enter(t, f, alice, "other")
	elsewhere, err := f.PostMessage(t.Context(), alice, "other", textDraft("elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	barrage, err := f.PostMessage(t.Context(), alice, "lobby", room.Draft{Content: room.Content{Kind: room.KindBarrage, Text: "whoosh"}, Priority: room.PriorityLow})
	if err != nil {
		t.Fatal(err)
	}
	outsider := newSession(t, f.Store, "alice")
	m := postToLobby(t, f, alice, textDraft("mine"))
	old := postToLobby(t, f, alice, textDraft("mine and old"))
	recall := func(what string, s room.Session, in room.RoomID, id room.MessageID, want error) {
		t.Helper()
		if err := f.Recall(t.Context(), as(s), s.User.ID, in, id); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("recall %s: got %v, want %v", what, err, want)
		}
	}
	recall("another's", bob, "lobby", m.ID, room.ErrNotSender)
	recall("of another room", alice, "lobby", elsewhere.ID, room.ErrMessageNotFound)
	recall("not stored", alice, "lobby", barrage.ID, room.ErrMessageNotFound)
	recall("never sent", alice, "lobby", "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4", room.ErrMessageNotFound)
	recall("not of version 7", alice, "lobby", "0193507e-9b1e-4c3d-8a10-2f5be1c2d3e4", room.ErrMessageNotFound)
	recall("no ID", alice, "lobby", "x", room.ErrMessageNotFound)
	recall("from outside", outsider, "lobby", m.ID, room.ErrNotInRoom)
	recall("in no room", alice, "nowhere", m.ID, room.ErrRoomNotFound)
	f.clock.advance(room.RecallTime)
	// Another session of the user may recall the message too.
	enter(t, f, outsider, "lobby")
	recall("just in time", outsider, "lobby", m.ID, nil)
	f.clock.advance(time.Second)
	recall("too late", alice, "lobby", old.ID, room.ErrRecallTooLate)
	for _, step := range []struct {
		id   room.MessageID
		want error
	}{{old.ID, nil}, {m.ID, nil}, {elsewhere.ID, room.ErrMessageNotFound}} {
		if err := f.RecallAny(t.Context(), admin, "lobby", step.id); !errors.Is(err, step.want) || (step.want == nil) != (err == nil) {
			t.Errorf("recall by an admin: got %v, want %v", err, step.want)
		}
	}
	if err := f.RecallAny(t.Context(), admin, "nowhere", m.ID); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("recall by an admin in an unknown room: got %v, want ErrRoomNotFound", err)
	}
	// A new generation of the room does not have the messages of the previous one.
	if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
		t.Fatal(err)
	}
	enter(t, f, alice, "lobby")
	recall("of an earlier generation", alice, "lobby", m.ID, room.ErrMessageNotFound)
}

// TestPeerRecall checks that the content of a recalled message is gone from both inboxes and the
// rest of the database, and that both users get an event in their own inbox.
func TestPeerRecall(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob, carol := newUser(t, f, "alice"), newUser(t, f, "bob"), newUser(t, f, "carol")
	postPeer(t, f, carol, "bob", textDraft("so that the numbers differ"))
	d := textDraft("a secret")
	d.ClientMessageID, d.ExtendedData = "1", "a secret too"
	postPeer(t, f, alice, "bob", textDraft("before")) // in the same millisecond, because the clock does not move
	m := postPeer(t, f, alice, "bob", d)
	postPeer(t, f, bob, "alice", textDraft("after"))
	f.published.take()
	if err := f.RecallPeer(t.Context(), as(alice), alice.User.ID, "bob", m.ID); err != nil {
		t.Fatal(err)
	}
	by := &room.OperatedInfo{UserID: "alice"}
	want := []room.Event{
		{Log: alice.Inbox, Seq: 4, At: f.clock.Now(), Body: room.PeerMessageRecalled{Peer: "bob", MessageID: m.ID, RecalledSeq: 2, OperatedInfo: by}},
		{Log: bob.Inbox, Seq: 5, At: f.clock.Now(), Body: room.PeerMessageRecalled{Peer: "alice", MessageID: m.ID, RecalledSeq: 3, OperatedInfo: by}},
	}
	for i := range want {
		want[i].At = want[i].At.UTC().Truncate(time.Millisecond)
	}
	if diff := cmp.Diff(want, f.published.take().Events); diff != "" {
		t.Errorf("published events (-want +got):\n%s", diff)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events e WHERE e::text LIKE '%secret%'"); n != 0 {
		t.Errorf("%d events contain the content, want none", n)
	}
	tombstone := m
	tombstone.Text, tombstone.ExtendedData, tombstone.Recalled = "", "", true
	for i, side := range []struct {
		session room.Session
		peer    room.UserID
		seq     room.Seq
	}{{alice, "bob", 2}, {bob, "alice", 3}} {
		page, err := f.PeerMessagesAfter(t.Context(), side.session, side.peer, side.seq-1, 1)
		got := tombstone.With(side.peer, side.seq)
		if i == 1 {
			got.ClientMessageID = page[0].ClientMessageID
		}
		if diff := cmp.Diff([]room.Message{got}, page); err != nil || diff != "" {
			t.Errorf("tombstone in the inbox of %s: %v (-want +got):\n%s", side.session.User.ID, err, diff)
		}
		log, err := f.EventsAfter(t.Context(), side.session.Inbox, want[i].Seq-1, 10)
		if diff := cmp.Diff(want[i:i+1], log.Events); err != nil || diff != "" {
			t.Errorf("event in the inbox of %s: %v (-want +got):\n%s", side.session.User.ID, err, diff)
		}
	}
	// A second recall and a retry change nothing.
	if err := f.RecallPeer(t.Context(), as(alice), alice.User.ID, "bob", m.ID); err != nil {
		t.Errorf("second recall: %v", err)
	}
	if retried := postPeer(t, f, alice, "bob", d); !cmp.Equal(retried, tombstone) {
		t.Errorf("retry: got %+v, want the tombstone", retried)
	}
	if published := f.published.take().Events; len(published) != 0 {
		t.Errorf("got events %+v, want none", published)
	}
	checkInvariants(t, f)
}

func TestPeerRecallPermissions(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, phone, bob, carol := newUser(t, f, "alice"), newUser(t, f, "alice"), newUser(t, f, "bob"), newUser(t, f, "carol")
	enter(t, f, alice, "lobby")
	public := postToLobby(t, f, alice, textDraft("public"))
	m, old := postPeer(t, f, alice, "bob", textDraft("x")), postPeer(t, f, alice, "bob", textDraft("old"))
	recall := func(what string, s room.Session, peer room.UserID, id room.MessageID, want error) {
		t.Helper()
		if err := f.RecallPeer(t.Context(), as(s), s.User.ID, peer, id); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("recall %s: got %v, want %v", what, err, want)
		}
	}
	recall("another's", bob, "alice", m.ID, room.ErrNotSender)
	recall("of others", carol, "alice", m.ID, room.ErrMessageNotFound)
	recall("with another", alice, "carol", m.ID, room.ErrMessageNotFound)
	recall("with oneself", alice, "alice", m.ID, room.ErrMessageNotFound)
	recall("with nobody", alice, "nobody", m.ID, room.ErrUserNotFound)
	recall("of a room", alice, "bob", public.ID, room.ErrMessageNotFound)
	recall("never sent", alice, "bob", "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4", room.ErrMessageNotFound)
	recall("no ID", alice, "bob", "x", room.ErrMessageNotFound)
	f.clock.advance(room.RecallTime)
	recall("just in time, from another session", phone, "bob", m.ID, nil)
	f.clock.advance(time.Second)
	recall("too late", alice, "bob", old.ID, room.ErrRecallTooLate)
	recall("again, however late", alice, "bob", m.ID, nil)
}

// TestPeerRecallOfFiles checks that a recall releases the file in both inboxes and nowhere else,
// and that the sender can read the file until the last message with it is recalled.
func TestPeerRecallOfFiles(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newUser(t, f, "alice")
	newUser(t, f, "bob")
	newUser(t, f, "carol")
	m := upload(t, f, "alice")
	sent := postPeer(t, f, alice, "bob", fileDraft(m))
	other := postPeer(t, f, alice, "carol", fileDraft(m))
	for _, c := range []struct {
		to      room.UserID
		id      room.MessageID
		uses    int
		readers []room.UserID
	}{{"bob", sent.ID, 1, []room.UserID{"alice", "carol"}}, {"carol", other.ID, 0, nil}} {
		if err := f.RecallPeer(t.Context(), as(alice), alice.User.ID, c.to, c.id); err != nil {
			t.Fatal(err)
		}
		if got := readers(t, f, m, "alice", "bob", "carol"); !slices.Equal(got, c.readers) {
			t.Errorf("readers: got %v, want %v", got, c.readers)
		}
		if got := query[int](t, f, "SELECT uses FROM media"); got != c.uses {
			t.Errorf("the file has %d uses, want %d", got, c.uses)
		}
	}
}

// TestConcurrentPeerRecalls recalls the messages of both sides while they are answered. A message
// that is trimmed in one inbox is recalled in the other.
func TestConcurrentPeerRecalls(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	var all sync.WaitGroup
	for i := range 20 {
		from, to := alice, bob
		if i%2 == 0 {
			from, to = bob, alice
		}
		m := postPeer(t, f, from, to.User.ID, textDraft("x"))
		for range 3 {
			all.Go(func() {
				if err := f.RecallPeer(context.Background(), as(from), from.User.ID, to.User.ID, m.ID); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if _, err := f.PostPeerMessage(context.Background(), to, from.User.ID, textDraft("y")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := query[int](t, f, "SELECT count(*) FROM events WHERE type = $1", room.TypePeerMessageRecalled); n != 2*20 {
		t.Errorf("%d recall events, want %d", n, 2*20)
	}
	checkInvariants(t, f)
	m := postPeer(t, f, alice, "bob", textDraft("x"))
	execute(t, f, "DELETE FROM events WHERE generation = $1", bob.Inbox)
	execute(t, f, "UPDATE inboxes SET oldest_seq = last_seq + 1, oldest_at = NULL WHERE log = $1", bob.Inbox)
	f.published.take()
	if err := f.RecallPeer(t.Context(), as(alice), alice.User.ID, "bob", m.ID); err != nil {
		t.Fatal(err)
	}
	if published := f.published.take().Events; len(published) != 1 || published[0].Log != alice.Inbox {
		t.Errorf("published events: got %+v, want one in the inbox of alice", published)
	}
}
