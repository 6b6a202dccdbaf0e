package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// selectRoomFacts reads the facts by which package room decides about messages, without locks. A
// LATERAL with a LIMIT makes the planner use one index lookup per message.
const selectRoomFacts = `
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

// readRoomFacts reads the facts about messages to rooms, in their order. db is a pool or a
// transaction.
func readRoomFacts(ctx context.Context, db rowsQuerier, sends ...*room.RoomSend) ([]room.RoomFacts, error) {
	var (
		rooms    = make([]string, len(sends))
		sessions = make([]*room.SessionID, len(sends))
		senders  = make([]string, len(sends))
		retryIDs = make([]*string, len(sends))
	)
	for i, send := range sends {
		rooms[i], senders[i] = string(send.Room), string(send.Sender.User.ID)
		if session := send.Sender.Actor.Session(); session != "" {
			sessions[i] = &session
		}
		if send.Draft.ClientMessageID != "" && send.Draft.Kind.Stored() {
			retryIDs[i] = &send.Draft.ClientMessageID
		}
	}
	rows, err := db.Query(ctx, selectRoomFacts, rooms, sessions, senders, retryIDs)
	if err != nil {
		return nil, err
	}
	facts := make([]room.RoomFacts, 0, len(sends))
	var (
		f    room.RoomFacts
		seq  room.Seq
		body string
	)
	_, err = pgx.ForEachRow(rows, []any{&f.Log, &f.Presence, &seq, &body}, func() error {
		f.Earlier = nil
		if seq != 0 {
			in := room.Event{Room: sends[len(facts)].Room, Log: f.Log, Seq: seq}
			earlier, err := restoreMessage(in, room.TypeMessagesReceived, body)
			if err != nil {
				return err
			}
			f.Earlier = &earlier
		}
		facts = append(facts, f)
		return nil
	})
	return facts, err
}

// rowsQuerier is a pool or a transaction.
type rowsQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// permitUnstored decides about a message that is not stored. No statement checks the permit, so the
// facts are cached only as long as the session is. Cached facts never reject a message, because
// another node may have allowed it since.
func (s *Store) permitUnstored(ctx context.Context, send *room.RoomSend) (room.Permit, error) {
	session := send.Sender.Actor.Session()
	if facts, ok := s.sessions.facts(session, send.Room, s.now()); ok {
		if permit, err := send.Permit(facts); err == nil {
			return permit, nil
		}
	}
	cached := s.sessions.cached(session)
	facts, err := readRoomFacts(ctx, s.pool, send)
	if err != nil {
		return room.Permit{}, translate(err)
	}
	permit, err := send.Permit(facts[0])
	if err == nil {
		s.sessions.addFacts(cached, send.Room, facts[0])
	}
	return permit, err
}
