package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Which members are reconnecting is compared with what was published, by sweeps. Opening and losing
// a stream therefore writes nothing about it, and a change that a crash interrupts is found by the
// next sweep of any node.

const (
	// maxStateChanges bounds the members of one sweep. The others are left to the next one.
	maxStateChanges = 5000
	// stateWindow is how long ago a session may have been detached to be looked at. By then, it has
	// left its rooms, or its member was published to be reconnecting.
	stateWindow = 2 * room.MaxMemberTimeout
)

// The conditions about a member m at the time $1, by the sessions of the user in the room. A session
// has a stream if it has a node; written so that the planner does not use the index of sessions with
// a node.
const (
	memberConnected = `EXISTS (SELECT FROM attendances o
		CROSS JOIN LATERAL (SELECT FROM sessions WHERE session_id = o.session_id AND (node_id IS NULL)::int = 0 LIMIT 1) s
		WHERE o.generation = m.generation AND o.user_id = m.user_id OFFSET 0)`
	memberAway = `m.announced AND m.joined_at <= $1 AND NOT EXISTS (SELECT FROM attendances o
		CROSS JOIN LATERAL (SELECT FROM sessions WHERE session_id = o.session_id
			AND ((node_id IS NULL)::int = 0 OR detached_at > $1) LIMIT 1) s
		WHERE o.generation = m.generation AND o.user_id = m.user_id OFFSET 0)`
)

// findStateChanges finds members whose state is not the published one. If no room publishes states,
// it reads no session. Members who are away are found by their sessions that were detached between
// $2 and $1, and members who are back by the index of those who were published to be reconnecting.
const findStateChanges = `
	SELECT DISTINCT generation, user_id FROM (
		(SELECT a.generation, a.user_id FROM sessions s
		CROSS JOIN LATERAL (SELECT generation, user_id FROM attendances WHERE session_id = s.session_id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT FROM rooms WHERE generation = a.generation AND member_states LIMIT 1) r
		CROSS JOIN LATERAL (SELECT FROM members m WHERE m.generation = a.generation AND m.user_id = a.user_id
			AND NOT reconnecting AND ` + memberAway + ` LIMIT 1) m
		WHERE (SELECT true FROM rooms WHERE member_states AND destroyed_at IS NULL LIMIT 1)
			AND s.ended_at IS NULL AND s.detached_at BETWEEN $2 AND $1
		ORDER BY s.detached_at LIMIT $3)
		UNION ALL
		(SELECT m.generation, m.user_id FROM members m
		CROSS JOIN LATERAL (SELECT FROM rooms WHERE generation = m.generation AND member_states LIMIT 1) r
		WHERE m.reconnecting AND ` + memberConnected + ` ORDER BY m.generation LIMIT $3)
	) changed ORDER BY generation, user_id`

// changeStates changes the published states of the members $3 of the room $2, as far as they still
// are not the actual ones.
const changeStates = `
	WITH changed AS (
		UPDATE members m SET reconnecting = NOT reconnecting
		WHERE generation = $2 AND user_id = ANY ($3) AND CASE WHEN reconnecting THEN ` + memberConnected + ` ELSE ` + memberAway + ` END
		RETURNING user_id, user_name, reconnecting, joined_seq
	) SELECT user_id, user_name, reconnecting FROM changed ORDER BY joined_seq, user_id`

// publishStates publishes which members are reconnecting and which have reconnected, for rooms that
// want it.
func (s *Store) publishStates(ctx context.Context, now time.Time) error {
	since := now.Add(-room.ReconnectingAfter)
	rows, err := s.pool.Query(ctx, findStateChanges, since, now.Add(-stateWindow), maxStateChanges)
	if err != nil {
		return translate(err)
	}
	var (
		rooms []room.LogID
		users = make(map[room.LogID][]room.UserID)
		g     room.LogID
		user  room.UserID
	)
	if _, err := pgx.ForEachRow(rows, []any{&g, &user}, func() error {
		if len(users[g]) == 0 {
			rooms = append(rooms, g)
		}
		users[g] = append(users[g], user)
		return nil
	}); err != nil {
		return translate(err)
	}
	locked := s.lockedRooms.rooms()
	for _, g := range rooms {
		if slices.Contains(locked, g) {
			continue
		}
		err := s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) { return changeRoomStates(ctx, tx, g, users[g], since, now) })
		if lockRefused(err) {
			s.lockedRooms.add(g)
		}
		if err := s.ignoreLocked(err); err != nil {
			return err
		}
	}
	return nil
}

// changeRoomStates locks a room, and changes and publishes the states of members. Their sessions are
// not locked: if one is detached or opens a stream meanwhile, the next sweep notices.
func changeRoomStates(
	ctx context.Context, tx pgx.Tx, g room.LogID, users []room.UserID, since, now time.Time,
) (room.Change, error) {
	held, err := lockRoomsByGeneration(ctx, tx, "$1::bigint[]", []room.LogID{g})
	if err != nil || len(held) == 0 || !held[0].Config.MemberStates {
		return room.Change{}, err
	}
	rows, err := tx.Query(ctx, changeStates, since, g, users)
	if err != nil {
		return room.Change{}, err
	}
	var (
		reconnecting, reconnected []room.User
		user                      room.User
		away                      bool
	)
	if _, err := pgx.ForEachRow(rows, []any{&user.ID, &user.Name, &away}, func() error {
		if away {
			reconnecting = append(reconnecting, user)
		} else {
			reconnected = append(reconnected, user)
		}
		return nil
	}); err != nil {
		return room.Change{}, err
	}
	r, events := held[0].PublishStates(reconnecting, reconnected, now)
	if len(events) == 0 {
		return room.Change{}, nil
	}
	var b pgx.Batch
	if err := queueRoom(&b, r, events); err != nil {
		return room.Change{}, err
	}
	return room.Change{Events: events}, sendBatch(ctx, tx, &b)
}
