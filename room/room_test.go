package room_test

import (
	"errors"
	"fmt"
	"reflect"
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
		r := room.Room{ID: "r", Generation: 1, Config: roomConfig(func(c *room.Config) { c.MaxMembers = maxMembers }), MemberEvents: room.MemberEventsNames}
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
				switch b := e.Body.(type) {
				case room.MembersJoined:
					if *b.MemberCount != len(in) {
						t.Fatalf("%d members after a join, want %d", *b.MemberCount, len(in))
					}
				case room.MembersLeft:
					if *b.MemberCount != len(in) {
						t.Fatalf("%d members after a leave, want %d", *b.MemberCount, len(in))
					}
				}
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

// roomConfig returns the default settings with changes.
func roomConfig(change func(*room.Config)) room.Config {
	c := room.DefaultConfig()
	change(&c)
	return c
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
	r := room.Room{ID: "r", Generation: 4, MemberCount: 1, LastSeq: 3, DestroyAt: room.InstantOf(noon), MemberEvents: room.MemberEventsNames}
	left := []room.LeftMember{{User: room.User{ID: "alice"}, Reason: room.ReasonRoomDestroyed}}
	destroyed, c := r.Destroy([]room.SessionID{"tab", "phone"}, left, "over", noon)
	if destroyed.DestroyedAt != noon || destroyed.DestroyAt != 0 || destroyed.MemberCount != 0 || destroyed.LastSeq != 4 {
		t.Errorf("the room is %+v", destroyed)
	}
	want := room.Change{
		Events: []room.Event{{Room: "r", Log: 4, Seq: 4, At: noon, Body: room.MembersLeft{MemberList: left, MemberCount: new(0)}}},
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
