package servicetest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

// polled is the reply to a poll.
type polled struct {
	Events []struct {
		Event room.EventType
		ID    string
		Data  json.RawMessage
	}
	Cursor string
}

// types returns the types of the events.
func (p polled) types() string {
	var types []string
	for _, e := range p.Events {
		types = append(types, string(e.Event))
	}
	return strings.Join(types, " ")
}

// poller is a client that polls for its events.
type poller struct {
	*client
	cursor string
}

// poll polls once, for at most some seconds.
func (p *poller) poll(wait string) (got polled) {
	p.Helper()
	path := "/v1/events?wait=" + wait
	if p.cursor != "" {
		path += "&last_event_id=" + url.QueryEscape(p.cursor)
	}
	got = as[polled](p.call("GET", path, nil).is(http.StatusOK))
	for _, e := range got.Events {
		if err := (event{ID: e.ID, Type: string(e.Event), Data: e.Data}).check("streamEvents"); err != nil {
			p.Error(err)
		}
	}
	if got.Cursor != "" {
		p.cursor = got.Cursor
	}
	return got
}

// texts returns the texts of the messages among the events.
func (p polled) texts(t testing.TB) (texts []string) {
	for _, e := range p.Events {
		var data struct{ MessageList []room.Message }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		for _, m := range data.MessageList {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// TestPoll checks what polls answer, and that they and streams continue each other.
func TestPoll(t *testing.T) {
	overEveryTransport(t, func(_ *testing.T, s *service, _ int) {
		alice, bob := poller{client: s.login("alice")}, s.login("bob")
		if got := alice.poll("10"); got.types() != "sessionReady" || alice.cursor == "" {
			s.Fatalf("the first poll answers %+v", got)
		}
		began := time.Now()
		if got := alice.poll("1"); got.types() != "" || time.Since(began) < time.Second {
			s.Errorf("a poll without events answers %+v after %s", got, time.Since(began))
		}
		alice.enter("hall")
		bob.enter("hall")
		// The room is not in the cursor, so the poll says that the session is in it.
		joined := alice.poll("10").types()
		if !strings.HasPrefix(joined, "sessionReady") {
			s.Errorf("after a join, a poll answers %s", joined)
		}
		for range 3 {
			if strings.Count(joined, "roomMemberJoined") < 2 {
				joined += alice.poll("2").types()
			}
		}
		var want, got []string
		for range 5 {
			for _, text := range []string{"a", "b"} {
				bob.send("hall", text)
				want = append(want, text)
			}
			got = append(got, alice.poll("10").texts(s)...)
			bob.send("hall", "c") // between a poll and a stream
			want = append(want, "c")
			stream, ready := alice.listen(resume(alice.cursor))
			for len(got) < len(want) {
				got = append(got, stream.text())
			}
			if !ready.Resumed {
				s.Errorf("the stream begins with %+v", ready)
			}
			alice.cursor = stream.id
			stream.disconnect()
		}
		if !slices.Equal(got, want) {
			s.Errorf("polls and streams received %q, want %q", got, want)
		}
		alice.leave("hall")
		if got := alice.poll("10"); !strings.Contains(got.types(), "roomStateChanged") {
			s.Errorf("after a leave, a poll answers %s", got.types())
		}
	})
}

// TestPollWaits checks that a poll answers when something happens, that the session is online for as
// long as it waits, and that a newer poll or stream ends it.
func TestPollWaits(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Limits.StreamsPerUser = 2 })
	alice, bob := poller{client: s.login("alice")}, s.login("bob")
	alice.enter("hall")
	bob.enter("hall")
	for alice.poll("1").types() != "" {
	}
	waiting := func(ends func()) (got polled) {
		t.Helper()
		eventually(t, "the last poll has ended", func() bool { return alice.state() == "detached" })
		replies := make(chan *http.Response, 1)
		go func() {
			got, err := s.http.Do(alice.request("GET", "/v1/events?wait=60", nil, resume(alice.cursor))) //nolint:bodyclose // drain closes it
			if err != nil {
				t.Error(err)
				close(replies)
				return
			}
			replies <- got
		}()
		eventually(t, "the session is online", func() bool { return alice.state() == "online" })
		ends()
		r, ok := <-replies
		if !ok {
			t.FailNow()
		}
		body, err := drain(r.Body)
		if err != nil || json.Unmarshal(body, &got) != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return got
	}
	if got := waiting(func() { bob.send("hall", "hello") }); !slices.Equal(got.texts(t), []string{"hello"}) {
		t.Errorf("a poll that waits answers %+v", got)
	} else {
		alice.cursor = got.Cursor
	}
	if got := waiting(func() {
		bob.call("POST", roomPath("hall", "/messages"), object{"kind": "barrage", "text": "shower"}).is(http.StatusAccepted)
	}); !slices.Equal(got.texts(t), []string{"shower"}) || got.Events[0].ID != "" {
		t.Errorf("a poll that waits answers %+v", got)
	}
	if got := waiting(func() {
		stream, _ := alice.listen(resume(alice.cursor))
		stream.disconnect()
	}); got.types() != "connectionStateChanged" {
		t.Errorf("a poll that a stream has replaced answers %s", got.types())
	}
	if got := waiting(func() { alice.poll("1") }); got.types() != "connectionStateChanged" {
		t.Errorf("a poll that another one has replaced answers %s", got.types())
	}
	alice.leave("hall")
	for alice.poll("1").types() != "" {
	}
	if got := waiting(func() { alice.logout() }); got.types() != "connectionStateChanged" {
		t.Errorf("a poll whose session has ended answers %s", got.types())
	}
}

// TestPollBadInput checks what a poll refuses. A problem is a problem, also with a stream key.
func TestPollBadInput(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Limits.StreamsPerUser = 1 })
	alice := poller{client: s.login("alice")}
	for _, wait := range []string{"", "0", "61", "-1", "1.5", "x", "25s", "99999999999999999999"} {
		alice.call("GET", "/v1/events?wait="+wait, nil).invalid("query/wait", "range")
	}
	alice.call("GET", "/v1/events?wait=1&wait=2", nil).invalid("query/wait", "duplicate")
	s.anonymous().call("GET", "/v1/events?wait=1", nil).refused(http.StatusUnauthorized, "unauthenticated")
	if got := as[polled](alice.call("GET", "/v1/events?wait=1", nil, header("Last-Event-ID", "not a cursor")).is(http.StatusOK)); got.types() != "sessionReady inboxReset" {
		t.Errorf("with a cursor that is none, a poll answers %s", got.types())
	}
	alice.enter("hall")
	alice.poll("1")
	alice.cursor = alice.cursor[:strings.LastIndex(alice.cursor, ":")] + ":zz"
	if got := alice.poll("1"); !strings.HasPrefix(got.types(), "sessionReady roomReset") {
		t.Errorf("with a cursor of the future, a poll answers %s", got.types())
	}
	stream, _ := s.login("alice").listen()
	defer stream.disconnect()
	path := strings.TrimPrefix(alice.StreamURL, s.server.URL) + "&wait=1"
	eventually(t, "the poll has ended", func() bool { return alice.state() == "detached" })
	s.anonymous().call("GET", path, nil).refused(http.StatusTooManyRequests, "too_many_streams")
}
