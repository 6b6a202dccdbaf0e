package servicetest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/handlers"
	"parlor/room"
)

// quote returns a message inside a combined message.
func quote(kind string, fields object) object {
	q := object{"kind": kind, "sender": object{"userID": "bob"}, "sentAt": "2026-11-21T12:00:00.5Z"}
	for name, value := range fields {
		q[name] = value
	}
	return q
}

// nested returns combined messages nested to this depth.
func nested(depth int) object {
	innermost := object{"title": "t", "messageList": []object{quote("text", object{"text": "x"})}}
	for range depth - 1 {
		innermost = object{"title": "t", "messageList": []object{quote("combine", innermost)}}
	}
	return innermost
}

func quotes(n int) []object {
	return slices.Repeat([]object{quote("text", object{"text": "x"})}, n)
}

// TestEachKindAtItsLimits sends each kind of message at its limits, and checks that it arrives
// unchanged and is in the history if it is stored. One above a limit is rejected.
func TestEachKindAtItsLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	everyByte := make([]byte, 5120)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	data := func(n int) string { return base64.StdEncoding.EncodeToString(slices.Repeat([]byte{0, 255}, n)[:n]) }
	letters := func(n int) string { return strings.Repeat("é", n/2) + strings.Repeat("x", n%2) }

	for _, c := range []struct {
		kind    string
		good    []object
		bad     map[string]object // keyed by pointer and rule
		notKept bool
	}{
		{kind: "text", good: []object{{"text": "x"}, {"text": letters(32768)}}, bad: map[string]object{
			"/text missing": {}, "/text maxBytes": {"text": letters(32769)}, "/data forbidden": {"text": "x", "data": "AA=="},
			"/subType forbidden": {"text": "x", "subType": 0}, "/title forbidden": {"text": "x", "title": "t"},
			"/summary forbidden": {"text": "x", "summary": "s"}, "/messageList forbidden": {"text": "x", "messageList": quotes(1)},
		}},
		{kind: "command", notKept: true, good: []object{{"data": base64.StdEncoding.EncodeToString(everyByte)}, {"data": "AA=="}}, bad: map[string]object{
			"/data missing": {}, "/data maxBytes": {"data": data(5121)}, "/text forbidden": {"data": "AA==", "text": "x"},
			"/data type": {"data": "A"},
		}},
		{kind: "barrage", notKept: true, good: []object{{"text": "x"}, {"text": letters(5120)}}, bad: map[string]object{
			"/text missing": {}, "/text maxBytes": {"text": letters(5121)},
		}},
		{kind: "custom", good: []object{{"text": "x", "subType": 0}, {"text": letters(32768), "subType": 200}}, bad: map[string]object{
			"/text missing": {"subType": 1}, "/text maxBytes": {"text": letters(32769), "subType": 1}, "/subType missing": {"text": "x"},
			"/subType min": {"text": "x", "subType": -1}, "/subType max": {"text": "x", "subType": 201},
		}},
		{kind: "combine", good: []object{
			{"title": letters(256), "summary": letters(1024), "messageList": quotes(100)},
			nested(3),
			{"title": "t", "messageList": []object{quote("custom", object{"text": "x", "subType": 7}), quote("command", object{"data": "AAH/"})}},
		}, bad: map[string]object{
			"/title missing": {"messageList": quotes(1)}, "/title maxBytes": {"title": letters(257), "messageList": quotes(1)},
			"/summary maxBytes": {"title": "t", "summary": letters(1025), "messageList": quotes(1)}, "/messageList missing": {"title": "t"},
			"/messageList max":                                             {"title": "t", "messageList": quotes(101)},
			"/messageList/0/text missing":                                  {"title": "t", "messageList": []object{quote("text", nil)}},
			"/messageList/0/text maxBytes":                                 {"title": "t", "messageList": []object{quote("barrage", object{"text": letters(5121)})}},
			"/messageList/0/messageList/0/messageList/0/messageList depth": nested(4),
		}},
	} {
		for i, fields := range c.good {
			body := object{"kind": c.kind, "priority": "high", "extendedData": "ext", "clientMessageID": fmt.Sprint(c.kind, i)}
			for name, value := range fields {
				body[name] = value
			}
			status := http.StatusCreated
			if c.notKept {
				status = http.StatusAccepted
			}
			sent := message(alice.call("POST", roomPath("lobby", "/messages"), body).is(status))
			if (sent.Seq == 0) != c.notKept || sent.Room != "lobby" || sent.Kind != room.MessageKind(c.kind) {
				t.Errorf("%s %d: want a rejection, but it was accepted as %+v", c.kind, i, sent)
			}
			received := expect[room.MessagesReceived](bobStream)
			if diff := cmp.Diff([]room.Message{sent}, received.MessageList); diff != "" {
				t.Errorf("%s %d: received message (-want +got):\n%s", c.kind, i, diff)
			}
			got := sent.Text
			if c.kind == "command" {
				got = base64.StdEncoding.EncodeToString(sent.Data)
			}
			for _, field := range []string{"text", "data"} {
				if want, ok := fields[field]; ok && got != want {
					t.Errorf("%s %d: field %s received as %.40q", c.kind, i, field, got)
				}
			}
			page := as[struct{ MessageList []room.Message }](alice.call("GET", roomPath("lobby", "/messages?limit=1"), nil).is(http.StatusOK)).MessageList
			if kept := len(page) == 1 && page[0].ID == sent.ID; kept == c.notKept {
				t.Errorf("%s %d: in the history: %t", c.kind, i, kept)
			} else if kept {
				if diff := cmp.Diff(sent, page[0]); diff != "" {
					t.Errorf("%s %d: in the history (-want +got):\n%s", c.kind, i, diff)
				}
			}
		}
		for want, fields := range c.bad {
			pointer, rule, _ := strings.Cut(want, " ")
			body := object{"kind": c.kind}
			for name, value := range fields {
				body[name] = value
			}
			alice.call("POST", roomPath("lobby", "/messages"), body).invalid(pointer, rule)
			if rule != "type" { // checked before the kind
				s.admin().call("POST", adminPath("lobby", "/messages"), object{"sender": object{"userID": "x"}, "message": body}).
					invalid("/message"+pointer, rule)
			}
		}
	}
	// An ephemeral message has no seq, and no stream resumes after it.
	last := alice.send("lobby", "last")
	if received := expect[room.MessagesReceived](bobStream).MessageList[0]; received.Seq != last.Seq || last.Seq != 10 {
		t.Errorf("the last message has seq %d in the log, and %d on the stream", last.Seq, received.Seq)
	}
	for _, c := range []struct {
		who    *client
		id     room.RoomID
		status int
		code   string
	}{
		{alice, "nowhere", http.StatusNotFound, "room_not_found"}, {s.login("carol"), "lobby", http.StatusConflict, "not_in_room"},
	} {
		for _, body := range []object{{"kind": "barrage", "text": "x"}, {"kind": "command", "data": "AA=="}} {
			c.who.call("POST", roomPath(c.id, "/messages"), body).refused(c.status, c.code)
		}
	}
	s.admin().call("POST", adminPath("nowhere", "/messages"), object{
		"sender": object{"userID": "x"}, "message": object{"kind": "barrage", "text": "x"},
	}).refused(http.StatusNotFound, "room_not_found")
	aired := object{"sender": object{"userID": "x"}, "message": object{"kind": "barrage", "text": "on air"}}
	s.admin().call("POST", adminPath("lobby", "/messages"), aired).is(http.StatusAccepted)
	if got := bobStream.text(); got != "on air" || bobStream.last.ID != "" {
		t.Errorf("received %q with the id %q", got, bobStream.last.ID)
	}
}

