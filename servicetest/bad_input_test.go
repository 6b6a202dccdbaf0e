package servicetest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/auth"
	"parlor/auth/authtest"
	"parlor/room"
)

// TestBadKeys makes each call with each kind of key that must be rejected.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	var slow atomic.Int64 // how far the clock that verifies tokens is behind
	s := newService(t, func(c *setup) {
		c.api.Tokens.Now = func() time.Time { return time.Now().Add(-time.Duration(slow.Load())) }
	})
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	ended := s.login("carol")
	ended.logout()
	slow.Store(int64(2 * time.Hour))
	expired := s.login("dora")
	slow.Store(0)
	unknown := s.anonymous().withKey("sk_ABCDEFGHIJKLMNOPQRSTUVWXYZ")

	authorization := func(value string) func(*http.Request) { return header("Authorization", value) }
	for _, call := range samples(s) {
		if !call.keyed {
			continue
		}
		for what, value := range map[string]string{
			"no key": "", "no scheme": alice.SessionKey, "another scheme": "Basic " + alice.SessionKey, "an unknown scheme": "Token " + alice.SessionKey, "no word after the scheme": "Bearer",
			"an empty key": "Bearer ", "two spaces": "Bearer  " + alice.SessionKey, "a key and more": "Bearer " + alice.SessionKey + " x",
			"a key in lower case": "Bearer " + strings.ToLower(alice.SessionKey), "a token": "Bearer " + s.token("alice", time.Hour),
			"a very long key": "Bearer " + strings.Repeat("x", 10_000), "bytes": "Bearer \xff\xfe",
		} {
			r := call.by(s.anonymous(), nil, authorization(value))
			if p := as[problem](r); r.StatusCode != http.StatusUnauthorized || p.Code != "unauthenticated" {
				t.Errorf("%s with %s: got status %d %s", call, what, r.StatusCode, p.Code)
			}
		}
		call.by(unknown, nil).refused(http.StatusUnauthorized, "unauthenticated")
		call.by(s.anonymous().withKey(alice.streamKey()), nil).refused(http.StatusUnauthorized, "stream_key_refused")
		call.by(s.anonymous().withKey(bob.streamKey()), nil).refused(http.StatusUnauthorized, "stream_key_refused")
		call.by(ended, nil).refused(http.StatusUnauthorized, "session_ended")
		call.by(expired, nil).refused(http.StatusUnauthorized, "token_expired")
		// No other call accepts a key in its URL, not even a valid one.
		if call.id != "streamEvents" {
			call.path += "?stream_key=" + alice.streamKey()
			call.by(s.anonymous(), nil).refused(http.StatusUnauthorized, "unauthenticated")
		}
	}
	for what, key := range map[string]string{
		"a session key": alice.SessionKey, "an unknown key": "ek_ABCDEFGHIJKLMNOPQRSTUVWXYZ", "an empty key": "",
	} {
		r := s.anonymous().call("GET", "/v1/events?stream_key="+key, nil)
		if p := as[problem](r); r.StatusCode != http.StatusUnauthorized || p.Code != "unauthenticated" {
			t.Errorf("stream with %s in its URL: got status %d %s", what, r.StatusCode, p.Code)
		}
	}
	s.anonymous().call("GET", expired.StreamURL, nil).refused(http.StatusUnauthorized, "token_expired")
	if r := alice.call("GET", "/v1/sessions/current", nil, authorization("bEaReR "+alice.SessionKey)); r.StatusCode != http.StatusOK {
		t.Errorf("scheme in another case: got status %d", r.StatusCode)
	}
}

