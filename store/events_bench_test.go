package store_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

var storedEvents = flag.Int("events", 100_000, "the number of events that are stored before BenchmarkEvents")

// BenchmarkEvents measures what the number of stored events costs: messages, pages of histories, and
// the deletion of a twenty-fifth of the events, by the retention of rooms that exist, and with rooms
// that were destroyed.
func BenchmarkEvents(b *testing.B) {
	address := storetest.Database(b)
	storeEvents(b, address, *storedEvents)
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("send/senders=%d", senders), func(b *testing.B) {
			benchmarkSends(b, storetest.Open(b, address, store.Options{FeedRetention: never}), senders)
		})
	}
	for _, age := range []string{"new", "old"} {
		b.Run("history/room="+age, func(b *testing.B) {
			benchmarkHistory(b, storetest.Open(b, address, store.Options{FeedRetention: never}), age)
		})
	}
	for _, d := range []struct {
		name, due string
		opts      store.Options
	}{
		{
			"trim", `SELECT EXISTS (SELECT FROM rooms r CROSS JOIN LATERAL (
				SELECT at FROM events WHERE generation = r.generation ORDER BY seq LIMIT 1
			) e WHERE destroyed_at IS NULL AND at < now() - interval '18 days')`,
			store.Options{FeedRetention: never, MessageRetention: 18 * 24 * time.Hour},
		},
		{
			"purge", "SELECT EXISTS (SELECT FROM rooms WHERE destroyed_at < now() - interval '45 minutes')",
			store.Options{FeedRetention: 45 * time.Minute},
		},
	} {
		var deleted *deletion // once, whatever b.N is
		b.Run("delete/"+d.name, func(b *testing.B) {
			if deleted == nil {
				deleted = deleteEvents(b, address, d.due, d.opts)
			}
			deleted.report(b)
		})
	}
}

// never is a retention that deletes nothing.
const never = 1000 * time.Hour