// TestMessageRateLimit checks that the limit is shared by all sessions of a user and covers all
// kinds except barrage, and that retries of stored messages are exempt.
func TestMessageRateLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Rates.Messages = handlers.Rate{Count: 2, Window: time.Second} })
	alice, phone := s.login("alice"), s.login("alice")
	alice.enter("lobby")
	phone.enter("lobby")
	path := roomPath("lobby", "/messages")
	first := object{"kind": "text", "text": "1", "clientMessageID": "1"}
	r := alice.call("POST", path, first).is(http.StatusCreated)
	sent := message(r)
	if r.Header.Get("RateLimit-Policy") != `"messages";q=2;w=1` || r.Header.Get("RateLimit") != `"messages";r=1;t=1` {
		t.Errorf("rate limit headers are %q, %q", r.Header.Get("RateLimit-Policy"), r.Header.Get("RateLimit"))
	}
	refused := func(body object) bool {
		t.Helper()
		r := alice.call("POST", path, body)
		if r.StatusCode != http.StatusTooManyRequests {
			return false
		}
		r.refused(http.StatusTooManyRequests, "too_many_messages")
		if r.Header.Get("Retry-After") != "1" || r.Header.Get("RateLimit") != `"messages";r=0;t=1` {
			t.Errorf("headers of the rejection are %q, %q", r.Header.Get("Retry-After"), r.Header.Get("RateLimit"))
		}
		return true
	}
	// Tokens are added while the test runs, so send until a message is rejected.
	flood := func(body object) {
		t.Helper()
		eventually(t, fmt.Sprintf("a message like %v is rejected", body), func() bool { return refused(body) })
	}
	flood(object{"kind": "text", "text": "2"})
	flood(object{"kind": "command", "data": "AA=="})
	flood(object{"kind": "text", "text": "new", "clientMessageID": "0"})
	// No tokens are left. A retry of a stored message gets its reply, and a different message is
	// rejected.
	if diff := cmp.Diff(sent, message(alice.call("POST", path, first).is(http.StatusCreated))); diff != "" {
		t.Errorf("reply to the retry (-want +got):\n%s", diff)
	}
	for range 20 {
		alice.call("POST", path, object{"kind": "text", "text": "other", "clientMessageID": "1"}).refused(http.StatusConflict, "client_message_id_reused")
		alice.call("POST", path, object{"kind": "barrage", "text": "x"}).is(http.StatusAccepted)
	}
	flood(object{"kind": "text", "text": "3"})
	eventually(t, "another session of the user is rejected", func() bool {
		return phone.call("POST", path, object{"kind": "text", "text": "from another session"}).StatusCode == http.StatusTooManyRequests
	})
	bob := s.login("bob")
	bob.enter("lobby")
	bob.send("lobby", "from another user")
	eventually(t, "the user can send again", func() bool {
		return alice.call("POST", path, object{"kind": "text", "text": "later"}).StatusCode == http.StatusCreated
	})
}