// TestBadAdminTokens makes each admin call with each kind of token that must be rejected.
func TestBadAdminTokens(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.api.EndFeeds() // so that an accepted token does not open an endless feed
	alice := s.login("alice")
	alice.enter("lobby")
	expired, err := s.tokens.SignAdmin("backend", -auth.ClockSkew)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range samples(s) {
		if !call.admin {
			continue
		}
		for what, c := range map[string]struct {
			authorization string
			status        int
			code          string
		}{
			"no token":           {"", http.StatusUnauthorized, "unauthenticated"},
			"another scheme":     {"Basic " + alice.SessionKey, http.StatusUnauthorized, "unauthenticated"},
			"an empty token":     {"Bearer ", http.StatusUnauthorized, "unauthenticated"},
			"no JWT":             {"Bearer x", http.StatusUnauthorized, "token_invalid"},
			"a session key":      {"Bearer " + alice.SessionKey, http.StatusUnauthorized, "token_invalid"},
			"a stream key":       {"Bearer " + alice.streamKey(), http.StatusUnauthorized, "token_invalid"},
			"a forged token":     {"Bearer " + authtest.Token(t, jwt.SigningMethodHS256, []byte("x"), set("scope", "admin"), nil), http.StatusUnauthorized, "token_invalid"},
			"an unsigned token":  {"Bearer " + authtest.Token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, set("scope", "admin"), nil), http.StatusUnauthorized, "token_invalid"},
			"an expired token":   {"Bearer " + s.log.secret(expired), http.StatusUnauthorized, "token_expired"},
			"a user's token":     {"Bearer " + s.token("alice", time.Hour), http.StatusForbidden, "not_admin"},
			"a token of a scope": {"Bearer " + s.signed(set("scope", "user")), http.StatusForbidden, "not_admin"},
		} {
			r := call.by(s.anonymous(), nil, header("Authorization", c.authorization))
			if p := as[problem](r); r.StatusCode != c.status || p.Code != c.code {
				t.Errorf("%s with %s: got status %d %s", call, what, r.StatusCode, p.Code)
			}
		}
		call.path += "?stream_key=" + s.token("alice", time.Hour)
		call.by(s.anonymous(), nil).refused(http.StatusUnauthorized, "unauthenticated")
	}
}

// TestBadBodies makes each call that has a body with each fault that a body can have.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	for _, call := range samples(s) {
		if call.body == nil {
			continue
		}
		tried := 0
		for _, bad := range call.badBodies(t) {
			tried++
			r := call.by(call.caller(alice), raw(bad.body))
			p := as[problem](r)
			code := bad.code
			if code == "" {
				code = "invalid_request"
			}
			if r.StatusCode != http.StatusBadRequest || p.Code != code {
				t.Errorf("%s with %s: got status %d %s, want %s: %.200q", call, bad.what, r.StatusCode, p.Code, code, bad.body)
				continue
			}
			if bad.code == "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != bad.pointer || p.Errors[0].Rule != bad.rule || p.Errors[0].Message == "") {
				t.Errorf("%s with %s: got faults %+v, want %s %s: %.200q", call, bad.what, p.Errors, bad.pointer, bad.rule, bad.body)
			}
		}
		if tried < 35 {
			t.Errorf("%s: tested only %d bodies", call, tried)
		}
		if !call.optional {
			call.by(call.caller(alice), raw("")).refused(http.StatusBadRequest, "malformed_json")
		}
	}
	if texts := listMessages(alice, "lobby", "").texts(); texts != "" {
		t.Errorf("rejected messages were stored: %.100q", texts)
	}
}

// TestAllFaultsAreReported checks that a reply lists all faults of a request, as a form needs.
func TestAllFaultsAreReported(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	p := alice.call("POST", "/v1/rooms", object{
		"roomID": "a ", "roomName": strings.Repeat("x", 65), "config": object{"memberTimeout": 4, "maxMembers": 0},
	}).refused(http.StatusBadRequest, "invalid_request")
	var faults []string
	for _, f := range p.Errors {
		faults = append(faults, f.Pointer+" "+f.Rule)
	}
	if got, want := strings.Join(faults, ", "), "/roomID roomID, /roomName maxBytes, /config/memberTimeout min, /config/maxMembers min"; got != want {
		t.Errorf("got faults %s, want %s", got, want)
	}
}

const maxBody = 256 << 10 // as openapi.yaml says for 413

