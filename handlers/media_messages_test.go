package handlers_test

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// TestFilesInMessages sends a file of each kind and reads it as a member, on the
// stream, in the history and by its URLs.
func TestFilesInMessages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	alice.enter("lobby")
	bob.enter("lobby")
	carol.enter("cellar")
	hearing, _ := bob.listen()
	for kind, name := range map[string]string{"image": "alpha.png", "file": "README.md", "audio": "cbr.mp3", "video": "h265.mov"} {
		data := file(t, name)
		m := alice.upload(name, data)
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found") // not yet
		body := object{"kind": kind, "mediaID": m.Media.ID, "clientMessageID": kind}
		sent := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated))
		if diff := cmp.Diff(&m.Media, sent.Media); diff != "" {
			t.Errorf("%s: uploaded (-) and sent (+):\n%s", kind, diff)
		}
		if again := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated)); again.ID != sent.ID {
			t.Errorf("%s: sent again, it is another message", kind)
		}
		heard := expect[room.MessagesReceived](hearing)
		if diff := cmp.Diff([]room.Message{sent}, heard.MessageList); diff != "" {
			t.Errorf("%s: sent (-) and heard (+):\n%s", kind, diff)
		}
		if got := bob.call("GET", heard.MessageList[0].Media.URL, nil).is(http.StatusOK); !bytes.Equal(got.body, data) {
			t.Errorf("%s: read as %d bytes", kind, len(got.body))
		}
		signed := bob.media(bob.call("GET", "/v1/media/"+string(m.Media.ID), nil).is(http.StatusOK))
		s.stranger().call("GET", signed.SignedURL, nil).is(http.StatusOK)
		carol.call("GET", "/v1/media/"+string(m.Media.ID), nil).refused(http.StatusNotFound, "media_not_found")
	}
	if n := len(list(bob, "lobby", "").MessageList); n != 4 {
		t.Errorf("the history has %d messages", n)
	}
	bob.leave("lobby")
	for _, m := range list(alice, "lobby", "").MessageList {
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
		alice.call("GET", m.Media.URL, nil).is(http.StatusOK)
	}
}

// TestRecalledFile: who could read it by the message cannot any more.
func TestRecalledFile(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	m := alice.upload("alpha.png", file(t, "alpha.png"))
	sent := message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "image", "mediaID": m.Media.ID}).is(http.StatusCreated))
	bob.call("GET", m.Media.URL, nil).is(http.StatusOK)
	alice.call("DELETE", roomPath("lobby", "/messages/"+string(sent.ID)), nil).is(http.StatusNoContent)
	bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", m.Media.URL, nil).is(http.StatusOK) // it is still hers, for a day
	if left := list(bob, "lobby", "").MessageList; len(left) != 1 || left[0].Media != nil || !left[0].Recalled {
		t.Errorf("the history shows %+v", left)
	}
	again := message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "image", "mediaID": m.Media.ID}).is(http.StatusCreated))
	bob.call("GET", again.Media.URL, nil).is(http.StatusOK)
	// Files go to rooms only: a room decides who may read them.
	s.login("carol")
	alice.call("POST", "/v1/users/carol/messages", object{"kind": "image", "mediaID": m.Media.ID}).invalid("/mediaID", "forbidden")
}

