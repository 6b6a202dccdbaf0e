package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestManyClientsKeepTheInvariants lets clients and an admin do random things to the same few rooms
// at once, while sweeps run, and then checks the invariants with SQL. One of the rooms has about as
// many members as a room can have without batched presence. MANY_CLIENTS_SECONDS is the duration;
// without it, the test makes a certain number of calls.
func TestManyClientsKeepTheInvariants(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 2, RoomsPerCreator: 2, MaxRooms: 5, MessageRetention: 5 * time.Minute, Defaults: defaults(func(c *room.Config) { c.MaxMembers = 5 })})
	const clients, rooms = 32, 4
	const leastSteps = 400 // of each client
	// Each sweep is three seconds later than the one before, so that logs are trimmed during half
	// of the test.
	const leastSweeps = 200
	var seconds int
	if text := os.Getenv("MANY_CLIENTS_SECONDS"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("MANY_CLIENTS_SECONDS: %v", err)
		}
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	first := newSession(t, f.Store, "u000")
	if _, err := f.CreateRoom(t.Context(), as(first), "hall", room.RoomOptions{Settings: room.Settings{MaxMembers: new(1000)}}); err != nil {
		t.Fatal(err)
	}
	openStream(t, f, first)
	for _, s := range joinUsers(t, f, "hall", 1, room.PresenceBatchThreshold-clients/4) {
		openStream(t, f, s)
	}
	files := []room.Media{upload(t, f, "u000"), upload(t, f, "u000"), upload(t, f, "u000")}
	stop := make(chan struct{})
	var sweeping, working sync.WaitGroup
	var sweeps atomic.Int64
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			f.clock.advance(3 * time.Second)
			if err := f.Sweep(t.Context()); err != nil {
				t.Errorf("sweep: %v", err)
				return
			}
			sweeps.Add(1)
		}
	})
	steps := make([]int, clients)
	for i := range clients {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			session := newSession(t, f.Store, fmt.Sprintf("user%d", i/2)) // two sessions for each user
			for ; steps[i] < leastSteps || sweeps.Load() < leastSweeps || time.Now().Before(until); steps[i]++ {
				if t.Failed() {
					return
				}
				id := roomOf(random.IntN(rooms))
				if random.IntN(3) == 0 {
					id = "hall"
				}
				err := randomStep(t, f, random, &session, id, files, i)
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
	checkLimits(t, f)
	checkPublishedStatuses(t, f)
	t.Logf("%d steps, %d sweeps", sum(steps), sweeps.Load())
}

// checkLimits checks the limits of TestManyClientsKeepTheInvariants on rooms.
func checkLimits(t *testing.T, f fixture) {
	t.Helper()
	if n := query[int](t, f, "SELECT count(*) FROM rooms WHERE destroyed_at IS NULL"); n > 5 {
		t.Errorf("there are %d rooms", n)
	}
	if n := query[int](t, f, `SELECT coalesce(max(n), 0) FROM (
		SELECT count(*) AS n FROM rooms WHERE destroyed_at IS NULL AND creator_id IS NOT NULL GROUP BY creator_id) each`); n > 2 {
		t.Errorf("a user has created %d rooms", n)
	}
}

// checkPublishedStatuses checks that the published statuses are the actual ones, once sweeps have had
// time to publish them.
func checkPublishedStatuses(t *testing.T, f fixture) {
	t.Helper()
	f.clock.advance(time.Minute)
	for range 3 {
		sweep(t, f)
		f.clock.advance(time.Second)
	}
	compared := 0
	for i := range 16 {
		subscriber := room.UserID(fmt.Sprint("user", i))
		subscriptions, err := f.StatusSubscriptions(t.Context(), subscriber, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, published := range subscriptions {
			actual, err := f.Statuses(t.Context(), subscriber, []room.UserID{published.User})
			if err != nil {
				t.Fatal(err)
			}
			if !published.SameAs(actual[0]) {
				t.Errorf("to %s, the status %+v was published, and is %+v", subscriber, published, actual[0])
			}
			compared++
		}
	}
	if compared == 0 {
		t.Error("nobody is subscribed to a status")
	}
}

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

func randomStep(
	t *testing.T, f fixture, random *rand.Rand, session *room.Session, id room.RoomID, files []room.Media, client int,
) error {
	someone := room.UserID(fmt.Sprintf("user%d", random.IntN(16)))
	switch random.IntN(35) {
	case 0:
		_, err := f.CreateRoom(t.Context(), as(*session), id, room.RoomOptions{})
		return err
	case 1, 2:
		_, err := f.JoinRoom(t.Context(), as(*session), id, "")
		return err
	case 3, 4:
		_, _, err := f.EnterRoom(t.Context(), as(*session), id, room.RoomOptions{UserData: fmt.Sprint(random.IntN(3))})
		return err
	case 5, 6:
		return f.LeaveRoom(t.Context(), as(*session), id)
	case 7:
		opened, err := f.OpenStream(t.Context(), session.ID, "", nil)
		if err == nil && random.IntN(2) == 0 {
			f.Detach(session.ID, opened.StreamNo, f.clock.Now())
		}
		return err
	case 8, 9:
		_, _, err := f.SwitchRoom(t.Context(), as(*session), id, roomOf(random.IntN(4)), random.IntN(2) == 0, room.RoomOptions{Settings: room.Settings{
			DestroyDelay: new(room.Seconds(random.IntN(3))),
			SameUser:     new([]room.SameUser{room.SameUserAllow, room.SameUserReplace, room.SameUserReject}[random.IntN(3)]),
		}})
		return err
	case 10:
		_, err := f.LeaveAllRooms(t.Context(), as(*session))
		return err
	case 17:
		_, _, err := f.UpdateAttributes(t.Context(), as(*session), id, room.AttributesUpdate{
			By: session.User.ID, Set: map[string]string{fmt.Sprint(random.IntN(4)): fmt.Sprint(random.IntN(2))},
			Delete: []string{"gone"}, UpdateOwner: true, DeleteAfterOwnerLeft: new(random.IntN(4) > 0),
		})
		return err
	case 18:
		users := []room.UserID{session.User.ID, room.UserID(fmt.Sprint("user", random.IntN(16)))}
		_, _, err := f.UpdateMemberAttributes(t.Context(), as(*session), id, users, room.MemberAttributesUpdate{
			By: session.User.ID, Set: map[string]string{fmt.Sprint(random.IntN(2)): fmt.Sprint(random.IntN(2))},
			DeleteAfterOwnerLeft: new(random.IntN(2) > 0),
		})
		return err
	case 25:
		_, err := f.UpdateRoom(t.Context(), as(*session), id, room.RoomUpdate{Settings: randomSettings(random)})
		return err
	case 26:
		_, err := f.UpdateRoom(t.Context(), admin, id, room.RoomUpdate{Name: new(fmt.Sprint(random.IntN(3))), Settings: randomSettings(random)})
		return err
	case 27:
		_, _, err := f.UpdateMemberAttributes(t.Context(), as(*session), id, []room.UserID{session.User.ID}, room.MemberAttributesUpdate{
			By: session.User.ID, UserData: new(fmt.Sprint(random.IntN(3))),
		})
		return err
	case 28:
		_, err := f.UpdateProfile(t.Context(), as(*session), session.User.ID, room.ProfileUpdate{
			Name: new(fmt.Sprint("name ", random.IntN(3))), AvatarURL: new(fmt.Sprint("http://x/", random.IntN(3))),
		})
		return err
	case 29:
		_, err := f.UpdateProfile(t.Context(), admin, someone, room.ProfileUpdate{ExtendedData: new(fmt.Sprint(random.IntN(3)))})
		return err
	case 30:
		d := textDraft("for some")
		if len(files) > 0 && random.IntN(2) == 0 {
			d = fileDraft(files[random.IntN(len(files))])
		}
		d.To = []room.UserID{someone}
		m, err := f.PostMessage(t.Context(), *session, id, d)
		if err == nil && random.IntN(2) == 0 {
			err = f.Recall(t.Context(), as(*session), session.User.ID, id, m.ID)
		}
		return err
	case 31:
		_, _, err := f.SubscribeStatuses(t.Context(), session.User.ID, []room.UserID{someone}, time.Hour)
		return err
	case 32:
		if random.IntN(2) == 0 {
			return f.UnsubscribeStatuses(t.Context(), session.User.ID, []room.UserID{someone})
		}
		return f.UpdateStatus(t.Context(), *session, fmt.Sprint(random.IntN(3)))
	case 33:
		if random.IntN(4) == 0 {
			return f.Block(t.Context(), as(*session), session.User.ID, someone)
		}
		return f.Unblock(t.Context(), as(*session), session.User.ID, someone)
	case 34:
		switch random.IntN(4) {
		case 0:
			return f.DeleteConversation(t.Context(), as(*session), session.User.ID, someone)
		case 1:
			return f.ReadAllConversations(t.Context(), as(*session), session.User.ID)
		}
		page, err := f.Conversation(t.Context(), *session, someone)
		if err == nil && len(page.List) > 0 {
			err = f.ReadConversation(t.Context(), as(*session), session.User.ID, someone, room.Seq(random.IntN(1000)))
		}
		return err
	case 11:
		if random.IntN(4) > 0 {
			return nil
		}
		err := f.EndSession(t.Context(), as(*session))
		*session = newSession(t, f.Store, fmt.Sprintf("user%d", client/2)) // which gives the user the first name again
		return err
	case 12:
		if random.IntN(4) > 0 {
			return nil
		}
		_, err := f.KickUser(t.Context(), admin, someone, "enough")
		return err
	case 13:
		_, err := f.CreateEmptyRoom(t.Context(), admin, id, room.RoomOptions{Settings: room.Settings{UnusedTimeout: new(room.Seconds(1 + random.IntN(3)))}})
		return err
	case 14:
		if id == "hall" {
			return nil // or it would soon be a small room
		}
		return f.DestroyRoom(t.Context(), admin, id, "over")
	case 15:
		_, err := f.KickMembers(t.Context(), admin, id, []room.UserID{someone, session.User.ID}, "out", time.Duration(random.IntN(2))*time.Second)
		return err
	case 16:
		_, err := f.PostMessageAs(t.Context(), room.User{ID: "system"}, id, textDraft("hello"))
		return err
	case 19, 20:
		_, err := f.PostPeerMessage(t.Context(), *session, someone, textDraft("psst"))
		return err
	case 21:
		if len(files) == 0 {
			return nil
		}
		d := fileDraft(files[random.IntN(len(files))])
		if random.IntN(2) == 0 {
			_, err := f.PostPeerMessage(t.Context(), *session, someone, d)
			return err
		}
		_, err := f.PostMessage(t.Context(), *session, id, d)
		return err
	default:
		_, err := f.PostMessage(t.Context(), *session, id, textDraft("hello"))
		return err
	}
}

// randomSettings returns changes of settings, with which the rooms stay as large as they are.
func randomSettings(random *rand.Rand) room.Settings {
	modes := []room.PresenceMode{room.PresenceBatched, room.PresenceCounts, room.PresenceNone, room.PresenceFull}
	return room.Settings{
		MemberStates: new(random.IntN(2) > 0),
		Presence:     new(modes[min(random.IntN(10), 3)]), NamesUpTo: new([]int{3, room.PresenceBatchThreshold, room.MaxMaxMembers}[min(random.IntN(10), 2)]),
		DestroyDelay: new(room.Seconds(random.IntN(3))), UnusedTimeout: new(room.Seconds(1 + random.IntN(3))),
		MemberTimeout: new(room.Seconds(5 + random.IntN(30))), Lifetime: new([]room.Lifetime{room.LifetimeUntilEmpty, room.LifetimeUntilEmpty, room.LifetimeKept}[random.IntN(3)]),
		History: new([]room.History{room.HistoryStored, room.HistoryNone}[random.IntN(2)]), RetentionCount: new(random.IntN(2) * (1 + random.IntN(50))),
		SameUser: new([]room.SameUser{room.SameUserAllow, room.SameUserReplace, room.SameUserReject}[random.IntN(3)]),
	}
}

// alwaysNamed is the condition that a log has always published who joins and leaves, as far as it can
// be read.
const alwaysNamed = `generation NOT IN (SELECT generation FROM events WHERE type = 'roomMemberCountUpdated')`

// invariants must hold at any time. Each query counts violations.
var invariants = map[string]string{
	"the bytes of files are counted for each user and for all": `
		SELECT count(*) + (SELECT count(*) FROM (SELECT sum(bytes) AS n FROM media_bytes_of_all) a WHERE n IS DISTINCT FROM (SELECT coalesce(sum(bytes), 0) FROM media_bytes))
		FROM (
			SELECT owner_id, sum(greatest(coalesce(size, length, 0), 4096))::bigint AS bytes FROM media GROUP BY owner_id
		) really FULL JOIN media_bytes counted USING (owner_id) WHERE really.bytes IS DISTINCT FROM counted.bytes`,
	"the seqs of a log are oldest_seq to last_seq": `
		SELECT count(*) FROM rooms r JOIN logs USING (generation) WHERE destroyed_at IS NULL AND
			(SELECT (coalesce(min(seq), last_seq + 1), coalesce(max(seq), last_seq), count(*)) FROM events e WHERE e.generation = r.generation)
			IS DISTINCT FROM (r.oldest_seq, last_seq, last_seq - r.oldest_seq + 1)`,
	"the seqs of an inbox are oldest_seq to last_seq": `
		SELECT count(*) FROM inboxes i WHERE
			(SELECT (coalesce(min(seq), i.last_seq + 1), coalesce(max(seq), i.last_seq), count(*)) FROM events e WHERE e.generation = i.log)
			IS DISTINCT FROM (i.oldest_seq, i.last_seq, i.last_seq - i.oldest_seq + 1)`,
	"every peer message is in both inboxes": `
		SELECT count(*) FROM events e JOIN inboxes i ON i.log = e.generation JOIN inboxes o ON o.user_id = e.peer_id
		WHERE e.type = 'peerMessageReceived' AND NOT EXISTS (SELECT FROM events f WHERE f.generation = o.log AND f.peer_id = i.user_id
			AND f.body::jsonb #> '{messageList,0,messageID}' = e.body::jsonb #> '{messageList,0,messageID}')`,
	"member_count is the number of members": `
		SELECT count(*) FROM rooms r
		WHERE member_count <> (SELECT count(*) FROM members m WHERE m.generation = r.generation)`,
	"a room is empty and not kept if and only if its end is scheduled": `
		SELECT count(*) FROM rooms WHERE destroyed_at IS NULL AND (member_count = 0 AND lifetime <> 'kept') <> (destroy_at IS NOT NULL)`,
	"a log is closed if and only if its room is destroyed": `
		SELECT count(*) FROM rooms LEFT JOIN logs USING (generation) WHERE closed IS DISTINCT FROM (destroyed_at IS NOT NULL)`,
	"no destroyed room has members": `
		SELECT count(*) FROM rooms WHERE destroyed_at IS NOT NULL AND member_count > 0`,
	"every member has a session in the room": `
		SELECT count(*) FROM members m WHERE NOT EXISTS (
			SELECT FROM attendances a WHERE a.generation = m.generation AND a.user_id = m.user_id)`,
	"no ended session is in a room": `
		SELECT count(*) FROM attendances JOIN sessions USING (session_id) WHERE ended_at IS NOT NULL`,
	"no user is in two generations of one room": `
		SELECT count(*) FROM (SELECT user_id, room_id FROM members JOIN rooms USING (generation)
			GROUP BY user_id, room_id HAVING count(*) > 1) twice`,
	"no user is in more rooms than allowed": `
		SELECT count(*) FROM (SELECT user_id FROM members GROUP BY user_id HAVING count(*) > 2) greedy`,
	"the version of a room's attributes is their newest event": `
		SELECT count(*) FROM rooms r LEFT JOIN room_attributes a USING (generation) WHERE destroyed_at IS NULL AND (a.version IS NULL OR a.version >= oldest_seq) AND coalesce(a.version, 0) <>
			(SELECT coalesce(max(seq), 0) FROM events e WHERE e.generation = r.generation AND type = 'roomAttributesUpdated')`,
	"the version of a room's settings is their newest event": `
		SELECT count(*) FROM rooms r WHERE destroyed_at IS NULL AND (updated_seq = 0 OR updated_seq >= oldest_seq) AND updated_seq <>
			(SELECT coalesce(max(seq), 0) FROM events e WHERE e.generation = r.generation AND type = 'roomUpdated')`,
	"the existing rooms are counted": `
		SELECT abs((SELECT sum(rooms) FROM room_counts) - (SELECT count(*) FROM rooms WHERE destroyed_at IS NULL))::int`,
	"empty rooms have no attributes, unless they are kept": `
		SELECT count(*) FROM rooms WHERE destroyed_at IS NULL AND member_count = 0 AND (
			lifetime <> 'kept' AND generation IN (SELECT generation FROM room_attributes WHERE pairs <> '{}')
			OR generation IN (SELECT generation FROM member_attributes))`,
	"attributes with deleteAfterOwnerLeft have an owner in the room": `
		SELECT count(*) FROM rooms JOIN room_attributes a USING (generation), jsonb_each(pairs) p
		WHERE destroyed_at IS NULL AND (value ->> 'deleteAfterOwnerLeft')::boolean AND NOT EXISTS (
			SELECT FROM members m WHERE m.generation = a.generation AND m.user_id = value ->> 'owner')`,
	"users outside the room have only attributes that are kept": `
		SELECT count(*) FROM rooms JOIN member_attributes a USING (generation), jsonb_each(pairs) p
		WHERE destroyed_at IS NULL AND NOT coalesce((value ->> 'keep')::boolean, false) AND NOT EXISTS (
			SELECT FROM members m WHERE m.generation = a.generation AND m.user_id = a.user_id)`,
	"joined and left alternate for every user in every room": `
		WITH moves AS (
			SELECT generation, seq, type = 'roomMemberJoined' AS joined, m ->> 'userID' AS user_id
			FROM events, jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft') AND ` + alwaysNamed + `
		), pairs AS (
			SELECT joined, lag(joined, 1, CASE WHEN oldest_seq = 1 THEN false ELSE NOT joined END) OVER (
				PARTITION BY generation, user_id ORDER BY seq) AS was_in
			FROM moves JOIN rooms USING (generation)
		)
		SELECT count(*) FROM pairs WHERE joined = was_in`,
	"the members according to the log are those whose join was published and whose leave was not": `
		WITH moves AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') generation, m ->> 'userID' AS user_id, type = 'roomMemberJoined' AS joined
			FROM events JOIN rooms USING (generation), jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft') AND destroyed_at IS NULL AND ` + alwaysNamed + `
			ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM (SELECT generation, user_id FROM moves WHERE joined) a
		FULL JOIN (
			SELECT generation, user_id FROM members WHERE announced
			UNION ALL SELECT generation, user_id FROM partings JOIN rooms USING (generation) WHERE destroyed_at IS NULL
		) b USING (generation, user_id) JOIN rooms r USING (generation)
		WHERE b.user_id IS NULL OR (a.user_id IS NULL AND r.oldest_seq = 1 AND r.member_events = 'names' AND r.` + alwaysNamed + `)`,
	"events with names say how many members the log has": `
		WITH moves AS (
			SELECT generation, seq, type, body::jsonb AS b FROM events
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft') AND ` + alwaysNamed + `
		), counted AS (
			SELECT generation, (b ->> 'memberCount')::int AS says, sum(jsonb_array_length(b -> 'memberList')
				* CASE type WHEN 'roomMemberJoined' THEN 1 ELSE -1 END) OVER (PARTITION BY generation ORDER BY seq) AS n
			FROM moves
		)
		SELECT count(*) FROM counted JOIN rooms USING (generation) WHERE oldest_seq = 1 AND says IS DISTINCT FROM n`,
	"the newest count is the number of members, unless another is pending": `
		WITH newest AS (
			SELECT DISTINCT ON (generation) generation, type, (body::jsonb ->> 'memberCount')::int AS says, body::jsonb ->> 'memberEvents' AS events
			FROM events WHERE type IN ('roomMemberJoined', 'roomMemberLeft', 'roomMemberCountUpdated') ORDER BY generation, seq DESC
		)
		SELECT count(*) FROM rooms JOIN newest USING (generation) WHERE destroyed_at IS NULL AND NOT untold
			AND (says <> member_count AND member_events <> 'none' OR coalesce(events, 'names') <> member_events)`,
	"the state of a member is the newest in the log": `
		WITH told AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') generation, m ->> 'userID' AS user_id, type = 'memberReconnecting' AS away
			FROM events, jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft', 'memberReconnecting', 'memberReconnected')
			ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM members JOIN told USING (generation, user_id) JOIN rooms r USING (generation)
		WHERE announced AND r.oldest_seq = 1 AND r.` + alwaysNamed + ` AND reconnecting <> away`,
	"a room without names has no pending ones": `
		SELECT count(*) FROM rooms r WHERE member_events <> 'names' AND destroyed_at IS NULL AND (
			EXISTS (SELECT FROM members m WHERE m.generation = r.generation AND NOT announced)
			OR EXISTS (SELECT FROM partings p WHERE p.generation = r.generation))`,
	"the user data of a member is the newest in the log": `
		WITH told AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') generation, m ->> 'userID' AS user_id, coalesce(m ->> 'userData', '') AS data, seq
			FROM events, jsonb_array_elements(coalesce(body::jsonb -> 'memberList', body::jsonb -> 'infos')) m
			WHERE type = 'roomMemberJoined' OR type = 'roomMemberAttributesUpdated' AND m ? 'userData'
			ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM members JOIN told USING (generation, user_id)
		WHERE announced AND seq >= joined_seq AND user_data <> data`,
	"members have the names and avatars of their profiles": `
		SELECT count(*) FROM members m JOIN profiles p USING (user_id) WHERE (m.user_name, m.avatar_url) <> (p.user_name, p.avatar_url)`,
	"the profile of a member is the newest in the log": `
		WITH told AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') generation, m ->> 'userID' AS user_id,
				m ->> 'userName' AS name, coalesce(m ->> 'avatarURL', '') AS avatar, seq
			FROM events, jsonb_array_elements(coalesce(body::jsonb -> 'memberList', body::jsonb -> 'userList')) m
			WHERE type IN ('roomMemberJoined', 'userInfoUpdated') ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM members JOIN told USING (generation, user_id) JOIN rooms r USING (generation)
		WHERE announced AND seq >= joined_seq AND r.` + alwaysNamed + ` AND (user_name, avatar_url) <> (name, avatar)`,
	"the profile of a user is the newest in the inbox": `
		WITH told AS (
			SELECT DISTINCT ON (generation) generation AS log, body::jsonb -> 'profile' AS p
			FROM events WHERE type = 'profileUpdated' ORDER BY generation, seq DESC
		)
		SELECT count(*) FROM inboxes JOIN told USING (log) LEFT JOIN profiles USING (user_id)
		WHERE (user_id, user_name, avatar_url, extended_data)
			IS DISTINCT FROM (p ->> 'userID', p ->> 'userName', coalesce(p ->> 'avatarURL', ''), coalesce(p ->> 'userExtendedData', ''))`,
	"a room with pending presence is marked": `
		SELECT count(*) FROM rooms r WHERE destroyed_at IS NULL AND NOT untold AND (
			EXISTS (SELECT FROM members m WHERE m.generation = r.generation AND NOT announced)
			OR EXISTS (SELECT FROM partings p WHERE p.generation = r.generation))`,
	"no member has a pending leave": `
		SELECT count(*) FROM partings JOIN members USING (generation, user_id)`,
	"the log of a destroyed room contains a leave for each join": `
		WITH moves AS (
			SELECT DISTINCT ON (generation, m ->> 'userID') type = 'roomMemberJoined' AS joined
			FROM events JOIN rooms USING (generation), jsonb_array_elements(body::jsonb -> 'memberList') m
			WHERE type IN ('roomMemberJoined', 'roomMemberLeft') AND destroyed_at IS NOT NULL AND ` + alwaysNamed + `
			ORDER BY generation, m ->> 'userID', seq DESC
		)
		SELECT count(*) FROM moves WHERE joined`,
	"the uses of files are counted": `
		SELECT count(*) FROM media m WHERE uses <> (SELECT count(*) FROM media_uses u WHERE u.media_id = m.media_id)`,
	// A file that was sent in several conversations is released with that of its newest message.
	"the readers of a message may read its file, unless they have deleted conversations": `
		SELECT count(*) FROM events e LEFT JOIN rooms r USING (generation)
		WHERE r.destroyed_at IS NULL AND e.generation NOT IN (SELECT log FROM conversations WHERE deleted_seq > 0) AND e.body::jsonb #>> '{messageList,0,media,mediaID}' IS NOT NULL AND NOT EXISTS (
			SELECT FROM conversations c WHERE c.log = e.generation AND c.peer_id = e.peer_id AND c.deleted_seq >= e.seq)
		AND NOT EXISTS (
			SELECT FROM media_uses u WHERE u.generation = e.generation AND u.media_id = (e.body::jsonb #>> '{messageList,0,media,mediaID}')::uuid)`,
	"the readers of a message to some members may read its file": `
		SELECT count(*) FROM events e JOIN rooms r USING (generation),
			jsonb_array_elements_text(e.body::jsonb #> '{messageList,0,to}' || (e.body::jsonb #> '{messageList,0,sender,userID}')) AS reader
		WHERE r.destroyed_at IS NULL AND e.type = 'roomMessageReceived' AND e.body::jsonb #>> '{messageList,0,media,mediaID}' IS NOT NULL AND NOT EXISTS (
			SELECT FROM media_uses u LEFT JOIN media_readers m ON (m.generation, m.media_id, m.user_id) = (u.generation, u.media_id, reader)
			WHERE u.generation = e.generation AND u.media_id = (e.body::jsonb #>> '{messageList,0,media,mediaID}')::uuid
				AND (u.for_all OR m.user_id IS NOT NULL))`,
	"unread messages are counted, up to the counted seq": `
		SELECT count(*) FROM conversations c JOIN inboxes i USING (log) WHERE c.read_seq >= i.read_seq AND c.unread <> (
			SELECT count(*) FROM events e WHERE e.generation = c.log AND e.peer_id = c.peer_id AND e.seq > c.read_seq AND e.seq <= i.counted_seq
				AND type = 'peerMessageReceived' AND body::jsonb #>> '{messageList,0,sender,userID}' = c.peer_id AND NOT EXISTS (
					SELECT FROM events r WHERE r.generation = c.log AND r.type = 'peerMessageRecalled' AND r.seq <= i.counted_seq
						AND (r.body::jsonb ->> 'recalledSeq')::bigint = e.seq))`,
	"the unread messages of all conversations are counted": `
		SELECT count(*) FROM inboxes i WHERE unread <> coalesce((SELECT sum(unread) FROM conversations c WHERE c.log = i.log AND c.read_seq >= i.read_seq), 0)`,
	"a conversation has its newest message, and ends with its last": `
		WITH messages AS (
			SELECT generation AS log, peer_id, max(seq) AS last_seq FROM events JOIN inboxes ON log = generation
			WHERE type = 'peerMessageReceived' AND seq <= counted_seq AND seq > coalesce((
				SELECT deleted_seq FROM conversations c WHERE c.log = generation AND c.peer_id = events.peer_id), 0)
			GROUP BY 1, 2
		)
		SELECT count(*) FROM (SELECT * FROM conversations WHERE last_seq > 0) c FULL JOIN messages m USING (log, peer_id)
		WHERE c.last_seq IS DISTINCT FROM m.last_seq`,
	"no orphans": `
		SELECT (SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM rooms r WHERE r.generation = e.generation)
				AND NOT EXISTS (SELECT FROM inboxes i WHERE i.log = e.generation))
			+ (SELECT count(*) FROM media_uses u WHERE NOT EXISTS (SELECT FROM rooms r WHERE r.generation = u.generation)
				AND NOT EXISTS (SELECT FROM inboxes i WHERE i.log = u.generation))
			+ (SELECT count(*) FROM attendances a WHERE NOT EXISTS (SELECT FROM members m WHERE m.generation = a.generation AND m.user_id = a.user_id))`,
}

func checkInvariants(t *testing.T, f fixture) {
	t.Helper()
	for name, violations := range invariants {
		// The full join compares rows of the same columns; name them apart.
		if n := query[int](t, f, violations); n != 0 {
			t.Errorf("%d violations: %s", n, name)
		}
	}
	if n := query[int](t, f, "SELECT count(*) FROM events"); n == 0 {
		t.Error("there are no events")
	}
}
