package store_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/room"
	"parlor/store"
)

// allConversations reads all conversations of a session's user in pages of n.
func allConversations(t testing.TB, f fixture, session room.Session, n int) (all room.ConversationPage) {
	t.Helper()
	for before := room.Seq(math.MaxInt64); ; {
		page, err := f.Conversations(t.Context(), session, before, n)
		if err != nil {
			t.Fatal(err)
		}
		all.Seq, all.TotalUnreadCount, all.List = page.Seq, page.TotalUnreadCount, append(all.List, page.List...)
		if len(page.List) < n {
			return all
		}
		before = page.List[n-1].LastMessage.Seq
	}
}

// summary formats conversations as "peer:unread/last text", the newest first, with the total.
func summary(page room.ConversationPage) string {
	texts := []string{fmt.Sprint(page.TotalUnreadCount)}
	for _, c := range page.List {
		text := c.LastMessage.Text
		if c.LastMessage.Recalled {
			text = "recalled"
		}
		texts = append(texts, fmt.Sprintf("%s:%d/%s", c.Peer, c.UnreadCount, text))
	}
	return strings.Join(texts, " ")
}

// talkModel is what users should see of their messages: the events of each inbox that are not
// trimmed, and what each user has read and deleted.
type talkModel struct {
	inboxes map[room.UserID]*talkInbox
	blocks  map[[2]room.UserID]bool // of the first user against the second
}

type talkInbox struct {
	last     room.Seq
	messages []*talkMessage
	read     map[room.UserID]room.Seq
	deleted  map[room.UserID]room.Seq
}

type talkMessage struct {
	seq      room.Seq
	at       time.Time
	peer     room.UserID
	byPeer   bool
	recalled bool
	text     string
	id       room.MessageID
}

func (in *talkInbox) unread(peer room.UserID, upTo room.Seq) (n int) {
	for _, m := range in.messages {
		if m.peer == peer && m.byPeer && !m.recalled && m.seq > max(in.read[peer], in.deleted[peer]) && m.seq <= upTo {
			n++
		}
	}
	return n
}

// visible returns the messages that the user has not deleted.
func (in *talkInbox) visible(peer room.UserID) (messages []*talkMessage) {
	for _, m := range in.messages {
		if m.peer == peer && m.seq > in.deleted[peer] {
			messages = append(messages, m)
		}
	}
	return messages
}

func (in *talkInbox) summary() string {
	var texts []string
	seen, total := map[room.UserID]bool{}, 0
	for _, m := range slices.Backward(in.messages) {
		if seen[m.peer] || m.seq <= in.deleted[m.peer] {
			continue
		}
		seen[m.peer] = true
		n := in.unread(m.peer, in.last)
		total += n
		text := m.text
		if m.recalled {
			text = "recalled"
		}
		texts = append(texts, fmt.Sprintf("%s:%d/%s", m.peer, n, text))
	}
	return strings.Join(append([]string{fmt.Sprint(total)}, texts...), " ")
}

