package room_test

import (
	"errors"
	"strings"
	"testing"

	"parlor/room"
)

// refusal is a reason to refuse a message, as a change of a message that may be sent.
type refusal[S, F any] struct {
	name   string
	change func(send *S, facts *F)
	want   error
}

// checkRefusals applies every combination of refusals to a message, and requires the error of the
// first one, because clients rely on the order of errors.
func checkRefusals[S, F any](t *testing.T, refusals []refusal[S, F], decide func(change func(*S, *F)) error) {
	t.Helper()
	for combination := range 1 << len(refusals) {
		var (
			names []string
			want  error
		)
		err := decide(func(send *S, facts *F) {
			for i, r := range refusals {
				if combination&(1<<i) == 0 {
					continue
				}
				r.change(send, facts)
				names = append(names, r.name)
				if want == nil {
					want = r.want
				}
			}
		})
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", strings.Join(names, ", "), err, want)
		}
	}
}

var (
	sentDraft = room.Draft{
		Content: room.Content{Kind: room.KindText, Text: "hello"}, Priority: room.PriorityMedium, ClientMessageID: "1",
	}
	sentMessage  = sentDraft.Message("m1", room.User{ID: "alice"}, noon)
	otherMessage = room.Draft{Content: room.Content{Kind: room.KindText, Text: "other"}, Priority: room.PriorityMedium, ClientMessageID: "1"}.
			Message("m2", room.User{ID: "alice"}, noon)
)

func sessionSender(g *room.Grants) room.Sender {
	by := room.Actor{Kind: room.ActorSession, ID: "s1"}
	return room.Session{ID: "s1", User: room.User{ID: "alice"}, Inbox: 5, Grants: g}.Sender(by)
}

func TestRoomSendRefusals(t *testing.T) {
	t.Parallel()
	grants := &room.Grants{Rooms: []room.Grant{{RoomID: "lobby", Send: true}}}
	checkRefusals(t, []refusal[room.RoomSend, room.RoomFacts]{
		{"send not granted", func(s *room.RoomSend, _ *room.RoomFacts) {
			s.Sender.Grants = &room.Grants{Rooms: []room.Grant{{RoomID: "lobby", Join: true}}}
		}, room.ErrNotGranted},
		{"no room", func(_ *room.RoomSend, f *room.RoomFacts) { f.Log = 0 }, room.ErrRoomNotFound},
		{"not in the room", func(_ *room.RoomSend, f *room.RoomFacts) { f.Presence = 0 }, room.ErrNotInRoom},
		{"ID of another message", func(_ *room.RoomSend, f *room.RoomFacts) { f.Earlier = &otherMessage }, room.ErrMessageIDReused},
	}, func(change func(*room.RoomSend, *room.RoomFacts)) error {
		send := room.RoomSend{Sender: sessionSender(grants), Room: "lobby", Draft: sentDraft}
		facts := room.RoomFacts{Log: 7, Presence: 3}
		change(&send, &facts)
		_, err := send.Permit(facts)
		return err
	})
}

func TestPeerSendRefusals(t *testing.T) {
	t.Parallel()
	grants := &room.Grants{Peers: []room.UserID{"b*", "alice"}}
	checkRefusals(t, []refusal[room.PeerSend, room.PeerFacts]{
		{"receiver not granted", func(s *room.PeerSend, _ *room.PeerFacts) { s.Sender.Grants = &room.Grants{} }, room.ErrNotGranted},
		{"to oneself", func(s *room.PeerSend, _ *room.PeerFacts) { s.Peer = "alice" }, room.ErrMessageToSelf},
		{"session ended", func(_ *room.PeerSend, f *room.PeerFacts) { f.SessionEnded = true }, room.ErrSessionEnded},
		{"no such user", func(_ *room.PeerSend, f *room.PeerFacts) { f.Inbox = 0 }, room.ErrUserNotFound},
		{"ID of another message", func(_ *room.PeerSend, f *room.PeerFacts) { f.Earlier = &otherMessage }, room.ErrMessageIDReused},
		{"blocked", func(_ *room.PeerSend, f *room.PeerFacts) { f.Blocked = true }, room.ErrBlocked},
	}, func(change func(*room.PeerSend, *room.PeerFacts)) error {
		send := room.PeerSend{Sender: sessionSender(grants), Peer: "bob", Draft: sentDraft}
		facts := room.PeerFacts{Inbox: 8}
		change(&send, &facts)
		_, err := send.Permit(facts)
		return err
	})
}

