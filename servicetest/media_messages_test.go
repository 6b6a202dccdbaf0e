package servicetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// TestFilesInMessages sends a file of each kind, and reads it as a member on the stream, in the
// history and by its URLs.
func TestFilesInMessages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	alice.enter("lobby")
	bob.enter("lobby")
	carol.enter("cellar")
	bobStream, _ := bob.listen()
	for kind, name := range map[string]string{"image": "alpha.png", "file": "README.md", "audio": "cbr.mp3", "video": "h265.mov"} {
		data := file(t, name)
		m := alice.upload(name, data)
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found") // not yet sent
		body := object{"kind": kind, "mediaID": m.Media.ID, "clientMessageID": kind}
		sent := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated))
		if diff := cmp.Diff(&m.Media, sent.Media); diff != "" {
			t.Errorf("%s: uploaded (-) and sent (+):\n%s", kind, diff)
		}
		if again := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated)); again.ID != sent.ID {
			t.Errorf("%s: the retry created another message", kind)
		}
		received := expect[room.MessagesReceived](bobStream)
		if diff := cmp.Diff([]room.Message{sent}, received.MessageList); diff != "" {
			t.Errorf("%s: sent (-) and received (+):\n%s", kind, diff)
		}
		if got := bob.call("GET", received.MessageList[0].Media.URL, nil).is(http.StatusOK); !bytes.Equal(got.body, data) {
			t.Errorf("%s: read as %d bytes", kind, len(got.body))
		}
		signed := bob.media(bob.call("GET", "/v1/media/"+string(m.Media.ID), nil).is(http.StatusOK))
		s.anonymous().call("GET", signed.SignedURL, nil).is(http.StatusOK)
		carol.call("GET", "/v1/media/"+string(m.Media.ID), nil).refused(http.StatusNotFound, "media_not_found")
	}
	if n := len(listMessages(bob, "lobby", "").MessageList); n != 4 {
		t.Errorf("the history has %d messages", n)
	}
	bob.leave("lobby")
	for _, m := range listMessages(alice, "lobby", "").MessageList {
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
		alice.call("GET", m.Media.URL, nil).is(http.StatusOK)
	}
}

// TestRecalledFile checks that recalling a message ends access to its file.
func TestRecalledFile(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	m := alice.upload("alpha.png", file(t, "alpha.png"))
	body := object{"kind": "image", "mediaID": m.Media.ID, "clientMessageID": "1"}
	sent := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated))
	bob.call("GET", m.Media.URL, nil).is(http.StatusOK)
	alice.call("DELETE", roomPath("lobby", "/messages/"+string(sent.ID)), nil).is(http.StatusNoContent)
	if again := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated)); !again.Recalled {
		t.Errorf("reply to the retry is %+v", again)
	}
	bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found") // she recalled it
	if left := listMessages(bob, "lobby", "").MessageList; len(left) != 1 || left[0].Media != nil || !left[0].Recalled {
		t.Errorf("the history shows %+v", left)
	}
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "image", "mediaID": m.Media.ID}).refused(http.StatusNotFound, "media_not_found")
	alice.call("DELETE", "/v1/media/uploads/"+string(m.Media.ID), nil, header("Tus-Resumable", "1.0.0")).refused(http.StatusNotFound, "media_not_found")
}

