package servicetest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/room"
)

// TestNamesAreCleaned gives the same names in each place of the contract where one enters. The
// reply contains the clean name. A bad one is rejected with its place and what is wrong.
func TestNamesAreCleaned(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, anonymous, admin := s.login("alice"), s.anonymous(), s.admin()
	alice.enter("lobby")
	sender := func(name string) object { return object{"userID": "bob", "userName": name} }
	combined := func(name string) object {
		list := []object{quote("text", object{"text": "x", "sender": sender(name)})}
		return object{"kind": "combine", "title": "t", "messageList": []object{quote("combine", object{"title": "t", "messageList": list})}}
	}
	userName := func(r reply) string { return as[session](r).UserName }
	roomName := func(r reply) string { return as[struct{ Room room.Room }](r).Room.Name }
	quoted := func(r reply) string { return message(r).MessageList[0].MessageList[0].Sender.Name }
	const quotedName = "/messageList/0/messageList/0/sender/userName"
	for i, c := range []struct {
		caller  *client
		path    string // ROOM stands for a new room
		body    func(id, name string) object
		pointer string
		read    func(reply) string // returns the name in the reply
	}{
		{anonymous, "/v1/sessions", func(_, name string) object {
			return object{"token": s.token("alice", time.Hour), "userName": name}
		}, "/userName", userName},
		{anonymous, "/v1/sessions", func(_, name string) object {
			return object{"token": s.token("alice", time.Hour), "device": name}
		}, "/device", func(r reply) string {
			opened := as[session](r)
			return as[struct{ Session struct{ Device string } }](anonymous.withKey(opened.SessionKey).call("GET", "/v1/sessions/current", nil)).Session.Device
		}},
		{anonymous, "/dev/token", func(_, name string) object { return object{"userID": "alice", "userName": name} }, "/userName", func(r reply) string {
			return s.loginWith(as[struct{ Token string }](r).Token).UserName
		}},
		{alice, "/v1/rooms", func(id, name string) object { return object{"roomID": id, "roomName": name} }, "/roomName", roomName},
		{alice, "/v1/rooms/ROOM/enter", func(_, name string) object { return object{"roomName": name} }, "/roomName", roomName},
		{alice, "/v1/rooms/lobby/switch", func(id, name string) object {
			return object{"toRoom": object{"roomID": id, "roomName": name}, "createIfNotExists": true}
		}, "/toRoom/roomName", roomName},
		{admin, "/v1/admin/rooms", func(id, name string) object { return object{"roomID": id, "roomName": name} }, "/roomName", roomName},
		{admin, "/v1/admin/rooms/lobby/messages", func(_, name string) object {
			return object{"sender": sender(name), "message": object{"kind": "text", "text": "x"}}
		}, "/sender/userName", func(r reply) string { return message(r).Sender.Name }},
		{admin, "/v1/admin/rooms/lobby/messages", func(_, name string) object {
			return object{"sender": sender("Bob"), "message": combined(name)}
		}, "/message" + quotedName, quoted},
		{alice, "/v1/rooms/lobby/messages", func(_, name string) object { return combined(name) }, quotedName, quoted},
		{alice, "/v1/users/alice2/messages", func(_, name string) object { return combined(name) }, quotedName, quoted},
	} {
		s.login("alice2")
		for j, name := range []struct{ given, want, rule, message string }{
			{given: " \t\u202eecilA\u200b\n", want: "ecilA"},
			{given: "علی\u200cرضا 👩\u200d👧", want: "علی\u200cرضا 👩\u200d👧"},
			{given: "Ali\nce", rule: "control", message: "contains a line break (U+000A) at character 4: remove it"},
			{given: "\u3164\u200d \u0301", rule: "invisible", message: "contains no visible character: use at least one letter, digit or symbol"},
			{given: strings.Repeat("é", 129), rule: "maxBytes"},
		} {
			alice.enter("lobby")
			id := fmt.Sprintf("room-%d-%d", i, j)
			r := c.caller.call("POST", strings.Replace(c.path, "ROOM", id, 1), c.body(id, name.given))
			switch p := as[problem](r); {
			case name.rule != "":
				r.invalid(c.pointer, name.rule)
				if name.message != "" && p.Errors[0].Message != name.message {
					t.Errorf("%s: the message is %q, want %q", r.call, p.Errors[0].Message, name.message)
				}
			case r.StatusCode/100 != 2:
				t.Errorf("%s of %+q: got status %d: %s", r.call, name.given, r.StatusCode, r.body)
			case c.read(r) != name.want:
				t.Errorf("%s of %+q: the name is %+q, want %+q", r.call, name.given, c.read(r), name.want)
			}
		}
	}
}

