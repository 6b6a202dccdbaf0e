package store_test

import (
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"parlor/localpg"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// epochOf returns the epoch of a session's new stream, and whether the cursor belongs to another
// epoch.
func epochOf(t *testing.T, s *store.Store, session room.Session, cursor string) (epoch string, foreign bool) {
	t.Helper()
	opened, err := s.OpenStream(t.Context(), session.ID, cursor, []room.Position{})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := s.FeedAfter(t.Context(), room.FeedCursor{Epoch: cursor}, room.FeedParts{}, 1)
	if err != nil || feed.Epoch != opened.Epoch || feed.Foreign != opened.Foreign {
		t.Errorf("epochs of the stream and the feed differ: got %q (foreign %t) and %q (foreign %t), %v",
			opened.Epoch, opened.Foreign, feed.Epoch, feed.Foreign, err)
	}
	return opened.Epoch, opened.Foreign
}

// TestEpoch: the epoch changes only with the database, and cursors of servers without epochs belong
// to the first one.
func TestEpoch(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Origin: "these files"})
	alice := newSession(t, f.Store, "alice")
	first, foreign := epochOf(t, f.Store, alice, "")
	if foreign || len(first) != 4 {
		t.Fatalf("the first epoch is %q; a cursor without an epoch is foreign: %t", first, foreign)
	}
	again := storetest.Open(t, f.address, store.Options{Now: f.clock.Now, Origin: "these files"})
	if epoch, foreign := epochOf(t, again, alice, first); epoch != first || foreign {
		t.Errorf("after a restart the epoch is %q, want %q", epoch, first)
	}
	restored := storetest.Open(t, f.address, store.Options{Now: f.clock.Now, Origin: "a copy of them"})
	second, foreign := epochOf(t, restored, alice, first)
	if second == first || !foreign {
		t.Errorf("after the files were restored the epoch is still %q", second)
	}
	if _, foreign := epochOf(t, restored, alice, ""); !foreign {
		t.Error("a cursor without an epoch belongs to the second epoch")
	}
	if _, foreign := epochOf(t, restored, alice, second); foreign {
		t.Error("a cursor of the current epoch is foreign")
	}
	query[string](t, f, "UPDATE epoch SET origin = '' RETURNING id")
	byHand := storetest.Open(t, f.address, store.Options{Now: f.clock.Now, Origin: "a copy of them"})
	if third, foreign := epochOf(t, byHand, alice, second); third == second || !foreign {
		t.Error("an operator asked for a new epoch, but there is none")
	}
}

// TestRestoredDumpHasANewEpoch restores a dump into another database of the same cluster.
func TestRestoredDumpHasANewEpoch(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	before, _ := epochOf(t, f.Store, alice, "")
	f.Close() // a database with connections cannot be copied
	restored := storetest.Copy(t, f.address)
	after, foreign := epochOf(t, storetest.Open(t, restored, store.Options{Now: f.clock.Now}), alice, before)
	if after == before || !foreign {
		t.Errorf("the epoch is %q in both", after)
	}
}

// TestPointInTimeRecovery restores a backup under a running server: what was written after the
// backup is lost, and other events get the same seqs.
func TestPointInTimeRecovery(t *testing.T) {
	t.Parallel()
	dir := storetest.Folder(t)
	opts := localpg.Options{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"fsync": "off", "restore_command": "false"}}
	pg := start(t, opts)
	if _, err := store.Migrate(t.Context(), pg.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	files, err := pg.Files()
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{address: pg.URL(), clock: &clock{now: time.Now()}, published: &recorder{}}
	lost := 0
	f.Store = storetest.Open(t, pg.URL(), store.Options{Now: f.clock.Now, Commit: f.published.commit, Reset: func() { lost++ }})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	renew(t, f.Store)
	before, _ := epochOf(t, f.Store, alice, "")

	copied := filepath.Join(dir, "copy")
	stop := func() {
		t.Helper()
		if err := pg.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	stop()
	run("cp", "-a", opts.Dir, copied)
	pg = start(t, opts)
	if same, err := pg.Files(); err != nil || same != files {
		t.Errorf("after a restart the files are %q, %v; want %q", same, err, files)
	}
	waitUntil(t, "the server is back", func() bool { // Ping may return a result from before the restart
		_, err := f.SessionByID(t.Context(), alice.ID)
		return err == nil
	})
	if epoch, foreign := epochOf(t, f.Store, alice, before); epoch != before || foreign || lost > 0 {
		t.Errorf("after a restart of PostgreSQL the epoch is %q, want %q", epoch, before)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("lost")); err != nil {
		t.Fatal(err)
	}
	stop()
	run("rm", "-r", opts.Dir)
	run("cp", "-a", copied, opts.Dir)
	run("cp", "-a", filepath.Join(opts.Dir, "PG_VERSION"), filepath.Join(opts.Dir, "recovery.signal"))
	pg = start(t, opts)
	if restored, err := pg.Files(); err != nil || restored == files {
		t.Errorf("the restored files are still %q, %v", restored, err)
	}
	waitUntil(t, "the server is back", func() bool { // Ping may return a result from before the restart
		_, err := f.SessionByID(t.Context(), alice.ID)
		return err == nil
	})
	m, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("at the same seq"))
	if err != nil || m.Seq != 2 {
		t.Errorf("the message is %d, %v", m.Seq, err)
	}
	if after, foreign := epochOf(t, f.Store, alice, before); after == before || !foreign {
		t.Errorf("the epoch is %q in both", after)
	}
	if lost != 1 {
		t.Errorf("streams were reset %d times", lost)
	}
}
