package room_test

import (
	"strings"
	"testing"

	"parlor/room"
)

// alphanumeric are the characters that every vendor allows.
const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// TestValidIDs checks each byte at each place of an ID.
func TestValidIDs(t *testing.T) {
	t.Parallel()
	const allowed = alphanumeric + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	for b := range 256 {
		c := string([]byte{byte(b)})
		within := strings.Contains(allowed, c)
		for id, want := range map[string]bool{"x" + c: within, c + "x": within, "x" + c + "x": within || c == " "} {
			if got := room.RoomID(id).Valid(); got != want {
				t.Errorf("room %q valid: %v, want %v", id, got, want)
			}
			if got := room.UserID(id).Valid(); got != want {
				t.Errorf("user %q valid: %v, want %v", id, got, want)
			}
		}
	}
}

// TestVendorsIDs checks that the longest IDs of all characters that vendors allow are valid. The
// vendors' own limits are narrower, and not the server's.
func TestVendorsIDs(t *testing.T) {
	t.Parallel()
	fill := func(characters string, length int) string {
		return strings.Repeat(characters, length/len(characters)+1)[:length]
	}
	for _, c := range []struct {
		name, punctuation string
		user, room        int
	}{
		{"messages", "!#$%&()+-:;<=.>?@[]^_{}|~", 32, 128},
		{"messages, called by a server", "! #$%&()+-:;<=.>?@[]^_{}|~,", 32, 128},
		{"calls", "~!@#$%^&*()_+=-`;',.<>/\\", 64, 128},
		{"calls of another vendor", "_-", 50, 64},
	} {
		for _, characters := range []string{c.punctuation + alphanumeric, alphanumeric + c.punctuation} {
			if id := room.UserID(fill(characters, c.user)); id.Fault() != "" {
				t.Errorf("%s: the user ID %s %s", c.name, id, id.Fault())
			}
			if id := room.RoomID(fill(characters, c.room)); id.Fault() != "" {
				t.Errorf("%s: the room ID %s %s", c.name, id, id.Fault())
			}
		}
	}
}

func TestIDFaults(t *testing.T) {
	t.Parallel()
	const dots = "must not be or contain the path segment . or .., which browsers and proxies resolve"
	long := strings.Repeat("x", room.MaxUserIDBytes)
	for _, c := range []struct{ id, fault string }{
		{"alice", ""},
		{"First class", ""},
		{"...", ""},
		{".a", ""},
		{"a..b/c.", ""},
		{"/", ""},
		{`\`, ""},
		{long, ""},
		{"", "must not be empty"},
		{long + "x", "must be at most 64 bytes"},
		{" a", "must not begin or end with a space"},
		{"a ", "must not begin or end with a space"},
		{"a\tb", "must not contain U+0009: only ASCII letters, digits, punctuation and spaces"},
		{"a\x00", "must not contain U+0000: only ASCII letters, digits, punctuation and spaces"},
		{"a\x7f", "must not contain U+007F: only ASCII letters, digits, punctuation and spaces"},
		{"教室", "must not contain U+6559: only ASCII letters, digits, punctuation and spaces"},
		{"it’s", "must not contain U+2019: only ASCII letters, digits, punctuation and spaces"},
		{"a\xff", "must not contain the byte 0xff: only ASCII letters, digits, punctuation and spaces"},
		{".", dots},
		{"..", dots},
		{"../a", dots},
		{"a/..", dots},
		{"a/./b", dots},
		{`a\..\b`, dots},
		{`a/..\b`, dots},
		{"//..//", dots},
	} {
		if got := room.UserID(c.id).Fault(); got != c.fault {
			t.Errorf("%q: got %q, want %q", c.id, got, c.fault)
		}
	}
	longest := room.RoomID(strings.Repeat("x", room.MaxRoomIDBytes))
	if fault := (longest + "x").Fault(); !longest.Valid() || fault != "must be at most 128 bytes" {
		t.Errorf("a room ID of 129 bytes: %q", fault)
	}
}

func TestRoomIDPrefixes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", room.MaxRoomIDBytes-1)
	for prefix, want := range map[string]bool{
		"class": true, "First ": true, ".": true, "..": true, "a/..": true, long + "x": true,
		" a": false, "a/../": false, "é": false, long + " ": false, long + "xx": false,
	} {
		if got := room.ValidPrefix(room.RoomID(prefix)); got != want {
			t.Errorf("%q is the beginning of an ID: %v, want %v", prefix, got, want)
		}
	}
}
