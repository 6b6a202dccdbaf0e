package room_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestInstantText checks that instants have one form, whatever their zone and fraction, and that
// the form of earlier releases is still read.
func TestInstantText(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", -5*60*60)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 11, 29, 23, 19, 1, 120_000_000, time.UTC), "2026-11-29T23:19:01.120Z"},
		{time.Date(2026, 11, 29, 23, 19, 1, 0, time.UTC), "2026-11-29T23:19:01.000Z"},
		{time.Date(2026, 11, 29, 23, 19, 1, 120_999_999, zone), "2026-11-30T04:19:01.120Z"},
		{time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "1969-12-31T23:59:59.999Z"},
		{time.Time{}, "0001-01-01T00:00:00.000Z"},
		{time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "9999-12-31T23:59:59.999Z"},
	} {
		got, err := json.Marshal(room.InstantOf(c.at))
		if err != nil || string(got) != `"`+c.want+`"` {
			t.Errorf("%s: got %s, want %s: %v", c.at, got, c.want, err)
		}
	}
	for _, stored := range []string{"2026-11-29T23:19:01.12Z", "2026-11-29T23:19:01.120Z"} {
		var i room.Instant
		if err := json.Unmarshal([]byte(`"`+stored+`"`), &i); err != nil || i.String() != "2026-11-29T23:19:01.120Z" {
			t.Errorf("%s is read as %s: %v", stored, i, err)
		}
	}
}

// TestInstantsSortAsText compares the order of instants with that of their texts, reads them again,
// and checks which of them InstantFrom selects.
func TestInstantsSortAsText(t *testing.T) {
	t.Parallel()
	first, last := time.Time{}, time.Date(9999, 12, 31, 23, 59, 58, 0, time.UTC) // so that b is before the year 10000
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		seconds := rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "seconds")
		return time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		at := moment.Draw(t, "a")
		other := rapid.OneOf(moment, rapid.Just(at.Add(time.Millisecond)), rapid.Just(at.Add(time.Nanosecond))).Draw(t, "b")
		a, b := room.InstantOf(at), room.InstantOf(other)
		if (a < b) != (a.String() < b.String()) || len(a.String()) != len(b.String()) {
			t.Fatalf("%d, %d are %s, %s", a, b, a, b)
		}
		if again, ok := room.ParseInstant(a.String()); !ok || room.InstantOf(again) != a {
			t.Fatalf("%s is read as %s, %t", a, again, ok)
		}
		if a.Time().Before(other) != (a < room.InstantFrom(other)) {
			t.Fatalf("%s is before %s: %t", a, other, a.Time().Before(other))
		}
	})
}

func TestParseInstant(t *testing.T) {
	t.Parallel()
	long := "2026-11-29T23:19:01." + strings.Repeat("1", 10_000) + "Z"
	for _, c := range []struct{ text, want string }{
		{"2026-11-29T23:19:01Z", "2026-11-29T23:19:01.000Z"},
		{"2026-11-29t23:19:01z", "2026-11-29T23:19:01.000Z"},
		{"2026-11-29T23:19:01.000000001Z", "2026-11-29T23:19:01.000Z"},
		{"2026-11-29T23:19:01.9999999999999Z", "2026-11-29T23:19:01.999Z"},
		{"2026-11-29T23:19:01-00:00", "2026-11-29T23:19:01.000Z"},
		{"2026-11-29T23:19:01+23:59", "2026-11-28T23:20:01.000Z"},
		{"2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"},
		{"2016-12-31t15:59:60.5-08:00", "2017-01-01T00:00:00.500Z"},
		{"0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"},
		{"0000-12-31T23:00:00-01:00", "0001-01-01T00:00:00.000Z"},
		{"9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"},
		{"9999-12-31T23:59:59.999999999+00:00", "9999-12-31T23:59:59.999Z"},
		{long, "2026-11-29T23:19:01.111Z"},

		{"", ""},
		{"x", ""},
		{"2026-11-29", ""},
		{"1795273200", ""},
		{"2026-11-29T23:19:01", ""},
		{"2026-11-29T23:19Z", ""},
		{"2026-11-29 23:19:01Z", ""},
		{"2026-11-29T23:19:01,5Z", ""},
		{"2026-11-29T23:19:01.Z", ""},
		{"2026-11-29T3:19:01Z", ""},
		{"2026-11-29T24:00:00Z", ""},
		{"2026-11-29T23:60:00Z", ""},
		{"2026-11-29T23:59:61Z", ""},
		{"2026-02-30T00:00:00Z", ""},
		{"2026-11-29T23:19:01+24:00", ""},
		{"2026-11-29T23:19:01+00:60", ""},
		{"2026-11-29T23:19:01+0000", ""},
		{"2026-11-29T12:00:60Z", ""},
		{"2026-11-29T23:59:60+01:00", ""},
		{"+2026-11-29T23:19:01Z", ""},
		{"-0001-01-01T00:00:00Z", ""},
		{"10000-01-01T00:00:00Z", ""},
		{"٢٠٢٦-11-29T23:19:01Z", ""},
		{"0000-01-01T00:00:00Z", ""},
		{"0001-01-01T00:00:00+00:01", ""},
		{"9999-12-31T23:59:59-00:01", ""},
		{"9999-12-31T23:59:60Z", ""},
		{"2026-11-29T23:19:01Z\n", ""},
		{" 2026-11-29T23:19:01Z", ""},
		{"2026-11-29T23:19:01Z\x00", ""},
	} {
		got, ok := room.ParseInstant(c.text)
		if ok != (c.want != "") || ok && room.InstantOf(got).String() != c.want {
			t.Errorf("%.50q: got %s, %t, want %q", c.text, got, ok, c.want)
		}
	}
}