// TestFilesBetweenUsers sends a file of each kind from user to user. Both users read it on all
// their streams, in their histories and by its URLs for as long as the message is kept, and no
// other user does.
func TestFilesBetweenUsers(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now, c.store.PeerRetention = clock.Now, time.Minute })
	alice, phone, bob, carol := s.login("alice"), s.login("alice"), s.login("bob"), s.login("carol")
	aliceStream, _ := phone.listen()
	bobStream, _ := bob.listen()
	var files []room.Media
	for kind, name := range map[string]string{"image": "alpha.png", "file": "README.md", "audio": "cbr.mp3", "video": "h265.mov"} {
		data := file(t, name)
		m := alice.upload(name, data)
		files = append(files, m.Media)
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found") // not yet sent
		body := object{"kind": kind, "mediaID": m.Media.ID, "clientMessageID": kind, "extendedData": "ext"}
		sent := message(alice.call("POST", peerPath("bob"), body).is(http.StatusCreated))
		if diff := cmp.Diff(&m.Media, sent.Media); diff != "" {
			t.Errorf("%s: uploaded (-) and sent (+):\n%s", kind, diff)
		}
		if again := message(alice.call("POST", peerPath("bob"), body).is(http.StatusCreated)); !cmp.Equal(sent, again) {
			t.Errorf("%s: reply to the retry is %+v", kind, again)
		}
		received := bobStream.peerMessage()
		if diff := cmp.Diff(sent, aliceStream.peerMessage()); diff != "" {
			t.Errorf("%s: sent (-) and received by the sender (+):\n%s", kind, diff)
		}
		if diff := cmp.Diff(sent.With("alice", received.Seq), received); diff != "" {
			t.Errorf("%s: sent (-) and received (+):\n%s", kind, diff)
		}
		if got := bob.call("GET", received.Media.URL, nil).is(http.StatusOK); !bytes.Equal(got.body, data) {
			t.Errorf("%s: read as %d bytes", kind, len(got.body))
		}
		signed := bob.media(bob.call("GET", "/v1/media/"+string(m.Media.ID), nil).is(http.StatusOK))
		s.anonymous().call("GET", signed.SignedURL, nil).is(http.StatusOK)
		carol.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
		page := as[messagePage](bob.call("GET", peerPath("alice")+"?limit=1", nil).is(http.StatusOK))
		if diff := cmp.Diff([]room.Message{received}, page.MessageList); diff != "" {
			t.Errorf("%s: received (-) and in the history (+):\n%s", kind, diff)
		}
	}
	// Bob can read them, so he can quote them, but he cannot send them as his own.
	bob.call("POST", peerPath("carol"), object{"kind": "file", "mediaID": files[0].ID}).refused(http.StatusNotFound, "media_not_found")
	album := object{"kind": "combine", "title": "album", "messageList": []object{
		quote("file", object{"mediaID": files[0].ID}), quote("combine", object{"title": "in", "messageList": []object{quote("file", object{"mediaID": files[1].ID})}}),
	}}
	quoted := message(bob.call("POST", peerPath("carol"), album).is(http.StatusCreated))
	if diff := cmp.Diff(&files[1], quoted.MessageList[1].MessageList[0].Media); diff != "" {
		t.Errorf("the quoted file is (-want +got):\n%s", diff)
	}
	for i, m := range files {
		if got, want := carol.call("GET", m.URL, nil).StatusCode == http.StatusOK, i < 2; got != want {
			t.Errorf("carol can read file %d: %t", i, got)
		}
	}
	for _, c := range []struct {
		kind, name, code string
	}{{"image", "cbr.mp3", "media_type"}, {"audio", "alpha.png", "media_type"}, {"video", "README.md", "media_type"}} {
		m := alice.upload(c.name, file(t, c.name))
		alice.call("POST", peerPath("bob"), object{"kind": c.kind, "mediaID": m.Media.ID}).refused(http.StatusConflict, c.code)
		bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	}
	alice.call("POST", peerPath("bob"), object{"kind": "file", "mediaID": noMedia}).refused(http.StatusNotFound, "media_not_found")
	alice.call("POST", peerPath("nobody"), object{"kind": "file", "mediaID": files[0].ID}).refused(http.StatusNotFound, "user_not_found")

	clock.advance(time.Minute + time.Second)
	s.sweep()
	for _, m := range files {
		bob.call("GET", m.URL, nil).refused(http.StatusNotFound, "media_not_found")
		carol.call("GET", m.URL, nil).refused(http.StatusNotFound, "media_not_found")
		alice.call("GET", m.URL, nil).refused(http.StatusNotFound, "media_not_found")
	}
}

