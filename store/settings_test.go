package store_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestEverySettingIsStored creates and changes rooms with a value of each setting that is not its
// default, and reads them back.
func TestEverySettingIsStored(t *testing.T) {
	t.Parallel()
	other := map[reflect.Type]any{
		reflect.TypeFor[room.SameUser]():       room.SameUserReject,
		reflect.TypeFor[room.HistoryVisible](): room.HistorySinceJoined,
		reflect.TypeFor[room.Lifetime]():       room.LifetimeKept,
		reflect.TypeFor[room.History]():        room.HistoryNone,
		reflect.TypeFor[room.PresenceMode]():   room.PresenceCounts,
		reflect.TypeFor[room.Seconds]():        room.Seconds(7),
		reflect.TypeFor[int]():                 7,
		reflect.TypeFor[bool]():                true,
	}
	var all room.Settings
	fields := reflect.ValueOf(&all).Elem()
	for _, field := range fields.Fields() {
		value := reflect.New(field.Type().Elem())
		value.Elem().Set(reflect.ValueOf(other[field.Type().Elem()]))
		field.Set(value)
	}
	defaults := reflect.ValueOf(room.DefaultConfig())
	for field, value := range reflect.ValueOf(all.Over(room.DefaultConfig())).Fields() {
		if value.Equal(defaults.FieldByName(field.Name)) {
			t.Fatalf("%s has its default", field.Name)
		}
	}
	f := setup(t, store.Options{})
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "changed", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	changed, err := f.UpdateRoom(t.Context(), admin, "changed", room.RoomUpdate{Name: new("other"), Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	created, err := f.CreateEmptyRoom(t.Context(), admin, "created", room.RoomOptions{Name: "other", Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []room.Room{changed, created} {
		got, err := f.Room(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		want.LastAt = 0 // only known under the lock
		if diff := cmp.Diff(want, got); diff != "" || got.Config != all.Over(room.DefaultConfig()) {
			t.Errorf("%s is read as %+v (-want +got):\n%s", want.ID, got.Config, diff)
		}
	}
}