func TestBodySize(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.loginWith(s.signed(everyGrant)) // with iat, because one of the calls voids older tokens
	alice.enter("lobby")
	s.login("peer")
	alice.sendTo("peer", "so that there is a conversation")
	for _, call := range samples(s) {
		if call.body == nil {
			continue
		}
		good := encoded(t, call.body)
		padded := good + strings.Repeat(" ", maxBody-len(good))
		for _, chunked := range []bool{false, true} {
			change := func(r *http.Request) {
				if chunked {
					r.ContentLength, r.Body = -1, io.NopCloser(r.Body)
				}
			}
			if r := call.by(call.caller(alice), raw(padded), change); r.StatusCode/100 != 2 {
				t.Errorf("%s, chunked %t: the largest body got status %d: %s", call, chunked, r.StatusCode, r.body)
			}
			for _, id := range []room.RoomID{"class#1", "class#2"} { // the call may have created either
				s.admin().call("DELETE", "/v1/admin"+strings.TrimPrefix(roomPath(id, ""), "/v1"), nil)
			}
			alice.enter("lobby")
			call.by(call.caller(alice), raw(padded+" "), change).refused(http.StatusRequestEntityTooLarge, "body_too_large")
		}
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	for _, call := range samples(s) {
		if call.body == nil {
			continue
		}
		for _, wrong := range []string{
			"", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/problem+json",
			"application/jsonp", "json", "application/json/x", "application/json, text/plain", "*/*",
		} {
			r := call.by(call.caller(alice), nil, header("Content-Type", wrong))
			if p := as[problem](r); r.StatusCode != http.StatusUnsupportedMediaType || p.Code != "unsupported_media_type" {
				t.Errorf("%s with Content-Type %q: got status %d %s", call, wrong, r.StatusCode, p.Code)
			}
		}
	}
	for _, call := range samples(s) { // a body of some bytes could become gigabytes
		if call.body == nil {
			continue
		}
		r := call.by(call.caller(alice), nil, header("Content-Encoding", "gzip"))
		if p := as[problem](r); r.StatusCode != http.StatusUnsupportedMediaType || p.Code != "unsupported_media_type" {
			t.Errorf("%s with a compressed body: got status %d %s", call, r.StatusCode, p.Code)
		}
	}
	for _, right := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "x"}, header("Content-Type", right)).is(http.StatusCreated)
	}
}

// textOfBytes returns a text of n bytes with as few characters as possible.
func textOfBytes(n int) string { return strings.Repeat("🎉", n/4) + strings.Repeat("x", n%4) }

