package servicetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// logged is an event of a room's log, or an ephemeral one if its seq is 0.
type logged struct {
	Type string
	Data string
	Seq  room.Seq
}

// record returns the events of a room from a message with the text "first" to one with "end".
func (s *stream) record() (events []logged) {
	s.t.Helper()
	for !strings.Contains(string(s.last.Data), `"text":"end"`) {
		if e := s.next(); len(events) > 0 || strings.Contains(string(e.Data), `"text":"first"`) {
			events = append(events, logged{e.Type, string(e.Data), s.seq()})
		}
	}
	return events
}

// everythingAbout returns what a member can read of the lobby, by call, without what differs
// between two calls.
func (c *client) everythingAbout(files []room.Media, messages []room.Message) map[string]string {
	c.Helper()
	found := make(map[string]string)
	add := func(method, path string, body any) {
		got := c.call(method, path, body)
		text := string(got.body)
		if got.Header.Get("Content-Type") == "application/problem+json" {
			p := as[problem](got)
			text = fmt.Sprint(p.Code, " ", p.Title, " ", p.Detail, " ", p.Errors)
		}
		found[method+" "+path] = fmt.Sprint(got.StatusCode, " ", text)
	}
	for _, path := range []string{"", "/members", "/attributes", "/member-attributes", "/messages", "/messages?limit=100&after=0"} {
		add("GET", roomPath("lobby", path), nil)
	}
	for page := (messagePage{NextCursor: 1000}); page.NextCursor > 0; {
		path := fmt.Sprintf("/messages?limit=1&before=%d", page.NextCursor)
		page = listMessages(c, "lobby", path[len("/messages"):])
		add("GET", roomPath("lobby", path), nil)
	}
	for _, m := range messages {
		add("GET", roomPath("lobby", "/messages?messageID="+string(m.ID)), nil)
		add("GET", roomPath("lobby", fmt.Sprintf("/messages?seq=%d", m.Seq)), nil)
		if m.Sender.ID != c.UserID {
			add("DELETE", messagePath("lobby", m.ID), nil)
		}
	}
	for _, m := range files {
		add("GET", "/v1/media/"+string(m.ID), nil)
		add("GET", m.URL, nil)
		add("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.ID, "to": []string{string(c.UserID)}})
	}
	return found
}

// TestMessagesToSomeMembers sends a message of each kind to some members, and compares what a member
// to whom it was sent receives and can read with what another member does: they differ in nothing
// but the messages, and instead of each event the other receives its seq.
func TestMessagesToSomeMembers(t *testing.T) {
	t.Parallel()
	for _, members := range []int{0, room.PresenceBatchThreshold} {
		t.Run(fmt.Sprintf("and %d others", members), func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			alice, phone, bob, dave := s.login("alice"), s.login("alice"), s.login("bob"), s.login("dave")
			for _, c := range []*client{alice, phone, bob, dave} {
				c.enter("lobby")
			}
			for i := range members {
				s.login(room.UserID(fmt.Sprint("user", i))).enter("lobby")
			}
			s.sweep() // publishes the joins of a large room
			feed, _ := s.admin().follow("")
			streams := make(map[string]*stream)
			first := make(map[string]string)
			for name, c := range map[string]*client{"phone": phone, "bob": bob, "dave": dave} {
				streams[name], _ = c.listen()
				first[name] = streams[name].id
			}
			said := alice.send("lobby", "first")

			files := make(map[string]room.Media)
			for _, name := range []string{"alpha.png", "cbr.mp3", "h265.mov", "README.md", "alpha.png quoted"} {
				files[name] = alice.upload("secret-"+name, file(t, strings.TrimSuffix(name, " quoted"))).Media
			}
			to := []string{"carol", "bob"} // carol is not in the room
			var hidden []room.Message
			for i, c := range []object{
				{"kind": "text", "text": "secret"},
				{"kind": "barrage", "text": "secret"},
				{"kind": "command", "data": "c2VjcmV0"},
				{"kind": "custom", "text": "secret", "subType": 7},
				{"kind": "combine", "title": "secret", "messageList": []object{quote("file", object{"mediaID": files["alpha.png quoted"].ID})}},
				{"kind": "image", "mediaID": files["alpha.png"].ID},
				{"kind": "audio", "mediaID": files["cbr.mp3"].ID},
				{"kind": "video", "mediaID": files["h265.mov"].ID},
				{"kind": "file", "mediaID": files["README.md"].ID},
				{"kind": "text", "text": "secret, recalled"},
				{"kind": "file", "mediaID": files["README.md"].ID, "extendedData": "recalled"},
			} {
				c["to"], c["clientMessageID"], c["extendedData"] = to, fmt.Sprint(i), "secret"
				status := http.StatusCreated
				if c["kind"] == "barrage" || c["kind"] == "command" {
					status = http.StatusAccepted
				}
				m := message(alice.call("POST", roomPath("lobby", "/messages"), c).is(status))
				if diff := cmp.Diff([]room.UserID{"carol", "bob"}, m.To); diff != "" {
					t.Errorf("%s: to (-want +got):\n%s", m.Kind, diff)
				}
				if m.Seq > 0 {
					if again := message(alice.call("POST", roomPath("lobby", "/messages"), c).is(status)); !cmp.Equal(again, m) {
						t.Errorf("the retry of %+v is %+v", m, again)
					}
					c["to"] = []string{"bob"}
					alice.call("POST", roomPath("lobby", "/messages"), c).refused(http.StatusConflict, "client_message_id_reused")
				}
				hidden = append(hidden, m)
				alice.send("lobby", fmt.Sprint("between ", i))
			}
			for i, m := range hidden[len(hidden)-2:] {
				recaller, path := alice, messagePath("lobby", m.ID)
				if i == 1 {
					recaller, path = s.admin(), adminPath("lobby", "/messages/"+string(m.ID))
				}
				recaller.call("DELETE", path, nil).is(http.StatusNoContent)
				alice.send("lobby", "between recalls")
			}
			alice.send("lobby", "end")

			recorded := make(map[string][]logged)
			for name := range streams {
				recorded[name] = streams[name].record()
			}
			if diff := cmp.Diff(recorded["phone"], recorded["bob"]); diff != "" {
				t.Errorf("events of another session of the sender (-) and of a receiver (+):\n%s", diff)
			}
			if n := strings.Count(fmt.Sprint(recorded["bob"]), `"to":["carol","bob"]`); n != len(hidden) {
				t.Errorf("bob received %d of %d messages: %v", n, len(hidden), recorded["bob"])
			}
			for e := feed.next(); !strings.Contains(string(e.Data), `"text":"end"`); e = feed.next() {
				if e.Type == string(room.TypeRoomSeqAdvanced) {
					t.Errorf("the feed has %s", e.Data)
				}
				hidden = slices.DeleteFunc(hidden, func(m room.Message) bool { return m.Seq > 0 && strings.Contains(string(e.Data), string(m.ID)) })
			}
			if len(hidden) != 2 { // those that are not stored
				t.Errorf("the feed does not have %+v", hidden)
			}
			checkHidden(t, "live", recorded["bob"], recorded["dave"])

			// The same from the database, and from the hub's memory.
			for range 2 {
				for _, name := range []string{"bob", "dave"} {
					streams[name].disconnect()
					c := map[string]*client{"bob": bob, "dave": dave}[name]
					streams[name], _ = c.listen(resume(first[name]))
					recorded[name] = streams[name].record()
				}
				checkHidden(t, "replayed", recorded["bob"], recorded["dave"])
			}

			var (
				uploads  []room.Media
				messages = listMessages(bob, "lobby", "?limit=100").MessageList
			)
			for _, name := range []string{"alpha.png", "cbr.mp3", "h265.mov", "alpha.png quoted"} {
				uploads = append(uploads, files[name])
			}
			bobs, daves := bob.everythingAbout(uploads, messages), dave.everythingAbout(uploads, messages)
			for call, got := range daves {
				for _, word := range []string{"secret", "c2VjcmV0", "carol", `"to"`, "audience", "recalled\":true"} {
					if strings.Contains(got, word) {
						t.Errorf("dave reads %q by %s: %s", word, call, got)
					}
				}
				_, id, byID := strings.Cut(call, "messageID=")
				switch {
				case byID:
					i := slices.IndexFunc(messages, func(m room.Message) bool { return string(m.ID) == id })
					if found := got == bobs[call]; found != (messages[i].To == nil) || !found && got != "200 {\"messageList\":[]}\n" {
						t.Errorf("%s of a message to %v: %q", call, messages[i].To, got)
					}
				case strings.HasPrefix(call, "DELETE"):
					i := slices.IndexFunc(messages, func(m room.Message) bool { return strings.HasSuffix(call, string(m.ID)) })
					if found := !strings.HasPrefix(got, "404 message_not_found "); found != (messages[i].To == nil) {
						t.Errorf("%s of a message to %v: %s", call, messages[i].To, got)
					}
				case strings.Contains(call, "/media/"):
					if unknown := dave.call("GET", "/v1/media/"+noMedia, nil).refused(http.StatusNotFound, "media_not_found"); got != fmt.Sprint("404 ", unknown.Code, " ", unknown.Title, " ", unknown.Detail, " ", unknown.Errors) {
						t.Errorf("dave gets %s by %s", got, call)
					}
					if strings.HasPrefix(bobs[call], "404") {
						t.Errorf("bob gets %s by %s", bobs[call], call)
					}
				case !strings.Contains(call, "/messages") && got != bobs[call]:
					t.Errorf("%s: bob gets %s, dave %s", call, bobs[call], got)
				}
			}
			// A page of one message that dave may not see is empty, and not the last one.
			page := listMessages(dave, "lobby", fmt.Sprintf("?limit=1&after=%d", said.Seq))
			if len(page.MessageList) != 0 || page.NextCursor != said.Seq+1 {
				t.Errorf("the page of a hidden message is %+v", page)
			}
			// Both read the same public messages.
			public := slices.DeleteFunc(slices.Clone(messages), func(m room.Message) bool { return m.To != nil })
			if diff := cmp.Diff(public, listMessages(dave, "lobby", "?limit=100").MessageList); diff != "" {
				t.Errorf("public messages of bob (-) and messages of dave (+):\n%s", diff)
			}
			if n := len(messages) - len(public); n != 9 {
				t.Errorf("bob's history has %d messages to him", n)
			}
			// Carol was named before she joined.
			carol := s.login("carol")
			carol.enter("lobby")
			if diff := cmp.Diff(messages, listMessages(carol, "lobby", "?limit=100").MessageList); diff != "" {
				t.Errorf("history of bob (-) and of carol (+):\n%s", diff)
			}
			carol.call("GET", uploads[0].URL, nil).is(http.StatusOK)
			carol.call("GET", files["README.md"].URL, nil).refused(http.StatusNotFound, "media_not_found") // recalled
		})
	}
}

