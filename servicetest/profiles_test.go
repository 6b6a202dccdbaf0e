package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// profiled is a reply with a profile.
type profiled struct{ Profile room.Profile }

// patchProfile changes the client's own profile.
func (c *client) patchProfile(change object) room.Profile {
	c.Helper()
	return as[profiled](c.call("PATCH", "/v1/profile", change).is(http.StatusOK)).Profile
}

// profiles returns the profiles of users, and the users who do not exist.
func (c *client) profiles(users ...room.UserID) (found []room.Profile, unknown []room.UserID) {
	c.Helper()
	q := url.Values{}
	for _, id := range users {
		q.Add("userID", string(id))
	}
	reply := as[struct {
		UserList      []room.Profile
		ErrorUserList []room.UserID
	}](c.call("GET", "/v1/users?"+q.Encode(), nil).is(http.StatusOK))
	return reply.UserList, reply.ErrorUserList
}

// loginAs creates a session with a name that the client asks for, and one that the token has; ""
// means none.
func (s *service) loginAs(user room.UserID, asked, signed string) *client {
	s.Helper()
	token, err := s.tokens.Sign(room.User{ID: user, Name: signed}, time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	body := object{"token": s.log.secret(token)}
	if asked != "" {
		body["userName"] = asked
	}
	c := s.anonymous()
	c.session = as[session](c.call("POST", "/v1/sessions", body).is(http.StatusCreated))
	s.log.secret(c.SessionKey)
	s.log.secret(c.streamKey())
	return c
}

// TestProfiles: a change of a profile reaches the rooms of the user and all sessions of the user,
// through every server, and whatever comes after it has the new name.
func TestProfiles(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, phone, bob := s.loginAs("alice", "Alice", ""), s.login("alice"), s.login("bob")
	if phone.UserName != "Alice" {
		t.Errorf("a login without a name is of %q", phone.UserName)
	}
	feed, _ := s.admin().follow("")
	for _, id := range []room.RoomID{"a", "b", "quiet"} {
		config := object{}
		if id == "quiet" {
			config["presence"] = "counts"
		}
		bob.call("POST", roomPath(id, "/enter"), object{"config": config}).is(http.StatusCreated)
	}
	b, _ := bob.listen()
	p, _ := phone.listen()
	alice.enter("quiet")
	for _, id := range []room.RoomID{"a", "b"} {
		alice.enter(id)
		expect[room.MembersJoined](b)
	}
	const picture = "https://cdn.example.com/a%20b.png?size=64&q=1#x"
	want := room.Profile{User: room.User{ID: "alice", Name: "Älice"}, AvatarURL: picture}
	changes := []object{
		{"userName": " Älice\u200b", "avatarURL": picture},
		{"userExtendedData": `{"level":"</script>\u2028"}`},
		{"avatarURL": ""},
	}
	for i, change := range changes {
		switch i {
		case 1:
			want.ExtendedData = changes[1]["userExtendedData"].(string)
		case 2:
			want.AvatarURL = ""
		}
		if got := alice.patchProfile(change); got != want {
			t.Errorf("%v: %+v", change, got)
		}
		got := map[string]bool{}
		for range 2 {
			e := expect[room.UserInfoUpdated](b)
			got[decoded[struct{ RoomID string }](b).RoomID] = true
			if !cmp.Equal(e.UserList, []room.Profile{want}) {
				t.Errorf("%v: the room says %+v", change, e)
			}
		}
		if !got["a"] || !got["b"] {
			t.Errorf("%v: the event is in the rooms %v", change, got)
		}
		if e := expect[room.ProfileUpdated](p); e.Profile != want {
			t.Errorf("%v: the other session gets %+v", change, e)
		}
		alice.patchProfile(change) // changes nothing, and publishes nothing
	}
	for _, id := range []room.RoomID{"a", "quiet"} {
		for _, m := range as[memberPage](bob.call("GET", roomPath(id, "/members?userID=alice"), nil).is(http.StatusOK)).MemberList {
			if m.User != want.User || m.AvatarURL != want.AvatarURL {
				t.Errorf("%s: the list has %+v", id, m)
			}
		}
	}
	found, unknown := bob.profiles("nobody", "bob", "alice", "bob")
	if !cmp.Equal(found, []room.Profile{{User: room.User{ID: "bob", Name: "bob"}}, want}) || !cmp.Equal(unknown, []room.UserID{"nobody"}) {
		t.Errorf("the profiles are %+v, unknown %v", found, unknown)
	}
	phone.enter("a") // publishes nothing: alice is a member
	for _, c := range []*client{alice, phone} {
		if m := c.send("a", "hello"); m.Sender != want.User || skipTo[room.MessagesReceived](b).MessageList[0].Sender != want.User {
			t.Errorf("a later message is from %+v", m.Sender)
		}
	}
	if m := phone.sendTo("bob", "hello"); m.Sender != want.User || b.peerMessage().Sender != want.User {
		t.Errorf("a later message between users is from %+v", m.Sender)
	}
	alice.patchProfile(object{"avatarURL": picture})
	expect[room.UserInfoUpdated](b)
	alice.call("POST", roomPath("a", "/switch"), object{"toRoom": object{"roomID": "c"}, "createIfNotExists": true}).is(http.StatusOK)
	bob.enter("c")
	if m := as[memberPage](bob.call("GET", roomPath("c", "/members"), nil)).MemberList[0]; m.Name != want.Name || m.AvatarURL != picture {
		t.Errorf("in a room that she joins later, alice is %+v", m)
	}
	inFeed := 0
	for inFeed < 7 { // of the rooms a and b, and the last one
		if e := feed.next(); e.Type == string(room.TypeUserInfoUpdated) {
			inFeed++
		}
	}
	// A stream that was lost resumes with what it missed.
	p.disconnect()
	bob.patchProfile(object{"userName": "Bobby"})
	alice.patchProfile(object{"userName": "Alice"})
	resumed, ready := phone.listen(resume(p.id))
	if !ready.Resumed {
		t.Error("the stream did not resume")
	}
	if e := skipTo[room.ProfileUpdated](resumed); e.Profile.AvatarURL != picture {
		t.Errorf("the first missed event is %+v", e)
	}
	if e := skipTo[room.ProfileUpdated](resumed); e.Profile.Name != "Alice" {
		t.Errorf("the second missed event is %+v", e)
	}
}

// TestNamesOfLogins: which name a user has after logins with and without names in requests and
// tokens, and after changes in between.
func TestNamesOfLogins(t *testing.T) {
	t.Parallel()
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			t.Parallel()
			s := newService(t, func(c *setup) { c.api.SignedNames = signed })
			first := s.loginAs("alice", "", "")
			watcher := s.login("bob")
			watcher.enter("lobby")
			stream, _ := watcher.listen()
			first.enter("lobby")
			expect[room.MembersJoined](stream)
			name := "alice"
			now := func(what, want string) {
				t.Helper()
				state := as[struct{ Session room.User }](first.call("GET", "/v1/sessions/current", nil)).Session
				found, _ := watcher.profiles("alice")
				if state.Name != want || found[0].Name != want {
					t.Errorf("%s: the session is of %+v, the profile is %+v, want %q", what, state, found[0], want)
				}
				if got := first.send("lobby", what).Sender.Name; got != want {
					t.Errorf("%s: the message is from %q, want %q", what, got, want)
				}
				if want != name {
					if e := expect[room.UserInfoUpdated](stream); e.UserList[0].Name != want {
						t.Errorf("%s: %+v", what, e)
					}
				}
				expect[room.MessagesReceived](stream)
				name = want
			}
			login := func(asked, inToken, want string) {
				t.Helper()
				if got := s.loginAs("alice", asked, inToken).UserName; got != want {
					t.Errorf("login as %q with a token of %q: %q, want %q", asked, inToken, got, want)
				}
				now(fmt.Sprintf("login as %q with a token of %q", asked, inToken), want)
			}
			rename := func(to, want string) {
				t.Helper()
				r := first.call("PATCH", "/v1/profile", object{"userName": to})
				if to == want {
					r.is(http.StatusOK)
				} else {
					r.refused(http.StatusForbidden, "name_signed")
				}
				now("renamed to "+to, want)
			}
			either := func(unsigned, ifSigned string) string {
				if signed {
					return ifSigned
				}
				return unsigned
			}
			now("first", "alice")
			rename("Al", "Al")
			login("", "", "Al")
			login("Ally", "", "Ally")
			login("", "Alice A", "Alice A")
			rename("Ali", either("Ali", "Alice A"))
			login("", "Alice A", either("Ali", "Alice A")) // the same token
			login("", "", either("Ali", "Alice A"))
			login("Asked", "Alice A", either("Asked", "Alice A"))
			login("", "Alice B", "Alice B") // the backend renamed her
			first.patchProfile(object{"userName": "Alice B", "avatarURL": "http://x/y"})
			expect[room.UserInfoUpdated](stream)
			as[profiled](s.admin().call("PATCH", "/v1/admin/users/alice/profile", object{"userName": "Admin's"}).is(http.StatusOK))
			now("renamed by an admin", "Admin's")
			if got := as[profiled](s.admin().call("GET", "/v1/admin/users/alice/profile", nil).is(http.StatusOK)).Profile; got.Name != "Admin's" || got.AvatarURL != "http://x/y" {
				t.Errorf("the admin reads %+v", got)
			}
			login("", "Alice B", either("Admin's", "Alice B"))
		})
	}
}

func TestProfilesRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	patch := func(change object) reply { return alice.call("PATCH", "/v1/profile", change) }
	patch(object{}).invalid("", "empty")
	patch(object{"userName": ""}).invalid("/userName", "min")
	patch(object{"userName": strings.Repeat("é", 128) + "x"}).invalid("/userName", "maxBytes")
	patch(object{"userExtendedData": strings.Repeat("é", 1024) + "x"}).invalid("/userExtendedData", "maxBytes")
	longest := "https://x/" + strings.Repeat("a", room.MaxAvatarURLBytes-len("https://x/"))
	patch(object{"avatarURL": longest + "a"}).invalid("/avatarURL", "maxBytes")
	for _, bad := range []string{"x", "/a.png", "//x/a.png", "https:///a.png", "https:a.png", "javascript:alert(1)", "data:image/png;base64,AAAA", "ftp://x/a", "https://me:pw@x/a", "https://x/ä.png", "https://x/a b", "https://x/\"a", "https://x/%zz", " https://x/a", "https://x/a\n"} {
		patch(object{"avatarURL": bad}).invalid("/avatarURL", "avatarURL")
	}
	want := room.Profile{User: room.User{ID: "alice", Name: strings.Repeat("é", 128)}, AvatarURL: longest, ExtendedData: strings.Repeat("é", 1024)}
	if got := alice.patchProfile(object{"userName": want.Name, "avatarURL": want.AvatarURL, "userExtendedData": want.ExtendedData}); got != want {
		t.Errorf("the longest profile is %+v", got)
	}

	alice.call("GET", "/v1/users", nil).invalid("query/userID", "required")
	alice.call("GET", "/v1/users?userID=", nil).invalid("query/userID", "userID")
	alice.call("GET", "/v1/users?userID=a&limit=1", nil).invalid("query/limit", "unknown")
	ids := make([]room.UserID, 101)
	for i := range ids {
		ids[i] = room.UserID(fmt.Sprint("user", i))
	}
	if found, unknown := alice.profiles(ids[:100]...); len(found) != 0 || len(unknown) != 100 {
		t.Errorf("100 unknown users: %v, %v", found, unknown)
	}
	q := url.Values{}
	for _, id := range ids {
		q.Add("userID", string(id))
	}
	alice.call("GET", "/v1/users?"+q.Encode(), nil).invalid("query/userID", "max")

	admin := s.admin()
	admin.call("GET", "/v1/admin/users/nobody/profile", nil).refused(http.StatusNotFound, "user_not_found")
	admin.call("PATCH", "/v1/admin/users/nobody/profile", object{"userName": "N"}).refused(http.StatusNotFound, "user_not_found")
	admin.call("PATCH", "/v1/admin/users/alice/profile", object{}).invalid("", "empty")

	restricted := s.loginWith(s.signed(set("media", true)))
	restricted.call("PATCH", "/v1/profile", object{"userName": "x"}).refused(http.StatusForbidden, "not_granted")
	granted := s.signed(set("updateProfile", true))
	restricted.call("PUT", "/v1/sessions/current/token", object{"token": granted}).is(http.StatusOK)
	if got := restricted.patchProfile(object{"userName": "granted"}); got.Name != "granted" {
		t.Errorf("with a grant: %+v", got)
	}
	restricted.call("POST", roomPath("a", "/enter"), nil).refused(http.StatusForbidden, "not_granted")
}
