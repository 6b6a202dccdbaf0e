package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// newUser returns a new session as it is stored, with its inbox.
func newUser(t testing.TB, f fixture, user string) room.Session {
	t.Helper()
	session, err := f.SessionByID(t.Context(), newSession(t, f.Store, user).ID)
	if err != nil || session.Inbox == 0 {
		t.Fatalf("session of %s: got %+v, %v, want one with an inbox", user, session, err)
	}
	return session
}

func postPeer(t testing.TB, f fixture, from room.Session, to room.UserID, d room.Draft) room.Message {
	t.Helper()
	m, err := f.PostPeerMessage(t.Context(), from, to, d)
	if err != nil {
		t.Fatalf("message from %s to %s: %v", from.User.ID, to, err)
	}
	return m
}

// TestPeerMessageIsInBothInboxes checks that a message has a seq of its own in each inbox.
func TestPeerMessageIsInBothInboxes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob, carol := newUser(t, f, "alice"), newUser(t, f, "bob"), newUser(t, f, "carol")
	if again := newUser(t, f, "alice"); again.Inbox != alice.Inbox || alice.Inbox == bob.Inbox {
		t.Errorf("inboxes of alice, of alice again and of bob: got %d, %d and %d", alice.Inbox, again.Inbox, bob.Inbox)
	}
	postPeer(t, f, carol, "bob", textDraft("before"))
	f.published.take()
	sent := postPeer(t, f, alice, "bob", textDraft("hello"))
	if sent.Peer != "bob" || sent.Seq != 1 || sent.Room != "" || sent.Sender != alice.User || sent.Text != "hello" {
		t.Errorf("sent message: got %+v", sent)
	}
	want := []room.Event{
		{Log: alice.Inbox, Seq: 1, At: sent.SentAt.Time(), Body: room.PeerMessagesReceived{MessageList: []room.Message{sent}}},
		{Log: bob.Inbox, Seq: 2, At: sent.SentAt.Time(), Body: room.PeerMessagesReceived{MessageList: []room.Message{sent.With("alice", 2)}}},
	}
	if diff := cmp.Diff(want, f.published.take().Events); diff != "" {
		t.Errorf("published events (-want +got):\n%s", diff)
	}
	for _, e := range want {
		for _, step := range []struct {
			what string
			read func() (room.LogPage, error)
		}{
			{"tail", func() (room.LogPage, error) { return f.Tail(t.Context(), e.Log, 1) }},
			{"after", func() (room.LogPage, error) { return f.EventsAfter(t.Context(), e.Log, e.Seq-1, 10) }},
		} {
			page, err := step.read()
			if diff := cmp.Diff(room.LogPage{Events: []room.Event{e}, LastSeq: e.Seq, OldestSeq: 1}, page); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", step.what, err, diff)
			}
		}
	}
	command := room.Draft{Content: room.Content{Kind: room.KindCommand, Data: []byte{1}}, Priority: room.PriorityLow}
	unstored := postPeer(t, f, bob, "alice", command)
	want = []room.Event{
		{Log: bob.Inbox, At: unstored.SentAt.Time(), Body: room.PeerMessagesReceived{MessageList: []room.Message{unstored}}},
		{Log: alice.Inbox, At: unstored.SentAt.Time(), Body: room.PeerMessagesReceived{MessageList: []room.Message{unstored.With("bob", 0)}}},
	}
	if diff := cmp.Diff(want, f.published.take().Events); diff != "" || unstored.Peer != "alice" || unstored.Seq != 0 {
		t.Errorf("message that is not stored: got %+v; published events (-want +got):\n%s", unstored, diff)
	}
}

func TestRejectedPeerMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	ended := newUser(t, f, "alice")
	if err := f.EndSession(t.Context(), as(ended)); err != nil {
		t.Fatal(err)
	}
	command := room.Draft{Content: room.Content{Kind: room.KindCommand, Data: []byte{1}}}
	for _, c := range []struct {
		from room.Session
		to   room.UserID
		d    room.Draft
		want error
	}{
		{alice, "alice", textDraft("x"), room.ErrMessageToSelf},
		{alice, "alice", command, room.ErrMessageToSelf},
		{alice, "nobody", textDraft("x"), room.ErrUserNotFound},
		{alice, "nobody", command, room.ErrUserNotFound},
		{ended, "bob", textDraft("x"), room.ErrSessionEnded},
	} {
		if _, err := f.PostPeerMessage(t.Context(), c.from, c.to, c.d); !errors.Is(err, c.want) {
			t.Errorf("%s to %s: got %v, want %v", c.from.User.ID, c.to, err, c.want)
		}
	}
	for _, read := range []func() ([]room.Message, error){
		func() ([]room.Message, error) { return f.PeerMessagesBefore(t.Context(), alice, "nobody", 9, 9) },
		func() ([]room.Message, error) { return f.PeerMessagesAfter(t.Context(), alice, "nobody", 0, 9) },
	} {
		if _, err := read(); !errors.Is(err, room.ErrUserNotFound) {
			t.Errorf("messages with an unknown user: got %v, want ErrUserNotFound", err)
		}
	}
	if n := query[int](t, f, "SELECT count(*) FROM events") + len(f.published.take().Events); n != 0 {
		t.Errorf("%d events of rejected messages, want none", n)
	}
	if postPeer(t, f, bob, "alice", textDraft("x")).Seq != 1 {
		t.Error("a rejected message used up a seq")
	}
}