// checkHidden compares the events of a member who may see all with those of one who may see only
// those without to and audience.
func checkHidden(t *testing.T, when string, all, some []logged) {
	t.Helper()
	var want []logged
	for _, e := range all {
		switch {
		case !strings.Contains(e.Data, `"to":[`) && !strings.Contains(e.Data, `"audience":[`):
			want = append(want, e)
		case e.Seq > 0:
			var place struct {
				RoomID     room.RoomID `json:"roomID"`
				Generation room.LogID  `json:"generation"`
				Seq        room.Seq    `json:"seq"`
			}
			if err := json.Unmarshal([]byte(e.Data), &place); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(place)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, logged{string(room.TypeRoomSeqAdvanced), string(data), e.Seq})
		}
	}
	for _, e := range some {
		if e.Type == string(room.TypeMessageRecalled) { // all recalls are of messages to others
			t.Errorf("%s: the other member receives %s", when, e.Data)
		}
	}
	if diff := cmp.Diff(want, some); diff != "" {
		t.Errorf("%s: events that the other member should receive (-) and receives (+):\n%s", when, diff)
	}
	seqs := make([]room.Seq, 0, len(some))
	for _, e := range some {
		if e.Seq > 0 {
			seqs = append(seqs, e.Seq)
		}
	}
	for i, seq := range seqs[1:] {
		if seq != seqs[i]+1 {
			t.Errorf("%s: seqs %v", when, seqs)
			break
		}
	}
}