// TestConversationsModel compares the conversations of three users with a model, while they write,
// recall, read, delete and block, and while messages expire.
func TestConversationsModel(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{PeerRetention: time.Hour})
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		names := []room.UserID{"a", "b", "c"}
		model := talkModel{map[room.UserID]*talkInbox{}, map[[2]room.UserID]bool{}}
		sessions := map[room.UserID]room.Session{}
		for i := range names {
			names[i] = room.UserID(fmt.Sprintf("%s%d", names[i], run))
			session := unsavedSession(string(names[i]))
			session.TokenExpiresAt = f.clock.Now().Add(1000 * time.Hour).UTC().Truncate(time.Millisecond)
			if _, err := f.CreateSession(t.Context(), as(session), session, named(session), randomKey(t), randomKey(t)); err != nil {
				rt.Fatal(err)
			}
			stored, err := f.SessionByID(t.Context(), session.ID)
			if err != nil {
				rt.Fatal(err)
			}
			sessions[names[i]] = stored
			model.inboxes[names[i]] = &talkInbox{read: map[room.UserID]room.Seq{}, deleted: map[room.UserID]room.Seq{}}
		}
		pair := func(rt *rapid.T) (room.UserID, room.UserID) {
			two := rapid.Permutation(names).Draw(rt, "users")
			return two[0], two[1]
		}
		failed := func(rt *rapid.T, what string, got, want error) bool {
			if !errors.Is(got, want) || (want == nil) != (got == nil) {
				rt.Fatalf("%s: got %v, want %v", what, got, want)
			}
			return want != nil
		}
		n := 0
		send := func(rt *rapid.T) {
			from, to := pair(rt)
			n++
			f.clock.advance(time.Millisecond)
			m, err := f.PostPeerMessage(t.Context(), sessions[from], to, textDraft(fmt.Sprint("m", n)))
			var want error
			if model.blocks[[2]room.UserID{to, from}] {
				want = room.ErrBlocked
			}
			if failed(rt, "send", err, want) {
				return
			}
			for _, side := range [][2]room.UserID{{from, to}, {to, from}} {
				in := model.inboxes[side[0]]
				in.last++
				in.messages = append(in.messages, &talkMessage{in.last, m.SentAt.Time(), side[1], side[0] == to, false, m.Text, m.ID})
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"send":   send,
			"send 2": send,
			"send 3": send,
			"recall": func(rt *rapid.T) {
				from, to := pair(rt)
				var mine []*talkMessage
				for _, m := range model.inboxes[from].messages {
					if m.peer == to && !m.byPeer && f.clock.Now().Sub(m.at) <= room.RecallTime {
						mine = append(mine, m)
					}
				}
				if len(mine) == 0 {
					rt.Skip()
				}
				m := rapid.SampledFrom(mine).Draw(rt, "message")
				failed(rt, "recall", f.RecallPeer(t.Context(), as(sessions[from]), from, to, m.id), nil)
				for _, user := range []room.UserID{from, to} {
					in := model.inboxes[user]
					for _, copied := range in.messages {
						if copied.id == m.id && !copied.recalled {
							copied.recalled = true
							in.last++
						}
					}
				}
			},
			"read": func(rt *rapid.T) {
				user, peer := pair(rt)
				in := model.inboxes[user]
				seq := room.Seq(rapid.IntRange(1, int(in.last)+1).Draw(rt, "seq"))
				var want error
				switch {
				case len(in.visible(peer)) == 0:
					want = room.ErrNoConversation
				case seq > in.last:
					want = room.ErrSeqAhead
				}
				if failed(rt, "read", f.ReadConversation(t.Context(), as(sessions[user]), user, peer, seq), want) {
					return
				}
				if in.unread(peer, seq) > 0 {
					in.read[peer] = seq
					in.last++
				}
			},
			"read all": func(rt *rapid.T) {
				user, _ := pair(rt)
				in := model.inboxes[user]
				failed(rt, "read all", f.ReadAllConversations(t.Context(), as(sessions[user]), user), nil)
				unread := 0
				for _, peer := range names {
					unread += in.unread(peer, in.last)
					in.read[peer] = max(in.read[peer], in.last)
				}
				if unread > 0 {
					in.last++
				}
			},
			"delete": func(rt *rapid.T) {
				user, peer := pair(rt)
				in := model.inboxes[user]
				var want error
				if len(in.visible(peer)) == 0 {
					want = room.ErrNoConversation
				}
				if !failed(rt, "delete", f.DeleteConversation(t.Context(), as(sessions[user]), user, peer), want) {
					in.deleted[peer] = in.last
					in.last++
				}
			},
			"block": func(rt *rapid.T) {
				user, peer := pair(rt)
				key := [2]room.UserID{user, peer}
				if model.blocks[key] {
					failed(rt, "unblock", f.Unblock(t.Context(), as(sessions[user]), user, peer), nil)
				} else {
					failed(rt, "block", f.Block(t.Context(), as(sessions[user]), user, peer), nil)
				}
				model.blocks[key] = !model.blocks[key]
				model.inboxes[user].last++
			},
			"expire": func(rt *rapid.T) {
				f.clock.advance(time.Duration(rapid.IntRange(1, 50).Draw(rt, "minutes")) * time.Minute)
				if err := f.Sweep(t.Context()); err != nil {
					rt.Fatal(err)
				}
				for _, in := range model.inboxes {
					in.messages = slices.DeleteFunc(in.messages, func(m *talkMessage) bool { return m.at.Before(room.InstantOf(f.clock.Now()).Time().Add(-time.Hour)) })
				}
			},
			"list": func(rt *rapid.T) {
				user, peer := pair(rt)
				in := model.inboxes[user]
				page := allConversations(t, f, sessions[user], rapid.IntRange(1, 3).Draw(rt, "page"))
				if got, want := summary(page), in.summary(); got != want || page.Seq != in.last {
					rt.Fatalf("conversations of %s at %d: got %s, want %s at %d", user, page.Seq, got, want, in.last)
				}
				one, err := f.Conversation(t.Context(), sessions[user], peer)
				if visible := in.visible(peer); len(visible) == 0 {
					failed(rt, "conversation", err, room.ErrNoConversation)
				} else if err != nil || one.List[0].LastMessage.Seq != visible[len(visible)-1].seq || one.List[0].UnreadCount != in.unread(peer, in.last) {
					rt.Fatalf("conversation of %s with %s: %+v, %v", user, peer, one, err)
				}
				messages, err := f.PeerMessagesAfter(t.Context(), sessions[user], peer, 0, 1000)
				newest, err2 := f.PeerMessagesBefore(t.Context(), sessions[user], peer, math.MaxInt64, 1000)
				var got, want []room.Seq
				for _, m := range messages {
					got = append(got, m.Seq)
				}
				for _, m := range in.visible(peer) {
					want = append(want, m.seq)
				}
				if diff := cmp.Diff(want, got); err != nil || err2 != nil || diff != "" || len(newest) != len(want) {
					rt.Fatalf("messages of %s with %s: %v (-want +got):\n%s", user, peer, err, diff)
				}
			},
		})
	})
	newSessionUntil(t, f.Store, "bob", f.clock.Now().Add(time.Hour))
	postPeer(t, f, newSessionUntil(t, f.Store, "alice", f.clock.Now().Add(time.Hour)), "bob", textDraft("so that there are events"))
	checkInvariants(t, f)
}

