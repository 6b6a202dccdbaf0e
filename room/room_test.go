package room_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/room"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestRoomMatchesModel makes sessions join and leave a room whose limit changes at random, and compares the rules with a
// model that only knows the limit and which sessions are in the room.
func TestRoomMatchesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		maxMembers := 3
		kept := rapid.Bool().Draw(t, "kept")
		r := room.Room{ID: "r", Generation: 1, Config: room.Config{MaxMembers: maxMembers, Lifetime: room.LifetimeUntilEmpty}}
		if kept {
			r.Config.Lifetime = room.LifetimeKept
		}
		in := map[room.UserID]map[room.SessionID]bool{}
		user := rapid.Custom(func(t *rapid.T) room.User {
			return room.User{ID: room.UserID(fmt.Sprint("u", rapid.IntRange(1, 5).Draw(t, "user")))}
		})
		sessionOf := func(t *rapid.T, u room.User) room.SessionID {
			return room.SessionID(fmt.Sprint(u.ID, "-", rapid.IntRange(1, 2).Draw(t, "session")))
		}
		var times roomTimes
		checkEvents := func(c room.Change) {
			for _, e := range c.Events {
				if e.Seq != r.LastSeq {
					t.Fatalf("the event has seq %d, but the log ends at %d", e.Seq, r.LastSeq)
				}
				times.check(t, e)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				if !r.DestroyedAt.IsZero() {
					t.Skip("destroyed")
				}
				u := user.Draw(t, "who")
				s := sessionOf(t, u)
				before := r
				var c room.Change
				var err error
				r, c, err = r.Join(room.JoinRequest{
					Session: s, User: u, Call: room.RoomEnter, MaxRooms: 1,
					InRoom: in[u.ID][s], Others: others(in[u.ID], s),
				}, times.now(t))
				switch {
				case in[u.ID][s]:
					if err != nil || len(c.Events)+len(c.Joined) > 0 || !reflect.DeepEqual(r, before) {
						t.Fatalf("joining again: %+v, %v", c, err)
					}
					return
				case len(in[u.ID]) == 0 && len(in) >= maxMembers:
					if !errors.Is(err, room.ErrRoomFull) || !reflect.DeepEqual(r, before) {
						t.Fatalf("a full room: %v", err)
					}
					return
				case err != nil:
					t.Fatal(err)
				}
				if joined := len(c.Events) == 1; joined != (len(in[u.ID]) == 0) {
					t.Fatalf("join published: %t, with %d sessions already in the room", joined, len(in[u.ID]))
				}
				if len(c.Joined) != 1 || c.Joined[0].From != r.LastSeq {
					t.Fatalf("joined %+v, but the log ends at %d", c.Joined, r.LastSeq)
				}
				if in[u.ID] == nil {
					in[u.ID] = map[room.SessionID]bool{}
				}
				in[u.ID][s] = true
				checkEvents(c)
			},
			"leave": func(t *rapid.T) {
				u := user.Draw(t, "who")
				s := sessionOf(t, u)
				if !in[u.ID][s] {
					t.Skip("not in the room")
				}
				last := len(in[u.ID]) == 1
				var c room.Change
				r, c = r.Leave([]room.LeaveRequest{{User: u, Sessions: []room.SessionID{s}, Last: last}}, room.ReasonTimedOut, "", times.now(t))
				if left := len(c.Events) == 1; left != last {
					t.Fatalf("leave published: %t, last session: %t", left, last)
				}
				if len(c.Left) != 1 || c.Left[0].Reason != room.ReasonTimedOut {
					t.Fatalf("left %+v", c.Left)
				}
				delete(in[u.ID], s)
				if last {
					delete(in, u.ID)
				}
				checkEvents(c)
			},
			"update": func(t *rapid.T) {
				if r.MemberCount == 0 {
					t.Skip("empty")
				}
				before, limit := r.Config.MaxMembers, rapid.IntRange(1, 4).Draw(t, "maxMembers")
				updated, c, err := r.Update(room.RoomUpdate{Settings: room.Settings{MaxMembers: &limit}}, times.now(t))
				r, maxMembers = updated, limit
				if err != nil || (len(c.Events) == 1) != (before != limit) || len(c.Left) > 0 || r.Config.MaxMembers != limit {
					t.Fatalf("a limit of %d after %d: %+v, %v", limit, before, c, err)
				}
				checkEvents(c)
			},
			"": func(t *rapid.T) {
				if r.MemberCount != len(in) {
					t.Fatalf("%d members, want %d", r.MemberCount, len(in))
				}
				if destroyed := !r.DestroyedAt.IsZero(); destroyed != (!kept && len(in) == 0 && r.LastSeq > 0) || r.DestroyAt != 0 {
					t.Fatalf("destroyed: %t, with %d members", destroyed, len(in))
				}
			},
		})
	})
}

// roomTimes draws the times of servers whose clocks differ, and checks those of a room's events.
type roomTimes struct {
	elapsed    time.Duration
	at, joined room.Instant // the latest so far
}

