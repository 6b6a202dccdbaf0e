package hub

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/room"
)

func TestParseCursor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want Cursor
	}{
		{"-", Cursor{}},
		{"1:0", Cursor{{Log: 1}}},
		{"1a:2f,1c:3", Cursor{{Log: 46, Seq: 87}, {Log: 48, Seq: 3}}},
		{"1y2p0ij32e8e7:1y2p0ij32e8e7", Cursor{{Log: math.MaxInt64, Seq: math.MaxInt64}}},
	}
	for _, tt := range tests {
		got, err := ParseCursor(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestParseCursorRejectsOtherForms(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "--", "-,1:1", "1", "1:", ":1", "1:1,", ",1:1", "1:1,,2:1", "1:1 ", "1:1\n", "1::1", "1:1:1",
		"0:1",          // logs are numbered from 1
		"-1:1", "1:-1", // numbers are not negative
		"01:1", "1:01", // there is one way to write a number
		"+1:1", "1:+1", //
		"A:1", "1:A", "1:_", //
		"2:1,1:1", "1:1,1:2", // and one order
		"1y2p0ij32e8e8:1", "1:1y2p0ij32e8e8", // one more than fits
		"1:1" + strings.Repeat(",2:1", maxCursorBytes),
	} {
		if c, err := ParseCursor(text); err == nil {
			t.Errorf("%.40q was parsed as %v", text, c)
		}
	}
}

// TestCursorOfManyRoomsFits checks that the cursor of 64 rooms, the most that a server can be
// configured to allow, and of an inbox can be parsed.
func TestCursorOfManyRoomsFits(t *testing.T) {
	t.Parallel()
	var c Cursor
	for i := range room.LogID(65) {
		c = append(c, room.Position{Log: math.MaxInt64 - 64 + i, Seq: math.MaxInt64})
	}
	got, err := ParseCursor(string(c.AppendTo(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c, got) {
		t.Errorf("the cursor was parsed as %v", got)
	}
}

func TestCursorRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seqs := rapid.MapOfN(rapid.Int64Min(1), rapid.Int64Min(0), 0, 20).Draw(t, "seqs")
		c := Cursor{}
		for _, log := range slices.Sorted(maps.Keys(seqs)) {
			c = append(c, room.Position{Log: room.LogID(log), Seq: room.Seq(seqs[log])})
		}
		got, err := ParseCursor(string(c.AppendTo(nil)))
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Fatalf("(-written +read):\n%s", diff)
		}
		for _, p := range c {
			if seq, ok := got.Seq(p.Log); !ok || seq != p.Seq {
				t.Fatalf("log %d is at %d", p.Log, seq)
			}
		}
		other := rapid.Int64Min(1).Draw(t, "other")
		_, in := seqs[other]
		if _, ok := got.Seq(room.LogID(other)); ok != in {
			t.Fatalf("log %d is in the cursor: %t", other, ok)
		}
	})
}

func TestParseID(t *testing.T) {
	for id, want := range map[string]string{"k3x9.1a:2f": "k3x9", "1000.-": "1000", "1a:2f": "", "-": ""} {
		if epoch, c, err := ParseID(id); err != nil || epoch != want || c == nil {
			t.Errorf("%q was parsed as epoch %q, %v, %v", id, epoch, c, err)
		}
	}
	for _, id := range []string{"", ".", ".1:1", "k3x9.", "k3x9", "k3x.1:1", "k3x99.1:1", "K3X9.1:1", "0001.1:1", "-3x9.1:1", "k3x9.k3x9.1:1", "k3x9.1:1."} {
		if epoch, c, err := ParseID(id); err == nil {
			t.Errorf("%q was parsed as epoch %q, %v", id, epoch, c)
		}
	}
}

// FuzzParseID checks that there is exactly one way to write each id: appendID writes every id that
// ParseID accepts.
func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"k3x9.1a:2f,1c:3", "k3x9.-", "1:0", "0001.1:1", "+1x9.1:1", "k3x9.k3x9.-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		epoch, c, err := ParseID(id)
		if err != nil {
			return
		}
		if got := string(appendID(nil, epoch, c)); got != id {
			t.Errorf("%q is written as %q", id, got)
		}
	})
}

// FuzzParseCursor checks that there is exactly one way to write each cursor: AppendTo writes every
// cursor that ParseCursor accepts.
func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"-", "1a:2f,1c:3", "1:0", "", "0:1", "01:1", "2:1,1:1", "A:a", "1y2p0ij32e8e8:1", "1:1,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCursor(text)
		if err != nil {
			return
		}
		if got := string(c.AppendTo(nil)); got != text {
			t.Errorf("%q is written as %q", text, got)
		}
		for i, p := range c {
			if p.Log <= 0 || p.Seq < 0 || i > 0 && c[i-1].Log >= p.Log {
				t.Errorf("%q was parsed as %v", text, c)
			}
		}
	})
}
