package room_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestRecall(t *testing.T) {
	t.Parallel()
	sentAt := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	draft := room.Draft{
		Content:  room.Content{Kind: room.KindCustom, Text: "secret", SubType: new(7), Title: "secret", Summary: "secret", Data: []byte("secret")},
		Priority: room.PriorityHigh, ExtendedData: "secret", ClientMessageID: "1",
	}
	draft.MessageList = []room.Quoted{{Content: room.Content{Kind: room.KindText, Text: "secret"}}}
	m := draft.Message("id", room.User{ID: "alice", Name: "Alice"}, sentAt).In("lobby", 3)
	tombstone := room.Message{
		ID: "id", Room: "lobby", Seq: 3, Content: room.Content{Kind: room.KindCustom}, Sender: m.Sender, Priority: room.PriorityHigh,
		ClientMessageID: "1", SentAt: room.InstantOf(sentAt), Recalled: true,
	}
	some, someRecalled := m, tombstone
	some.To, someRecalled.To = []room.UserID{"carol", "bob"}, []room.UserID{"carol", "bob"}
	lobby := room.Room{ID: "lobby", Generation: 4, LastSeq: 9}
	for _, c := range []struct {
		what     string
		m        room.Message
		by       room.UserID
		after    time.Duration
		err      error
		recalled bool
		info     *room.OperatedInfo
	}{
		{what: "at once", m: m, by: "alice", recalled: true, info: &room.OperatedInfo{UserID: "alice"}},
		{what: "just in time", m: m, by: "alice", after: room.RecallTime, recalled: true, info: &room.OperatedInfo{UserID: "alice"}},
		{what: "too late", m: m, by: "alice", after: room.RecallTime + time.Millisecond, err: room.ErrRecallTooLate},
		{what: "by another", m: m, by: "bob", err: room.ErrNotSender},
		{what: "by another, too late", m: m, by: "bob", after: time.Hour, err: room.ErrNotSender},
		{what: "by an admin, late", m: m, after: 24 * time.Hour, recalled: true},
		{what: "again", m: tombstone, by: "alice"},
		{what: "again, late", m: tombstone, by: "alice", after: time.Hour},
		{what: "again by another", m: tombstone, by: "bob", err: room.ErrNotSender},
		{what: "again by an admin", m: tombstone},
		{what: "to some", m: some, by: "alice", recalled: true, info: &room.OperatedInfo{UserID: "alice"}},
		{what: "to some, by an admin", m: some, recalled: true},
		{what: "to some, by one of them", m: some, by: "bob", err: room.ErrNotSender},
		{what: "to some, by another", m: some, by: "dave", err: room.ErrMessageNotFound},
		{what: "to some, by another, late", m: some, by: "dave", after: time.Hour, err: room.ErrMessageNotFound},
		{what: "to some, again", m: someRecalled, by: "alice"},
		{what: "to some, again by another", m: someRecalled, by: "dave", err: room.ErrMessageNotFound},
	} {
		now := sentAt.Add(c.after)
		r, got, change, err := lobby.Recall(c.m, c.by, now)
		if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
			t.Errorf("%s: %v", c.what, err)
		}
		want, events := c.m, []room.Event(nil)
		if c.recalled {
			want = tombstone
			recalled := room.MessageRecalled{MessageID: "id", RecalledSeq: 3, OperatedInfo: c.info}
			if c.m.To != nil {
				want, recalled.Audience = someRecalled, []room.UserID{"alice", "bob", "carol"}
			}
			events = []room.Event{{Room: "lobby", Log: 4, Seq: 10, At: now, Body: recalled}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the message (-want +got):\n%s", c.what, diff)
		}
		if diff := cmp.Diff(events, change.Events); diff != "" || r.LastSeq != 9+room.Seq(len(events)) {
			t.Errorf("%s: lastSeq %d, events (-want +got):\n%s", c.what, r.LastSeq, diff)
		}
	}
	// A retry cannot be compared with a content that was deleted, only with the users it was for.
	toOthers := draft
	toOthers.To = []room.UserID{"bob"}
	for what, m := range map[string]room.Message{"a tombstone": tombstone, "a tombstone to some": someRecalled, "a message": m, "a message to some": some} {
		if err := m.RetriedBy(toOthers); !errors.Is(err, room.ErrMessageIDReused) {
			t.Errorf("a retry of %s to others: %v", what, err)
		}
	}
	other := draft
	other.Text, other.SubType = "other", nil
	for kind, want := range map[room.MessageKind]error{room.KindCustom: nil, room.KindText: room.ErrMessageIDReused} {
		other.Kind = kind
		if err := tombstone.RetriedBy(other); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("a retry as %s: %v", kind, err)
		}
	}
}

func TestMessageRecalledJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body room.MessageRecalled
		want string
	}{
		{room.MessageRecalled{MessageID: "m", RecalledSeq: 3}, `{"messageID":"m","recalledSeq":3}`},
		{room.MessageRecalled{MessageID: "m", RecalledSeq: 3, Audience: []room.UserID{"a", "b"}}, `{"messageID":"m","recalledSeq":3,"audience":["a","b"]}`},
		{room.MessageRecalled{MessageID: "m", RecalledSeq: 3, OperatedInfo: &room.OperatedInfo{UserID: "a"}}, `{"messageID":"m","recalledSeq":3,"operatedInfo":{"userID":"a"}}`},
	} {
		got, err := json.Marshal(c.body)
		if err != nil || string(got) != c.want {
			t.Errorf("got %s, want %s: %v", got, c.want, err)
		}
		back, err := room.DecodeBody(room.TypeMessageRecalled, got)
		if diff := cmp.Diff(room.Body(c.body), back); diff != "" || err != nil {
			t.Errorf("decoded as %v: %v", back, err)
		}
	}
}