func (l *roomTimes) now(t *rapid.T) time.Time {
	l.elapsed += 10 * time.Millisecond
	return noon.Add(l.elapsed + time.Duration(rapid.IntRange(-50, 50).Draw(t, "ahead"))*time.Millisecond)
}

// check checks that neither an event nor a join is before an earlier one.
func (l *roomTimes) check(t *rapid.T, e room.Event) {
	at := room.InstantOf(e.At)
	if at < l.at {
		t.Fatalf("event %d is at %s, after one at %s", e.Seq, at, l.at)
	}
	l.at = at
	joined, _ := e.Body.(room.MembersJoined)
	for _, m := range joined.MemberList {
		if m.JoinedAt < l.joined || m.JoinedAt > at {
			t.Fatalf("%s joined at %s by an event of %s, after one who joined at %s", m.ID, m.JoinedAt, at, l.joined)
		}
		l.joined = m.JoinedAt
	}
}

func others(in map[room.SessionID]bool, but room.SessionID) (others []room.SessionID) {
	for s := range in {
		if s != but {
			others = append(others, s)
		}
	}
	return others
}

// TestBatchedPresenceMatchesMembers makes users join and leave around PresenceBatchThreshold, and
// compares the members according to the log with those in the room whenever the room has flushed.
// A client that lists the members at any time, and applies the events after it, must come to the
// same result.
func TestBatchedPresenceMatchesMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := room.Room{ID: "r", Generation: 1, Config: room.Config{MaxMembers: room.MaxMaxMembers}}
		var (
			in            = map[room.UserID]bool{}
			joinedAt      = map[room.UserID]room.Instant{}
			times         roomTimes
			inLog         = map[room.UserID]bool{} // members according to the log
			pendingLeaves = map[room.UserID]bool{} // left, but not yet published
			listed        = map[room.UserID]bool{} // a list of members, with the events since then
		)
		readEvents := func(t *rapid.T, events []room.Event) {
			for _, e := range events {
				times.check(t, e)
				switch b := e.Body.(type) {
				case room.MembersJoined:
					for _, m := range b.MemberList {
						if inLog[m.ID] {
							t.Fatalf("%s joined twice", m.ID)
						}
						inLog[m.ID], listed[m.ID] = true, true
					}
				case room.MembersLeft:
					for _, m := range b.MemberList {
						if !inLog[m.ID] {
							t.Fatalf("%s left without having joined", m.ID)
						}
						delete(inLog, m.ID)
						delete(listed, m.ID)
					}
				}
			}
		}
		flush := func(t *rapid.T) {
			var joined []room.Member
			var left []room.LeftMember
			for id := range in {
				if !inLog[id] {
					joined = append(joined, room.Member{User: room.User{ID: id}, JoinedAt: joinedAt[id]})
				}
			}
			slices.SortFunc(joined, func(a, b room.Member) int { return int(a.JoinedAt - b.JoinedAt) })
			for id := range pendingLeaves {
				left = append(left, room.LeftMember{User: room.User{ID: id}})
			}
			clear(pendingLeaves)
			if (len(joined)+len(left) > 0) && !r.PresencePending {
				t.Fatalf("%d joined and %d left, but PresencePending is false", len(joined), len(left))
			}
			var events []room.Event
			r, events = r.FlushPresence(joined, left, times.now(t))
			readEvents(t, events)
			if r.PresencePending || !maps.Equal(in, inLog) || !maps.Equal(in, listed) {
				t.Fatalf("members %v according to the log, %v according to a list and events, but %v in the room", inLog, listed, in)
			}
		}
		join := func(t *rapid.T, id room.UserID) {
			if pendingLeaves[id] {
				flush(t)
			}
			batched := r.BatchesPresence()
			var c room.Change
			var err error
			r, c, err = r.Join(room.JoinRequest{Session: room.SessionID(id), User: room.User{ID: id}, MaxRooms: 1}, times.now(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Events) > 0 == batched {
				t.Fatalf("want the join published at once: %t, with %d members", !batched, len(in))
			}
			in[id], joinedAt[id] = true, r.LastAt
			readEvents(t, c.Events)
		}
		for i := range room.PresenceBatchThreshold - 3 {
			join(t, room.UserID(fmt.Sprint("early", i)))
		}
		user := rapid.Map(rapid.IntRange(1, 8), func(n int) room.UserID { return room.UserID(fmt.Sprint("u", n)) })
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				if id := user.Draw(t, "who"); !in[id] {
					join(t, id)
				}
			},
			"leave": func(t *rapid.T) {
				var requests []room.LeaveRequest
				for _, id := range rapid.SliceOfDistinct(user, rapid.ID).Draw(t, "who") {
					if in[id] {
						requests = append(requests, room.LeaveRequest{User: room.User{ID: id}, Last: true, JoinPending: !inLog[id]})
					}
				}
				if r.FlushesBeforeLeave(requests) {
					flush(t)
				}
				for _, request := range requests {
					delete(in, request.User.ID)
					if r.BatchesPresence() {
						pendingLeaves[request.User.ID] = true
					}
				}
				before := len(inLog)
				var c room.Change
				r, c = r.Leave(requests, room.ReasonLeft, "", times.now(t))
				readEvents(t, c.Events)
				if len(c.Events) > 1 || len(inLog) < before-len(requests) {
					t.Fatalf("%d events for %d leave requests", len(c.Events), len(requests))
				}
			},
			"flush": flush,
			"list":  func(*rapid.T) { listed = maps.Clone(in) },
			"": func(t *rapid.T) {
				if r.MemberCount != len(in) {
					t.Fatalf("%d members, want %d", r.MemberCount, len(in))
				}
			},
		})
	})
}

