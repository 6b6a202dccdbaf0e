package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"parlor/room"
)

// lookAppend is all that decides about messages, as it is before their rooms are
// locked. A LATERAL with a LIMIT holds the planner to one index lookup for each,
// here and below.
const lookAppend = `
	SELECT coalesce(r.generation, 0), coalesce(a.stay, 0), coalesce(e.seq, 0), coalesce(e.body, '')
	FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[])
		WITH ORDINALITY AS i (room_id, session_id, sender_id, client_message_id, ord)
	LEFT JOIN LATERAL (
		SELECT generation FROM rooms WHERE room_id = i.room_id AND destroyed_at IS NULL LIMIT 1
	) r ON true
	LEFT JOIN LATERAL (
		SELECT stay FROM attendances WHERE session_id = i.session_id AND generation = r.generation LIMIT 1
	) a ON true
	LEFT JOIN LATERAL (
		SELECT seq, body FROM events
		WHERE generation = r.generation AND sender_id = i.sender_id AND client_message_id = i.client_message_id LIMIT 1
	) e ON true
	ORDER BY ord`

// look finds where items go, and answers those that must not be stored: their room
// is not there, their sender is not in it, or has stored them before.
func (a *appender) look(ctx context.Context, items []*appendItem) (found []*appendItem, err error) {
	var (
		rooms    = make([]string, len(items))
		sessions = make([]*room.SessionID, len(items))
		senders  = make([]string, len(items))
		retryIDs = make([]*string, len(items))
	)
	for i, item := range items {
		rooms[i], senders[i] = string(item.room), string(item.message.Sender.ID)
		if item.session != "" {
			sessions[i] = &item.session
		}
		if item.message.ClientMessageID != "" {
			retryIDs[i] = &item.message.ClientMessageID
		}
	}
	rows, err := a.store.pool.Query(ctx, lookAppend, rooms, sessions, senders, retryIDs)
	if err != nil {
		return nil, err
	}
	type sight struct {
		place appendPlace
		seq   room.Seq
		body  string
	}
	sights, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sight, err error) {
		return s, row.Scan(&s.place.generation, &s.place.stay, &s.seq, &s.body)
	})
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		switch s := sights[i]; {
		case s.place.generation == 0:
			item.fail(room.ErrRoomNotFound)
		case item.session != "" && s.place.stay == 0:
			item.fail(room.ErrNotInRoom)
		case s.seq != 0:
			item.repeat(s.place.generation, s.seq, s.body)
		default:
			item.place = s.place
			found = append(found, item)
		}
	}
	return found, nil
}

// The statements of an append. PostgreSQL treats what is pipelined before a sync as
// one transaction, so all three take one round trip, and each sees what was committed
// before the locks of the first. If one message of the batch must not be stored, none
// is, and all of them are looked at again.
const (
	// lockLogs is a statement of its own because a statement's snapshot is from when
	// it begins: in the same one, members and messages from before the wait for the
	// lock would count.
	lockLogs = `
		SELECT generation, last_seq FROM logs WHERE generation = ANY ($1) AND NOT closed
		ORDER BY generation FOR NO KEY UPDATE`

	// advanceLogs does nothing where a stay is over or a message was stored before.
	advanceLogs = `
		UPDATE logs SET last_seq = last_seq + added, last_xact = ` + nextXact + `
		FROM unnest($1::bigint[], $2::bigint[]) AS i (log, added)
		WHERE generation = i.log AND NOT closed
			AND (SELECT count(*) FROM attendances WHERE stay = ANY ($3::bigint[])) = cardinality($3::bigint[])
			AND NOT EXISTS (
				SELECT FROM unnest($4::bigint[], $5::text[], $6::text[]) AS i (generation, sender_id, client_message_id)
				CROSS JOIN LATERAL (
					SELECT FROM events
					WHERE generation = i.generation AND sender_id = i.sender_id AND client_message_id = i.client_message_id LIMIT 1
				) e)`

	// insertMessages inserts into the logs that this transaction advanced, which their
	// rows tell by its number. A message's place is counted from the log's new end.
	// The arrays are unnested in the SELECT list, which streams them: as a table they
	// are copied first, and an index into an array of texts reads all that is before it.
	insertMessages = `
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT l.generation, l.last_seq - i.later, $7, i.at, i.sender_id, i.client_message_id, i.body, l.last_xact
		FROM (SELECT unnest($1::bigint[]) AS generation, unnest($2::bigint[]) AS later, unnest($3::timestamptz[]) AS at,
			unnest($4::text[]) AS sender_id, unnest($5::text[]) AS client_message_id, unnest($6::text[]) AS body) i
		CROSS JOIN LATERAL (
			SELECT generation, last_seq, last_xact FROM logs WHERE generation = i.generation AND xmin = pg_current_xact_id()::xid LIMIT 1
		) l`
)

// appendStatements is in the order in which they run.
var appendStatements = [...]struct{ name, sql string }{
	{"lock_logs", lockLogs}, {"advance_logs", advanceLogs}, {"insert_messages", insertMessages},
}