// TestConcurrentConversations lists, reads and deletes conversations while messages are sent and
// recalled: at the end, all counts are exact.
func TestConcurrentConversations(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{PeerRetention: time.Hour, SessionsPerUser: 100})
	const users, each = 4, 30
	name := func(i int) room.UserID { return room.UserID(fmt.Sprintf("user%d", i%users)) }
	var group sync.WaitGroup
	var sessions []room.Session
	for i := range 3 * users {
		sessions = append(sessions, newUser(t, f, string(name(i))))
	}
	for i, session := range sessions {
		user := name(i)
		group.Go(func() {
			for n := range each {
				peer := name(i + 1 + n%(users-1))
				m, err := f.PostPeerMessage(t.Context(), session, peer, textDraft("x"))
				if err == nil && n%3 == 0 {
					err = f.RecallPeer(t.Context(), as(session), user, peer, m.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for n := range each {
				peer := name(i + 1 + n%(users-1))
				page := allConversations(t, f, session, 2)
				var err error
				switch n % 4 {
				case 0:
					err = f.DeleteConversation(t.Context(), as(session), user, peer)
				case 1:
					err = f.ReadConversation(t.Context(), as(session), user, peer, max(page.Seq/2, 1))
				case 2:
					err = f.ReadConversation(t.Context(), as(session), user, peer, max(page.Seq, 1))
				case 3:
					err = f.ReadAllConversations(t.Context(), as(session), user)
				}
				if err != nil && !errors.Is(err, room.ErrNoConversation) && !errors.Is(err, room.ErrSeqAhead) {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		sweep(t, f)
	}
	group.Wait()
	for i := range users {
		allConversations(t, f, newUser(t, f, string(name(i))), 10)
	}
	checkInvariants(t, f)
}

// TestConversationsOfALargeInbox counts an inbox of many batches, as an earlier release has left it,
// and trims it.
func TestConversationsOfALargeInbox(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{PeerRetention: time.Hour})
	now := f.clock.Now().Truncate(time.Millisecond)
	login := func(user string) room.Session {
		session, err := f.SessionByID(t.Context(), newSessionUntil(t, f.Store, user, now.Add(24*time.Hour)).ID)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	alice, bob := login("alice"), login("bob")
	const stored = 4500
	query[int](t, f, `WITH made AS (
		INSERT INTO events (generation, seq, type, at, peer_id, body)
		SELECT $1, n, 'peerMessageReceived', $2::timestamptz + n * interval '1 ms', 'user' || n % 300,
			'{"messageList":[{"messageID":"x","kind":"text","text":"hello","sender":{"userID":"user' || n % 300 || '","userName":"u"},"priority":"low","sentAt":"2026-11-21T15:00:00.000Z"}]}'
		FROM generate_series(1, $3) n RETURNING 1) SELECT count(*) FROM made`, alice.Inbox, now, stored)
	query[int](t, f, "UPDATE inboxes SET last_seq = $2, oldest_at = $3 WHERE log = $1 RETURNING 1", alice.Inbox, stored, now)
	if page := allConversations(t, f, alice, 100); len(page.List) != 300 || page.TotalUnreadCount != stored || page.Seq != stored || page.List[0].Peer != "user0" {
		t.Fatalf("%d conversations, %d unread messages at %d", len(page.List), page.TotalUnreadCount, page.Seq)
	}
	postPeer(t, f, bob, "alice", textDraft("new"))
	if err := f.ReadConversation(t.Context(), as(alice), "alice", "user7", 3000); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteConversation(t.Context(), as(alice), "alice", "user8"); err != nil {
		t.Fatal(err)
	}
	if page := allConversations(t, f, alice, 100); len(page.List) != 300 || page.TotalUnreadCount != stored-15-10+1 || page.List[0].Peer != "bob" {
		t.Errorf("%d conversations, %d unread messages", len(page.List), page.TotalUnreadCount)
	}
	f.clock.set(now.Add(time.Hour + 4000*time.Millisecond))
	sweep(t, f)
	if page := allConversations(t, f, alice, 100); len(page.List) != 300 || page.TotalUnreadCount != 501-1+1 { // of 4000 to 4500, one is deleted, and one is of bob
		t.Errorf("after a trim: %d conversations, %d unread messages", len(page.List), page.TotalUnreadCount)
	}
	f.clock.advance(time.Hour)
	postPeer(t, f, bob, "alice", textDraft("newer"))
	sweep(t, f)
	if page := allConversations(t, f, alice, 100); summary(page) != "1 bob:1/newer" {
		t.Errorf("at the end: %s", summary(page))
	}
	if n := query[int](t, f, "SELECT count(*) FROM conversations WHERE log = $1", alice.Inbox); n != 1 {
		t.Errorf("%d rows are left", n)
	}
	checkInvariants(t, f)
}

// TestRecalledMessagesAreNotUnread checks recalls of messages that are read in part, and of messages
// that have expired when the recall is counted, for users who asked for their conversations before
// and for those who did not.
func TestRecalledMessagesAreNotUnread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		asked, kept bool // kept: a later message keeps the conversation
		left        int
		want        [2]string
	}{
		{true, false, 1, [2]string{"0", "3 bob:3/four"}},
		{false, false, 1, [2]string{"0", "3 bob:3/four"}},
		{true, true, 2, [2]string{"1 bob:1/kept", "4 bob:4/four"}},
		{false, true, 2, [2]string{"1 bob:1/kept", "4 bob:4/four"}},
	} {
		f := setup(t, store.Options{PeerRetention: time.Hour})
		begin := f.clock.Now().Truncate(time.Millisecond)
		login := func(user string) room.Session {
			session, err := f.SessionByID(t.Context(), newSessionUntil(t, f.Store, user, begin.Add(24*time.Hour)).ID)
			if err != nil {
				t.Fatal(err)
			}
			return session
		}
		alice, bob := login("alice"), login("bob")
		check := func(what, want string) {
			t.Helper()
			if got := summary(allConversations(t, f, alice, 10)); got != want {
				t.Errorf("%+v; %s: got %s, want %s", c, what, got, want)
			}
		}
		f.clock.set(begin)
		recalled := postPeer(t, f, bob, "alice", textDraft("recalled"))
		f.clock.advance(2 * time.Second)
		if c.kept {
			postPeer(t, f, bob, "alice", textDraft("kept"))
		}
		if c.asked { // the messages are counted, and their recall is not yet
			allConversations(t, f, alice, 10)
		}
		f.clock.advance(time.Minute)
		if err := f.RecallPeer(t.Context(), as(bob), "bob", "alice", recalled.ID); err != nil {
			t.Fatal(err)
		}
		f.clock.set(begin.Add(time.Hour + time.Second))
		sweep(t, f)
		if n := query[int](t, f, "SELECT count(*) FROM events WHERE generation = $1", alice.Inbox); n != c.left {
			t.Fatalf("%+v: %d events are left", c, n)
		}
		check("the recall of an expired message", c.want[0])
		two, three := postPeer(t, f, bob, "alice", textDraft("two")), postPeer(t, f, bob, "alice", textDraft("three"))
		postPeer(t, f, bob, "alice", textDraft("four"))
		check("three messages", c.want[1])
		if err := f.RecallPeer(t.Context(), as(bob), "bob", "alice", two.ID); err != nil {
			t.Fatal(err)
		}
		if err := f.ReadConversation(t.Context(), as(alice), "alice", "bob", three.Seq); err != nil {
			t.Fatal(err)
		}
		check("two of three are read, and one of them was recalled", "1 bob:1/four")
		checkInvariants(t, f)
	}
}
