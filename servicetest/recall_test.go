package servicetest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func messagePath(id room.RoomID, m room.MessageID) string {
	return roomPath(id, "/messages/"+string(m))
}

// TestRecall checks that a recalled message disappears from everything that contains it: streams,
// replays, the history, the feed and the reply to a retry.
func TestRecall(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	beginning := bobStream.id
	secret := object{"kind": "custom", "subType": 0, "text": "a secret", "extendedData": "secret", "clientMessageID": "1"}
	said := message(alice.call("POST", roomPath("lobby", "/messages"), secret).is(http.StatusCreated))
	alice.send("lobby", "after")
	if got := expect[room.MessagesReceived](bobStream).MessageList[0]; got.Text != "a secret" || bobStream.text() != "after" {
		t.Errorf("bob received %+v", got)
	}
	bob.call("DELETE", messagePath("lobby", said.ID), nil).refused(http.StatusForbidden, "not_sender")
	for range 2 { // the second recall changes nothing
		alice.call("DELETE", messagePath("lobby", said.ID), nil).is(http.StatusNoContent)
	}
	want := room.MessageRecalled{MessageID: said.ID, RecalledSeq: said.Seq, OperatedInfo: &room.OperatedInfo{UserID: "alice"}}
	if diff := cmp.Diff(want, expect[room.MessageRecalled](bobStream)); diff != "" || bobStream.seq() != said.Seq+2 {
		t.Errorf("recall event of bob, seq %d (-want +got):\n%s", bobStream.seq(), diff)
	}

	tombstone := said
	tombstone.Content, tombstone.ExtendedData, tombstone.Recalled = room.Content{Kind: room.KindCustom}, "", true
	if again := message(alice.call("POST", roomPath("lobby", "/messages"), secret).is(http.StatusCreated)); !cmp.Equal(again, tombstone) {
		t.Errorf("reply to the retry is %+v", again)
	}
	page := listMessages(bob, "lobby", "")
	if len(page.MessageList) != 2 || !cmp.Equal(page.MessageList[0], tombstone) {
		t.Errorf("the history is %+v", page.MessageList)
	}
	alice.send("lobby", "end")
	if got := bobStream.text(); got != "end" {
		t.Errorf("next message is %q", got)
	}
	bobStream.disconnect()
	replayed, _ := bob.listen(resume(beginning))
	if got := expect[room.MessagesReceived](replayed).MessageList[0]; !cmp.Equal(got, tombstone) {
		t.Errorf("replayed event is %+v", got)
	}
	if got := replayed.text(); got != "after" {
		t.Errorf("next message is %q", got)
	}
	if got := expect[room.MessageRecalled](replayed); !cmp.Equal(got, want) || replayed.text() != "end" {
		t.Errorf("next event is %+v", got)
	}
}

func TestFeedRecalls(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	feed, _ := admin.follow("")
	beginning := feed.id
	alice.enter("lobby")
	said := alice.send("lobby", "a secret")
	admin.call("DELETE", adminPath("lobby", "/messages/"+string(said.ID)), nil).is(http.StatusNoContent)
	for e := feed.next(); ; e = feed.next() {
		if e.Type == string(room.TypeMessageRecalled) {
			if strings.Contains(string(e.Data), "operatedInfo") {
				t.Errorf("the event contains the admin: %s", e.Data)
			}
			break
		}
	}
	feed.disconnect()
	again, _ := admin.follow(beginning)
	for e := again.next(); e.Type != string(room.TypeMessageRecalled); e = again.next() {
		if strings.Contains(string(e.Data), "secret") {
			t.Errorf("the feed repeats %s", e.Data)
		}
	}
}

func TestRecallIsRefused(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	admin, alice := s.admin(), s.login("alice")
	alice.enter("lobby")
	alice.enter("other")
	elsewhere, said := alice.send("other", "x"), alice.send("lobby", "x")
	whoosh := message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "barrage", "text": "x"}).is(http.StatusAccepted))
	const unknown = "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4"
	for _, id := range []room.MessageID{elsewhere.ID, whoosh.ID, unknown} {
		alice.call("DELETE", messagePath("lobby", id), nil).refused(http.StatusNotFound, "message_not_found")
		admin.call("DELETE", adminPath("lobby", "/messages/"+string(id)), nil).refused(http.StatusNotFound, "message_not_found")
	}
	for _, id := range []string{"x", strings.ToUpper(unknown), "urn:uuid:" + unknown, fmt.Sprintf("{%s}", unknown), unknown + "%00"} {
		alice.call("DELETE", roomPath("lobby", "/messages/"+id), nil).invalid("path/messageID", "uuid")
		admin.call("DELETE", adminPath("lobby", "/messages/"+id), nil).invalid("path/messageID", "uuid")
	}
	clock.advance(room.RecallTime + time.Millisecond)
	alice.call("DELETE", messagePath("lobby", said.ID), nil).refused(http.StatusConflict, "recall_too_late")
	alice.leave("lobby")
	alice.enter("lobby") // another generation
	alice.call("DELETE", messagePath("lobby", said.ID), nil).refused(http.StatusNotFound, "message_not_found")
}

