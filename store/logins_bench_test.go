package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// BenchmarkCreateSession measures how many users per second can log in, by the number of concurrent
// calls. Half of the users are new.
func BenchmarkCreateSession(b *testing.B) {
	for _, calls := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("calls=%d", calls), func(b *testing.B) {
			s := storetest.New(b, store.Options{})
			var (
				group   sync.WaitGroup
				created atomic.Int64
				expires = time.Now().Add(time.Hour)
			)
			b.ResetTimer()
			for range calls {
				group.Go(func() {
					for n := created.Add(1); n <= int64(b.N); n = created.Add(1) {
						session := room.Session{
							ID:   room.SessionID(uuid.Must(uuid.NewV7()).String()),
							User: room.User{ID: room.UserID(fmt.Sprintf("user%d", n/2)), Name: "User"}, TokenExpiresAt: expires,
						}
						if _, err := s.CreateSession(b.Context(), as(session), session, named(session), randomKey(b), randomKey(b)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
		})
	}
}
