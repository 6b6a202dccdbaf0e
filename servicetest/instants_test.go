package servicetest

import (
	"go/ast"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// instantsIn returns the pointers of the date-times in a schema of a request.
func instantsIn(pointer string, s *openapi3.Schema) (found []string) {
	if s.Format == "date-time" {
		return []string{pointer}
	}
	for name, property := range flat(s).Properties {
		if name == "messageList" && strings.Contains(pointer, name) {
			continue // the type is recursive
		}
		found = append(found, instantsIn(pointer+"/"+name, property.Value)...)
	}
	if s.Items != nil {
		found = append(found, instantsIn(pointer+"/0", s.Items.Value)...)
	}
	return found
}

// TestEdgeInstants sends times at their edges in each place of the contract that takes a time. Each
// is accepted and means what it says, or is refused with the reason.
func TestEdgeInstants(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	s.login("peer")
	first := alice.send("lobby", "x")
	admin := s.admin()
	s.login("reader")
	firstTo := alice.sendTo("reader", "x")

	inbox := func(query string) reply { return admin.call("GET", "/v1/admin/users/reader/messages?"+query, nil) }
	history := func(query string) reply { return alice.call("GET", roomPath("lobby", "/messages?"+query), nil) }
	adminHistory := func(query string) reply { return admin.call("GET", "/v1/admin/rooms/lobby/messages?"+query, nil) }
	bounds := func(text string, selected bool, r reply) {
		if page := as[messagePage](r.is(http.StatusOK)); (page.texts() != "") != selected {
			t.Errorf("%s: got %q", text, page.texts())
		}
	}
	combined := func(text string) object {
		return object{"kind": "combine", "title": "t", "messageList": []object{{"kind": "text", "text": "x", "sender": object{"userID": "bob"}, "sentAt": text}}}
	}
	quoted := func(text string, at time.Time, r reply) {
		if got := message(r.is(http.StatusCreated)).MessageList[0].SentAt; got != room.InstantOf(at) {
			t.Errorf("quoted %s as %s", text, got)
		}
	}
	places := []struct {
		operation, pointer string
		send               func(text string) reply
		// check checks the reply to a text that is accepted; nil if no such text is sent.
		check func(text string, at time.Time, r reply)
	}{
		{
			"listRoomMessages", "query/from", func(text string) reply { return history("from=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, !first.SentAt.Time().Before(at), r) },
		},
		{
			"listRoomMessages", "query/until", func(text string) reply { return history("until=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, first.SentAt.Time().Before(at), r) },
		},
		{
			"adminListMessages", "query/from", func(text string) reply { return adminHistory("from=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, !first.SentAt.Time().Before(at), r) },
		},
		{
			"adminListMessages", "query/until", func(text string) reply { return adminHistory("until=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, first.SentAt.Time().Before(at), r) },
		},
		{
			"adminListUserMessages", "query/from", func(text string) reply { return inbox("from=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, !firstTo.SentAt.Time().Before(at), r) },
		},
		{
			"adminListUserMessages", "query/until", func(text string) reply { return inbox("until=" + url.QueryEscape(text)) },
			func(text string, at time.Time, r reply) { bounds(text, firstTo.SentAt.Time().Before(at), r) },
		},
		{"adminCreateBroadcast", "/message/messageList/0/sentAt", func(text string) reply {
			return admin.call("POST", "/v1/admin/broadcasts", object{"sender": object{"userID": "bot"}, "message": combined(text)})
		}, func(_ string, _ time.Time, r reply) {
			path := r.is(http.StatusAccepted).Header.Get("Location")
			admin.call("DELETE", path, nil).is(http.StatusNoContent) // few may run at once
		}},
		{"adminSendPeerMessage", "/message/messageList/0/sentAt", func(text string) reply {
			return admin.call("POST", "/v1/admin/users/peer/messages", object{"sender": object{"userID": "bot"}, "message": combined(text)})
		}, quoted},
		{
			"sendRoomMessage", "/messageList/0/sentAt",
			func(text string) reply { return alice.call("POST", roomPath("lobby", "/messages"), combined(text)) }, quoted,
		},
		{
			"sendPeerMessage", "/messageList/0/sentAt",
			func(text string) reply { return alice.call("POST", "/v1/users/peer/messages", combined(text)) }, quoted,
		},
		{"adminSendMessage", "/message/messageList/0/sentAt", func(text string) reply {
			return admin.call("POST", "/v1/admin"+strings.TrimPrefix(roomPath("lobby", "/messages"), "/v1"), object{"sender": object{"userID": "bot"}, "message": combined(text)})
		}, quoted},
		{
			"adminVoidTokens", "/before",
			func(text string) reply {
				return admin.call("PUT", "/v1/admin/users/nobody/tokens-void-before", object{"before": text})
			},
			func(text string, at time.Time, r reply) {
				if at.After(time.Now()) {
					r.invalid("/before", "past")
				} else if got := as[struct{ Before room.Instant }](r.is(http.StatusOK)).Before; got != room.InstantFrom(at) {
					t.Errorf("tokens before %s are void, instead of %s", got, text)
				}
			},
		},
	}

	var takes, tried []string
	for _, item := range openapi().Paths.Map() {
		for _, op := range item.Operations() {
			for _, p := range op.Parameters {
				for _, pointer := range instantsIn(p.Value.In+"/"+p.Value.Name, p.Value.Schema.Value) {
					takes = append(takes, op.OperationID+" "+pointer)
				}
			}
			if op.RequestBody != nil && op.RequestBody.Value.Content["application/json"] != nil {
				for _, pointer := range instantsIn("", op.RequestBody.Value.Content["application/json"].Schema.Value) {
					takes = append(takes, op.OperationID+" "+pointer)
				}
			}
		}
	}
	for _, place := range places {
		tried = append(tried, place.operation+" "+place.pointer)
	}
	slices.Sort(takes)
	slices.Sort(tried)
	if diff := cmp.Diff(takes, tried); diff != "" {
		t.Errorf("in the contract (-) and in this test (+):\n%s", diff)
	}

	sent := first.SentAt.Time()
	edges := []struct {
		text  string
		valid bool
	}{
		{"0000-01-01T00:00:00Z", false},
		{"0000-12-31T23:59:59.999Z", false},
		{"0000-12-31T23:00:00-01:00", true},
		{"0001-01-01T00:00:00Z", true},
		{"0001-01-01T00:00:00+00:01", false},
		{"1970-01-01T00:00:00Z", true},
		{"9999-12-31T23:59:59.999999999Z", true},
		{"9999-12-31T23:59:59-00:01", false},
		{"9999-12-31T23:59:60Z", false},
		{"10000-01-01T00:00:00Z", false},
		{"-0001-01-01T00:00:00Z", false},
		{"2016-12-31T23:59:60Z", true},
		{"2016-12-31T12:00:60Z", false},
		{"2016-12-31T23:59:61Z", false},
		{"2026-11-21T15:00:00.000000001Z", true},
		{"2026-11-21T15:00:00." + strings.Repeat("9", 5000) + "Z", true},
		{"2026-11-21t15:00:00z", true},
		{"2026-11-21T15:00:00+23:59", true},
		{"2026-11-21T15:00:00-24:00", false},
		{"2026-11-21T15:00:00", false},
		{"2026-11-21 15:00:00Z", false},
		{"2026-11-21T15:00:00,5Z", false},
		{"2026-11-21", false},
		{"1795273200", false},
		{"x", false},
		{"", false},
		{first.SentAt.String(), true},
		{sent.Add(time.Nanosecond).Format(time.RFC3339Nano), true},
		{sent.Add(-time.Nanosecond).Format(time.RFC3339Nano), true},
		{sent.In(time.FixedZone("", 5*60*60)).Format(time.RFC3339Nano), true},
	}
	for _, place := range places {
		for _, edge := range edges {
			r := place.send(edge.text)
			if !edge.valid {
				r.invalid(place.pointer, "instant")
				continue
			}
			at, ok := room.ParseInstant(edge.text)
			if !ok {
				t.Fatalf("%s is not valid", edge.text)
			}
			place.check(edge.text, at, r)
		}
	}
}

// TestContractInstants checks that replies and events describe times in their one form, and that
// requests take all forms.
func TestContractInstants(t *testing.T) {
	t.Parallel()
	for _, place := range schemasOf(openapi()) {
		if place.schema.Format != "date-time" {
			continue
		}
		form := openapi().Components.Schemas["Timestamp"].Value.Pattern
		if place.sent && place.schema.Pattern != "" {
			t.Errorf("%s: requests take times in any form", place.at)
		}
		if !place.sent && place.schema.Pattern != form {
			t.Errorf("%s: the pattern is %q", place.at, place.schema.Pattern)
		}
	}
}

// TestTimesAreInstants checks that no package that talks to clients encodes a time otherwise.
func TestTimesAreInstants(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"../room", "../auth", "../hub", "../handlers"} {
		files := source(t, dir)
		find(files, func(f *ast.Field) {
			typ := f.Type
			if pointer, ok := typ.(*ast.StarExpr); ok {
				typ = pointer.X
			}
			if selector, ok := typ.(*ast.SelectorExpr); !ok || !named(selector.X, "time") || selector.Sel.Name != "Time" || f.Tag == nil {
				return
			}
			if strings.Contains(f.Tag.Value, "json:") && !strings.Contains(f.Tag.Value, `json:"-"`) {
				t.Errorf("%s: the field %s is a time.Time in JSON: use room.Instant", dir, f.Names[0].Name)
			}
		})
		find(files, func(call *ast.CallExpr) {
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || dir == "../room" || !slices.Contains([]string{"Format", "AppendFormat"}, method.Sel.Name) {
				return
			}
			// HTTP has a form of its own for times in headers.
			if layout, ok := call.Args[len(call.Args)-1].(*ast.SelectorExpr); ok && named(layout.X, "http") && layout.Sel.Name == "TimeFormat" {
				return
			}
			t.Errorf("%s: a time is formatted: use room.Instant", dir)
		})
	}
}