// TestRejectedFiles covers files that are of the wrong kind, too large, too long, or another
// user's.
func TestRejectedFiles(t *testing.T) {
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
	send(bob, "image", picture.Media.ID).refused(http.StatusNotFound, "media_not_found") // readable, but not his own
	path := roomPath("lobby", "/messages")
	alice.call("POST", path, object{"kind": "image"}).invalid("/mediaID", "missing")
	alice.call("POST", path, object{"kind": "text", "text": "x", "mediaID": picture.Media.ID}).invalid("/mediaID", "forbidden")
	alice.call("POST", path, object{"kind": "image", "mediaID": picture.Media.ID, "text": "x"}).invalid("/text", "forbidden")
	carol := s.login("carol")
	carols := carol.upload("c.txt", []byte("x"))
	send(carol, "file", carols.Media.ID).refused(http.StatusConflict, "not_in_room")
	bob.call("GET", carols.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")

	// A server can send files that the user on whose behalf it sends has uploaded.
	admin := func(sender string) reply {
		return s.admin().call("POST", adminPath("lobby", "/messages"), object{
			"sender": object{"userID": sender}, "message": object{"kind": "file", "mediaID": carols.Media.ID},
		})
	}
	admin("bob").refused(http.StatusNotFound, "media_not_found")
	admin("carol").is(http.StatusCreated)
	bob.call("GET", carols.Media.URL, nil).is(http.StatusOK)
}

// padded returns data followed by zeros, up to size bytes, without holding them in memory.
func padded(data []byte, size int64) io.Reader {
	return io.MultiReader(bytes.NewReader(data), zeros(size-int64(len(data))))
}

// tagged returns audio frames behind a tag that fills the file up to size bytes.
func tagged(frames []byte, size int) []byte {
	n := size - len(frames) - 10
	tag := make([]byte, 10+n, size)
	copy(tag, []byte{'I', 'D', '3', 3, 0, 0, byte(n >> 21 & 127), byte(n >> 14 & 127), byte(n >> 7 & 127), byte(n & 127)})
	return append(tag, frames...)
}

// freed returns a video followed by free space, up to size bytes.
func freed(film []byte, size int64) io.Reader {
	box := binary.BigEndian.AppendUint32(bytes.Clone(film), uint32(size-int64(len(film))))
	return padded(append(box, "free"...), size)
}

// TestFilesAtTheirLimits sends the largest and the longest file of each kind to a room and to a
// user, and checks every byte on the stream and in the history. One byte or one second more is
// rejected.
func TestFilesAtTheirLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	picture, film, frames := bitmap(200, 200), file(t, "moov_first.mp4"), file(t, "cbr_bare.mp3")
	second := alice.upload("one.mp3", frames).Media.Duration
	seconds := func(n float64) func(int64) io.Reader {
		sound := bytes.Repeat(frames, int(n/second))
		return func(size int64) io.Reader { return padded(sound, size) }
	}
	const longest = room.MaxAudioSeconds + 0.99
	for _, c := range []struct {
		what, kind string
		size       int64
		data       func(size int64) io.Reader
		refused    string // empty if it is accepted
	}{
		{"the largest image", "image", room.MaxImageBytes, func(n int64) io.Reader { return padded(picture, n) }, ""},
		{"one byte more", "image", room.MaxImageBytes + 1, func(n int64) io.Reader { return padded(picture, n) }, "media_size"},
		{"the largest sound", "audio", room.MaxAudioBytes, func(n int64) io.Reader { return bytes.NewReader(tagged(frames, int(n))) }, ""},
		{"one byte more", "audio", room.MaxAudioBytes + 1, func(n int64) io.Reader { return bytes.NewReader(tagged(frames, int(n))) }, "media_size"},
		{"the longest sound", "audio", int64(len(frames)) * int64(longest/second), seconds(longest), ""},
		{"one second more", "audio", int64(len(frames)) * int64((longest+1)/second), seconds(longest + 1), "media_duration"},
		{"the largest film", "video", room.MaxMediaBytes, func(n int64) io.Reader { return freed(film, n) }, ""},
		{"the largest file", "file", room.MaxMediaBytes, zeros, ""},
		{"an empty file", "file", 0, zeros, ""},
	} {
		want := sha256.New()
		m := alice.media(alice.uploadStream(io.TeeReader(c.data(c.size), want), c.size).is(http.StatusCreated)).Media
		if m.Size != c.size {
			t.Fatalf("%s: uploaded as %+v", c.what, m)
		}
		body := object{"kind": c.kind, "mediaID": m.ID}
		for _, path := range []string{roomPath("lobby", "/messages"), peerPath("bob")} {
			r := alice.call("POST", path, body)
			if c.refused != "" {
				r.refused(http.StatusConflict, c.refused)
				continue
			}
			sent := message(r.is(http.StatusCreated))
			var received room.Message
			if path == peerPath("bob") {
				received = bobStream.peerMessage()
				path = peerPath("alice")
				sent = sent.With("alice", received.Seq)
			} else {
				received = expect[room.MessagesReceived](bobStream).MessageList[0]
			}
			if diff := cmp.Diff(sent, received); diff != "" || !cmp.Equal(received.Media, &m) {
				t.Errorf("%s: sent (-) and received (+), with the file %+v:\n%s", c.what, m, diff)
			}
			if page := as[messagePage](bob.call("GET", path+"?limit=1", nil).is(http.StatusOK)); !cmp.Equal(page.MessageList, []room.Message{received}) {
				t.Errorf("%s: the history has %+v", c.what, page.MessageList)
			}
		}
		if c.refused != "" {
			bob.call("GET", m.URL, nil).refused(http.StatusNotFound, "media_not_found")
			continue
		}
		got := sha256.New()
		reply, err := s.server.Client().Do(bob.request("GET", m.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(got, reply.Body)
		_ = reply.Body.Close()
		if err != nil || n != c.size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%s: read as %d bytes: %v", c.what, n, err)
		}
	}
}

// TestQuotedFiles checks that a user who can read a file can quote it, and that a user who can read
// the quote can read the file.
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

// bitmap returns a BMP of black pixels.
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