// TestMembersSeeCleanNames checks the name that a token gives, and that others see no other name
// than the reply to the login.
func TestMembersSeeCleanNames(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	named := func(name string) string {
		return s.signed(func(c jwt.MapClaims) { c["sub"], c["name"] = "mallory", name })
	}
	mallory := s.loginWith(named("\u202eecilA\u202c \u200b"))
	mallory.enter("lobby")
	const clean = "ecilA"
	if mallory.UserName != clean {
		t.Errorf("the session's name is %+q", mallory.UserName)
	}
	if joined := expect[room.MembersJoined](stream).MemberList[0].Name; joined != clean {
		t.Errorf("the name in the event is %+q", joined)
	}
	if members := string(alice.call("GET", roomPath("lobby", "/members"), nil).is(http.StatusOK).body); !strings.Contains(members, `"userName":"`+clean+`"`) {
		t.Errorf("the members are %s", members)
	}
	for bad, fault := range map[string]string{
		"Mal\nlory": "contains a line break (U+000A) at character 4: remove it", "\u200b": "contains no visible character", strings.Repeat("x", 257): "is 257 bytes long",
	} {
		p := s.anonymous().call("POST", "/v1/sessions", object{"token": named(bad)}).refused(http.StatusUnauthorized, "token_invalid")
		if !strings.HasPrefix(p.Detail, "name in the claims of the token "+fault) {
			t.Errorf("the name %+q is rejected with %q", bad, p.Detail)
		}
	}
	if nameless := s.loginWith(s.signed(func(c jwt.MapClaims) { c["sub"], c["name"] = "nameless", "" })); nameless.UserName != "nameless" {
		t.Errorf("with an empty name in the token, the session's name is %+q", nameless.UserName)
	}
}

// TestOldNamesStayReadable checks that names that an earlier version stored are still shown, and
// that their files can be downloaded.
func TestOldNamesStayReadable(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	m := alice.upload("a.txt", []byte("words"))
	const old = "\u202e \u200b"
	s.exec("UPDATE profiles SET user_name = $1", old)
	s.exec("UPDATE members SET user_name = $1", old)
	s.exec("UPDATE rooms SET room_name = $1", old)
	s.exec("UPDATE media SET file_name = $1", old)
	for _, path := range []string{roomPath("lobby", "/members"), roomPath("lobby", ""), "/v1/media/" + string(m.Media.ID)} {
		if body := string(alice.call("GET", path, nil).is(http.StatusOK).body); !strings.Contains(body, old) {
			t.Errorf("GET %s: %s", path, body)
		}
	}
	got := alice.call("GET", "/v1/media/"+string(m.Media.ID)+"/"+url.PathEscape(old), nil).is(http.StatusOK)
	if string(got.body) != "words" {
		t.Errorf("the file is %q", got.body)
	}
}

// TestFileNamesAreCleaned uploads files in each of the three ways. No name is rejected, except one
// that is not UTF-8.
func TestFileNamesAreCleaned(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	inForm := func(name string) reply {
		body := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\nx\r\n--b--\r\n"
		return alice.call("POST", "/v1/media", raw(body), header("Content-Type", "multipart/form-data; boundary=b"))
	}
	inQuery := func(name string) reply {
		return alice.call("POST", "/v1/media?fileName="+url.QueryEscape(name), raw("x"))
	}
	inMetadata := func(name string) reply {
		return alice.call("POST", uploadsPath, raw("x"), tus("Upload-Length", "1", "Upload-Metadata", metadata(name), "Content-Type", "application/offset+octet-stream"))
	}
	for _, name := range []struct{ given, want string }{
		{`C:\fakepath\cat.png`, "cat.png"},
		{"pictures/cat.png", "cat.png"},
		{"a\tcat.png", "a cat.png"},
		{"cat\u202egnp.exe", "catgnp.exe"},
		{strings.Repeat("猫", 90) + ".png", strings.Repeat("猫", 83) + ".png"},
		{"猫👩\u200d👧.png", "猫👩\u200d👧.png"},
		{"..", "file"},
		{"a/..", "file"},
		{"\u3164", "file"},
	} {
		for way, m := range map[string]uploaded{
			"query":    alice.media(inQuery(name.given).is(http.StatusCreated)),
			"form":     alice.media(inForm(name.given).is(http.StatusCreated)),
			"metadata": alice.finished(inMetadata(name.given).is(http.StatusCreated).Header.Get("Location")),
		} {
			if m.Media.FileName != name.want {
				t.Errorf("%+q in the %s becomes %+q, want %+q", name.given, way, m.Media.FileName, name.want)
			}
			alice.expectBytes(m, []byte("x"))
			alice.call("DELETE", uploadsPath+"/"+string(m.Media.ID), nil, tus()).is(http.StatusNoContent)
		}
	}
	at := inMetadata("a\tb").Header.Get("Location")
	if got := alice.call("HEAD", at, nil, tus()).is(http.StatusOK).Header.Get("Upload-Metadata"); got != "filename "+base64.StdEncoding.EncodeToString([]byte("a b")) {
		t.Errorf("Upload-Metadata is %s", got)
	}
	inQuery("c\xe4t.png").invalid("query/fileName", "utf8")
	inForm("c\xe4t.png").invalid("/file", "utf8")
	inMetadata("c\xe4t.png").invalid("header/Upload-Metadata", "utf8")
}
