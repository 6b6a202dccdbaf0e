package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
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
func (l *appendLane) look(ctx context.Context, items []*appendItem) (found []*appendItem, err error) {
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
	rows, err := l.pool.Query(ctx, lookAppend, rooms, sessions, senders, retryIDs)
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
// one transaction, so they take one round trip. If one message of the batch must not
// be stored, none is.
const (
	// lockLogs goes before the others where they were refused without it. It is a
	// statement of its own because a statement's snapshot is from when it begins: in
	// the same one, members and messages from before the wait for the lock would count.
	lockLogs = `SELECT FROM logs WHERE generation = ANY ($1) AND NOT closed ORDER BY generation FOR NO KEY UPDATE`

	// advanceLogs moves the ends of logs on, and locks them. It does nothing where a
	// stay is over or a message was stored before, and leaves out the logs that changed
	// since its snapshot, which may have waited for another's lock: what it knows of
	// their members and messages is out of date then. Only the row that it updates
	// is read anew after a wait, so it is of another transaction than the row that
	// the snapshot sees.
	advanceLogs = `
		UPDATE logs SET last_seq = last_seq + added, last_xact = ` + nextXact + `
		FROM unnest($1::bigint[], $2::bigint[]) AS i (log, added)
		WHERE generation = i.log AND NOT closed
			AND xmin = (SELECT seen.xmin FROM logs AS seen WHERE seen.generation = i.log)
			AND (SELECT count(*) FROM attendances WHERE stay = ANY ($3::bigint[])) = cardinality($3::bigint[])
			AND NOT EXISTS (
				SELECT FROM unnest($4::bigint[], $5::text[], $6::text[]) AS i (generation, sender_id, client_message_id)
				CROSS JOIN LATERAL (
					SELECT FROM events
					WHERE generation = i.generation AND sender_id = i.sender_id AND client_message_id = i.client_message_id LIMIT 1
				) e)
		RETURNING generation, last_seq`

	// insertMessages inserts into the logs that this transaction advanced, which their
	// rows tell by its number. A message's place is counted from the log's new end.
	// The arrays are unnested in the SELECT list, which streams them: as a table they
	// would be copied first, and to index an array of texts is to read all before it.
	insertMessages = `
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT l.generation, l.last_seq - i.later, $7, i.at, i.sender_id, i.client_message_id, i.body, l.last_xact
		FROM (SELECT unnest($1::bigint[]) AS generation, unnest($2::bigint[]) AS later, unnest($3::timestamptz[]) AS at,
			unnest($4::text[]) AS sender_id, unnest($5::text[]) AS client_message_id, unnest($6::text[]) AS body) i
		CROSS JOIN LATERAL (
			SELECT generation, last_seq, last_xact FROM logs WHERE generation = i.generation AND xmin = pg_current_xact_id()::xid LIMIT 1
		) l`

	// appendMessage does the same for a lone message, as nearly all are while there is
	// little to do: starting and ending the statements for many takes PostgreSQL longer
	// than what they do for one.
	appendMessage = `
		WITH advanced AS (
			UPDATE logs SET last_seq = last_seq + 1, last_xact = ` + nextXact + `
			WHERE generation = $1 AND NOT closed
				AND xmin = (SELECT seen.xmin FROM logs AS seen WHERE seen.generation = $1)
				AND ($2::bigint = 0 OR EXISTS (SELECT FROM attendances WHERE stay = $2))
				AND NOT EXISTS (SELECT FROM events WHERE generation = $1 AND sender_id = $4 AND client_message_id = $5)
			RETURNING generation, last_seq, last_xact
		)
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT generation, last_seq, $7, $3, $4, $5, $6, last_xact FROM advanced
		RETURNING generation, seq`
)

// freeLogs is the logs of a batch that nobody has locked. It locks them to find out, and
// lets them go again.
func (l *appendLane) freeLogs(ctx context.Context, batch []*appendItem) (map[room.LogID]bool, error) {
	logs := make([]room.LogID, len(batch))
	for i, item := range batch {
		logs[i] = item.place.generation
	}
	rows, err := l.pool.Query(ctx, "SELECT generation FROM logs WHERE generation = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED", logs)
	if err != nil {
		return nil, err
	}
	free := make(map[room.LogID]bool)
	var log room.LogID
	_, err = pgx.ForEachRow(rows, []any{&log}, func() error {
		free[log] = true
		return nil
	})
	return free, err
}

// appendStatement is a statement of an append on a connection, with its parameters.
type appendStatement struct {
	name, sql string
	args      [][]byte
}

// logEnds is the new ends of the logs that a transaction appended to.
type logEnds map[room.LogID]room.Seq

// write runs the statements for a batch, and tells of the lane's last one while
// PostgreSQL works. It speaks to it below pgx's own encoding, which copies each
// message several times on its way.
func (l *appendLane) write(ctx context.Context, batch []*appendItem, lock bool) (ends logEnds, err error) {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	var statements []appendStatement
	if len(batch) == 1 && !lock {
		statements = l.params.message(batch[0])
	} else {
		statements = l.params.messages(batch, lock)
	}
	prepared := make([]*pgconn.StatementDescription, len(statements))
	for i, s := range statements {
		if prepared[i], err = conn.Conn().Prepare(ctx, s.name, s.sql); err != nil {
			return nil, err
		}
	}
	pipeline := conn.Conn().PgConn().StartPipeline(ctx)
	for i, s := range statements {
		pipeline.SendQueryStatement(prepared[i], s.args, binaryFormat, binaryFormat)
	}
	if err := pipeline.Sync(); err != nil {
		return nil, err
	}
	l.tell()
	ends, err = readEnds(pipeline, len(statements))
	// Only now is it known whether the transaction was committed.
	if closed := pipeline.Close(); err == nil {
		err = closed
	}
	if err != nil && !lockRefused(err) {
		// Prepared for another schema, maybe: the next one is prepared anew.
		_ = conn.Conn().Close(ctx)
	}
	return ends, err
}

// readEnds reads the results of the statements, of which one returns the new ends of
// logs and the others return no columns.
func readEnds(p *pgconn.Pipeline, statements int) (logEnds, error) {
	ends := make(logEnds)
	for range statements {
		result, err := nextResult(p)
		if err != nil {
			return nil, err
		}
		for result.NextRow() {
			if row := result.Values(); len(row) > 0 {
				ends[room.LogID(binary.BigEndian.Uint64(row[0]))] = room.Seq(binary.BigEndian.Uint64(row[1]))
			}
		}
		if _, err := result.Close(); err != nil {
			return nil, err
		}
	}
	return ends, nil
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

// message encodes a lone message.
func (p *params) message(item *appendItem) []appendStatement {
	item.later = 0
	p.reset()
	value(p, item, (*appendItem).appendLog)
	value(p, item.place.stay, appendInt)
	value(p, item, (*appendItem).appendSentAt)
	value(p, item, (*appendItem).appendSender)
	value(p, item, (*appendItem).appendRetryID)
	value(p, item, (*appendItem).appendBody)
	value(p, room.TypeMessagesReceived, appendText)
	return []appendStatement{{"append_message", appendMessage, p.values}}
}

// messages encodes a batch, and counts how far from the new end of its log each
// message will be.
func (p *params) messages(batch []*appendItem, lock bool) []appendStatement {
	var (
		added      = make(map[room.LogID]int64)
		stays      = make([]int64, 0, len(batch))
		repeatable []*appendItem
	)
	for _, item := range slices.Backward(batch) {
		item.later = added[item.place.generation]
		added[item.place.generation]++
		if item.place.stay != 0 {
			stays = append(stays, item.place.stay)
		}
		if item.message.ClientMessageID != "" {
			repeatable = append(repeatable, item)
		}
	}
	logs := slices.Sorted(maps.Keys(added)) // the order of locks
	slices.Sort(stays)
	stays = slices.Compact(stays) // they are counted

	p.reset()
	array(p, pgtype.Int8OID, logs, appendInt)
	array(p, pgtype.Int8OID, logs, func(log room.LogID, buf []byte) []byte { return appendInt(added[log], buf) })
	array(p, pgtype.Int8OID, stays, appendInt)
	array(p, pgtype.Int8OID, repeatable, (*appendItem).appendLog)
	array(p, pgtype.TextOID, repeatable, (*appendItem).appendSender)
	array(p, pgtype.TextOID, repeatable, (*appendItem).appendRetryID)
	array(p, pgtype.Int8OID, batch, (*appendItem).appendLog)
	array(p, pgtype.Int8OID, batch, (*appendItem).appendLater)
	array(p, pgtype.TimestamptzOID, batch, (*appendItem).appendSentAt)
	array(p, pgtype.TextOID, batch, (*appendItem).appendSender)
	array(p, pgtype.TextOID, batch, (*appendItem).appendRetryID)
	array(p, pgtype.TextOID, batch, (*appendItem).appendBody)
	value(p, room.TypeMessagesReceived, appendText)
	statements := []appendStatement{
		{"lock_logs", lockLogs, p.values[:1]},
		{"advance_logs", advanceLogs, p.values[:6]},
		{"insert_messages", insertMessages, p.values[6:]},
	}
	if !lock {
		return statements[1:]
	}
	return statements
}

func (item *appendItem) appendLog(buf []byte) []byte {
	return appendInt(item.place.generation, buf)
}

func (item *appendItem) appendLater(buf []byte) []byte { return appendInt(item.later, buf) }

func (item *appendItem) appendSender(buf []byte) []byte {
	return appendText(item.message.Sender.ID, buf)
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
