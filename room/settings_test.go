package room_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// TestUpdateRoom compares rooms and events after updates with the expected ones.
func TestUpdateRoom(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	base := room.Room{
		ID: "r", Generation: 7, Name: "old", CreatedAt: room.InstantOf(noon), LastSeq: 5, SettingsVersion: 3, MemberCount: 2,
		MemberEvents: room.MemberEventsNames,
		Config: roomConfig(func(c *room.Config) {
			c.DestroyDelay, c.UnusedTimeout, c.MaxMembers = 10, 60, 5
		}),
	}
	with := func(change func(*room.Room)) room.Room {
		r := base
		change(&r)
		return r
	}
	unused := with(func(r *room.Room) { r.MemberCount, r.DestroyAt = 0, room.InstantOf(at(60)) })
	empty := with(func(r *room.Room) {
		r.MemberCount, r.DestroyAt, r.EmptySince = 0, room.InstantOf(at(60)), room.InstantOf(at(50))
	})
	kept := with(func(r *room.Room) { r.Config.Lifetime, r.MemberCount = room.LifetimeKept, 0 })
	emptied := with(func(r *room.Room) { r.MemberCount, r.DestroyAt = 0, room.InstantOf(at(500)) })
	for _, c := range []struct {
		what    string
		before  room.Room
		update  room.RoomUpdate
		want    func(*room.Room) // nil if nothing changes
		refused error
	}{
		{what: "nothing", before: base},
		{what: "the same values", before: base, update: room.RoomUpdate{Name: new("old"), Settings: room.Settings{MaxMembers: new(5)}}},
		{what: "an old version", before: base, update: room.RoomUpdate{Name: new("new"), Base: []room.Seq{2, 5}}, refused: room.ErrVersionMismatch},
		{what: "no version", before: base, update: room.RoomUpdate{Name: new("new"), Base: []room.Seq{}}, refused: room.ErrVersionMismatch},
		{what: "an old version of the same values", before: base, update: room.RoomUpdate{Name: new("old"), Base: []room.Seq{2}}, refused: room.ErrVersionMismatch},
		{
			what: "the name", before: base, update: room.RoomUpdate{Name: new(""), Base: []room.Seq{2, 3}},
			want: func(r *room.Room) { r.Name = "" },
		},
		{
			what: "every setting", before: base,
			update: room.RoomUpdate{Settings: room.Settings{
				DestroyDelay: new(room.Seconds(1)), UnusedTimeout: new(room.Seconds(2)), MemberTimeout: new(room.Seconds(5)), MaxMembers: new(1),
				SameUser: new(room.SameUserReject), HistoryVisible: new(room.HistorySinceJoined),
				Lifetime: new(room.LifetimeKept), History: new(room.HistoryNone), RetentionDays: new(7), RetentionCount: new(8),
				Presence: new(room.PresenceBatched), NamesUpTo: new(2), MemberStates: new(true),
			}},
			want: func(r *room.Room) {
				r.Config = room.Config{
					DestroyDelay: 1, UnusedTimeout: 2, MemberTimeout: 5, MaxMembers: 1, SameUser: room.SameUserReject, HistoryVisible: room.HistorySinceJoined,
					Lifetime: room.LifetimeKept, History: room.HistoryNone, RetentionDays: 7, RetentionCount: 8,
					Presence: room.PresenceBatched, NamesUpTo: 2, MemberStates: true,
				}
			},
		},
		{
			what: "a size with which the next flush publishes counts", before: base, update: room.RoomUpdate{Settings: room.Settings{NamesUpTo: new(1)}},
			want: func(r *room.Room) { r.Config.NamesUpTo, r.PresencePending = 1, true },
		},
		{
			what: "the unusedTimeout of an unused room", before: unused, update: room.RoomUpdate{Settings: room.Settings{UnusedTimeout: new(room.Seconds(1))}},
			want: func(r *room.Room) { r.Config.UnusedTimeout, r.DestroyAt = 1, room.InstantOf(at(1)) },
		},
		{
			what: "the destroyDelay of an unused room", before: unused, update: room.RoomUpdate{Settings: room.Settings{DestroyDelay: new(room.Seconds(0))}},
			want: func(r *room.Room) { r.Config.DestroyDelay = 0 },
		},
		{
			what: "the destroyDelay of an empty room", before: empty, update: room.RoomUpdate{Settings: room.Settings{DestroyDelay: new(room.Seconds(3))}},
			want: func(r *room.Room) { r.Config.DestroyDelay, r.DestroyAt = 3, room.InstantOf(at(53)) },
		},
		{
			what:   "the destroyDelay of a room that an earlier release found empty",
			before: emptied, update: room.RoomUpdate{Settings: room.Settings{DestroyDelay: new(room.Seconds(3))}},
			want: func(r *room.Room) {
				r.Config.DestroyDelay, r.EmptySince, r.DestroyAt = 3, room.InstantOf(at(490)), room.InstantOf(at(493))
			},
		},
		{
			what: "an empty room is kept", before: empty, update: room.RoomUpdate{Settings: room.Settings{Lifetime: new(room.LifetimeKept)}},
			want: func(r *room.Room) { r.Config.Lifetime, r.DestroyAt = room.LifetimeKept, 0 },
		},
		{
			what: "an empty room is kept no longer", before: kept,
			update: room.RoomUpdate{Settings: room.Settings{Lifetime: new(room.LifetimeUntilEmpty), DestroyDelay: new(room.Seconds(4))}},
			want: func(r *room.Room) {
				r.Config.Lifetime, r.Config.DestroyDelay = room.LifetimeUntilEmpty, 4
				r.EmptySince, r.DestroyAt = room.InstantOf(at(495)), room.InstantOf(at(499))
			},
		},
		{
			what: "a kept room gets another name", before: kept, update: room.RoomUpdate{Name: new("new")},
			want: func(r *room.Room) { r.Name = "new" },
		},
		{
			what: "the unusedTimeout of an empty room", before: empty, update: room.RoomUpdate{Settings: room.Settings{UnusedTimeout: new(room.Seconds(1))}},
			want: func(r *room.Room) { r.Config.UnusedTimeout = 1 },
		},
	} {
		c.update.By = "alice"
		after, change, err := c.before.Update(c.update, at(495))
		if !errors.Is(err, c.refused) {
			t.Errorf("%s: %v, want %v", c.what, err, c.refused)
			continue
		}
		want, events := c.before, []room.Event(nil)
		if c.want != nil {
			c.want(&want)
			want.LastSeq, want.SettingsVersion, want.LastAt = 6, 6, room.InstantOf(at(495))
			events = []room.Event{{Room: "r", Log: 7, Seq: 6, At: at(495), Body: room.RoomUpdated{
				Name: want.Name, Config: want.Config, OperatedInfo: &room.OperatedInfo{UserID: "alice"},
			}}}
		}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("%s: the room (-want +got):\n%s", c.what, diff)
		}
		if diff := cmp.Diff(events, change.Events); diff != "" {
			t.Errorf("%s: the events (-want +got):\n%s", c.what, diff)
		}
	}
}
