package room_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/room"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestRoomKeepsItsPromises makes sessions join and leave at random, and compares the rules with a
// model that only knows which sessions are in the room.
func TestRoomKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const maxMembers = 3
		r := room.Room{ID: "r", Generation: 1, Config: room.Config{MaxMembers: maxMembers}}
		in := map[room.UserID]map[room.SessionID]bool{}
		user := rapid.Custom(func(t *rapid.T) room.User {
			return room.User{ID: room.UserID(fmt.Sprint("u", rapid.IntRange(1, 5).Draw(t, "user")))}
		})
		sessionOf := func(t *rapid.T, u room.User) room.SessionID {
			return room.SessionID(fmt.Sprint(u.ID, "-", rapid.IntRange(1, 2).Draw(t, "session")))
		}
		applied := func(c room.Change) {
			for _, e := range c.Events {
				if e.Seq != r.LastSeq {
					t.Fatalf("event %d while the log ends at %d", e.Seq, r.LastSeq)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				if !r.DestroyedAt.IsZero() {
					t.Skip("gone")
				}
				u := user.Draw(t, "who")
				s := sessionOf(t, u)
				before := r
				var c room.Change
				var err error
				r, c, err = r.Join(room.JoinRequest{
					Session: s, User: u, Call: room.RoomEnter, MaxRooms: 1,
					InRoom: in[u.ID][s], Others: others(in[u.ID], s),
				}, noon)
				switch {
				case in[u.ID][s]:
					if err != nil || len(c.Events)+len(c.Joined) > 0 || !reflect.DeepEqual(r, before) {
						t.Fatalf("joining again: %+v, %v", c, err)
					}
					return
				case len(in[u.ID]) == 0 && len(in) == maxMembers:
					if !errors.Is(err, room.ErrRoomFull) || !reflect.DeepEqual(r, before) {
						t.Fatalf("a full room: %v", err)
					}
					return
				case err != nil:
					t.Fatal(err)
				}
				if joined := len(c.Events) == 1; joined != (len(in[u.ID]) == 0) {
					t.Fatalf("joined told: %v, with %d sessions in already", joined, len(in[u.ID]))
				}
				if len(c.Joined) != 1 || c.Joined[0].From != r.LastSeq {
					t.Fatalf("arrivals %+v, log ends at %d", c.Joined, r.LastSeq)
				}
				if in[u.ID] == nil {
					in[u.ID] = map[room.SessionID]bool{}
				}
				in[u.ID][s] = true
				applied(c)
			},
			"leave": func(t *rapid.T) {
				u := user.Draw(t, "who")
				s := sessionOf(t, u)
				if !in[u.ID][s] {
					t.Skip("not in")
				}
				last := len(in[u.ID]) == 1
				var c room.Change
				r, c = r.Leave([]room.LeaveRequest{{User: u, Sessions: []room.SessionID{s}, Last: last}}, room.ReasonTimedOut, "", noon)
				if left := len(c.Events) == 1; left != last {
					t.Fatalf("left told: %v, with the last session: %v", left, last)
				}
				if len(c.Left) != 1 || c.Left[0].Reason != room.ReasonTimedOut {
					t.Fatalf("departures %+v", c.Left)
				}
				delete(in[u.ID], s)
				if last {
					delete(in, u.ID)
				}
				applied(c)
			},
			"": func(t *rapid.T) {
				if r.MemberCount != len(in) || r.MemberCount > maxMembers {
					t.Fatalf("%d members, want %d", r.MemberCount, len(in))
				}
				if gone := !r.DestroyedAt.IsZero(); gone != (len(in) == 0 && r.LastSeq > 0) {
					t.Fatalf("gone: %v, with %d members", gone, len(in))
				}
			},
		})
	})
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
func TestBatchedPresenceMatchesMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := room.Room{ID: "r", Generation: 1, Config: room.Config{MaxMembers: room.MaxMaxMembers}}
		var (
			in     = map[room.UserID]bool{} // who is in
			told   = map[room.UserID]bool{} // who is in, as the log says
			parted = map[room.UserID]bool{} // who is out, which the log has yet to say
		)
		hear := func(t *rapid.T, events []room.Event) {
			for _, e := range events {
				switch b := e.Body.(type) {
				case room.MembersJoined:
					for _, m := range b.MemberList {
						if told[m.ID] {
							t.Fatalf("%s joined twice", m.ID)
						}
						told[m.ID] = true
					}
				case room.MembersLeft:
					for _, m := range b.MemberList {
						if !told[m.ID] {
							t.Fatalf("%s left, and never joined", m.ID)
						}
						delete(told, m.ID)
					}
				}
			}
		}
		join := func(t *rapid.T, id room.UserID) {
			later := r.BatchesPresence()
			var c room.Change
			var err error
			r, c, err = r.Join(room.JoinRequest{Session: room.SessionID(id), User: room.User{ID: id}, MaxRooms: 1, LeavePending: parted[id]}, noon)
			if err != nil {
				t.Fatal(err)
			}
			if want := !later && !parted[id]; len(c.Events) > 0 != want {
				t.Fatalf("told at once: %v, with %d members", !want, len(in))
			}
			in[id] = true
			if parted[id] {
				told[id] = true
				delete(parted, id)
			}
			hear(t, c.Events)
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
				var leavers []room.LeaveRequest
				for _, id := range rapid.SliceOfDistinct(user, rapid.ID).Draw(t, "who") {
					if in[id] {
						leavers = append(leavers, room.LeaveRequest{User: room.User{ID: id}, Last: true, JoinPending: !told[id]})
						delete(in, id)
					}
				}
				if later := r.BatchesPresence(); later {
					for _, l := range leavers {
						if !l.JoinPending {
							parted[l.User.ID] = true
							delete(told, l.User.ID)
						}
					}
				}
				before := len(told)
				var c room.Change
				r, c = r.Leave(leavers, room.ReasonLeft, "", noon)
				hear(t, c.Events)
				if len(c.Events) > 1 || len(told) < before-len(leavers) {
					t.Fatalf("%d events for %d leavers", len(c.Events), len(leavers))
				}
			},
			"announce": func(t *rapid.T) {
				var joined []room.Member
				var left []room.LeftMember
				for id := range in {
					if !told[id] {
						joined = append(joined, room.Member{User: room.User{ID: id}})
					}
				}
				for id := range parted {
					left = append(left, room.LeftMember{User: room.User{ID: id}})
					told[id] = true // as the log still says
				}
				clear(parted)
				if (len(joined)+len(left) > 0) && !r.PresencePending {
					t.Fatalf("%d joined and %d left, and the room does not know that it has to tell", len(joined), len(left))
				}
				var events []room.Event
				r, events = r.FlushPresence(joined, left, noon)
				hear(t, events)
				if r.PresencePending || !maps.Equal(in, told) {
					t.Fatalf("the log says %v, and in the room are %v", told, in)
				}
			},
			"": func(t *rapid.T) {
				if r.MemberCount != len(in) {
					t.Fatalf("%d members, want %d", r.MemberCount, len(in))
				}
			},
		})
	})
}