// TestLimits checks that each field is accepted at its limit, and rejected with one byte more.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	messages := roomPath("lobby", "/messages")
	id := func(n int) string { return strings.Repeat("z", n) }
	for _, c := range []struct {
		path    string
		body    object
		pointer string
		limit   int
		text    func(int) string
		rule    string
	}{
		{"/v1/sessions", object{"token": s.token("alice", time.Hour)}, "/userName", 256, textOfBytes, "maxBytes"},
		{"/v1/sessions", object{"token": s.token("alice", time.Hour)}, "/device", 64, textOfBytes, "maxBytes"},
		{"/dev/token", object{}, "/userID", 64, id, "userID"},
		{"/dev/token", object{"userID": "x"}, "/userName", 256, textOfBytes, "maxBytes"},
		{"/v1/rooms", object{}, "/roomID", 128, id, "roomID"},
		{"/v1/rooms", object{"roomID": "named"}, "/roomName", 64, textOfBytes, "maxBytes"},
		{roomPath("entered", "/enter"), object{}, "/roomName", 64, textOfBytes, "maxBytes"},
		{messages, object{"kind": "text"}, "/text", 32768, textOfBytes, "maxBytes"},
		{messages, object{"kind": "text", "text": "x"}, "/extendedData", 1024, textOfBytes, "maxBytes"},
		{messages, object{"kind": "text", "text": "y"}, "/clientMessageID", 64, textOfBytes, "maxBytes"},
	} {
		for _, extra := range []int{1, 0} {
			c.body[c.pointer[1:]] = c.text(c.limit + extra)
			r := alice.call("POST", c.path, c.body)
			if extra > 0 {
				r.invalid(c.pointer, c.rule)
			} else if r.StatusCode/100 != 2 {
				t.Errorf("%s of %d bytes: got status %d: %s", c.pointer, c.limit, r.StatusCode, r.body)
			}
		}
	}
	// As many characters as the limit of bytes, with two bytes each.
	alice.call("POST", "/v1/rooms", object{"roomID": "x", "roomName": strings.Repeat("é", 64)}).invalid("/roomName", "maxBytes")
	// The largest text, with every character escaped.
	escaped := raw(fmt.Sprintf(`{"kind":"text","text":"%s"}`, strings.Repeat(`\u0061`, 32768)))
	if m := message(alice.call("POST", messages, escaped).is(http.StatusCreated)); m.Text != strings.Repeat("a", 32768) {
		t.Error("the escaped text was stored differently")
	}
	// A token at the limit is verified. A longer one is not.
	s.anonymous().call("POST", "/v1/sessions", object{"token": strings.Repeat("x", 8192)}).refused(http.StatusUnauthorized, "token_invalid")
	s.anonymous().call("POST", "/v1/sessions", object{"token": strings.Repeat("x", 8193)}).invalid("/token", "max")
	for name, bounds := range map[string][2]int{
		"destroyDelay": {0, 10_800}, "unusedTimeout": {1, 86_400}, "memberTimeout": {5, 300}, "maxMembers": {1, 1_000_000},
	} {
		for _, create := range []bool{true, false} {
			for n, rule := range map[int]string{bounds[0] - 1: "min", -1: "min", bounds[0]: "", bounds[1]: "", bounds[1] + 1: "max"} {
				id := room.RoomID(fmt.Sprintf("%s-%d-%t", name, n, create)) // each ID is new, because the room may still exist
				path := roomPath(id, "/enter")
				if create {
					path = "/v1/rooms"
				}
				body := object{"config": object{name: n}}
				if path == "/v1/rooms" {
					body["roomID"] = id
				}
				r := alice.call("POST", path, body)
				if rule != "" {
					r.invalid("/config/"+name, rule)
					continue
				}
				r.is(http.StatusCreated)
				alice.leave(id)
			}
		}
	}
}

// TestBadRoomIDs makes each call on a room with each byte that an ID cannot contain, and with other
// IDs that are not valid.
func TestBadRoomIDs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	bad := []string{".", "..", "%2e", "%2E", "%2e%2E", ".%2e", strings.Repeat("x", 129), "a%2F..%2Fb", "%2e%5c", "%C3%A9", "%ff", "%00", "a%00", "%20", "a%20", "%20a", "%2e%2e%2f"}
	for c := range 256 {
		if id := "x" + string([]byte{byte(c)}); !room.RoomID(id).Valid() {
			bad = append(bad, fmt.Sprintf("x%%%02x", c))
		}
	}
	for _, call := range samples(s) {
		if !call.roomed {
			continue
		}
		for _, id := range bad {
			r := call.caller(alice).call(call.method, strings.Replace(call.path, "lobby", id, 1), map[bool]any{true: call.body}[call.body != nil])
			if p := as[problem](r); r.StatusCode != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Pointer != "path/roomID" {
				t.Errorf("%s of room %s: got status %d: %s", call, id, r.StatusCode, r.body)
			}
		}
	}
	alice.call("POST", "/v1/rooms//join", nil).invalid("path/roomID", "roomID")
	for _, id := range []string{"", ".", "..", "a ", "a/..", "é", "a\u200b", strings.Repeat("x", 129)} {
		rule := "roomID"
		if id == "" {
			rule = "required"
		}
		alice.call("POST", "/v1/rooms", object{"roomID": id}).invalid("/roomID", rule)
	}
	for _, id := range []string{".", "..", " a", "é", strings.Repeat("x", 65)} {
		s.anonymous().call("POST", "/dev/token", object{"userID": id}).invalid("/userID", "userID")
	}
}

