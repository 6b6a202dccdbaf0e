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

// BenchmarkPostMessage measures stored messages per second by the number of concurrent senders, in
// one room and in many. BenchmarkPgbench measures the same PostgreSQL without Parlor.
func BenchmarkPostMessage(b *testing.B) {
	for _, senders := range []int{1, 16, 256} {
		for _, rooms := range []int{1, 64} {
			b.Run(fmt.Sprintf("senders=%d/rooms=%d", senders, rooms), func(b *testing.B) {
				s := storetest.New(b, store.Options{})
				sessions := enterRooms(b, s, senders, rooms)
				var (
					group sync.WaitGroup
					sent  atomic.Int64
				)
				b.ReportAllocs()
				b.ResetTimer()
				for i, session := range sessions {
					id := roomOf(i % rooms)
					group.Go(func() {
						for sent.Add(1) <= int64(b.N) {
							if _, _, err := s.PostMessage(b.Context(), toRoom(session, id, textDraft("good morning, everybody"))); err != nil {
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

// BenchmarkPgbench measures the transactions per second of pgbench.
func BenchmarkPgbench(b *testing.B) { storetest.BenchmarkPgbench(b, storetest.Database(b)) }

// enterRooms returns sessions that are spread evenly over rooms.
func enterRooms(b *testing.B, s *store.Store, senders, rooms int) []room.Session {
	b.Helper()
	sessions := make([]room.Session, senders)
	for i := range sessions {
		sessions[i] = newSession(b, s, fmt.Sprintf("user%d", i))
		if _, _, err := s.EnterRoom(b.Context(), as(sessions[i]), roomOf(i%rooms), room.RoomOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	return sessions
}
