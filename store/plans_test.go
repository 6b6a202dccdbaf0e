package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"parlor/store"
)

// statements is a pgx tracer that collects the statements of the store while the tests run.
type statements struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

var traced = statements{seen: make(map[string]bool)}

func init() { store.SetTracer(&traced) }

// explainable matches the statements that have a plan.
var explainable = regexp.MustCompile(`^\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b`)

// add is cheap for statements that it has seen before, because benchmarks are traced too.
func (s *statements) add(sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seen[sql] && explainable.MatchString(sql) {
		s.seen[sql] = true
	}
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.add(d.SQL)
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		s.add(q.SQL)
	}
	return ctx
}

func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (s *statements) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	s.add(d.SQL)
	return ctx
}

func (s *statements) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// checkPlans checks the generic plans of all statements that the tests ran, for empty tables, and
// for full tables with and without statistics. None may read a whole table or index, or scan a list
// for each row of another. The plan of a statement is often made while tables are empty, and
// remains when they are full.
func checkPlans(address string) error {
	ctx := context.Background()
	var faults []error
	for _, stage := range []struct{ name, sql string }{
		{"empty tables", ""}, {"full tables without statistics", fillTables}, {"full tables with statistics", "ANALYZE"},
	} {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, stage.sql); err == nil {
			_, err = conn.Exec(ctx, store.SessionSettings+"SET parlor.locked = ''")
			if err != nil {
				return err
			}
			p := planner{conn: conn}
			err = p.readIndexes(ctx)
			if err != nil {
				return err
			}
			for sql := range traced.seen {
				if err := p.check(ctx, sql); err != nil {
					faults = append(faults, fmt.Errorf("with %s: %w", stage.name, err))
				}
			}
		} else {
			return fmt.Errorf("%s: %w", stage.name, err)
		}
		_ = conn.Close(ctx)
	}
	if len(faults) > 0 {
		fmt.Printf("%d statements were looked at\n", len(traced.seen))
	}
	return errors.Join(faults...)
}

// A planner checks plans.
type planner struct {
	conn    *pgx.Conn
	leading map[string]string // the first column of each index
	partial map[string]bool   // partial indexes
	n       int
}

func (p *planner) readIndexes(ctx context.Context) error {
	p.leading, p.partial = make(map[string]string), make(map[string]bool)
	rows, err := p.conn.Query(ctx, `SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true), indpred IS NOT NULL FROM pg_index
		JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'public'::regnamespace`)
	if err != nil {
		return err
	}
	var (
		index, column string
		partial       bool
	)
	_, err = pgx.ForEachRow(rows, []any{&index, &column, &partial}, func() error {
		p.leading[index], p.partial[index] = column, partial
		return nil
	})
	return err
}

// A planNode is a node of EXPLAIN's JSON.
type planNode struct {
	Type      string     `json:"Node Type"`
	Parent    string     `json:"Parent Relationship"`
	Relation  string     `json:"Relation Name"`
	Index     string     `json:"Index Name"`
	Condition string     `json:"Index Cond"`
	Filter    string     `json:"Filter"`
	Name      string     `json:"CTE Name"`
	Alias     string     `json:"Alias"`
	Plans     []planNode `json:"Plans"`
}

func (p *planner) check(ctx context.Context, sql string) error {
	p.n++
	name := fmt.Sprintf("plan%d", p.n)
	prepared, err := p.conn.Prepare(ctx, name, sql)
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	args := ""
	if n := len(prepared.ParamOIDs); n > 0 {
		args = "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
	}
	var text string
	if err := p.conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE "+name+args, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return err
	}
	var faults []string
	for _, plan := range plans {
		p.walk(plan.Plan, nil, &faults)
	}
	if len(faults) == 0 || slices.ContainsFunc(wholeTables, func(exempt string) bool { return strings.Contains(sql, exempt) }) {
		return nil
	}
	return fmt.Errorf("%s\n  %s", strings.TrimSpace(sql), strings.Join(faults, "\n  "))
}

// wholeTables is parts of statements that may read much.
var wholeTables = []string{
	"= pg_current_xact_id() WHERE",                  // repairFeed, after a restore
	"SELECT piece_id FROM media_pieces p LEFT JOIN", // of uploads in progress, once a minute
}

// small is tables that have few rows, whatever happens.
var small = []string{"nodes", "feed_trimmed", "user_events_trimmed", "goose_db_version", "media_bytes_of_all", "room_counts"}

// dueSessions lists indexes that contain only rows on which something is due.
var dueSessions = []string{"broadcasts_running", "rooms_untold", "members_reconnecting"}

// short lists subqueries that return a row or two, or the few logs of a client or a message.
var short = []string{"newestnewest", "newestnewest_1", "priorprior", "beforeb", "advancedmine", "advancedtheirs", "p", "s", "log"}

func (p *planner) walk(n planNode, above []planNode, faults *[]string) {
	fault := func(text string) { *faults = append(*faults, text) }
	switch n.Type {
	case "Seq Scan":
		if !slices.Contains(small, n.Relation) {
			fault("reads all of " + n.Relation)
		}
	case "Index Scan", "Index Only Scan", "Bitmap Index Scan":
		column := p.leading[n.Index]
		switch {
		case slices.Contains(small, n.Relation), slices.Contains(dueSessions, n.Index):
		case n.Condition == "" && len(above) > 0 && above[len(above)-1].Type == "Limit" && n.Filter == "": // the first few
		case !strings.Contains(n.Condition, column):
			fault(fmt.Sprintf("reads the index %s from end to end (condition %q, filter %q)", n.Index, n.Condition, n.Filter))
		}
	case "Nested Loop":
		if inner := n.Plans[1]; !slices.Contains(short, inner.Name+inner.Alias) && slices.Contains([]string{"Materialize", "CTE Scan", "Function Scan"}, inner.Type) {
			fault("goes through a list for each row: " + inner.Type + " " + inner.Name + inner.Alias)
		}
	}
	for _, child := range n.Plans {
		p.walk(child, append(above, n), faults)
	}
}