// TestBarrageIsShedForSlowConsumer checks that barrage is not delivered to a slow consumer, and
// that stored messages are.
func TestBarrageIsShedForSlowConsumer(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	conn := bob.stall()
	loud := *alice
	loud.http = s.server.Client() // too many messages to check each against the contract
	var stored []room.MessageID
	for sent := 0; s.hub.Stats().Shed == 0; sent++ {
		if sent == 10_000 {
			t.Fatal("no message of 50 MB of barrage was shed for a client that does not read")
		}
		if sent%200 == 0 {
			stored = append(stored, loud.send("lobby", "kept").ID)
		}
		loud.call("POST", roomPath("lobby", "/messages"), object{"kind": "barrage", "text": strings.Repeat("x", 5000)}).is(http.StatusAccepted)
	}
	stored = append(stored, loud.send("lobby", "kept").ID)
	if slow := s.hub.Stats().SlowConsumers; slow != 0 {
		t.Errorf("%d streams were closed because of barrage", slow)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil { // it starts to read
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(waitTimeout)); err != nil {
		t.Fatal(err)
	}
	var read bytes.Buffer
	chunk := make([]byte, 64<<10)
	for !bytes.Contains(read.Bytes(), []byte(stored[len(stored)-1])) {
		n, err := conn.Read(chunk)
		if err != nil {
			t.Fatal(err)
		}
		read.Write(chunk[:n])
	}
	for _, id := range stored {
		if bytes.Count(read.Bytes(), []byte(id)) != 1 {
			t.Errorf("the stored message %s did not arrive exactly once", id)
		}
	}
}
