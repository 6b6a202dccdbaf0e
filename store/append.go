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

// appendItem is a message on its way into the log of a room. It belongs to its caller until it is
// queued, then to a lane until done is closed, and then to the caller again. A caller that stops
// waiting leaves it to the lane.
type appendItem struct {
	send room.RoomSend
	// message is the message to be stored. The lane replaces it by the answer: the stored message
	// with its seq, or the earlier one that it is a retry of.
	message room.Message
	body    []byte // the body of its event
	permit  room.Permit
	// later is the number of messages of the batch that come after this one in its log.
	later int64
	err   error
	done  chan struct{}
}

// answer ends the wait of the caller.
func (item *appendItem) answer(m room.Message, err error) {
	item.message, item.err = m, err
	close(item.done)
}

// The statements of an append. PostgreSQL treats statements that are pipelined before a sync as one
// transaction, so they take one round trip. If one message of a batch must not be stored, none is.
const (
	// lockLogs precedes the other statements when messages are retried with locks held. It is a
	// statement of its own because a statement's snapshot is taken when the statement begins: a
	// single statement would see the members and messages from before its wait for the lock.
	lockLogs = `SELECT FROM logs WHERE generation = ANY ($1) AND NOT closed ORDER BY generation FOR NO KEY UPDATE`

	// advanceLogs locks the logs and advances their ends. It does nothing if a presence has ended
	// or a message was stored before. It skips a log that changed since the statement's snapshot,
	// because the statement may have waited for another transaction's lock: members and messages in
	// the snapshot are out of date then. PostgreSQL reads only the locked row again after a wait,
	// so its xmin differs from that of the row in the snapshot.
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

	// insertMessages inserts messages into the logs that this transaction advanced, which are those
	// whose rows have its transaction ID. The seq of a message is counted back from the new end of
	// its log. The arrays are unnested in the SELECT list, where they are streamed. In the FROM
	// list they would be copied first, and subscripts would be slow: to find an element of an array
	// of texts, PostgreSQL reads all elements before it.
	insertMessages = `
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT l.generation, l.last_seq - i.later, $7, i.at, i.sender_id, i.client_message_id, i.body, l.last_xact
		FROM (SELECT unnest($1::bigint[]) AS generation, unnest($2::bigint[]) AS later, unnest($3::timestamptz[]) AS at,
			unnest($4::text[]) AS sender_id, unnest($5::text[]) AS client_message_id, unnest($6::text[]) AS body) i
		CROSS JOIN LATERAL (
			SELECT generation, last_seq, last_xact FROM logs WHERE generation = i.generation AND xmin = pg_current_xact_id()::xid LIMIT 1
		) l`

	// appendMessage does the same for a single message, the usual case under low load. Starting and
	// ending the two statements would take PostgreSQL longer than storing one message.
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

// freeLogs returns the logs of messages that no other transaction has locked. It locks them to find
// out, and releases the locks.
func (l *lane) freeLogs(ctx context.Context, items []*appendItem) (map[room.LogID]bool, error) {
	logs := make([]room.LogID, len(items))
	for i, item := range items {
		logs[i] = item.permit.Log
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

// statement is a prepared statement of an append, with its parameters.
type statement struct {
	name, sql string
	args      [][]byte
}

// logEnds holds the new last seq of each log that a transaction appended to.
type logEnds map[room.LogID]room.Seq

// write stores messages in one transaction. It calls meanwhile after the statements are sent, while
// PostgreSQL works on them. If lock is set, the logs are locked before anything is read.
//
// write uses pgconn instead of pgx, whose encoding copies each message several times.
func (l *lane) write(ctx context.Context, items []*appendItem, lock bool, meanwhile func()) (ends logEnds, err error) {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	var statements []statement
	if len(items) == 1 && !lock {
		statements = l.params.encodeMessage(items[0])
	} else {
		statements = l.params.encodeBatch(items, lock)
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
	meanwhile()
	ends, err = readEnds(pipeline, len(statements))
	// Closing the pipeline reports whether the transaction was committed.
	if closed := pipeline.Close(); err == nil {
		err = closed
	}
	if err != nil && !lockRefused(err) {
		// The statements may have been prepared for another schema: the next connection prepares
		// them again.
		_ = conn.Conn().Close(ctx)
	}
	return ends, err
}

// readEnds reads the results of the statements. One of them returns the new ends of logs, the
// others return no columns.
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

// encodeMessage encodes the statement for a single message.
func (p *params) encodeMessage(item *appendItem) []statement {
	item.later = 0
	p.reset()
	value(p, item, (*appendItem).appendLog)
	value(p, item.permit.Presence, appendInt)
	value(p, item, (*appendItem).appendSentAt)
	value(p, item, (*appendItem).appendSender)
	value(p, item, (*appendItem).appendRetryID)
	value(p, item, (*appendItem).appendBody)
	value(p, room.TypeMessagesReceived, appendText)
	return []statement{{"append_message", appendMessage, p.values}}
}

// encodeBatch encodes the statements for any number of messages, and counts the distance of each
// message from the new end of its log.
func (p *params) encodeBatch(items []*appendItem, lock bool) []statement {
	var (
		added     = make(map[room.LogID]int64)
		presences = make([]room.PresenceID, 0, len(items))
		retryable []*appendItem
	)
	for _, item := range slices.Backward(items) {
		item.later = added[item.permit.Log]
		added[item.permit.Log]++
		if item.permit.Presence != 0 {
			presences = append(presences, item.permit.Presence)
		}
		if item.message.ClientMessageID != "" {
			retryable = append(retryable, item)
		}
	}
	logs := slices.Sorted(maps.Keys(added)) // logs are locked in this order
	slices.Sort(presences)
	presences = slices.Compact(presences) // the statement counts them

	p.reset()
	array(p, pgtype.Int8OID, logs, appendInt)
	array(p, pgtype.Int8OID, logs, func(log room.LogID, buf []byte) []byte { return appendInt(added[log], buf) })
	array(p, pgtype.Int8OID, presences, appendInt)
	array(p, pgtype.Int8OID, retryable, (*appendItem).appendLog)
	array(p, pgtype.TextOID, retryable, (*appendItem).appendSender)
	array(p, pgtype.TextOID, retryable, (*appendItem).appendRetryID)
	array(p, pgtype.Int8OID, items, (*appendItem).appendLog)
	array(p, pgtype.Int8OID, items, (*appendItem).appendLater)
	array(p, pgtype.TimestamptzOID, items, (*appendItem).appendSentAt)
	array(p, pgtype.TextOID, items, (*appendItem).appendSender)
	array(p, pgtype.TextOID, items, (*appendItem).appendRetryID)
	array(p, pgtype.TextOID, items, (*appendItem).appendBody)
	value(p, room.TypeMessagesReceived, appendText)
	statements := []statement{
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
	return appendInt(item.permit.Log, buf)
}

func (item *appendItem) appendLater(buf []byte) []byte { return appendInt(item.later, buf) }

func (item *appendItem) appendSender(buf []byte) []byte {
	return appendText(item.message.Sender.ID, buf)
}

func (item *appendItem) appendSentAt(buf []byte) []byte {
	return appendInstant(item.message.SentAt.Time(), buf)
}

func (item *appendItem) appendBody(buf []byte) []byte { return appendText(item.body, buf) }

// appendRetryID appends the ClientMessageID, or null if there is none.
func (item *appendItem) appendRetryID(buf []byte) []byte {
	if item.message.ClientMessageID == "" {
		return appendNull(buf)
	}
	return appendText(item.message.ClientMessageID, buf)
}
