package room_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestAudience(t *testing.T) {
	t.Parallel()
	alice := room.User{ID: "alice"}
	received := func(m room.Message) room.Body { return room.MessagesReceived{MessageList: []room.Message{m}} }
	for what, c := range map[string]struct {
		body room.Body
		want []room.UserID
	}{
		"a message":                  {received(room.Message{Sender: alice}), nil},
		"to some":                    {received(room.Message{Sender: alice, To: []room.UserID{"zoe", "bob"}}), []room.UserID{"alice", "bob", "zoe"}},
		"to the sender":              {received(room.Message{Sender: alice, To: []room.UserID{"alice"}}), []room.UserID{"alice"}},
		"a recall":                   {room.MessageRecalled{}, nil},
		"a recall of one to some":    {room.MessageRecalled{Audience: []room.UserID{"alice", "bob"}}, []room.UserID{"alice", "bob"}},
		"a join":                     {room.MembersJoined{}, nil},
		"messages without a message": {room.MessagesReceived{}, nil},
	} {
		if diff := cmp.Diff(c.want, room.Audience(c.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestVisibleMessages(t *testing.T) {
	t.Parallel()
	to := func(id room.MessageID, sender room.UserID, to ...room.UserID) room.Message {
		return room.Message{ID: id, Sender: room.User{ID: sender}, To: to}
	}
	all := []room.Message{to("1", "alice"), to("2", "alice", "bob", "carol"), to("3", "bob", "bob"), to("4", "carol", "alice")}
	for user, want := range map[room.UserID][]room.MessageID{
		"alice": {"1", "2", "4"}, "bob": {"1", "2", "3"}, "carol": {"1", "2", "4"}, "dave": {"1"}, "": {"1"},
	} {
		var got []room.MessageID
		for _, m := range room.VisibleMessages(slices.Clone(all), user) {
			got = append(got, m.ID)
			if users := m.Audience(); users != nil && !slices.Contains(users, user) {
				t.Errorf("%s sees a message for %v", user, users)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q sees %v, want %v", user, got, want)
		}
	}
}