// TestConcurrentPeerMessages sends from all users to all others, from several sessions each, while
// sessions log in and sweeps run.
func TestConcurrentPeerMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{SessionsPerUser: 1000})
	const users, sessions, each = 4, 4, 25
	var (
		group sync.WaitGroup
		all   []room.Session
	)
	for i := range users * sessions {
		all = append(all, newUser(t, f, fmt.Sprintf("user%d", i%users)))
	}
	for i, session := range all {
		group.Go(func() {
			for n := range each {
				to := room.UserID(fmt.Sprintf("user%d", (i+1+n%(users-1))%users))
				if to == session.User.ID {
					t.Errorf("the test makes %s write to itself", to)
				}
				m, err := f.PostPeerMessage(t.Context(), session, to, textDraft(fmt.Sprint(i, n)))
				if err != nil || m.Seq == 0 {
					t.Errorf("%s to %s: %+v, %v", session.User.ID, to, m, err)
				}
				if _, err := f.OpenStream(t.Context(), session.ID, "", []room.Position{{Log: session.Inbox, Seq: m.Seq}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		sweep(t, f)
	}
	group.Wait()
	checkInvariants(t, f)
	published := map[room.LogID][]room.Seq{}
	for _, e := range f.published.take().Events {
		published[e.Log] = append(published[e.Log], e.Seq)
	}
	for i := range users {
		inbox := newUser(t, f, fmt.Sprintf("user%d", i)).Inbox
		slices.Sort(published[inbox])
		for n, seq := range published[inbox] {
			if seq != room.Seq(n+1) {
				t.Fatalf("event %d of user%d has seq %d", n+1, i, seq)
			}
		}
		if want := 2 * sessions * each; len(published[inbox]) != want {
			t.Errorf("user%d: %d events published, want %d", i, len(published[inbox]), want)
		}
	}
}

// TestPeerRetry checks that a ClientMessageID identifies a message of a sender to a receiver, also
// in concurrent calls.
func TestPeerRetry(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	phone := newUser(t, f, "alice")
	newUser(t, f, "carol")
	d := textDraft("once")
	postPeer(t, f, bob, "alice", textDraft("so that the numbers differ"))
	var all [20]room.Message
	const rounds = 5 // in the first, the store opens its connections one after the other
	for round := range rounds {
		d.ClientMessageID = fmt.Sprint(rounds - round) // the last is 1
		var group sync.WaitGroup
		for i := range all {
			group.Go(func() {
				from := []room.Session{alice, phone}[i%2]
				var err error
				if all[i], err = f.PostPeerMessage(t.Context(), from, "bob", d); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, m := range all {
			if diff := cmp.Diff(all[0], m); diff != "" {
				t.Errorf("answers differ (-first +other):\n%s", diff)
			}
		}
	}
	stored, found, err := f.EarlierPeerMessage(t.Context(), toPeer(alice, "bob", d))
	if diff := cmp.Diff(all[0], stored); err != nil || !found || diff != "" {
		t.Errorf("the stored message: got %+v, %t, %v", stored, found, err)
	}
	for what, answer := range map[string]room.Message{
		"to another":        postPeer(t, f, alice, "carol", d),
		"the other way":     postPeer(t, f, bob, "alice", d),
		"to another again":  postPeer(t, f, alice, "carol", d),
		"the other way too": postPeer(t, f, bob, "alice", d),
	} {
		if answer.ID == all[0].ID {
			t.Errorf("%s: got the first message", what)
		}
	}
	other := textDraft("other")
	other.ClientMessageID = "1"
	if _, err := f.PostPeerMessage(t.Context(), alice, "bob", other); !errors.Is(err, room.ErrMessageIDReused) {
		t.Errorf("another text under the same ID: got %v, want ErrMessageIDReused", err)
	}
	if _, found, err := f.EarlierPeerMessage(t.Context(), toPeer(alice, "bob", other)); !found || !errors.Is(err, room.ErrMessageIDReused) {
		t.Errorf("earlier message of another text: got %t, %v, want ErrMessageIDReused", found, err)
	}
	other.ClientMessageID = "other"
	if _, found, err := f.EarlierPeerMessage(t.Context(), toPeer(alice, "bob", other)); found || err != nil {
		t.Errorf("earlier message of another ID: got %t, %v, want none", found, err)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events"); n != 2*(rounds+3) {
		t.Errorf("%d events stored, want %d", n, 2*(rounds+3))
	}
}

// TestConversationsArePaged reads both sides of two conversations that share an inbox.
func TestConversationsArePaged(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob, carol := newUser(t, f, "alice"), newUser(t, f, "bob"), newUser(t, f, "carol")
	sent := map[room.UserID][]string{}
	for i := range 12 {
		text := fmt.Sprint(i)
		switch i % 4 {
		case 0:
			postPeer(t, f, alice, "bob", textDraft(text))
			sent["bob"] = append(sent["bob"], text)
		case 1:
			postPeer(t, f, carol, "alice", textDraft(text))
			sent["carol"] = append(sent["carol"], text)
		case 2:
			postPeer(t, f, bob, "alice", textDraft(text))
			sent["bob"] = append(sent["bob"], text)
		case 3:
			postPeer(t, f, bob, "carol", textDraft(text))
		}
	}
	for peer, want := range sent {
		for n := 1; n <= len(want)+1; n++ {
			var back, forth []string
			for before := room.Seq(1000); ; {
				page, err := f.PeerMessagesBefore(t.Context(), alice, peer, before, n)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				before = page[0].Seq
				back = append(textsOf(t, peer, page), back...)
			}
			for after := room.Seq(0); ; {
				page, err := f.PeerMessagesAfter(t.Context(), alice, peer, after, n)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				after = page[len(page)-1].Seq
				forth = append(forth, textsOf(t, peer, page)...)
			}
			if !slices.Equal(back, want) || !slices.Equal(forth, want) {
				t.Errorf("with %s in pages of %d: got %v backwards and %v forwards, want %v", peer, n, back, forth, want)
			}
		}
	}
	if page, err := f.PeerMessagesAfter(t.Context(), bob, "alice", 0, 100); err != nil || !slices.Equal(textsOf(t, "alice", page), sent["bob"]) {
		t.Errorf("conversation in bob's inbox: got %+v, %v", page, err)
	}
}

func textsOf(t testing.TB, peer room.UserID, page []room.Message) (texts []string) {
	t.Helper()
	for _, m := range page {
		if m.Peer != peer || m.Seq == 0 {
			t.Errorf("message with %s: got %+v", peer, m)
		}
		texts = append(texts, m.Text)
	}
	return texts
}

// TestCursorSetsDelivered checks that only a cursor within the inbox moves its delivered position.
func TestCursorSetsDelivered(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	for range 5 {
		postPeer(t, f, bob, "alice", textDraft("x"))
	}
	for _, c := range []struct {
		what   string
		cursor []room.Position
		want   room.Seq
	}{
		{"without a cursor", nil, 0},
		{"at the beginning", []room.Position{{Log: alice.Inbox}}, 0},
		{"in another log", []room.Position{{Log: bob.Inbox, Seq: 4}}, 0},
		{"ahead", []room.Position{{Log: alice.Inbox, Seq: 6}}, 0},
		{"in the middle", []room.Position{{Log: alice.Inbox, Seq: 3}}, 3},
		{"before that", []room.Position{{Log: alice.Inbox, Seq: 2}}, 3},
		{"at the end", []room.Position{{Log: alice.Inbox, Seq: 5}, {Log: bob.Inbox, Seq: 1}}, 5},
	} {
		opened, err := f.OpenStream(t.Context(), alice.ID, "", c.cursor)
		if err != nil {
			t.Fatal(err)
		}
		want := room.Inbox{Log: alice.Inbox, LastSeq: 5, OldestSeq: 1, DeliveredSeq: c.want}
		if opened.Inbox != want {
			t.Errorf("%s: got %+v, want %+v", c.what, opened.Inbox, want)
		}
	}
	if opened := openStream(t, f, bob); opened.Inbox.DeliveredSeq != 0 {
		t.Errorf("the cursor of another user moved the delivered position: %+v", opened.Inbox)
	}
	// The cursor of an ended session is ignored.
	phone := newUser(t, f, "bob")
	if err := f.EndSession(t.Context(), as(phone)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.OpenStream(t.Context(), phone.ID, "", []room.Position{{Log: bob.Inbox, Seq: 5}}); !errors.Is(err, room.ErrSessionEnded) {
		t.Errorf("stream of an ended session: got %v, want ErrSessionEnded", err)
	}
	if opened := openStream(t, f, bob); opened.Inbox.DeliveredSeq != 0 {
		t.Errorf("the cursor of an ended session moved the delivered position: %+v", opened.Inbox)
	}
}

// TestInboxesAreTrimmed checks that only messages older than the retention are trimmed, in batches.
func TestInboxesAreTrimmed(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{PeerRetention: time.Hour, FeedRetention: 1000 * time.Hour})
	const until = 1000 * 24 * time.Hour
	alice, bob := newSessionUntil(t, f.Store, "alice", time.Now().Add(until)), newSessionUntil(t, f.Store, "bob", time.Now().Add(until))
	newSessionUntil(t, f.Store, "carol", time.Now().Add(until))
	inbox := func(id room.UserID) (in room.Inbox) {
		t.Helper()
		in.OldestSeq = query[room.Seq](t, f, "SELECT oldest_seq FROM inboxes WHERE user_id = $1", id)
		in.LastSeq = query[room.Seq](t, f, "SELECT last_seq FROM inboxes WHERE user_id = $1", id)
		return in
	}
	wants := func(what string, id room.UserID, oldest, last room.Seq) {
		t.Helper()
		sweep(t, f)
		if got := inbox(id); got.OldestSeq != oldest || got.LastSeq != last {
			t.Errorf("%s: %s's inbox reaches from %d to %d, want %d to %d", what, id, got.OldestSeq, got.LastSeq, oldest, last)
		}
	}
	enter(t, f, alice, "lobby")
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("in a room")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		postPeer(t, f, alice, "bob", textDraft("old"))
	}
	f.clock.advance(time.Hour)
	postPeer(t, f, bob, "alice", textDraft("new"))
	wants("an hour old", "alice", 1, 4)
	f.clock.advance(time.Second)
	wants("older", "alice", 4, 4)
	wants("older", "bob", 4, 4)
	page, err := f.EventsAfter(t.Context(), query[room.LogID](t, f, "SELECT log FROM inboxes WHERE user_id = 'bob'"), 0, 10)
	if err != nil || len(page.Events) != 1 || page.OldestSeq != 4 || page.Events[0].Seq != 4 {
		t.Errorf("bob's inbox after the trim: got %+v, %v", page, err)
	}
	f.clock.advance(time.Hour)
	wants("all", "alice", 5, 4)
	f.clock.advance(time.Hour)
	postPeer(t, f, alice, "carol", textDraft("again"))
	wants("a new one", "alice", 5, 5)

	// More than one batch.
	if _, err := f.OpenStream(t.Context(), alice.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	query[bool](t, f, `WITH e AS (
			INSERT INTO events (generation, seq, type, at, peer_id, body)
			SELECT log, last_seq + n, 'peerMessageReceived', $1, 'bob', '{}' FROM inboxes, generate_series(1, 2500) n WHERE user_id = 'alice'
		) UPDATE inboxes SET last_seq = last_seq + 2500 WHERE user_id = 'alice' RETURNING true`, f.clock.Now())
	f.clock.advance(time.Hour - time.Second)
	wants("not yet", "alice", 5, 2505)
	f.clock.advance(2 * time.Second)
	wants("in batches", "alice", 2506, 2505)
	if n := query[int](t, f, "SELECT count(*) FROM events WHERE peer_id IS NULL AND type = $1", room.TypeMessagesReceived); n != 1 {
		t.Errorf("%d messages of the room are left, want 1", n)
	}
	checkInvariants(t, f)
}

// TestFeedHasNoPeerMessages checks that messages between users are not in the feed and do not delay
// it.
func TestFeedHasNoPeerMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	for range 30 {
		postPeer(t, f, bob, "alice", textDraft("private"))
	}
	enter(t, f, alice, "lobby")
	for range 30 {
		postPeer(t, f, bob, "alice", textDraft("private"))
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("public")); err != nil {
		t.Fatal(err)
	}
	var (
		types []room.EventType
		c     room.FeedCursor
		want  = []room.EventType{room.TypeRoomCreated, room.TypeMembersJoined, room.TypeMessagesReceived}
	)
	// Transactions of other databases of the server may hold the feed back.
	waitUntil(t, "the feed has delivered all events", func() bool {
		page, err := f.FeedAfter(t.Context(), c, room.FeedParts{}, 1) // the smallest pages are the first to be held up
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			c = e.Cursor
			types = append(types, e.Type)
		}
		return len(types) >= len(want)
	})
	if page, err := f.FeedAfter(t.Context(), c, room.FeedParts{}, 1); err != nil || len(page.Events) > 0 || !slices.Equal(types, want) {
		t.Errorf("feed: got %v and then %+v, %v, want %v", types, page.Events, err, want)
	}
}