// TestBadIDsAreExplained checks that a reply says what is wrong with an ID, wherever it is.
func TestBadIDsAreExplained(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for _, bad := range []struct{ id, fault string }{
		{strings.Repeat("x", 129), "must be at most "},
		{"a\u202eb", "must not contain U+202E"},
		{"a ", "must not begin or end with a space"},
		{"a/../b", "must not be or contain the path segment . or .."},
	} {
		escaped := url.PathEscape(bad.id)
		for _, r := range []reply{
			alice.call("GET", "/v1/rooms/"+escaped, nil),
			alice.call("POST", "/v1/rooms", object{"roomID": bad.id}),
			alice.call("POST", "/v1/rooms/lobby/switch", object{"toRoom": object{"roomID": bad.id}}),
			alice.call("GET", "/v1/users/"+escaped+"/messages", nil),
			alice.call("GET", "/v1/rooms/lobby/members?userID="+url.QueryEscape(bad.id), nil),
			alice.call("POST", "/v1/rooms/lobby/kick", object{"userIDs": []string{bad.id}}),
			alice.admin().call("GET", "/v1/admin/users/"+escaped+"/rooms", nil),
			alice.admin().call("DELETE", "/v1/admin/rooms/lobby/bans/"+escaped, nil),
		} {
			p := r.refused(http.StatusBadRequest, "invalid_request")
			if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Message, bad.fault) {
				t.Errorf("%s: got faults %v, want %q", r.call, p.Errors, bad.fault)
			}
		}
	}
}

// TestRoomCallsNeedMembership makes each call on a room that does not exist, and on one that the
// session is not in.
func TestRoomCallsNeedMembership(t *testing.T) {
	t.Parallel()
	s := newService(t)
	bob := s.login("bob")
	bob.enter("lobby")
	alice := s.loginWith(s.signed(everyGrant))
	for _, call := range samples(s) {
		onName := strings.HasPrefix(call.path, "/v1/admin/rooms/lobby/bans") // bans do not need a room
		if !call.roomed || onName || call.id == "enterRoom" {
			continue
		}
		body := map[bool]any{true: call.body}[call.body != nil]
		call.caller(alice).call(call.method, strings.Replace(call.path, "lobby", "nowhere", 1), body).refused(http.StatusNotFound, "room_not_found")
		if call.id != "joinRoom" && !call.admin {
			call.by(alice, nil).refused(http.StatusConflict, "not_in_room")
		}
	}
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	const far = "9007199254740992" // 2^53
	for path, queries := range map[string]map[string]string{
		"/messages": {
			"limit=0": "limit range", "limit=101": "limit range", "limit=-1": "limit range", "limit=": "limit range", "limit=x": "limit range",
			"limit=1.5": "limit range", "limit=1e1": "limit range", "limit=99999999999999999999": "limit range", "limit=%00": "limit range",
			"limit=1&limit=1": "limit duplicate", "before=0": "before range", "before=" + far: "before range", "before=x": "before range",
			"after=-1": "after range", "after=" + far: "after range", "before=5&after=1": "after exclusive",
			"limits=1": "limits unknown", "Limit=1": "Limit unknown", "cursor=x": "cursor unknown", "%ff=1": "\ufffd unknown", "=1": " unknown",
			"from=": "from instant", "from=x": "from instant", "from=2026-11-21": "from instant", "from=2026-11-21T15:00:00": "from instant",
			"from=2026-11-21T15:00:00,5Z": "from instant", "from=2026-11-21T25:00:00Z": "from instant", "from=1795273200": "from instant",
			"from=2026-11-21T15:00:00+01:00": "from instant", "until=2026-02-30T00:00:00Z": "until instant", "until=%00": "until instant",
			"from=2026-11-21T15:00:00Z&from=2026-11-21T15:00:00Z":  "from duplicate",
			"from=2026-11-21T15:00:01Z&until=2026-11-21T15:00:00Z": "until order", "from=2026-11-21T15:00:00Z&until=2026-11-21T16:00:00%2B01:00": "until order",
			"limit=%zz": " syntax", "limit=1;before=2": " syntax",
		},
		"/members": {
			"limit=0": "limit range", "limit=501": "limit range", "limit=x": "limit range", "limit=1&limit=2": "limit duplicate",
			"cursor=": "cursor cursor", "cursor=x": "cursor cursor", "cursor=AAAA": "cursor cursor", "cursor=MS5hbGljZQ%3D%3D": "cursor cursor",
			"cursor=MC5hbGljZQ": "cursor cursor", "cursor=LTEuYWxpY2U": "cursor cursor", "cursor=" + strings.Repeat("x", 5000): "cursor cursor",
			"cursor=MS5hbGljZQ&cursor=MS5hbGljZQ": "cursor duplicate", "userID=": "userID userID", "userID=.": "userID userID",
			"userID=a%20": "userID userID", "userID=%00": "userID userID", "userID=" + strings.Repeat("x", 65): "userID userID",
			"userID=a&userID=%20": "userID userID", "userid=a": "userid unknown", "before=1": "before unknown",
		},
	} {
		for query, want := range queries {
			name, rule, _ := strings.Cut(want, " ")
			alice.call("GET", roomPath("lobby", path+"?"+query), nil).invalid("query/"+name, rule)
		}
	}
	for query, want := range map[string]string{
		"lastEventID=1": "lastEventID unknown", "last_event_id=1&last_event_id=2": "last_event_id duplicate", "x": "x unknown",
	} {
		name, rule, _ := strings.Cut(want, " ")
		alice.call("GET", "/v1/events?"+query, nil).invalid("query/"+name, rule)
	}
	for _, path := range []string{"/members", "/member-attributes"} {
		alice.call("GET", roomPath("lobby", path+"?userID=a&limit=1"), nil).invalid("query/limit", "exclusive")
		alice.call("GET", roomPath("lobby", path+"?userID=a&cursor=MS5hbGljZQ"), nil).invalid("query/cursor", "exclusive")
	}
	p := alice.call("GET", roomPath("lobby", "/messages?limit=0&before=x"), nil).refused(http.StatusBadRequest, "invalid_request")
	if len(p.Errors) != 2 {
		t.Errorf("got faults %+v, want two", p.Errors)
	}
}

