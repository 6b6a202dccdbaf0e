package servicetest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/auth"
	parlor "parlor/clients/go"
	"parlor/room"
)

// printable returns the characters that an ID may contain between its first and its last one.
func printable() string {
	var all []byte
	for c := byte(' '); c <= '~'; c++ {
		all = append(all, c)
	}
	return string(all)
}

// encodeURIComponent encodes an ID as that function of JavaScript does.
func encodeURIComponent(id string) string {
	return strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(id))
}

// encodeBytes encodes each byte of an ID.
func encodeBytes(id string) string {
	var b strings.Builder
	for i := range len(id) {
		fmt.Fprintf(&b, "%%%02x", id[i])
	}
	return b.String()
}

// outcome is what a call did, apart from the IDs: how often its reply contains those of its room
// and of its user.
type outcome struct {
	status      int
	code        string
	rooms, user int
}

// TestIDsInEveryPath makes each call whose path contains the ID of a room or a user, with IDs of
// all allowed characters, and compares it with the same call with plain IDs.
func TestIDsInEveryPath(t *testing.T) {
	t.Parallel()
	s := newService(t)
	all := printable()
	type world struct {
		room   room.RoomID
		user   room.UserID
		encode func(string) string
	}
	worlds := []world{
		{room.RoomID("x" + all), room.UserID(all[1:65]), encodeURIComponent},
		{room.RoomID(all[1:]), room.UserID(all[40:]), url.PathEscape},
		{room.RoomID(strings.Repeat("/", 128)), "a+b c", encodeBytes},
		{`a/b\c%2F%2e%2e%252F`, "100% & more;a=b,c'd*", encodeURIComponent},
		{"*", `a\*`, url.PathEscape},
	}
	tries := 0
	for _, call := range samples(s) {
		if !strings.Contains(call.template, "{roomID}") && !strings.Contains(call.template, "{userID}") {
			continue
		}
		// try makes the call where it can succeed, and ends everything afterwards.
		try := func(w world) outcome {
			tries++
			c, admin := s.loginWith(s.signed(everythingIn(w.room, w.user))), s.admin()
			admin.call("POST", "/v1/admin/rooms", object{"roomID": w.room}).is(http.StatusCreated)
			c.enter(w.room)
			sessionID, messageID := c.SessionID, c.send(w.room, "hello").ID
			if call.template == "/v1/blocks/{userID}" || strings.HasPrefix(call.template, "/v1/users/") || strings.HasPrefix(call.template, "/v1/conversations/") {
				peer := s.login(room.UserID(fmt.Sprint("peer", tries)))
				messageID = message(peer.call("POST", peerPath(w.user), object{"kind": "text", "text": "hello"}).is(http.StatusCreated)).ID
				if call.id == "unblockUser" {
					peer.call("PUT", blockPath(w.user), nil).is(http.StatusNoContent)
				}
				defer peer.logout()
				c = peer
			}
			if call.id == "adminUnban" {
				admin.call("POST", adminPath(w.room, "/kick"), object{"userIDs": []room.UserID{w.user}, "banSeconds": 60}).is(http.StatusOK)
			}
			call := call
			call.path = strings.NewReplacer("{roomID}", w.encode(string(w.room)), "{userID}", w.encode(string(w.user)),
				"{sessionID}", string(sessionID), "{messageID}", string(messageID)).Replace(call.template)
			r := call.by(call.caller(c), nil)
			done := outcome{status: r.StatusCode}
			if len(r.body) > 0 {
				body := as[map[string]any](r)
				done.code, _ = body["code"].(string)
				done.rooms, done.user = count(body, string(w.room)), count(body, string(w.user))
			}
			admin.call("DELETE", "/v1/admin/users/"+url.PathEscape(string(w.user))+"/sessions", nil).is(http.StatusOK)
			admin.call("DELETE", adminPath(w.room, ""), nil)
			return done
		}
		want := try(world{"plain", "zoe", url.PathEscape})
		if want.status >= 300 {
			t.Errorf("%s with plain IDs: got %+v", call, want)
		}
		for _, w := range worlds {
			if got := try(w); got != want {
				t.Errorf("%s in %s with %s: got %+v, want %+v", call, w.room, w.user, got, want)
			}
		}
	}
}

// everythingIn returns a function that makes the claims those of a user who may do everything in a
// room, and join others.
func everythingIn(id room.RoomID, user room.UserID) func(jwt.MapClaims) {
	if prefix, ends := strings.CutSuffix(string(id), "*"); ends {
		id = room.RoomID(prefix + `\*`)
	}
	return func(c jwt.MapClaims) {
		c["sub"] = user
		c["iat"] = time.Now().Add(auth.ClockSkew / 2).Unix() // because one of the calls voids older tokens
		c["rooms"] = []object{
			{"roomID": id, "create": true, "join": true, "send": true, "kick": true, "attributes": true, "settings": true},
			{"roomID": "*", "create": true, "join": true},
		}
		c["peers"] = []string{"*"}
	}
}

// count returns how often a JSON value contains a string, as a value or a name.
func count(v any, text string) (n int) {
	switch v := v.(type) {
	case string:
		if v == text {
			n++
		}
	case []any:
		for _, element := range v {
			n += count(element, text)
		}
	case map[string]any:
		for name, element := range v {
			n += count(name, text) + count(element, text)
		}
	}
	return n
}