// storeEvents stores events of 30 days. A tenth are those of 100 rooms that still exist. The others
// are those of 50 groups of 90 rooms, which were used one after the other, and of which the first
// two were destroyed an hour ago.
func storeEvents(b *testing.B, address string, n int) {
	b.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`
		INSERT INTO rooms (generation, room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user, history_visible,
			member_count, created_at, lifetime, destroyed_at, destroyed_xact, destroy_reason)
		OVERRIDING SYSTEM VALUE
		SELECT g, 'old' || g, '', 0, 30, 30, 500, 'allow', 'all', 0, now() - interval '30 days', CASE WHEN g <= 100 THEN 'kept' ELSE 'untilEmpty' END,
			CASE WHEN g > 300 THEN now() WHEN g > 100 THEN now() - interval '1 hour' END,
			CASE WHEN g > 100 THEN pg_current_xact_id() END, CASE WHEN g > 100 THEN 'empty' END
		FROM generate_series(1, 5100) g WHERE g <= 100 OR (g - 1) % 10 <> 0`,
		"SELECT setval('rooms_generation_seq', 5200)",
		`INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT CASE WHEN i % 10 = 0 THEN 1 + i / 10 % 100 ELSE 101 + i / ($1 / 50) * 100 + i % 100 END,
			CASE WHEN i % 10 = 0 THEN 1 + i / 1000 ELSE 1 + i % ($1 / 50) / 100 END,
			'roomMessageReceived', now() - ($1 - i) * (interval '30 days' / $1),
			'user' || i % 997, 'c' || 10000000000 + i,
			'{"messageList":[{"messageID":"01980000-0000-7000-8000-' || 100000000000 + i || '","kind":"text","text":"good morning, everybody",' ||
				'"sender":{"userID":"user' || i % 997 || '","userName":"user"},"priority":"medium","sentAt":"2026-01-01T00:00:00.000Z"}]}',
			(3 + i * 500 / $1)::text::xid8
		FROM generate_series(0, $1 - 1) i`,
		`INSERT INTO logs (generation, last_seq, closed)
		SELECT generation, coalesce((SELECT max(seq) FROM events e WHERE e.generation = r.generation), 0), destroyed_at IS NOT NULL FROM rooms r`,
		"VACUUM (FREEZE, ANALYZE) events",
	} {
		if strings.Contains(sql, "$1") {
			sql = strings.ReplaceAll(sql, "$1", fmt.Sprintf("%d::bigint", n)) // of one type everywhere
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkSends sends to 64 new rooms.
func benchmarkSends(b *testing.B, s *store.Store, senders int) {
	const rooms = 64
	sessions := enterRooms(b, s, senders, rooms)
	var (
		group sync.WaitGroup
		sent  atomic.Int64
		took  = make([]time.Duration, b.N)
	)
	b.ResetTimer()
	for i, session := range sessions {
		id := roomOf(i % rooms)
		group.Go(func() {
			for n := sent.Add(1); n <= int64(b.N); n = sent.Add(1) {
				d := textDraft("good morning, everybody")
				d.ClientMessageID = fmt.Sprint(time.Now().UnixNano(), n)
				began := time.Now()
				if _, _, err := s.PostMessage(b.Context(), toRoom(session, id, d)); err != nil {
					b.Error(err)
					return
				}
				took[n-1] = time.Since(began)
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	reportDelays(b, took)
}

// benchmarkHistory reads pages of 100 messages from random places of histories.
func benchmarkHistory(b *testing.B, s *store.Store, age string) {
	var all []room.Room
	for i := range 64 {
		id := roomOf(i)
		if age == "old" {
			id = room.RoomID(fmt.Sprintf("old%d", i+1))
		}
		r, err := s.Room(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, r)
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		r := all[i%len(all)]
		before := room.Seq(1 + rand.Int64N(int64(r.LastSeq)))
		began := time.Now()
		if _, err := s.NewestMessages(b.Context(), r, room.Span{Before: before}, 100); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	reportDelays(b, took)
}

func reportDelays(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}

// A deletion is what it took to delete events, and what became of their space.
type deletion struct {
	events           int
	swept, vacuumed  time.Duration
	log, vacuumLog   int // bytes of the write-ahead log
	size, left, grew int // bytes of the table with its indexes, after the vacuum, and for as many new events
}

// deleteEvents sweeps while something is due, vacuums the table, and stores as many new events as
// were deleted.
func deleteEvents(b *testing.B, address, due string, opts store.Options) *deletion {
	b.Helper()
	var d deletion
	s := storetest.Open(b, address, opts)
	f := fixture{Store: s, address: address}
	ctx := b.Context()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	// measure returns how long something takes, and how much it writes to the log.
	measure := func(do func() error) (time.Duration, int) {
		written := query[int](b, f, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		return time.Since(began), query[int](b, f, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint") - written
	}
	size := func() int {
		return query[int](b, f, "SELECT pg_total_relation_size('events')")
	}
	count := func() int { return query[int](b, f, "SELECT count(*) FROM events") }
	d.events, d.size = count(), size()
	d.swept, d.log = measure(func() error {
		for query[bool](b, f, due) {
			if err := s.Sweep(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	d.events -= count()
	d.vacuumed, d.vacuumLog = measure(func() error {
		_, err := conn.Exec(ctx, "VACUUM events")
		return err
	})
	d.left = size()
	if _, err := conn.Exec(ctx, fmt.Sprintf(`
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT new.generation + i %% 90, i, type, now(), sender_id, 'new' || i, body, xact
		FROM (SELECT max(generation) + 1 AS generation FROM events) new, generate_series(1, %d) i, (SELECT * FROM events LIMIT 1) e`,
		d.events)); err != nil {
		b.Fatal(err)
	}
	d.grew = size() - d.left
	return &d
}

func (d *deletion) report(b *testing.B) {
	b.ReportMetric(float64(d.events), "events")
	b.ReportMetric(d.swept.Seconds(), "s")
	b.ReportMetric(d.vacuumed.Seconds(), "vacuum-s")
	for unit, bytes := range map[string]int{"WAL-MB": d.log, "vacuum-WAL-MB": d.vacuumLog, "before-MB": d.size, "after-MB": d.left, "growth-MB": d.grew} {
		b.ReportMetric(float64(bytes)/1e6, unit)
	}
	b.ReportMetric(0, "ns/op")
}