func TestPermits(t *testing.T) {
	t.Parallel()
	recalled := sentMessage
	recalled.Content, recalled.Recalled = room.Content{Kind: room.KindText}, true
	session, admin := sessionSender(nil), room.Sender{Actor: room.Actor{Kind: room.ActorAdmin}, User: room.User{ID: "alice"}}
	for _, c := range []struct {
		name   string
		sender room.Sender
		facts  room.RoomFacts
		want   room.Permit
	}{
		{"session in the room", session, room.RoomFacts{Log: 7, Presence: 3}, room.Permit{Log: 7, Presence: 3}},
		{"admin", admin, room.RoomFacts{Log: 7}, room.Permit{Log: 7}},
		{"retry", session, room.RoomFacts{Log: 7, Presence: 3, Earlier: &sentMessage}, room.Permit{Earlier: &sentMessage}},
		{"retry of a recalled message", session, room.RoomFacts{Log: 7, Presence: 3, Earlier: &recalled}, room.Permit{Earlier: &recalled}},
		{"retry by an admin", admin, room.RoomFacts{Log: 7, Earlier: &sentMessage}, room.Permit{Earlier: &sentMessage}},
	} {
		send := room.RoomSend{Sender: c.sender, Room: "lobby", Draft: sentDraft}
		if got, err := send.Permit(c.facts); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct {
		name  string
		facts room.PeerFacts
		want  room.Permit
	}{
		{"to a user", room.PeerFacts{Inbox: 8}, room.Permit{Log: 8}},
		{"retry to a user", room.PeerFacts{Inbox: 8, Earlier: &sentMessage}, room.Permit{Earlier: &sentMessage}},
	} {
		send := room.PeerSend{Sender: session, Peer: "bob", Draft: sentDraft}
		if got, err := send.Permit(c.facts); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

func TestResolveMedia(t *testing.T) {
	t.Parallel()
	image := func(id room.MediaID) room.StoredMedia {
		return room.StoredMedia{Media: room.Media{ID: id, ContentType: "image/png", Size: 1}, Owner: "alice"}
	}
	readable := map[room.MediaID]room.StoredMedia{"own": image("own"), "bob's": image("bob's")}
	readable["bob's"] = room.StoredMedia{Media: readable["bob's"].Media, Owner: "bob"}
	message := func(kind room.MessageKind, id room.MediaID) room.Content {
		return room.Content{Kind: kind, Media: &room.Media{ID: id}}
	}
	quote := func(c room.Content) room.Content {
		return room.Content{Kind: room.KindCombine, MessageList: []room.Quoted{{Content: room.Content{Kind: room.KindText, Text: "x"}}, {Content: c}}}
	}
	for _, c := range []struct {
		name    string
		content room.Content
		want    error
	}{
		{"own file", message(room.KindImage, "own"), nil},
		{"readable file of another user", message(room.KindImage, "bob's"), room.ErrMediaNotFound},
		{"file that is not readable", message(room.KindImage, "none"), room.ErrMediaNotFound},
		{"file of another kind", message(room.KindAudio, "own"), room.ErrMediaType},
		{"no file", room.Content{Kind: room.KindText, Text: "x"}, nil},
		{"quoted file of another user", quote(message(room.KindImage, "bob's")), nil},
		{"quoted file that is not readable", quote(message(room.KindImage, "none")), room.ErrMediaNotFound},
		{"quoted file of another kind", quote(message(room.KindVideo, "own")), room.ErrMediaType},
		{"file in a nested quote", quote(quote(message(room.KindImage, "own"))), nil},
		{"unreadable file in a nested quote", quote(quote(message(room.KindImage, "none"))), room.ErrMediaNotFound},
	} {
		d := room.Draft{Content: c.content}
		err := d.ResolveMedia("alice", readable)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
		if err != nil {
			continue
		}
		for _, id := range d.MediaIDs() {
			if found := findMedia(&d.Content, id); found.ContentType != "image/png" {
				t.Errorf("%s: %s is resolved to %+v", c.name, id, found)
			}
		}
	}
}

// findMedia returns a file that a content or one of its quotes names.
func findMedia(c *room.Content, id room.MediaID) room.Media {
	if c.Media != nil && c.Media.ID == id {
		return *c.Media
	}
	for i := range c.MessageList {
		if found := findMedia(&c.MessageList[i].Content, id); found.ID == id {
			return found
		}
	}
	return room.Media{}
}