// TestFilesThatAreRefused: of the wrong kind, too large, too long, and not one's
// own.
func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	send := func(c *client, kind string, id room.MediaID) reply {
		return c.call("POST", roomPath("lobby", "/messages"), object{"kind": kind, "mediaID": id})
	}
	picture, sound, film := alice.upload("a.png", file(t, "alpha.png")), alice.upload("a.mp3", file(t, "cbr.mp3")), alice.upload("a.mp4", file(t, "moov_last.mp4"))
	page, silent := alice.upload("a.svg", []byte("<svg/>")), alice.upload("a.mov", file(t, "audio_only.mov"))
	for _, c := range []struct {
		kind string
		file uploaded
	}{
		{"image", sound},
		{"image", film},
		{"image", page},
		{"audio", picture},
		{"audio", film},
		{"audio", page},
		{"video", picture},
		{"video", sound},
		{"video", page},
		{"video", silent},
	} {
		send(alice, c.kind, c.file.Media.ID).refused(http.StatusConflict, "media_type")
	}
	large := alice.upload("large.bmp", bitmap(1900, 1900))
	send(alice, "image", large.Media.ID).refused(http.StatusConflict, "media_size")
	send(alice, "file", large.Media.ID).is(http.StatusCreated)
	frames := file(t, "cbr_bare.mp3")
	one := alice.upload("one.mp3", frames).Media.Duration
	long := alice.upload("long.mp3", bytes.Repeat(frames, int(302/one)+1))
	if long.Media.Duration < 301 || long.Media.Size > room.MaxAudioBytes {
		t.Fatalf("the long sound is %+v", long.Media)
	}
	send(alice, "audio", long.Media.ID).refused(http.StatusConflict, "media_duration")

	for _, id := range []room.MediaID{noMedia, "x", "3F1C9A52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "{3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a6"} {
		send(alice, "file", id).refused(http.StatusNotFound, "media_not_found")
	}
	send(bob, "image", picture.Media.ID).refused(http.StatusNotFound, "media_not_found")
	send(alice, "image", picture.Media.ID).is(http.StatusCreated)
	send(bob, "image", picture.Media.ID).refused(http.StatusNotFound, "media_not_found") // seen, and not his own
	path := roomPath("lobby", "/messages")
	alice.call("POST", path, object{"kind": "image"}).invalid("/mediaID", "missing")
	alice.call("POST", path, object{"kind": "text", "text": "x", "mediaID": picture.Media.ID}).invalid("/mediaID", "forbidden")
	alice.call("POST", path, object{"kind": "image", "mediaID": picture.Media.ID, "text": "x"}).invalid("/text", "forbidden")
	carol := s.login("carol")
	hers := carol.upload("c.txt", []byte("x"))
	send(carol, "file", hers.Media.ID).refused(http.StatusConflict, "not_in_room")
	bob.call("GET", hers.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")

	// A server may send what the user has uploaded that it speaks for.
	admin := func(sender string) reply {
		return s.admin().call("POST", adminPath("lobby", "/messages"), object{
			"sender": object{"userID": sender}, "message": object{"kind": "file", "mediaID": hers.Media.ID},
		})
	}
	admin("bob").refused(http.StatusNotFound, "media_not_found")
	admin("carol").is(http.StatusCreated)
	bob.call("GET", hers.Media.URL, nil).is(http.StatusOK)
}

// TestQuotedFiles: who may read a file may quote it, and who reads the quote may
// read the file.
func TestQuotedFiles(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	alice.enter("lobby")
	bob.enter("lobby")
	bob.enter("cellar")
	carol.enter("cellar")
	picture, secret := alice.upload("a.png", file(t, "alpha.png")), alice.upload("b.png", file(t, "alpha.png"))
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "image", "mediaID": picture.Media.ID}).is(http.StatusCreated)
	combine := func(id room.MediaID, kind string) reply {
		inner := object{"title": "in", "messageList": []object{quote(kind, object{"mediaID": id}), quote("text", object{"text": "x"})}}
		return bob.call("POST", roomPath("cellar", "/messages"), object{"kind": "combine", "title": "t", "messageList": []object{quote("combine", inner)}})
	}
	combine(secret.Media.ID, "image").refused(http.StatusNotFound, "media_not_found")
	combine(picture.Media.ID, "audio").refused(http.StatusConflict, "media_type")
	carol.call("GET", picture.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	sent := message(combine(picture.Media.ID, "image").is(http.StatusCreated))
	if diff := cmp.Diff(&picture.Media, sent.MessageList[0].MessageList[0].Media); diff != "" {
		t.Errorf("the quoted file is (-want +got):\n%s", diff)
	}
	carol.call("GET", picture.Media.URL, nil).is(http.StatusOK)
}

// bitmap is a BMP of black pixels.
func bitmap(width, height int) []byte {
	row := (width*3 + 3) &^ 3
	data := make([]byte, 54+row*height)
	copy(data, "BM")
	for at, value := range map[int]int{2: len(data), 10: 54, 14: 40, 18: width, 22: height, 34: row * height} {
		binary.LittleEndian.PutUint32(data[at:], uint32(value))
	}
	binary.LittleEndian.PutUint16(data[26:], 1)
	binary.LittleEndian.PutUint16(data[28:], 24)
	return data
}