// appendWrite is what a transaction of appends did.
type appendWrite struct {
	// lastSeq is the end that each living room had.
	lastSeq map[room.Generation]room.Seq
	// refused says that something was not as it was known, and that nothing was stored.
	refused bool
}

// write runs the statements for a batch. It speaks to PostgreSQL below pgx's own
// encoding, which copies each message several times on its way.
func (a *appender) write(ctx context.Context, batch []*appendItem, p *params) (w appendWrite, err error) {
	conn, err := a.store.pool.Acquire(ctx)
	if err != nil {
		return w, err
	}
	defer conn.Release()
	var statements [len(appendStatements)]*pgconn.StatementDescription
	for i, s := range appendStatements {
		if statements[i], err = conn.Conn().Prepare(ctx, s.name, s.sql); err != nil {
			return w, err
		}
	}
	args := [len(appendStatements)][][]byte{}
	args[0], args[1], args[2] = p.append(batch)
	pipeline := conn.Conn().PgConn().StartPipeline(ctx)
	for i, s := range statements {
		pipeline.SendQueryStatement(s, args[i], binaryFormat, binaryFormat)
	}
	if err := pipeline.Sync(); err != nil {
		return w, err
	}
	w, err = readAppend(pipeline)
	// Only now is it known whether the transaction was committed.
	if closed := pipeline.Close(); err == nil {
		err = closed
	}
	if err != nil {
		// Prepared for another schema, maybe: the next one is prepared anew.
		_ = conn.Conn().Close(ctx)
	}
	return w, err
}

// readAppend reads what the first two statements found.
func readAppend(p *pgconn.Pipeline) (w appendWrite, err error) {
	w.lastSeq = make(map[room.Generation]room.Seq)
	locked, err := nextResult(p)
	if err != nil {
		return w, err
	}
	for locked.NextRow() {
		row := locked.Values()
		w.lastSeq[room.Generation(binary.BigEndian.Uint64(row[0]))] = room.Seq(binary.BigEndian.Uint64(row[1]))
	}
	if _, err := locked.Close(); err != nil {
		return w, err
	}
	moved, err := nextResult(p)
	if err != nil {
		return w, err
	}
	advanced, err := moved.Close()
	w.refused = advanced.RowsAffected() < int64(len(w.lastSeq))
	return w, err
}

func nextResult(p *pgconn.Pipeline) (*pgconn.ResultReader, error) {
	result, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("a statement's result is %T", result)
	}
	return reader, nil
}

// append encodes a batch for the three statements.
func (p *params) append(batch []*appendItem) (lock, advance, insert [][]byte) {
	n := len(batch)
	var (
		logs       []int64
		added      []int64
		indexOf    = make(map[room.Generation]int) // in logs and added
		later      = make([]int64, n)
		stays      = make([]int64, 0, n)
		repeatable []*appendItem
	)
	for i, item := range slices.Backward(batch) {
		log, known := indexOf[item.place.generation]
		if !known {
			log = len(logs)
			indexOf[item.place.generation] = log
			logs, added = append(logs, int64(item.place.generation)), append(added, 0)
		}
		later[i] = added[log]
		added[log]++
		if item.place.stay != 0 {
			stays = append(stays, item.place.stay)
		}
		if item.message.ClientMessageID != "" {
			repeatable = append(repeatable, item)
		}
	}
	slices.Sort(stays)
	stays = slices.Compact(stays) // they are counted

	p.reset()
	array(p, pgtype.Int8OID, logs, appendInt)
	array(p, pgtype.Int8OID, added, appendInt)
	array(p, pgtype.Int8OID, stays, appendInt)
	array(p, pgtype.Int8OID, repeatable, (*appendItem).appendLog)
	array(p, pgtype.TextOID, repeatable, (*appendItem).appendSender)
	array(p, pgtype.TextOID, repeatable, (*appendItem).appendRetryID)
	array(p, pgtype.Int8OID, batch, (*appendItem).appendLog)
	array(p, pgtype.Int8OID, later, appendInt)
	array(p, pgtype.TimestamptzOID, batch, (*appendItem).appendSentAt)
	array(p, pgtype.TextOID, batch, (*appendItem).appendSender)
	array(p, pgtype.TextOID, batch, (*appendItem).appendRetryID)
	array(p, pgtype.TextOID, batch, (*appendItem).appendBody)
	p.text(string(room.TypeMessagesReceived))
	values := p.values()
	return values[:1], values[:6], values[6:]
}

func (item *appendItem) appendLog(buf []byte) []byte {
	return appendInt(int64(item.place.generation), buf)
}

func (item *appendItem) appendSender(buf []byte) []byte {
	return appendText(string(item.message.Sender.ID), buf)
}

func (item *appendItem) appendSentAt(buf []byte) []byte {
	return appendInstant(item.message.SentAt, buf)
}

func (item *appendItem) appendBody(buf []byte) []byte { return appendText(item.body, buf) }

// appendRetryID is null where the sender gave none.
func (item *appendItem) appendRetryID(buf []byte) []byte {
	if item.message.ClientMessageID == "" {
		return appendNull(buf)
	}
	return appendText(item.message.ClientMessageID, buf)
}
