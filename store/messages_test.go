package store_test

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

func TestMessagesAreNumberedWithoutGaps(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const senders, each, rooms = 16, 30, 3
	var group sync.WaitGroup
	for i := range senders {
		session := newSession(t, f.Store, fmt.Sprintf("user%d", i))
		enter(t, f, session, roomOf(i%rooms))
		group.Go(func() {
			for n := range each {
				d := textDraft(fmt.Sprintf("%d of %s", n, session.User.ID))
				m, err := f.PostMessage(t.Context(), session, roomOf(i%rooms), d)
				if err != nil || m.Seq == 0 || m.Text != d.Text {
					t.Errorf("post: %+v, %v", m, err)
				}
			}
		})
	}
	group.Wait()

	published := make(map[room.LogID][]room.Seq)
	for _, e := range f.published.take().Events {
		published[e.Log] = append(published[e.Log], e.Seq)
	}
	for i := range rooms {
		r, err := f.SessionRoom(t.Context(), anyMember(t, f, roomOf(i)), roomOf(i))
		if err != nil {
			t.Fatal(err)
		}
		page, err := f.EventsAfter(t.Context(), r.Generation, 0, 10000)
		if err != nil {
			t.Fatal(err)
		}
		for n, e := range page.Events {
			if e.Seq != room.Seq(n+1) {
				t.Fatalf("event %d of %s has seq %d", n+1, r.ID, e.Seq)
			}
		}
		if r.LastSeq != room.Seq(len(page.Events)) || len(published[r.Generation]) != len(page.Events) {
			t.Errorf("%s: lastSeq %d, %d events stored, %d published", r.ID, r.LastSeq, len(page.Events), len(published[r.Generation]))
		}
	}
}

func anyMember(t testing.TB, f fixture, id room.RoomID) room.SessionID {
	t.Helper()
	return query[room.SessionID](t, f, `SELECT session_id::text FROM attendances JOIN rooms USING (generation)
		WHERE room_id = $1 LIMIT 1`, id)
}

func TestRetryReturnsTheStoredMessage(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby")
	enter(t, f, bob, "lobby")
	d := textDraft("once")
	d.ClientMessageID = "1"

	// Many retries at the same time, so that some are in one batch.
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		messages []room.Message
	)
	for range 20 {
		group.Go(func() {
			m, err := f.PostMessage(t.Context(), alice, "lobby", d)
			if err != nil {
				t.Errorf("retry: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			messages = append(messages, m)
		})
	}
	group.Wait()
	for _, m := range messages {
		if diff := cmp.Diff(messages[0], m); diff != "" {
			t.Fatalf("answers differ (-first +other):\n%s", diff)
		}
	}
	other := d
	other.Text = "twice"
	if _, err := f.PostMessage(t.Context(), alice, "lobby", other); !errors.Is(err, room.ErrMessageIDReused) {
		t.Errorf("another text under the same ID: got %v, want ErrMessageIDReused", err)
	}
	if m, err := f.PostMessage(t.Context(), bob, "lobby", other); err != nil || m.ID == messages[0].ID {
		t.Errorf("another sender under the same ID: got %+v, %v, want a new message", m, err)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events WHERE client_message_id = '1'"); n != 2 {
		t.Errorf("%d messages stored, want 2", n)
	}
}

func TestOnlyMembersPost(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby")

	if _, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello")); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("message from a session outside the room: got %v, want ErrNotInRoom", err)
	}
	if _, err := f.PostMessage(t.Context(), alice, "nowhere", textDraft("hello")); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("message to an unknown room: got %v, want ErrRoomNotFound", err)
	}
	enter(t, f, bob, "lobby")
	leave(t, f, alice, "lobby")
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("message after leaving: got %v, want ErrNotInRoom", err)
	}
}

func TestHistoryIsReadInBothDirections(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	r := enter(t, f, alice, "lobby")
	var want []room.Message
	for i := range 9 {
		if i%3 == 0 { // other events in between
			bob := newSession(t, f.Store, fmt.Sprintf("bob%d", i))
			enter(t, f, bob, "lobby")
		}
		d := textDraft(fmt.Sprintf("message %d \u0001 \u2028 <b> 🙂", i))
		d.ExtendedData, d.ClientMessageID = "{}", fmt.Sprint(i)
		m, err := f.PostMessage(t.Context(), alice, "lobby", d)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, m)
	}
	after, err := f.OldestMessages(t.Context(), r, room.Span{Before: math.MaxInt64}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("oldest messages (-want +got):\n%s", diff)
	}
	before, err := f.NewestMessages(t.Context(), r, room.Span{Before: want[5].Seq}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[2:5], before); diff != "" {
		t.Errorf("messages before the sixth (-want +got):\n%s", diff)
	}
}

func TestTailAndEventsAfter(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	r := enter(t, f, alice, "lobby")
	for range 9 {
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name        string
		page        func() (room.LogPage, error)
		first, last room.Seq
	}{
		{"tail", func() (room.LogPage, error) { return f.Tail(t.Context(), r.Generation, 4) }, 7, 10},
		{"tail longer than the log", func() (room.LogPage, error) { return f.Tail(t.Context(), r.Generation, 40) }, 1, 10},
		{"page", func() (room.LogPage, error) { return f.EventsAfter(t.Context(), r.Generation, 3, 4) }, 4, 7},
		{"end", func() (room.LogPage, error) { return f.EventsAfter(t.Context(), r.Generation, 8, 4) }, 9, 10},
		{"past end", func() (room.LogPage, error) { return f.EventsAfter(t.Context(), r.Generation, 10, 4) }, 0, 0},
	} {
		p, err := c.page()
		if err != nil || p.LastSeq != 10 || p.OldestSeq != 1 {
			t.Fatalf("%s: %+v, %v", c.name, p, err)
		}
		if c.last == 0 {
			if len(p.Events) != 0 {
				t.Errorf("%s: %d events, want none", c.name, len(p.Events))
			}
			continue
		}
		if n := len(p.Events); n != int(c.last-c.first+1) || p.Events[0].Seq != c.first || p.Events[n-1].Seq != c.last {
			t.Errorf("%s: %d events, want %d to %d", c.name, n, c.first, c.last)
		}
	}
	if _, err := f.Tail(t.Context(), r.Generation+1, 4); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("tail of an unknown log: got %v, want ErrRoomNotFound", err)
	}
}
