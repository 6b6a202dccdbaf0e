package room_test

import (
	"strings"
	"testing"

	"parlor/room"
)

func TestValidIDs(t *testing.T) {
	t.Parallel()
	const allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&()+-:;<=.>?@[]^_{}|~"
	for c := range 256 {
		id := string([]byte{'x', byte(c)})
		if got, want := room.RoomID(id).Valid(), strings.Contains(allowed, id[1:]); got != want {
			t.Errorf("%q valid: %v, want %v", id, got, want)
		}
	}
	for id, want := range map[string]bool{
		"": false, ".": false, "..": false, "...": true, ".a": true, "中": false,
		strings.Repeat("a", 32): true,
	} {
		if got := room.UserID(id).Valid(); got != want {
			t.Errorf("user %q valid: %v, want %v", id, got, want)
		}
	}
	for n, want := range map[int]bool{1: true, 128: true, 129: false} {
		if got := room.RoomID(strings.Repeat("a", n)).Valid(); got != want {
			t.Errorf("a roomID of %d bytes valid: %v, want %v", n, got, want)
		}
	}
	if room.UserID(strings.Repeat("a", 33)).Valid() {
		t.Error("a userID of 33 bytes is valid")
	}
}
