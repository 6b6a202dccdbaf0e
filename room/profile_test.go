package room_test

import (
	"errors"
	"strings"
	"testing"

	"parlor/room"
)

// TestLogIn checks which name a user has after each of several logins.
func TestLogIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what   string
		logins []room.Naming
		want   string
		signed string // the name with Signed, if it differs
	}{
		{"no name at all", []room.Naming{{}}, "alice", ""},
		{"a name in the token", []room.Naming{{Token: "Alice"}}, "Alice", ""},
		{"the client's name", []room.Naming{{Asked: "Ally"}}, "Ally", ""},
		{"both", []room.Naming{{Asked: "Ally", Token: "Alice"}}, "Ally", "Alice"},
		{"the client's name, and then none", []room.Naming{{Asked: "Ally"}, {}}, "Ally", ""},
		{"the client's name, and then another", []room.Naming{{Asked: "Ally"}, {Asked: "Al"}}, "Al", ""},
		{"a token's name that came before", []room.Naming{{Token: "Alice"}, {Asked: "Ally"}, {Token: "Alice"}}, "Ally", "Alice"},
		{"a token without a name in between", []room.Naming{{Token: "Alice"}, {Asked: "Ally"}, {}, {Token: "Alice"}}, "Ally", "Alice"},
		{"another name in the token", []room.Naming{{Token: "Alice"}, {Asked: "Ally"}, {Token: "Alice B"}}, "Alice B", ""},
		{"another one and the client's", []room.Naming{{Token: "Alice"}, {Asked: "Ally", Token: "Alice B"}, {Token: "Alice B"}}, "Ally", "Alice B"},
	} {
		for _, signed := range []bool{false, true} {
			p := room.Profile{User: room.User{ID: "alice"}, AvatarURL: "http://x"}
			for _, n := range c.logins {
				n.Signed = signed
				p = p.LogIn(n)
				if again := p.LogIn(n); again != p {
					t.Errorf("%s, signed %t: the same login again changes %+v to %+v", c.what, signed, p, again)
				}
			}
			want := c.want
			if signed && c.signed != "" {
				want = c.signed
			}
			if p.Name != want || p.AvatarURL != "http://x" {
				t.Errorf("%s, signed %t: %+v, want the name %s", c.what, signed, p, want)
			}
		}
	}
}

func TestProfileUpdate(t *testing.T) {
	t.Parallel()
	p := room.Profile{User: room.User{ID: "alice", Name: "Alice"}, AvatarURL: "http://x", ExtendedData: "y", TokenName: "Alice"}
	for _, signed := range []bool{false, true} {
		if _, err := p.Update(room.ProfileUpdate{Name: new("Ally"), AvatarURL: new("z"), NamesSigned: signed}); errors.Is(err, room.ErrNameSigned) != signed {
			t.Errorf("a new name, names signed %t: %v", signed, err)
		}
		if got, err := p.Update(room.ProfileUpdate{Name: new("Alice"), AvatarURL: new(""), NamesSigned: signed}); err != nil || got.AvatarURL != "" || got.ExtendedData != "y" {
			t.Errorf("the same name, names signed %t: %+v, %v", signed, got, err)
		}
	}
	p.TokenName = ""
	if got, err := p.Update(room.ProfileUpdate{Name: new("Ally"), NamesSigned: true}); err != nil || got.Name != "Ally" {
		t.Errorf("no name in the token: %+v, %v", got, err)
	}
}

// TestPublishProfile checks in which rooms a profile is published.
func TestPublishProfile(t *testing.T) {
	t.Parallel()
	p := room.Profile{User: room.User{ID: "alice", Name: "Alice"}}
	for _, events := range []room.MemberEvents{room.MemberEventsNames, room.MemberEventsCounts, room.MemberEventsNone} {
		for _, announced := range []bool{false, true} {
			r := room.Room{ID: "r", LastSeq: 7, MemberEvents: events}
			after, published := r.PublishProfile(p, announced, noon)
			want := 0
			if announced && events == room.MemberEventsNames {
				want = 1
			}
			if len(published) != want || after.LastSeq != r.LastSeq+room.Seq(want) {
				t.Errorf("%s, announced %t: %d events, last seq %d", events, announced, len(published), after.LastSeq)
			}
		}
	}
}

func FuzzValidAvatarURL(f *testing.F) {
	for _, text := range []string{"https://x/a.png", "http://[::1]:8080/a?b=c&d#e", "https://x", "", "x", "javascript:alert(1)", "https://u@x/a", "https:///a", "https://x/\u00e4", "https://x/%zz", "HTTPS://X/a b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !room.ValidAvatarURL(text) {
			return
		}
		lower := strings.ToLower(text)
		if !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") {
			t.Errorf("%q is a URL of another scheme", text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '<' || r == '>' || r == '\\' }) {
			t.Errorf("%q has a character that is no part of a URL", text)
		}
	})
}
