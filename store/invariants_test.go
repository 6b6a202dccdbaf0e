package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestManyClientsKeepTheInvariants lets clients do random things to the same few
// rooms at once, while sweeps go on, and then asks SQL whether all still holds.
func TestManyClientsKeepTheInvariants(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 2, Defaults: defaults(func(c *room.Config) { c.MaxMembers = 5 })})
	const clients, rooms, steps = 32, 4, 60
	stop := make(chan struct{})
	var sweeping, working sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			f.clock.advance(time.Second)
			if err := f.Sweep(t.Context()); err != nil {
				t.Errorf("sweep: %v", err)
				return
			}
		}
	})
	for i := range clients {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			session := newSession(t, f.Store, fmt.Sprintf("user%d", i/2)) // two sessions a user
			for range steps {
				err := randomStep(t, f, random, &session, roomOf(random.IntN(rooms)), i)
				var rule *room.Error
				if err != nil && (!errors.As(err, &rule) || rule.Kind == room.Unavailable) {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	working.Wait()
	close(stop)
	sweeping.Wait()
	checkInvariants(t, f)
}

func randomStep(t *testing.T, f fixture, random *rand.Rand, session *room.Session, id room.RoomID, client int) error {
	switch random.IntN(12) {
	case 0:
		_, err := f.CreateRoom(t.Context(), session.ID, id, room.Blueprint{})
		return err
	case 1, 2:
		_, err := f.JoinRoom(t.Context(), session.ID, id)
		return err
	case 3, 4:
		_, _, err := f.EnterRoom(t.Context(), session.ID, id, room.Blueprint{})
		return err
	case 5:
		return f.LeaveRoom(t.Context(), session.ID, id)
	case 6:
		a, err := f.Attach(t.Context(), session.ID, nil)
		if err == nil && random.IntN(2) == 0 {
			f.Detach(session.ID, a.StreamNo, f.clock.Now())
		}
		return err
	case 8:
		_, _, err := f.SwitchRoom(t.Context(), session.ID, id, roomOf(random.IntN(4)), random.IntN(2) == 0, room.Blueprint{Settings: room.Settings{
			DestroyDelay: new(room.Seconds(random.IntN(3))),
			SameUser:     new([]room.SameUser{room.SameUserAllow, room.SameUserReplace, room.SameUserReject}[random.IntN(3)]),
		}})
		return err
	case 9:
		_, err := f.LeaveAllRooms(t.Context(), session.ID)
		return err
	case 7:
		if random.IntN(4) > 0 {
			return nil
		}
		err := f.EndSession(t.Context(), session.ID)
		*session = newSession(t, f.Store, fmt.Sprintf("user%d", client/2))
		return err
	default:
		_, err := f.PostMessage(t.Context(), *session, id, textDraft("hello"))
		return err
	}
}

// invariants is what must be true at any time; each query counts violations.
var invariants = map[string]string{
	"the seqs of a log are 1 to last_seq": `
		SELECT count(*) FROM rooms r WHERE destroyed_at IS NULL AND
			(SELECT (coalesce(min(seq), 1), coalesce(max(seq), 0), count(*)) FROM events e WHERE e.generation = r.generation)
			IS DISTINCT FROM (1::bigint, r.last_seq, r.last_seq)`,
	"member_count is the number of members": `
		SELECT count(*) FROM rooms r
		WHERE member_count <> (SELECT count(*) FROM members m WHERE m.generation = r.generation)`,
	"a living room is empty only while its end is due": `
		SELECT count(*) FROM rooms WHERE destroyed_at IS NULL AND (member_count = 0) <> (destroy_at IS NOT NULL)`,
	"no destroyed room has members": `
		SELECT count(*) FROM rooms WHERE destroyed_at IS NOT NULL AND member_count > 0`,
	"every member has a session in the room": `
		SELECT count(*) FROM members m WHERE NOT EXISTS (
			SELECT FROM attendances a WHERE a.generation = m.generation AND a.user_id = m.user_id)`,
	"no ended session is in a room": `
		SELECT count(*) FROM attendances JOIN sessions USING (session_id) WHERE ended_at IS NOT NULL`,
	"nobody is in two lives of one room": `
		SELECT count(*) FROM (SELECT user_id, room_id FROM members JOIN rooms USING (generation)
			GROUP BY user_id, room_id HAVING count(*) > 1) twice`,
	"nobody is in more rooms than allowed": `
		SELECT count(*) FROM (SELECT user_id FROM members GROUP BY user_id HAVING count(*) > 2) greedy`,
	"joined and left alternate for every user in every room": `
		WITH moves AS (
			SELECT generation, seq, type = 'roomMemberJoined' AS joined, m ->> 'userID' AS user_id
			FROM events, jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft')
		), pairs AS (
			SELECT *, lag(joined, 1, false) OVER (PARTITION BY generation, user_id ORDER BY seq) AS was_in FROM moves
		)
		SELECT count(*) FROM pairs WHERE joined = was_in`,
	"who joined last is a member, and nobody else": `
		WITH moves AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') generation, m ->> 'userID' AS user_id, type = 'roomMemberJoined' AS joined
			FROM events JOIN rooms USING (generation), jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft') AND destroyed_at IS NULL
			ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM (SELECT generation, user_id FROM moves WHERE joined) a
		FULL JOIN members b USING (generation, user_id) WHERE a.user_id IS NULL OR b.user_id IS NULL`,
}

func checkInvariants(t *testing.T, f fixture) {
	t.Helper()
	for name, violations := range invariants {
		// The full join compares rows of the same columns; name them apart.
		if n := query[int](t, f, violations); n != 0 {
			t.Errorf("%d times not true that %s", n, name)
		}
	}
	if n := query[int](t, f, "SELECT count(*) FROM events"); n == 0 {
		t.Error("nothing happened")
	}
}
