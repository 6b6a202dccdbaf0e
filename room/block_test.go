package room_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestBlocks(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	in := room.Inbox{Log: 5, LastSeq: 8}
	changed := func(blocked bool) []room.Event {
		return []room.Event{{Log: 5, Seq: 9, At: now, Body: room.BlockListChanged{User: "bob", Blocked: blocked}}}
	}
	block := func(f room.BlockFacts) (room.Inbox, room.Change, error) { return in.Block("alice", "bob", f, now) }
	unblock := func(f room.BlockFacts) (room.Inbox, room.Change, error) { return in.Unblock("bob", f, now) }
	for _, c := range []struct {
		name   string
		do     func(room.BlockFacts) (room.Inbox, room.Change, error)
		facts  room.BlockFacts
		events []room.Event
		err    error
	}{
		{"block", block, room.BlockFacts{Exists: true, Blocks: room.MaxBlocks - 1}, changed(true), nil},
		{"block again", block, room.BlockFacts{Exists: true, Blocked: true, Blocks: room.MaxBlocks}, nil, nil},
		{"block a deleted user", block, room.BlockFacts{Blocked: true}, nil, nil},
		{"block nobody", block, room.BlockFacts{}, nil, room.ErrUserNotFound},
		{"block one more", block, room.BlockFacts{Exists: true, Blocks: room.MaxBlocks}, nil, room.ErrTooManyBlocks},
		{"unblock", unblock, room.BlockFacts{Blocked: true}, changed(false), nil},
		{"unblock another user", unblock, room.BlockFacts{Exists: true}, nil, room.ErrBlockNotFound},
		{"block oneself instead", func(f room.BlockFacts) (room.Inbox, room.Change, error) { return in.Block("bob", "bob", f, now) }, room.BlockFacts{Exists: true}, nil, room.ErrBlockSelf},
	} {
		after, change, err := c.do(c.facts)
		if diff := cmp.Diff(c.events, change.Events); !errors.Is(err, c.err) || diff != "" || after.LastSeq != in.LastSeq+room.Seq(len(c.events)) {
			t.Errorf("%s: got %v, last seq %d; events (-want +got):\n%s", c.name, err, after.LastSeq, diff)
		}
	}
	admin := room.PeerSend{Sender: room.Sender{Actor: room.Actor{Kind: room.ActorAdmin}, User: room.User{ID: "alice"}}, Peer: "bob", Draft: sentDraft}
	if _, err := admin.Permit(room.PeerFacts{Inbox: 8, Blocked: true}); err != nil {
		t.Errorf("a block stops an admin: %v", err)
	}
	session := room.PeerSend{Sender: sessionSender(nil), Peer: "bob", Draft: sentDraft}
	if permit, err := session.Permit(room.PeerFacts{Inbox: 8, Blocked: true, Earlier: &sentMessage}); err != nil || permit.Earlier != &sentMessage {
		t.Errorf("a retry after a block: got %+v, %v", permit, err)
	}
}