// TestFilesToSomeMembers widens the readers of a file from some members to more and to all, and
// recalls the messages again.
func TestFilesToSomeMembers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	readers := make(map[string]*client)
	for _, name := range []string{"bob", "carol", "dave"} {
		readers[name] = s.login(room.UserID(name))
		readers[name].enter("lobby")
	}
	var m uploaded
	send := func(c *client, to ...string) room.Message {
		body := object{"kind": "file", "mediaID": m.Media.ID}
		if to != nil {
			body["to"] = to
		}
		return message(c.call("POST", roomPath("lobby", "/messages"), body).is(http.StatusCreated))
	}
	recall := func(said room.Message) {
		t.Helper()
		alice.call("DELETE", messagePath("lobby", said.ID), nil).is(http.StatusNoContent)
	}
	canRead := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, name := range []string{"bob", "carol", "dave"} {
			switch readers[name].call("GET", m.Media.URL, nil).StatusCode {
			case http.StatusOK:
				got = append(got, name)
			case http.StatusNotFound:
			default:
				t.Errorf("%s: %s gets neither", what, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the file can be read by %v, want %v", what, got, want)
		}
	}
	m = alice.upload("a.txt", []byte("a"))
	toBob := send(alice, "bob")
	canRead("sent to bob", "bob")
	signed := readers["bob"].media(readers["bob"].call("GET", "/v1/media/"+string(m.Media.ID), nil).is(http.StatusOK))
	s.anonymous().call("GET", signed.SignedURL, nil).is(http.StatusOK)
	toCarol := send(alice, "carol", "alice")
	canRead("sent to bob and carol", "bob", "carol")
	readers["dave"].call("POST", roomPath("lobby", "/messages"), object{
		"kind": "combine", "title": "t", "messageList": []object{quote("file", object{"mediaID": m.Media.ID})},
	}).refused(http.StatusNotFound, "media_not_found")
	recall(toBob)
	canRead("recalled for bob", "carol")
	s.anonymous().call("GET", signed.SignedURL, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", m.Media.URL, nil).is(http.StatusOK)
	recall(toCarol)
	canRead("recalled for both")
	alice.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")

	m = alice.upload("b.txt", []byte("b"))
	toBob = send(alice, "bob")
	toAll := send(alice)
	canRead("sent to all", "bob", "carol", "dave")
	recall(toBob)
	canRead("recalled for bob, who may read it as all do", "bob", "carol", "dave")
	recall(toAll)
	canRead("recalled for all")

	m = alice.upload("c.txt", []byte("c"))
	send(alice)
	toBob = send(alice, "bob")
	canRead("sent to all, and to bob again", "bob", "carol", "dave")
	recall(toBob)
	canRead("recalled for bob again", "bob", "carol", "dave")

	// Bob can quote a file that was sent to him, and carol loses it only with his message.
	m = alice.upload("d.txt", []byte("d"))
	toBob = send(alice, "bob")
	album := object{"kind": "combine", "title": "t", "to": []string{"carol"}, "messageList": []object{quote("file", object{"mediaID": m.Media.ID})}}
	readers["bob"].call("POST", roomPath("lobby", "/messages"), album).is(http.StatusCreated)
	canRead("quoted for carol", "bob", "carol")
	recall(toBob)
	canRead("the original is recalled", "carol")
}

// TestToItsLimits checks what to may be.
func TestToItsLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	users := func(n int) []string {
		names := []string{"alice"}
		for i := range n - 1 {
			names = append(names, fmt.Sprintf("%064d", i))
		}
		return names
	}
	post := func(to any) reply {
		return alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "x", "to": to})
	}
	for _, c := range []struct {
		to            any
		pointer, rule string
	}{
		{[]string{}, "/to", "min"},
		{users(room.MaxTo + 1), "/to", "max"},
		{[]string{"bob", "bob"}, "/to", "unique"},
		{[]string{"bob", ""}, "/to/1", "userID"},
		{[]string{"zoë"}, "/to/0", "userID"},
		{"bob", "/to", "type"},
		{[]any{7}, "/to/0", "type"},
	} {
		post(c.to).invalid(c.pointer, c.rule)
	}
	alice.call("POST", peerPath("bob"), object{"kind": "text", "text": "x", "to": []string{"bob"}}).invalid("/to", "forbidden")
	for _, to := range [][]string{{"alice"}, users(room.MaxTo), {"nobody"}} {
		if m := message(post(to).is(http.StatusCreated)); len(m.To) != len(to) {
			t.Errorf("sent to %v as %v", to, m.To)
		}
		expect[room.RoomSeqAdvanced](bobStream)
	}
	// An admin sends as a user who is not in the room: the users named see it, and the user.
	said := message(s.admin().call("POST", adminPath("lobby", "/messages"), object{
		"sender": object{"userID": "system"}, "message": object{"kind": "text", "text": "x", "to": []string{"bob"}},
	}).is(http.StatusCreated))
	if got := expect[room.MessagesReceived](bobStream).MessageList[0]; !cmp.Equal(got, said) {
		t.Errorf("bob received %+v", got)
	}
	if n := len(listMessages(alice, "lobby", "").MessageList); n != 3 {
		t.Errorf("alice sees %d messages", n)
	}
	alice.call("DELETE", messagePath("lobby", said.ID), nil).refused(http.StatusNotFound, "message_not_found")
	bob.call("DELETE", messagePath("lobby", said.ID), nil).refused(http.StatusForbidden, "not_sender")

	// A message to some members contains up to 100 files, and a file is sent to up to 1,000 users.
	var quoted []object
	for i := range room.MaxFilesTo + 1 {
		quoted = append(quoted, quote("file", object{"mediaID": fmt.Sprintf("%s%04d", noMedia[:32], i)}))
	}
	albums := []object{quote("combine", object{"title": "t", "messageList": quoted[:room.MaxFilesTo]}), quoted[room.MaxFilesTo]}
	album := object{"kind": "combine", "title": "t", "messageList": albums, "to": []string{"bob"}}
	alice.call("POST", roomPath("lobby", "/messages"), album).invalid("/messageList", "maxFiles")
	album["messageList"] = albums[:1]
	alice.call("POST", roomPath("lobby", "/messages"), album).refused(http.StatusNotFound, "media_not_found")
	delete(album, "to")
	album["messageList"] = albums
	alice.call("POST", roomPath("lobby", "/messages"), album).refused(http.StatusNotFound, "media_not_found")

	m := alice.upload("a.txt", []byte("a"))
	sendFile := func(to ...string) reply {
		return alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.Media.ID, "to": to})
	}
	for i := range room.MaxFileReaders / room.MaxTo {
		to := make([]string, 0, room.MaxTo)
		for j := range room.MaxTo {
			to = append(to, fmt.Sprint("user ", i*room.MaxTo+j))
		}
		to[0] = "alice" // she is counted once
		sendFile(to...).is(http.StatusCreated)
	}
	for i := range 9 {
		sendFile(fmt.Sprint("new user ", i)).is(http.StatusCreated)
	}
	sendFile("one more").refused(http.StatusConflict, "media_readers")
	sendFile("user 1").is(http.StatusCreated) // who was counted before
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.Media.ID}).is(http.StatusCreated)
	sendFile("one more").is(http.StatusCreated) // who may read it as all do
}
