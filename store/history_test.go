package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestHistoryByTime compares pages of random spans with the result of a scan of the whole log. The
// times in the log are slightly out of order, as they are if transactions wait for each other.
func TestHistoryByTime(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	r := enter(t, f, alice, "lobby")
	enter(t, f, alice, "other")
	random := rand.New(rand.NewPCG(1, 2))
	start := f.clock.Now().UTC().Truncate(time.Millisecond)
	var all []room.Message
	for i := range 300 {
		f.clock.set(start.Add(time.Duration(i)*20*time.Second + time.Duration(random.IntN(59_000))*time.Millisecond))
		if i%3 == 0 {
			if _, err := f.PostMessage(t.Context(), alice, "other", textDraft("x")); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, postToLobby(t, f, alice, textDraft(fmt.Sprint(i))))
	}
	last := all[len(all)-1].Seq
	for range 500 {
		span := room.Span{After: room.Seq(random.Int64N(int64(last))), Before: room.Seq(random.Int64N(int64(last) + 2))}
		if random.IntN(2) == 0 {
			span.After, span.Before = 0, math.MaxInt64
		}
		if random.IntN(4) > 0 {
			span.From = all[random.IntN(len(all))].SentAt.Time().Add(time.Duration(random.IntN(3)-1) * time.Millisecond)
		}
		if random.IntN(4) > 0 {
			span.Until = all[random.IntN(len(all))].SentAt.Time().Add(time.Duration(random.IntN(3)-1) * time.Millisecond)
		}
		var want []room.Message
		for _, m := range all {
			if m.Seq > span.After && m.Seq < span.Before && !m.SentAt.Time().Before(span.From) && (span.Until.IsZero() || m.SentAt.Time().Before(span.Until)) {
				want = append(want, m)
			}
		}
		n := 1 + random.IntN(40)
		oldest, err := f.OldestMessages(t.Context(), r, span, n)
		if err != nil {
			t.Fatal(err)
		}
		newest, err := f.NewestMessages(t.Context(), r, span, n)
		if err != nil {
			t.Fatal(err)
		}
		n = min(n, len(want))
		if diff := cmp.Diff(texts(want[:n]), texts(oldest)); diff != "" {
			t.Fatalf("the oldest of %+v (-want +got):\n%s", span, diff)
		}
		if diff := cmp.Diff(texts(want[len(want)-n:]), texts(newest)); diff != "" {
			t.Fatalf("the newest of %+v (-want +got):\n%s", span, diff)
		}
	}
}

func texts(messages []room.Message) []string {
	texts := make([]string, 0, len(messages))
	for _, m := range messages {
		texts = append(texts, m.Text)
	}
	return texts
}
