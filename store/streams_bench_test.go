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

// BenchmarkOpenStream measures how many streams per second the store can open, by the number of
// concurrent calls. Each session is in a room.
func BenchmarkOpenStream(b *testing.B) {
	const sessions, rooms = 1000, 20
	for _, calls := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("calls=%d", calls), func(b *testing.B) {
			s := storetest.New(b, store.Options{})
			all := make([]room.Session, sessions)
			for i := range all {
				all[i] = newSession(b, s, fmt.Sprintf("user%d", i))
				if _, _, err := s.EnterRoom(b.Context(), as(all[i]), room.RoomID(fmt.Sprintf("room%d", i%rooms)), room.RoomOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			var (
				group  sync.WaitGroup
				opened atomic.Int64
			)
			b.ResetTimer()
			for range calls {
				group.Go(func() {
					for n := opened.Add(1); n <= int64(b.N); n = opened.Add(1) {
						if _, err := s.OpenStream(b.Context(), all[n%sessions].ID, "", nil); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "streams/s")
		})
	}
}
