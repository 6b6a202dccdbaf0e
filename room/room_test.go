package room_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestRoomKeepsItsPromises lets sessions come and go at random and compares the
// rules with a model that only knows who is in by which sessions.
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
				r, c, err = r.Join(room.Entrant{
					Session: s, User: u, Call: room.RoomEnter, MaxRooms: 1,
					InRoom: in[u.ID][s], Others: others(in[u.ID], s),
				}, noon)
				switch {
				case in[u.ID][s]:
					if err != nil || len(c.Events)+len(c.Arrivals) > 0 || r != before {
						t.Fatalf("joining again: %+v, %v", c, err)
					}
					return
				case len(in[u.ID]) == 0 && len(in) == maxMembers:
					if !errors.Is(err, room.ErrRoomFull) || r != before {
						t.Fatalf("a full room: %v", err)
					}
					return
				case err != nil:
					t.Fatal(err)
				}
				if joined := len(c.Events) == 1; joined != (len(in[u.ID]) == 0) {
					t.Fatalf("joined told: %v, with %d sessions in already", joined, len(in[u.ID]))
				}
				if len(c.Arrivals) != 1 || c.Arrivals[0].From != r.LastSeq {
					t.Fatalf("arrivals %+v, log ends at %d", c.Arrivals, r.LastSeq)
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
				r, c = r.Leave(room.Leaver{Session: s, User: u, Last: last}, room.ReasonTimedOut, noon)
				if left := len(c.Events) == 1; left != last {
					t.Fatalf("left told: %v, with the last session: %v", left, last)
				}
				if len(c.Departures) != 1 || c.Departures[0].Reason != room.ReasonTimedOut {
					t.Fatalf("departures %+v", c.Departures)
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

func TestUserMayBeInSoManyRooms(t *testing.T) {
	t.Parallel()
	r := room.Room{ID: "r", Config: room.Config{MaxMembers: 1}}
	if _, _, err := r.Join(room.Entrant{Rooms: 2, MaxRooms: 2}, noon); !errors.Is(err, room.ErrTooManyRooms) {
		t.Errorf("one too many: %v", err)
	}
	if _, _, err := r.Join(room.Entrant{Rooms: 1, MaxRooms: 2}, noon); err != nil {
		t.Errorf("the last one allowed: %v", err)
	}
	if _, _, err := r.Join(room.Entrant{Rooms: 2, MaxRooms: 2, Others: []room.SessionID{"other"}}, noon); err != nil {
		t.Errorf("another session in a room the user is in: %v", err)
	}
}