func TestAnnouncementsAreBounded(t *testing.T) {
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

func TestBannedUserMayNotEnter(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Config: room.Config{MaxMembers: 1}}
	e := room.JoinRequest{MaxRooms: 1, BannedUntil: noon}
	if _, _, err := r.Join(e, noon.Add(-time.Millisecond)); !errors.Is(err, room.ErrBanned) {
		t.Errorf("just before the end of the ban: %v", err)
	}
	if _, _, err := r.Join(e, noon); err != nil {
		t.Errorf("at the end of the ban: %v", err)
	}
}

func TestDestroyedRoomTellsOfAll(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Generation: 4, MemberCount: 1, LastSeq: 3, DestroyAt: noon}
	left := []room.LeftMember{{User: room.User{ID: "alice"}, Reason: room.ReasonRoomDestroyed}}
	gone, c := r.Destroy([]room.SessionID{"tab", "phone"}, left, "over", noon)
	if gone.DestroyedAt != noon || !gone.DestroyAt.IsZero() || gone.MemberCount != 0 || gone.LastSeq != 4 {
		t.Errorf("the room is %+v", gone)
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
	if told := c.Left[0].StateChange(); told.Event != room.RoomNotExist || told.Reason != "over" {
		t.Errorf("the session is told %+v", told)
	}
}

func TestUserMayBeInSoManyRooms(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Config: room.Config{MaxMembers: 1}}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 2, MaxRooms: 2}, noon); !errors.Is(err, room.ErrTooManyRooms) {
		t.Errorf("one too many: %v", err)
	}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 1, MaxRooms: 2}, noon); err != nil {
		t.Errorf("the last one allowed: %v", err)
	}
	if _, _, err := r.Join(room.JoinRequest{Rooms: 2, MaxRooms: 2, Others: []room.SessionID{"other"}}, noon); err != nil {
		t.Errorf("another session in a room the user is in: %v", err)
	}
}