func TestUnknownRoutes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	for _, path := range []string{
		"/v1", "/v1/", "/v2/rooms", "/V1/rooms", "//v1/rooms", "/v1//rooms", "/v1/rooms/", "/v1/rooms/lobby/", "/v1/rooms/lobby/attic",
		"/v1/rooms/lobby/members/alice", "/v1/rooms/lobby/messages/1/2", "/v1/rooms/lobby%2Fjoin/x", "/v1/sessions/other", "/v1/sessions/current/", "/dev",
		"/v1/admin", "/v1/admin/users/alice", "/docs/", "/index.html", "/.git/config", "/%2e%2e/etc/passwd", "/v1/rooms/../rooms", "/metrics", "/debug/pprof/", "/favicon.ico",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			alice.call(method, path, nil).refused(http.StatusNotFound, "not_found")
		}
	}
}

// TestWrongMethods checks that 405 lists exactly the methods of the path.
func TestWrongMethods(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for path, item := range openapi().Paths.Map() {
		// GET on an upload is the route of a file with the ID "uploads", which never exists.
		takes := func(method string) bool {
			return item.Operations()[method] != nil || method == "GET" && strings.HasPrefix(path, uploadsPath)
		}
		var allowed []string
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} { // in the order of the Allow header
			if takes(method) {
				allowed = append(allowed, method)
			}
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if takes(method) {
				continue
			}
			r := alice.call(method, strings.ReplaceAll(path, "{roomID}", "lobby"), nil)
			r.refused(http.StatusMethodNotAllowed, "method_not_allowed")
			if got, want := r.Header.Get("Allow"), strings.Join(allowed, ", "); got != want {
				t.Errorf("%s %s: got Allow %q, want %q", method, path, got, want)
			}
		}
	}
}

