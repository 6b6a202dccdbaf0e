package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// BenchmarkPostPeerMessage measures stored messages between users per second by the number of
// concurrent senders, each with a receiver of its own or all with one.
func BenchmarkPostPeerMessage(b *testing.B) {
	for _, senders := range []int{1, 16, 256} {
		for _, to := range []string{"pairs", "one"} {
			b.Run(fmt.Sprintf("senders=%d/to=%s", senders, to), func(b *testing.B) {
				s := storetest.New(b, store.Options{})
				newSession(b, s, "peer")
				sessions := make([]room.Session, senders)
				for i := range sessions {
					sessions[i] = newSession(b, s, fmt.Sprintf("user%d", i))
					newSession(b, s, fmt.Sprintf("peer%d", i))
				}
				var (
					group sync.WaitGroup
					sent  atomic.Int64
				)
				b.ResetTimer()
				for i, session := range sessions {
					peer := room.UserID("peer")
					if to == "pairs" {
						peer = room.UserID(fmt.Sprintf("peer%d", i))
					}
					group.Go(func() {
						for sent.Add(1) <= int64(b.N) {
							if _, _, err := s.PostPeerMessage(b.Context(), toPeer(session, peer, textDraft("good morning, everybody"))); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
