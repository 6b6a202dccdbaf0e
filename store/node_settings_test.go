package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// open tries to open a store, and closes it with the test.
func open(t *testing.T, f fixture, settings room.NodeSettings) (*store.Store, error) {
	t.Helper()
	s, err := store.Open(t.Context(), f.address, store.Options{
		Now: f.clock.Now, DatabaseNow: func(time.Time) time.Time { return f.clock.Now() }, NodeName: "web", Settings: settings,
	})
	if err == nil {
		t.Cleanup(s.Close)
	}
	return s, err
}

// TestNodesWithOtherSettings checks which servers may start beside one that renews its lease.
func TestNodesWithOtherSettings(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{NodeName: "web-1", Settings: room.NodeSettings{"PARLOR_SECRET": "a"}})
	for _, tt := range []struct {
		name     string
		settings room.NodeSettings
		refused  bool
	}{
		{"the same", room.NodeSettings{"PARLOR_SECRET": "a"}, false},
		{"none", nil, false},
		{"another", room.NodeSettings{"PARLOR_SECRET": "b"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := make(chan error, 1)
			go func() {
				_, err := open(t, f, tt.settings)
				done <- err
			}()
			err, conflict := renewUntil(t, f.Store, f.clock, done), (*room.SettingConflict)(nil)
			if tt.refused != errors.As(err, &conflict) || !tt.refused && err != nil {
				t.Fatalf("Open: %v", err)
			}
			if tt.refused && (conflict.Setting != "PARLOR_SECRET" || conflict.Node.Name != "web-1" || conflict.Node.Node != f.NodeID()) {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// renewUntil renews the lease of a node until the channel has a result, and returns it.
func renewUntil(t *testing.T, s *store.Store, c *clock, done <-chan error) error {
	t.Helper()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Millisecond):
			c.advance(time.Millisecond)
			renew(t, s)
		}
	}
}

// TestCrashedNodeWithOtherSettings: a server that crashed does not keep one with other settings from
// starting. If it was only frozen, it finds out when it registers again.
func TestCrashedNodeWithOtherSettings(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Settings: room.NodeSettings{"PARLOR_SECRET": "a"}})
	done := make(chan error, 1)
	var other *store.Store
	go func() {
		var err error
		other, err = open(t, f, room.NodeSettings{"PARLOR_SECRET": "b"})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("a server with other settings starts before the lease has expired: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	f.clock.advance(room.LeaseTime + time.Second)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	elapse(t, f, 20*time.Second, other) // it declares the other one dead
	if err := f.RenewLease(t.Context()); !errors.As(err, new(*room.SettingConflict)) {
		t.Errorf("the frozen server renews its lease: %v", err)
	}
}

// TestNodesWithOtherSettingsStartAtOnce: of servers with different settings that start at once, one
// gets in.
func TestNodesWithOtherSettingsStartAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{}) // of an older release
	const servers = 4
	results := make(chan error, servers)
	var mu sync.Mutex
	var admitted []*store.Store
	for i := range servers {
		go func() {
			s, err := open(t, f, room.NodeSettings{"PARLOR_SECRET": fmt.Sprint(i)})
			if err == nil {
				mu.Lock()
				admitted = append(admitted, s)
				mu.Unlock()
			}
			results <- err
		}()
	}
	for ended := 0; ended < servers; {
		select {
		case err := <-results:
			ended++
			if err != nil && !errors.As(err, new(*room.SettingConflict)) {
				t.Error(err)
			}
		case <-time.After(10 * time.Millisecond):
			f.clock.advance(time.Millisecond)
			mu.Lock()
			renew(t, append([]*store.Store{f.Store}, admitted...)...)
			mu.Unlock()
		}
	}
	if len(admitted) != 1 {
		t.Errorf("%d servers with different settings run", len(admitted))
	}
}