func TestFlushPresenceBoundsEvents(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Generation: 1, LastSeq: 7, PresencePending: true}
	r, events := r.FlushPresence(make([]room.Member, room.MaxMembersPerEvent+1), make([]room.LeftMember, room.MaxMembersPerEvent), noon)
	var sizes []int
	for i, e := range events {
		if want := room.Seq(8 + i); e.Seq != want {
			t.Errorf("seq %d, want %d", e.Seq, want)
		}
		switch b := e.Body.(type) {
		case room.MembersJoined:
			sizes = append(sizes, len(b.MemberList))
		case room.MembersLeft:
			sizes = append(sizes, -len(b.MemberList))
		}
	}
	if want := []int{room.MaxMembersPerEvent, 1, -room.MaxMembersPerEvent}; !slices.Equal(sizes, want) || r.LastSeq != 10 || r.PresencePending {
		t.Errorf("events of %v members, want %v; the room is %+v", sizes, want, r)
	}
}

func TestFlushPresenceBoundsBytes(t *testing.T) {
	t.Parallel()
	const most = room.MaxMembersEventBytes
	joined := make([]room.Member, 60)
	for i := range joined {
		joined[i].UserData = strings.Repeat("\x01", room.MaxUserDataBytes) // each byte needs six in JSON
	}
	_, events := room.Room{ID: "r"}.FlushPresence(joined, nil, noon)
	users := 0
	for _, e := range events {
		encoded, err := e.MarshalJSON()
		if n := len(e.Body.(room.MembersJoined).MemberList); err != nil || len(encoded) > most || n == 0 {
			t.Errorf("an event of %d members has %d bytes, %v", n, len(encoded), err)
		}
		users += len(e.Body.(room.MembersJoined).MemberList)
	}
	if users != len(joined) || len(events) != 3 {
		t.Errorf("%d members in %d events, want %d in 3", users, len(events), len(joined))
	}
}

func TestBannedUserCannotJoin(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Config: room.Config{MaxMembers: 1}}
	request := room.JoinRequest{MaxRooms: 1, BannedUntil: noon}
	if _, _, err := r.Join(request, noon.Add(-time.Millisecond)); !errors.Is(err, room.ErrBanned) {
		t.Errorf("just before the end of the ban: %v", err)
	}
	if _, _, err := r.Join(request, noon); err != nil {
		t.Errorf("at the end of the ban: %v", err)
	}
}

func TestDestroyRemovesAllSessions(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Generation: 4, MemberCount: 1, LastSeq: 3, DestroyAt: room.InstantOf(noon)}
	left := []room.LeftMember{{User: room.User{ID: "alice"}, Reason: room.ReasonRoomDestroyed}}
	destroyed, c := r.Destroy([]room.SessionID{"tab", "phone"}, left, "over", noon)
	if destroyed.DestroyedAt != noon || destroyed.DestroyAt != 0 || destroyed.MemberCount != 0 || destroyed.LastSeq != 4 {
		t.Errorf("the room is %+v", destroyed)
	}
	want := room.Change{
		Events: []room.Event{{Room: "r", Log: 4, Seq: 4, At: noon, Body: room.MembersLeft{MemberList: left}}},
		Left: []room.Left{
			{Session: "tab", Room: "r", Generation: 4, Reason: room.ReasonRoomDestroyed, AdminReason: "over"},
			{Session: "phone", Room: "r", Generation: 4, Reason: room.ReasonRoomDestroyed, AdminReason: "over"},
		},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	if changed := c.Left[0].StateChange(); changed.Event != room.RoomNotExist || changed.Reason != "over" {
		t.Errorf("the session is notified of %+v", changed)
	}
}

func TestJoinLimitsRoomsPerUser(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Config: room.Config{MaxMembers: 1}}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 2, MaxRooms: 2}, noon); !errors.Is(err, room.ErrTooManyRooms) {
		t.Errorf("over the limit: %v", err)
	}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 1, MaxRooms: 2}, noon); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 2, MaxRooms: 2, Others: []room.SessionID{"other"}}, noon); err != nil {
		t.Errorf("another session of a member, over the limit: %v", err)
	}
}