// TestPeerRecall checks recalls between users, for the sender and the receiver.
func TestPeerRecall(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	alice, phone, bob, carol := s.login("alice"), s.login("alice"), s.login("bob"), s.login("carol")
	carol.sendTo("bob", "so that the numbers differ")
	aliceStream, _ := phone.listen()
	bobStream, _ := bob.listen()
	bobStream.peerMessage()
	beginning := bobStream.id
	picture := alice.upload("a.png", file(t, "alpha.png"))
	body := object{"kind": "image", "mediaID": picture.Media.ID, "extendedData": "secret", "clientMessageID": "1"}
	said := message(alice.call("POST", peerPath("bob"), body).is(http.StatusCreated))
	received := bobStream.peerMessage()
	aliceStream.peerMessage()
	bob.call("GET", picture.Media.URL, nil).is(http.StatusOK)
	old := alice.sendTo("bob", "after")
	bobStream.peerMessage()
	aliceStream.peerMessage()
	path := func(c room.UserID, id room.MessageID) string { return peerPath(c) + "/" + string(id) }
	bob.call("DELETE", path("alice", said.ID), nil).refused(http.StatusForbidden, "not_sender")
	carol.call("DELETE", path("bob", said.ID), nil).refused(http.StatusNotFound, "message_not_found")
	alice.call("DELETE", path("nobody", said.ID), nil).refused(http.StatusNotFound, "user_not_found")
	alice.call("DELETE", path("bob", "x"), nil).invalid("path/messageID", "uuid")
	for range 2 { // the second recall changes nothing
		alice.call("DELETE", path("bob", said.ID), nil).is(http.StatusNoContent)
	}
	tombstone := func(m room.Message) room.Message {
		m.Content, m.ExtendedData, m.Recalled = room.Content{Kind: m.Kind}, "", true
		return m
	}
	by := &room.OperatedInfo{UserID: "alice"}
	want := room.PeerMessageRecalled{Peer: "alice", MessageID: said.ID, RecalledSeq: received.Seq, OperatedInfo: by}
	if diff := cmp.Diff(want, expect[room.PeerMessageRecalled](bobStream)); diff != "" || bobStream.seq() != received.Seq+2 {
		t.Errorf("recall event of bob, seq %d (-want +got):\n%s", bobStream.seq(), diff)
	}
	if diff := cmp.Diff(room.PeerMessageRecalled{Peer: "bob", MessageID: said.ID, RecalledSeq: said.Seq, OperatedInfo: by}, expect[room.PeerMessageRecalled](aliceStream)); diff != "" {
		t.Errorf("recall event of alice (-want +got):\n%s", diff)
	}
	bobStream.expectNoMore(bob)
	bob.call("GET", picture.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", picture.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	if again := message(alice.call("POST", peerPath("bob"), body).is(http.StatusCreated)); !cmp.Equal(again, tombstone(said)) {
		t.Errorf("reply to the retry is %+v", again)
	}
	bob.call("GET", picture.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	page := as[messagePage](bob.call("GET", peerPath("alice"), nil).is(http.StatusOK))
	if len(page.MessageList) != 2 || !cmp.Equal(page.MessageList[0], tombstone(received)) {
		t.Errorf("the history is %+v", page.MessageList)
	}
	bobStream.disconnect()
	replayed, _ := bob.listen(resume(beginning))
	if diff := cmp.Diff(tombstone(received), replayed.peerMessage()); diff != "" {
		t.Errorf("replayed event (-want +got):\n%s", diff)
	}
	if got := replayed.peerMessage(); got.Text != "after" {
		t.Errorf("next message is %q", got.Text)
	}
	if diff := cmp.Diff(want, expect[room.PeerMessageRecalled](replayed)); diff != "" {
		t.Errorf("next event (-want +got):\n%s", diff)
	}
	clock.advance(room.RecallTime + time.Millisecond)
	alice.call("DELETE", path("bob", old.ID), nil).refused(http.StatusConflict, "recall_too_late")
}
