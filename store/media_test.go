package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
)

// bucket is what the store sees of the stored files: it only deletes them.
type bucket struct {
	mu      sync.Mutex // guards the fields below
	deleted []room.MediaID
	fail    map[room.MediaID]error
}

func (b *bucket) remove(_ context.Context, id room.MediaID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail[id]; err != nil {
		return err
	}
	b.deleted = append(b.deleted, id)
	return nil
}

// upload adds a file whose bytes are stored.
func upload(t testing.TB, f fixture, owner room.UserID) room.Media {
	t.Helper()
	m := room.Media{ID: beginFile(t, f, owner), FileName: "a.txt", Size: 1, ContentType: "application/octet-stream"}
	if err := f.FinishMedia(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// beginFile adds a file whose bytes are not stored yet.
func beginFile(t testing.TB, f fixture, owner room.UserID) room.MediaID {
	t.Helper()
	id, err := f.AddMedia(t.Context(), owner, "a.txt", 1)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func fileDraft(m room.Media) room.Draft {
	return room.Draft{Content: room.Content{Kind: room.KindFile, Media: &m}, Priority: room.PriorityMedium}
}

func sweepMedia(t testing.TB, f fixture, b *bucket) {
	t.Helper()
	if err := f.SweepMedia(t.Context(), b.remove); err != nil {
		t.Fatal(err)
	}
}

// TestUnsentFilesAreDeleted covers files and unfinished uploads that were not sent for a day. Sent
// files are kept.
func TestUnsentFilesAreDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	var b bucket
	unsent, cut, sent := upload(t, f, "alice"), beginFile(t, f, "alice"), upload(t, f, "alice")
	if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(sent)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(room.MediaKept - time.Millisecond)
	late := upload(t, f, "alice")
	sweepMedia(t, f, &b)
	if len(b.deleted) > 0 {
		t.Fatalf("deleted within a day: %v", b.deleted)
	}
	f.clock.advance(time.Millisecond)
	sweepMedia(t, f, &b)
	slices.Sort(b.deleted)
	want := []room.MediaID{unsent.ID, cut}
	slices.Sort(want)
	if !slices.Equal(b.deleted, want) {
		t.Errorf("deleted: %v, want %v", b.deleted, want)
	}
	if _, err := f.MediaFor(t.Context(), "alice", unsent.ID); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("the deleted file: %v", err)
	}
	if err := f.FinishMedia(t.Context(), room.Media{ID: cut}); err == nil {
		t.Error("a deleted upload could be finished")
	}
	for _, m := range []room.Media{sent, late} {
		if _, err := f.MediaFor(t.Context(), "alice", m.ID); err != nil {
			t.Errorf("a file that stays: %v", err)
		}
	}
	sweepMedia(t, f, &b)
	if len(b.deleted) != 2 {
		t.Errorf("second sweep: deleted: %v", b.deleted)
	}
}

// TestFilesAreDeletedWithTheirRooms checks that a file is deleted when the last of its rooms is
// purged.
func TestFilesAreDeletedWithTheirRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	openStream(t, f, alice)
	m := upload(t, f, "alice")
	rooms := []room.RoomID{"one", "two"}
	for _, id := range rooms {
		if _, _, err := f.EnterRoom(t.Context(), as(alice), id, room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := f.PostMessage(t.Context(), alice, id, fileDraft(m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if uses := query[int](t, f, "SELECT uses FROM media"); uses != 2 {
		t.Errorf("the file is used %d times", uses)
	}
	var b bucket
	for i, id := range rooms {
		// The second time, alice may have timed out and the room may have been destroyed.
		if err := f.DestroyRoom(t.Context(), admin, id, ""); err != nil && (i == 0 || !errors.Is(err, room.ErrRoomNotFound)) {
			t.Fatal(err)
		}
		sweep(t, f)
		sweepMedia(t, f, &b)
		if len(b.deleted) > 0 {
			t.Fatalf("the file was deleted before the log of %s", id)
		}
		f.clock.advance(2 * time.Minute)
		sweep(t, f)
		sweepMedia(t, f, &b)
		if (len(b.deleted) > 0) != (i == 1) {
			t.Errorf("after %s deleted: %v", id, b.deleted)
		}
	}
	if left := query[int](t, f, "SELECT (SELECT count(*) FROM media) + (SELECT count(*) FROM media_uses) + (SELECT count(*) FROM rooms)"); left != 0 {
		t.Errorf("%d rows left", left)
	}
}

// TestFilesOfLargeRoomAreDeleted covers more files than one transaction releases.
func TestFilesOfLargeRoomAreDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	const n = 450
	for range n {
		if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(upload(t, f, "alice"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Minute)
	sweep(t, f)
	var b bucket
	for range 3 {
		sweepMedia(t, f, &b)
	}
	if len(b.deleted) != n || query[int](t, f, "SELECT count(*) FROM media") != 0 {
		t.Errorf("%d files deleted", len(b.deleted))
	}
}

// TestBucketFailures checks that a file that cannot be deleted has no owner and is retried, while
// others are deleted.
func TestBucketFailures(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	stuck, other := upload(t, f, "alice"), upload(t, f, "alice")
	f.clock.advance(room.MediaKept)
	cause := errors.New("the bucket is away")
	b := bucket{fail: map[room.MediaID]error{stuck.ID: cause}}
	if err := f.SweepMedia(t.Context(), b.remove); !errors.Is(err, cause) {
		t.Errorf("sweep: %v", err)
	}
	if !slices.Equal(b.deleted, []room.MediaID{other.ID}) {
		t.Errorf("deleted: %v", b.deleted)
	}
	if _, err := f.MediaFor(t.Context(), "alice", stuck.ID); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("reading a file that is being deleted: %v", err)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(stuck)); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("sending a file that is being deleted: %v", err)
	}
	// Files that cannot be deleted must not block others.
	for range 200 {
		id := upload(t, f, "bob").ID
		b.fail[id] = cause
		execute(t, f, "UPDATE media SET unused_since = $2 WHERE media_id = $1", id, f.clock.Now().Add(-room.MediaKept-time.Second))
	}
	last := upload(t, f, "bob")
	execute(t, f, "UPDATE media SET unused_since = $2 WHERE media_id = $1", last.ID, f.clock.Now().Add(-room.MediaKept-time.Millisecond))
	if err := f.SweepMedia(t.Context(), b.remove); !errors.Is(err, cause) {
		t.Errorf("a sweep that cannot delete files returns %v", err)
	}
	sweepMedia(t, f, &b)
	if !slices.Contains(b.deleted, last.ID) {
		t.Error("a file behind 200 that cannot be deleted is not deleted either")
	}
	b.fail = nil
	f.clock.advance(time.Hour)
	sweepMedia(t, f, &b)
	if n := query[int](t, f, "SELECT count(*) FROM media"); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

// TestSendingWhileSweeping checks that a file is either sent and kept, or deleted and not sent.
func TestSendingWhileSweeping(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	const n = 60
	files := make([]room.Media, n)
	for i := range files {
		files[i] = upload(t, f, room.UserID(fmt.Sprintf("owner%d", i))) // one user may not have so many
	}
	f.clock.advance(room.MediaKept)
	var b bucket
	sent := make([]bool, n)
	var all sync.WaitGroup
	for i := range files {
		all.Go(func() {
			_, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(files[i]))
			sent[i] = err == nil
			if err != nil && !errors.Is(err, room.ErrMediaNotFound) {
				t.Error(err)
			}
		})
		if i%20 == 10 {
			all.Go(func() {
				if err := f.SweepMedia(t.Context(), b.remove); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for i, m := range files {
		if sent[i] == slices.Contains(b.deleted, m.ID) {
			t.Errorf("file %d was sent: %t, and deleted: %t", i, sent[i], !sent[i])
		}
	}
	if wrong := query[int](t, f, `SELECT count(*) FROM media m WHERE uses <> (SELECT count(*) FROM media_uses u WHERE u.media_id = m.media_id)`); wrong != 0 {
		t.Errorf("%d files have a wrong number of uses", wrong)
	}
	t.Logf("%d were deleted", len(b.deleted))
}

// readers returns those of the users who may read a file.
func readers(t testing.TB, f fixture, m room.Media, users ...room.UserID) (who []room.UserID) {
	t.Helper()
	for _, user := range users {
		_, err := f.MediaFor(t.Context(), user, m.ID)
		byID, errByID := f.MediaByID(t.Context(), user, []room.MediaID{m.ID})
		if errByID != nil || (err == nil) != (len(byID) == 1) {
			t.Errorf("%s: %v, and among several %v, %v", user, err, byID, errByID)
		}
		switch {
		case err == nil:
			who = append(who, user)
		case !errors.Is(err, room.ErrMediaNotFound):
			t.Errorf("%s: %v", user, err)
		}
	}
	return who
}

// TestFilesBetweenUsers checks that both users of each conversation, and no others, can read a file
// that was sent in it, and only after it was sent.
func TestFilesBetweenUsers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	newUser(t, f, "carol")
	newUser(t, f, "dave")
	m := upload(t, f, "alice")
	may := func(what string, want ...room.UserID) {
		t.Helper()
		if got := readers(t, f, m, "alice", "bob", "carol", "dave", "nobody"); !slices.Equal(got, want) {
			t.Errorf("%s: %v may read it, want %v", what, got, want)
		}
	}
	may("unsent", "alice")
	for what, c := range map[string]struct {
		to   room.UserID
		want error
	}{"to nobody": {"nobody", room.ErrUserNotFound}, "to herself": {"alice", room.ErrMessageToSelf}} {
		if _, err := f.PostPeerMessage(t.Context(), alice, c.to, fileDraft(m)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	may("refused", "alice")
	d := fileDraft(m)
	d.ClientMessageID = "1"
	first := postPeer(t, f, alice, "bob", d)
	may("sent to bob", "alice", "bob")
	if again := postPeer(t, f, alice, "bob", d); again.ID != first.ID || again.Media == nil {
		t.Errorf("sent again it is %+v", again)
	}
	// Quoted by a user who can read it; its owner is not one of the two.
	postPeer(t, f, bob, "carol", room.Draft{Content: room.Content{Kind: room.KindCombine, Title: "t", MessageList: []room.Quoted{
		{Content: fileDraft(m).Content}, {Content: fileDraft(m).Content},
	}}})
	may("quoted to carol", "alice", "bob", "carol")
	if uses := query[int](t, f, "SELECT uses FROM media"); uses != 3 {
		t.Errorf("the file is used in %d logs", uses)
	}
	unknown := room.Media{ID: "3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61"}
	for what, d := range map[string]room.Draft{
		"an unknown file":   fileDraft(unknown),
		"one being sent":    fileDraft(room.Media{ID: beginFile(t, f, "alice")}),
		"one among several": {Content: room.Content{Kind: room.KindCombine, MessageList: []room.Quoted{{Content: fileDraft(m).Content}, {Content: fileDraft(unknown).Content}}}},
	} {
		if _, err := f.PostPeerMessage(t.Context(), alice, "dave", d); !errors.Is(err, room.ErrMediaNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	may("not sent to dave", "alice", "bob", "carol")
	if page, err := f.PeerMessagesAfter(t.Context(), alice, "dave", 0, 10); err != nil || len(page) > 0 {
		t.Errorf("a rejected message was stored: %+v, %v", page, err)
	}
	checkInvariants(t, f)
}

// TestReadableByUsesIndexes checks that the condition takes a few index lookups, however many files
// a user has received and however many users have received the file, with and without statistics of
// the tables.
func TestReadableByUsesIndexes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 20})
	bob := newUser(t, f, "bob")
	openStream(t, f, bob)
	for i := range 10 {
		if _, _, err := f.EnterRoom(t.Context(), as(bob), roomOf(i), room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	popular, rare := upload(t, f, "alice"), upload(t, f, "alice")
	execute(t, f, "INSERT INTO inboxes (user_id) SELECT 'user' || i FROM generate_series(1, 20000) i")
	execute(t, f, "INSERT INTO media (media_id, owner_id, file_name, created_at, size, uses) SELECT gen_random_uuid(), 'alice', 'x', now(), 1, 1 FROM generate_series(1, 20000)")
	execute(t, f, "INSERT INTO media_uses (generation, media_id, used_at) SELECT log, $1, now() FROM inboxes WHERE user_id <> 'bob'", popular.ID)
	execute(t, f, `INSERT INTO media_uses (generation, media_id, used_at) SELECT l.log, media_id, now() FROM media, (
		SELECT log FROM inboxes WHERE user_id = 'bob' UNION ALL SELECT min(generation) FROM rooms) l WHERE media_id <> ALL ($1::uuid[])`, []room.MediaID{popular.ID, rare.ID})
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			execute(t, f, "ANALYZE")
		}
		for what, c := range map[string]struct {
			id   room.MediaID
			user room.UserID
		}{
			"a file that many got": {popular.ID, "bob"}, "a file that nobody got": {rare.ID, "bob"},
			"the owner of a file that many got": {popular.ID, "alice"}, "the owner of a file that nobody got": {rare.ID, "alice"},
		} {
			plan := query[[]byte](t, f, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT m.media_id FROM media m WHERE media_id = $1 AND "+store.ReadableBy, c.id, c.user)
			var explained []struct {
				Plan struct {
					Hit  int `json:"Shared Hit Blocks"`
					Read int `json:"Shared Read Blocks"`
				}
			}
			if err := json.Unmarshal(plan, &explained); err != nil {
				t.Fatal(err)
			}
			if pages := explained[0].Plan.Hit + explained[0].Plan.Read; pages > 100 {
				t.Errorf("%s, statistics %t: %d pages read: %s", what, analyzed, pages, plan)
			}
		}
	}
}

// TestFilesAreDeletedWithTheirMessages checks that a file becomes unreadable when no log has a
// message with it any more, and that its bytes are deleted a day later.
func TestFilesAreDeletedWithTheirMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: 3 * time.Hour, PeerRetention: 2 * time.Hour})
	until := time.Now().Add(1000 * time.Hour)
	alice := newSessionUntil(t, f.Store, "alice", until)
	newSessionUntil(t, f.Store, "bob", until)
	alice, err := f.SessionByID(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	openStream(t, f, alice)
	enter(t, f, alice, "lobby")
	var b bucket
	private, public, both, twice, failed := upload(t, f, "alice"), upload(t, f, "alice"), upload(t, f, "alice"), upload(t, f, "alice"), upload(t, f, "alice")
	for _, m := range []room.Media{private, both, twice} {
		postPeer(t, f, alice, "bob", fileDraft(m))
	}
	for _, m := range []room.Media{public, both} {
		postToLobby(t, f, alice, fileDraft(m))
	}
	// The use was recorded, but the message was never stored.
	execute(t, f, `WITH noted AS (INSERT INTO media_uses (generation, media_id, used_at) SELECT generation, $1, $2 FROM rooms)
		UPDATE media SET uses = 1, unused_since = NULL WHERE media_id = $1`, failed.ID, f.clock.Now())
	names := map[room.MediaID]string{private.ID: "private", public.ID: "public", both.ID: "both", twice.ID: "twice", failed.ID: "failed"}
	after := func(d time.Duration, unused ...string) {
		t.Helper()
		f.clock.advance(d)
		sweep(t, f)
		sweepMedia(t, f, &b)
		var got []string
		for id, name := range names {
			if query[int](t, f, "SELECT count(*) FROM media WHERE media_id = $1 AND uses = 0", id) > 0 {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, unused) {
			t.Errorf("unused: %v, want %v", got, unused)
		}
		checkInvariants(t, f)
	}
	after(time.Hour + time.Minute)
	postPeer(t, f, alice, "bob", fileDraft(twice))
	after(time.Hour - time.Minute)
	after(time.Second, "private")
	if got := readers(t, f, private, "alice", "bob"); len(got) > 0 {
		t.Errorf("%v can read a trimmed file", got)
	}
	if got := readers(t, f, twice, "bob"); len(got) != 1 {
		t.Error("a file that was sent again cannot be read")
	}
	after(time.Hour-2*time.Second, "private")
	postToLobby(t, f, alice, textDraft("so that the log is never empty"))
	after(2*time.Second, "both", "failed", "private", "public")
	after(time.Minute, "both", "failed", "private", "public", "twice")
	if len(b.deleted) > 0 {
		t.Errorf("deleted: %v", b.deleted)
	}
	f.clock.advance(room.MediaKept)
	sweepMedia(t, f, &b)
	if len(b.deleted) != len(names) {
		t.Errorf("a day later deleted: %v", b.deleted)
	}
}

// TestTrimmingWhileSending checks that a file that is sent while its last message is trimmed is
// either not found or kept.
func TestTrimmingWhileSending(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{PeerRetention: time.Minute, MessageRetention: time.Minute})
	until := time.Now().Add(1000 * time.Hour)
	alice := newSessionUntil(t, f.Store, "alice", until)
	newSessionUntil(t, f.Store, "bob", until)
	alice, err := f.SessionByID(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	openStream(t, f, alice)
	enter(t, f, alice, "lobby")
	files := []room.Media{upload(t, f, "alice"), upload(t, f, "alice")}
	gone := 0
	for range 40 {
		for i := range files {
			if len(readers(t, f, files[i], "alice")) == 0 {
				files[i] = upload(t, f, "alice")
				gone++
			}
		}
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				if _, err := f.PostPeerMessage(t.Context(), alice, "bob", fileDraft(files[i%2])); err != nil && !errors.Is(err, room.ErrMediaNotFound) {
					t.Error(err)
				}
			})
			all.Go(func() {
				if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(files[i%2])); err != nil && !errors.Is(err, room.ErrMediaNotFound) {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := f.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		sweep(t, f) // releases what was locked before
		postToLobby(t, f, alice, textDraft("so that something happens where the sweep was first"))
		checkInvariants(t, f)
		f.clock.advance(time.Minute + time.Second)
	}
	sweep(t, f)
	if n := query[int](t, f, "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM media_uses)"); n != 0 {
		t.Errorf("%d events and uses left", n)
	}
	t.Logf("%d files were gone before they were sent again", gone)
}

// TestTrimmingWaitsForSenders covers a sender that holds the lock on a file's row and renews its
// use while the log is trimmed.
func TestTrimmingWaitsForSenders(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{MessageRetention: time.Hour})
	alice := newSessionUntil(t, f.Store, "alice", time.Now().Add(1000*time.Hour))
	openStream(t, f, alice)
	enter(t, f, alice, "lobby")
	again, trimmed := upload(t, f, "alice"), upload(t, f, "alice")
	postToLobby(t, f, alice, fileDraft(again))
	postToLobby(t, f, alice, fileDraft(trimmed))
	f.clock.advance(2 * time.Hour)
	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	sender, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"UPDATE media SET uses = uses WHERE media_id = $1", "UPDATE media_uses SET used_at = used_at + interval '2 hours' WHERE media_id = $1"} {
		if _, err := sender.Exec(t.Context(), sql, again.ID); err != nil {
			t.Fatal(err)
		}
	}
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		if err := f.Sweep(context.Background()); err != nil {
			t.Error(err)
		}
	})
	waitForLocks(t, f, 1) // the sweep waits for the sender
	if err := sender.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	sweeping.Wait()
	for id, want := range map[room.MediaID]int{again.ID: 1, trimmed.ID: 0} {
		if got := query[int](t, f, "SELECT uses FROM media WHERE media_id = $1", id); got != want {
			t.Errorf("%d uses left, want %d", got, want)
		}
	}
}

// TestMediaQuotas checks that a user, and all users together, never have more stored bytes than
// allowed, sent or not, however many uploads start at once; and that deleting files frees space.
func TestMediaQuotas(t *testing.T) {
	t.Parallel()
	const size, mine, all = 1 << 20, 5, 12
	f := setup(t, store.Options{MediaPerUser: mine * size, MediaTotal: all * size, FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	openStream(t, f, alice)
	enter(t, f, alice, "lobby")
	add := func(owner room.UserID, length int64) (room.MediaID, error) {
		id, err := f.AddMedia(t.Context(), owner, "a.bin", length)
		if err == nil {
			err = f.FinishMedia(t.Context(), room.Media{ID: id, Size: length})
		}
		if err != nil && !errors.Is(err, room.ErrMediaQuota) {
			t.Error(err)
		}
		return id, err
	}
	// Some files are sent, which frees space for unsent files, but not for files in total.
	var (
		mu   sync.Mutex // guards kept
		kept []room.MediaID
	)
	atOnce := func(owners ...room.UserID) {
		var adding sync.WaitGroup
		for i := range 24 {
			adding.Go(func() {
				id, err := add(owners[i%len(owners)], size)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				kept = append(kept, id)
				if owners[i%len(owners)] == "alice" {
					if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(room.Media{ID: id, Size: size})); err != nil {
						t.Error(err)
					}
				}
			})
		}
		adding.Wait()
	}
	atOnce("alice")
	if len(kept) != mine {
		t.Errorf("alice has %d files, want %d", len(kept), mine)
	}
	atOnce("bob", "carol", "dave", "erin")
	if len(kept) != all {
		t.Errorf("all have %d files, want %d", len(kept), all)
	}
	if n, err := f.MediaBytes(t.Context()); err != nil || n != all*size {
		t.Errorf("%d bytes counted: %v", n, err)
	}
	checkInvariants(t, f)

	// Deleted files free space; files that wait for their deletion do not.
	if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := add("alice", 1); !errors.Is(err, room.ErrMediaQuota) {
		t.Errorf("before they are deleted: %v", err)
	}
	f.clock.advance(2 * time.Minute)
	sweep(t, f)
	var b bucket
	sweepMedia(t, f, &b)
	if len(b.deleted) != mine {
		t.Errorf("%d files deleted", len(b.deleted))
	}
	if _, err := add("alice", mine*size); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := add("alice", 0); !errors.Is(err, room.ErrMediaQuota) {
		t.Errorf("an empty file takes nothing: %v", err)
	}
	f.clock.advance(2 * room.MediaKept)
	sweepMedia(t, f, &b)
	if n := query[int](t, f, "SELECT (SELECT count(*) FROM media_bytes) + (SELECT sum(bytes)::bigint FROM media_bytes_of_all)"); n != 0 {
		t.Errorf("%d counts left of nothing", n)
	}
}

// TestFilesOfUnknownLength checks that files count with their announced length until their size is
// known.
func TestFilesOfUnknownLength(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	counted := func(what string, want int64) {
		t.Helper()
		if got := query[int64](t, f, "SELECT coalesce(sum(bytes), 0)::bigint FROM media_bytes WHERE owner_id = 'alice'"); got != want {
			t.Errorf("%s: %d bytes counted, want %d", what, got, want)
		}
	}
	id, err := f.AddMedia(t.Context(), "alice", "a.bin", room.MaxMediaBytes)
	if err != nil {
		t.Fatal(err)
	}
	counted("announced", room.MaxMediaBytes)
	if err := f.FinishMedia(t.Context(), room.Media{ID: id, Size: 10_000}); err != nil {
		t.Fatal(err)
	}
	counted("done", 10_000)
	upload := beginUpload(t, f, "alice", 1)
	counted("and a small one", 10_000+4096)
	for _, id := range []room.MediaID{id, upload.ID} {
		if err := f.EndUpload(t.Context(), "alice", id); err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteMedia(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	counted("deleted", 0)
}

// TestFilesForSomeMembers checks who may read a file that was sent to some members, that the rows
// about them are deleted with the message or the room, and that they are limited.
func TestFilesForSomeMembers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	openStream(t, f, alice)
	var lobby room.LogID
	for _, user := range []room.UserID{"alice", "bob", "carol", "dave"} {
		session := alice
		if user != "alice" {
			session = newSession(t, f.Store, string(user))
			openStream(t, f, session)
		}
		lobby = enter(t, f, session, "lobby").Generation
	}
	send := func(m room.Media, to ...room.UserID) room.Message {
		t.Helper()
		d := fileDraft(m)
		d.To = to
		return postToLobby(t, f, alice, d)
	}
	canRead := func(m room.Media, want ...room.UserID) {
		t.Helper()
		var got []room.UserID
		for _, user := range []room.UserID{"alice", "bob", "carol", "dave", "erin"} {
			switch _, err := f.MediaFor(t.Context(), user, m.ID); {
			case err == nil:
				got = append(got, user)
			case !errors.Is(err, room.ErrMediaNotFound):
				t.Error(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the file can be read by %v, want %v", got, want)
		}
	}
	readers := func() int { return query[int](t, f, "SELECT count(*) FROM media_readers") }
	m := upload(t, f, "alice")
	toBob := send(m, "bob", "erin")
	canRead(m, "alice", "bob")
	toCarol := send(m, "carol")
	canRead(m, "alice", "bob", "carol")
	checkInvariants(t, f)
	if err := f.Recall(t.Context(), as(alice), "alice", "lobby", toBob.ID); err != nil {
		t.Fatal(err)
	}
	canRead(m, "alice", "carol")
	if n := readers(); n != 1 {
		t.Errorf("%d readers left, want carol", n)
	}
	send(m)
	canRead(m, "alice", "bob", "carol", "dave")
	if err := f.Recall(t.Context(), as(alice), "alice", "lobby", toCarol.ID); err != nil {
		t.Fatal(err)
	}
	canRead(m, "alice", "bob", "carol", "dave")
	if n := readers(); n != 0 {
		t.Errorf("%d readers left", n)
	}

	// Many senders at once: each reader is counted once, and no more than the limit are recorded.
	m = upload(t, f, "alice")
	var (
		sending       sync.WaitGroup
		mu            sync.Mutex
		sent, refused int
	)
	for i := range 12 {
		sending.Go(func() {
			d := fileDraft(m)
			for j := range room.MaxTo {
				d.To = append(d.To, room.UserID(fmt.Sprintf("user %d %d", i, j)))
			}
			_, err := f.PostMessage(t.Context(), alice, "lobby", d)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				sent++
			case errors.Is(err, room.ErrMediaReaders):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	sending.Wait()
	if sent != 9 || refused != 3 || readers() != 9*room.MaxTo+1 { // with alice, who is recorded once
		t.Errorf("sent %d times and refused %d times, %d readers", sent, refused, readers())
	}
	canRead(m, "alice")
	checkInvariants(t, f)

	if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Minute)
	sweep(t, f)
	if n := readers() + query[int](t, f, "SELECT count(*) FROM media_uses WHERE generation = "+fmt.Sprint(lobby)); n != 0 {
		t.Errorf("%d rows left of the room", n)
	}
}