func TestHugeHeader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.unchecked()
	for _, change := range []func(*http.Request){
		header("X-Filler", strings.Repeat("x", 100<<10)),
		header("Last-Event-ID", strings.Repeat("1", 100<<10)),
		func(r *http.Request) { r.URL.RawQuery = "limit=" + strings.Repeat("1", 100<<10) },
	} {
		c.call("GET", "/v1/sessions/current", nil, change).is(http.StatusRequestHeaderFieldsTooLarge)
	}
	// Shorter headers get an ordinary error.
	s.anonymous().call("GET", "/v1/rooms/"+url.PathEscape(strings.Repeat("%", 10_000))+"/members", nil, header("Last-Event-ID", strings.Repeat("1", 5000))).
		refused(http.StatusUnauthorized, "unauthenticated")
	alice := s.login("alice")
	alice.enter("lobby")
	stream, ready := s.unchecked().withKey(alice.SessionKey).listen(resume(strings.Repeat("1", 5000)))
	if expect[room.RoomReset](stream); ready.Resumed {
		t.Error("the stream resumed from an overlong cursor")
	}
}

// TestUnreadInput makes each call with a query parameter that it does not have, and with a body if
// it has none.
func TestUnreadInput(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	calls := samples(s)
	for _, path := range []string{"/v1/media/uploads/3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "/v1/media/3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61/cat.png"} {
		calls = append(calls, sample{id: "HEAD of " + path, method: "HEAD", path: path, header: map[string]string{"Tus-Resumable": "1.0.0"}})
	}
	check := func(call sample, what, pointer, rule string, r reply) {
		var p problem
		if call.method != "HEAD" {
			p = as[problem](r)
		}
		if r.StatusCode != http.StatusBadRequest || call.method != "HEAD" && (len(p.Errors) != 1 || p.Errors[0].Pointer != pointer || p.Errors[0].Rule != rule) {
			t.Errorf("%s with %s: got status %d: %s", call, what, r.StatusCode, r.body)
		}
	}
	for _, call := range calls {
		with := call
		separator := "?"
		if strings.Contains(with.path, "?") {
			separator = "&"
		}
		with.path += separator + "unheardOf=1"
		check(call, "an unknown parameter", "query/unheardOf", "unknown", with.by(call.caller(alice), nil))
		if call.body != nil || call.file || call.method == "HEAD" {
			continue
		}
		for _, body := range []string{`{"unheardOf":1}`, "[]", "null", "text", `"{}"`, "{}{}", strings.Repeat(" ", 100), strings.Repeat(" ", 1<<20)} {
			for _, length := range []int64{int64(len(body)), -1} {
				check(call, fmt.Sprintf("the body %.20q of length %d", body, length), "", "body", call.by(call.caller(alice), raw(body), func(r *http.Request) {
					r.ContentLength = length
				}))
			}
		}
	}
	// What HTTP clients send for no body is accepted, although the contract has a type for each body.
	lenient := s.unchecked().withKey(alice.SessionKey)
	for _, body := range []string{"", " ", "{}", " {\r\n} "} {
		for _, contentType := range []string{"", "application/json", "text/plain"} {
			for _, length := range []int64{int64(len(body)), -1} {
				change := func(r *http.Request) {
					r.Header.Del("Content-Type")
					if contentType != "" {
						r.Header.Set("Content-Type", contentType)
					}
					if r.ContentLength = length; length < 0 && body == "" {
						r.Body = io.NopCloser(strings.NewReader("")) // chunked
					}
				}
				alice.enter("second")
				for _, call := range []string{"POST " + roomPath("lobby", "/join"), "POST " + roomPath("lobby", "/enter"), "POST " + roomPath("second", "/leave"), "GET " + roomPath("lobby", "")} {
					method, path, _ := strings.Cut(call, " ")
					lenient.call(method, path, raw(body), change).is(http.StatusOK)
				}
			}
		}
	}
}