// TestIDsInRawPaths checks that a path is routed as it was sent, even if it contains characters
// that should have been encoded, and that logs and metrics name its pattern.
func TestIDsInRawPaths(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	routes := map[string]bool{}
	s := newService(t, func(c *setup) {
		c.api.PublicURL = "https://chat.example.com/chat"
		c.api.Observe = func(route, _ string, _ int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			routes[route] = true
		}
	})
	alice := s.login("alice")
	for _, id := range []room.RoomID{"a/b|c", `a/"b"^{c}`, `a\b/c`, "a%2Fb|/"} {
		alice.enter(id)
		raw := strings.NewReplacer("%", "%25", "/", "%2F").Replace(string(id))
		for _, prefix := range []string{"", "/chat"} {
			r := s.unchecked().withKey(alice.SessionKey).call("GET", "/", nil, func(r *http.Request) { r.URL.Opaque = prefix + "/v1/rooms/" + raw })
			if got := as[struct{ Room room.Room }](r.is(http.StatusOK)).Room.ID; got != id {
				t.Errorf("%s%s is the room %s", prefix, raw, got)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	want := map[string]bool{"/v1/sessions": true, "/v1/rooms/{roomID}": true, "/v1/rooms/{roomID}/enter": true}
	if diff := cmp.Diff(want, routes); diff != "" {
		t.Errorf("observed routes (-want +got):\n%s", diff)
	}
}

// TestIDsMakeTheRoundTrip checks that any valid IDs come back unchanged from each call of a room's
// life, and from the stream. It makes them with the generated client, whose paths it checks too.
func TestIDsMakeTheRoundTrip(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ctx := context.Background()
	as := func(key string) *parlor.ClientWithResponses {
		client, err := parlor.NewClientWithResponses(s.url, parlor.WithHTTPClient(s.http), parlor.WithRequestEditorFn(parlor.Bearer(key)))
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	admin := as(s.admin().SessionKey)
	bob := s.login("bob")
	id := func(most int) *rapid.Generator[string] {
		return rapid.StringMatching(`[!-~]([ -~]{0,` + strconv.Itoa(most-2) + `}[!-~])?`).Filter(func(id string) bool { return room.RoomID(id).Valid() })
	}
	rapid.Check(t, func(r *rapid.T) {
		roomID, userID := id(room.MaxRoomIDBytes).Draw(r, "roomID"), id(room.MaxUserIDBytes).Draw(r, "userID")
		if userID == "bob" {
			r.Skip("bob is the other user")
		}
		alice := s.login(room.UserID(userID))
		defer alice.logout()
		if string(alice.UserID) != userID {
			t.Errorf("%q logs in as %q", userID, alice.UserID)
		}
		calls := as(alice.SessionKey)
		created, err := calls.CreateRoomWithResponse(ctx, parlor.CreateRoomRequest{RoomID: roomID})
		ids := []string{mustReply(t, err, created.JSON201).Room.RoomID}
		stream, ready := alice.listen()
		ids = append(ids, string(ready.Rooms[0].ID))
		joined, err := as(bob.SessionKey).JoinRoomWithResponse(ctx, roomID, parlor.JoinRoomRequest{})
		ids = append(ids, mustReply(t, err, joined.JSON200).Room.RoomID)
		var entered parlor.RoomMemberJoinedEvent
		e := stream.next()
		for e.Type == string(room.TypePeerMessagesReceived) { // an earlier round had the same user
			e = stream.next()
		}
		decode(t, e, room.TypeMembersJoined, &entered)
		ids = append(ids, entered.RoomID)
		got, err := calls.GetRoomWithResponse(ctx, roomID, nil)
		ids = append(ids, mustReply(t, err, got.JSON200).Room.RoomID)
		sent, err := calls.SendRoomMessageWithResponse(ctx, roomID, textMessage(t, "hello"))
		message := mustReply(t, err, sent.JSON201).Message
		ids = append(ids, *message.RoomID)
		listed, err := admin.AdminListRoomsWithResponse(ctx, &parlor.AdminListRoomsParams{Prefix: &roomID})
		for _, found := range mustReply(t, err, listed.JSON200).Rooms {
			ids = append(ids, found.RoomID)
		}
		members, err := calls.ListMembersWithResponse(ctx, roomID, &parlor.ListMembersParams{UserID: &[]parlor.UserID{userID}})
		users := []string{message.Sender.UserID}
		for _, member := range mustReply(t, err, members.JSON200).MemberList {
			users = append(users, member.UserID)
		}
		written, err := as(bob.SessionKey).SendPeerMessageWithResponse(ctx, userID, textMessage(t, "hello"))
		users = append(users, *mustReply(t, err, written.JSON201).Message.UserID)
		destroyed, err := admin.AdminDestroyRoomWithResponse(ctx, roomID, nil)
		if err != nil || destroyed.StatusCode() != http.StatusNoContent {
			t.Errorf("%q is not destroyed: %v, %v", roomID, destroyed.Status(), err)
		}
		if gone, err := calls.GetRoomWithResponse(ctx, roomID, nil); err != nil || gone.StatusCode() != http.StatusNotFound {
			t.Errorf("%q still exists: %v, %v", roomID, gone.Status(), err)
		}
		if len(ids) != 7 || slices.ContainsFunc(ids, func(id string) bool { return id != roomID }) {
			t.Errorf("the room %q comes back as %q", roomID, ids)
		}
		if len(users) != 3 || slices.ContainsFunc(users, func(id string) bool { return id != userID }) {
			t.Errorf("the user %q comes back as %q", userID, users)
		}
	})
}
