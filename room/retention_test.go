package room_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestTrim draws settings and events, and checks which events are deleted, in the words of the
// contract.
func TestTrim(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const day, last = 24 * time.Hour, room.Seq(100)
		c := room.Config{
			History:        rapid.SampledFrom([]room.History{room.HistoryStored, room.HistoryNone}).Draw(t, "history"),
			RetentionDays:  rapid.SampledFrom([]int{0, 1, 9}).Draw(t, "days"),
			RetentionCount: rapid.SampledFrom([]int{0, 1, 50, 99, 100, 200}).Draw(t, "count"),
		}
		server := rapid.SampledFrom([]time.Duration{0, time.Hour, 7 * day}).Draw(t, "server")
		replays := rapid.Bool().Draw(t, "replays")
		seq := room.Seq(rapid.Int64Range(1, int64(last)).Draw(t, "seq"))
		age := rapid.SampledFrom([]time.Duration{
			0, room.ReplayWindow, room.ReplayWindow + 1, time.Hour, time.Hour + 1, day, day + 1, 7 * day, 7*day + 1, 9 * day, 9*day + 1,
		}).Draw(t, "age")

		retention := server
		if c.RetentionDays > 0 {
			retention = time.Duration(c.RetentionDays) * day
		}
		tooOld := retention > 0 && age > retention
		unneeded := replays && age > room.ReplayWindow
		tooMany := c.RetentionCount > 0 && last-seq >= room.Seq(c.RetentionCount)
		want := tooOld || unneeded && (c.History == room.HistoryNone || tooMany)
		if got := c.Trim(noon, server, last, replays).Deletes(seq, noon.Add(-age)); got != want {
			t.Fatalf("an event that is %s old is deleted: %t, want %t", age, got, want)
		}
	})
}