// fillTables puts so many rows into all tables that each bad plan is slow. It leaves
// constraints between them out.
const fillTables = `
	SET session_replication_role = replica;
	INSERT INTO rooms (room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user, history_visible, member_count, created_at)
		SELECT 'room' || i, '', 0, 30, 30, 500, 'allow', 'all', 1, now() FROM generate_series(1, 5000) i;
	INSERT INTO logs (generation, last_seq) SELECT generation, 10 FROM rooms;
	INSERT INTO sessions (session_id, user_id, user_name, device, key_hash, stream_key_hash, created_at, token_expires_at, detached_at, inbox)
		SELECT md5(i::text)::uuid, 'user' || i, 'u', '', sha256(i::text::bytea), sha256(('s' || i)::bytea), now(), now() + interval '1 hour', now(), i
		FROM generate_series(1, 10000) i;
	INSERT INTO members (generation, user_id, user_name, joined_seq, joined_at)
		SELECT 1 + i % 5000, 'user' || i, 'u', 1, now() FROM generate_series(1, 10000) i;
	INSERT INTO attendances (session_id, generation, user_id, from_seq) SELECT md5(i::text)::uuid, 1 + i % 5000, 'user' || i, 0 FROM generate_series(1, 10000) i;
	INSERT INTO departures (session_id, generation, room_id, reason, left_at) SELECT md5(i::text)::uuid, i, 'room', 'left', now() FROM generate_series(1, 10000) i;
	INSERT INTO bans (room_id, user_id, until, note) SELECT 'room' || i, 'user' || i, now() + interval '1 hour', '' FROM generate_series(1, 10000) i;
	INSERT INTO inboxes (user_id, last_seq) SELECT 'user' || i, 5 FROM generate_series(1, 10000) i;
	INSERT INTO conversations (log, peer_id, last_seq, read_seq, deleted_seq, unread)
		SELECT log, 'user' || i, i, 0, 0, 1 FROM (SELECT log FROM inboxes LIMIT 100) b, generate_series(1, 100) i;
	INSERT INTO profiles (user_id, user_name) SELECT user_id, 'u' FROM inboxes;
	INSERT INTO blocks (log, user_id, blocked_at) SELECT log, 'user' || i, now() FROM (SELECT log FROM inboxes LIMIT 100) b, generate_series(1, 100) i;
	INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT 1 + i % 5000, 1 + i / 5000, 'roomMessageReceived', now(), 'user' || i, i::text, '{}', '1' FROM generate_series(0, 39999) i;
	INSERT INTO broadcasts (broadcast_id, prefix, sender_id, sender_name, client_message_id, draft, actor_id, request_id, created_at, newest,
			leased_until, ended_at, state)
		SELECT md5(i::text)::uuid, '', 'user', 'u', i, '{}', '', '', now(), 1, now(), now(), 'done' FROM generate_series(1, 10000) i;
	INSERT INTO user_events (kind, type, at, log, seq, body)
		SELECT 'peer', 'peerMessageReceived', now(), i, 1, '{}' FROM generate_series(1, 10000) i;
	INSERT INTO user_events (kind, type, at, body) SELECT 'session', 'sessionStarted', now(), '{}' FROM generate_series(1, 10000) i;
	INSERT INTO media (media_id, owner_id, file_name, created_at, size, uses) SELECT md5(i::text)::uuid, 'user' || i, '', now(), 1, 1 FROM generate_series(1, 10000) i;
	INSERT INTO media_uses (generation, media_id, used_at, for_all) SELECT i % 5000, md5(i::text)::uuid, now(), i % 2 = 0 FROM generate_series(1, 10000) i;
	INSERT INTO media_readers (generation, media_id, user_id)
		SELECT generation, media_id, 'user' || i FROM media_uses, generate_series(1, 10) i WHERE NOT for_all;
	INSERT INTO media_pieces (piece_id, media_id, starts, created_at) SELECT md5(i::text)::uuid, md5(i::text)::uuid, 0, now() FROM generate_series(1, 10000) i;
	INSERT INTO room_attributes (generation, version, pairs) SELECT i, 0, '{}' FROM generate_series(1, 5000) i;
	INSERT INTO member_attributes (generation, user_id, pairs) SELECT i, 'user' || i, '{"a": 1}' FROM generate_series(1, 5000) i;
	UPDATE inboxes SET custom_status = 'x';
	INSERT INTO watched_users (user_id, state, custom_status, updated_at) SELECT 'user' || i, 'online', '', now() FROM generate_series(1, 10000) i;
	INSERT INTO status_subscriptions (subscriber_id, user_id, expires_at)
		SELECT 'user' || i % 100, 'user' || i, now() + interval '1 hour' FROM generate_series(1, 10000) i;
	INSERT INTO partings (generation, user_id, user_name, reason) SELECT i, 'user' || i, 'u', 'left' FROM generate_series(1, 5000) i`
