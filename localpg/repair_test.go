package localpg

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestRepairsFilesAfterCrash empties the cluster's files one after the other, as a crash of the
// machine or a full disk does, and starts the real PostgreSQL after each.
func TestRepairsFilesAfterCrash(t *testing.T) {
	t.Parallel()
	dir := newCluster(t)
	server := start(t, dir)
	mustQuery(t, server.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	database := "base/" + mustQuery(t, server.URL(), `SELECT oid::text FROM pg_database WHERE datname = 'parlor'`)
	stop(t, server)
	zeros := strings.Repeat("\x00", 512)
	for _, test := range []struct {
		name  string
		files map[string]string
	}{
		{"empty lock file", map[string]string{pidFile: ""}},
		{"zeros in the lock file", map[string]string{pidFile: zeros}},
		{"garbage in the lock file", map[string]string{pidFile: "postgres\n/nowhere\n"}},
		{"lock file of a dead process", map[string]string{pidFile: "4194304\n" + dir + "\n1\n5432\n" + dir + "\n\n  1 1\nready\n"}},
		{"socket without a server", map[string]string{socketName: "", socketName + ".lock": ""}},
		{"empty settings of ALTER SYSTEM", map[string]string{"postgresql.auto.conf": ""}},
		{"zeros in the settings of ALTER SYSTEM", map[string]string{"postgresql.auto.conf": zeros}},
		{"empty settings", map[string]string{"postgresql.conf": ""}},
		{"zeros in the settings", map[string]string{"postgresql.conf": zeros, "pg_ident.conf": zeros}},
		{"nobody may log in", map[string]string{"pg_hba.conf": ""}},
		{"empty version", map[string]string{versionFile: ""}},
		{"empty version of the database", map[string]string{database + "/" + versionFile: ""}},
		{"all versions but one", map[string]string{versionFile: zeros, database + "/" + versionFile: zeros}},
		{"unfinished files", map[string]string{
			"postgresql.auto.conf.tmp": "#", "pg_hba.conf.new": "", "../postgres.new/base/1/1259": "", "../postgres.initdb-1.new/PG_VERSION": "",
		}},
	} {
		for name, text := range test.files {
			leave(t, server.cluster, name, text)
		}
		var log syncBuffer
		again, err := Start(t.Context(), Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), Settings: quick()})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := mustQuery(t, again.URL(), `SELECT text FROM note`); got != "kept" {
			t.Errorf("%s: the note is %q", test.name, got)
		}
		stop(t, again)
	}
	for _, unfinished := range []string{dir + ".new", dir + ".initdb-1.new"} {
		if exists(unfinished) {
			t.Errorf("%s is still there", unfinished)
		}
	}
}

// leave writes a file into the cluster's folder that belongs to the database user.
func leave(t *testing.T, c cluster, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600), c.account.own(path)); err != nil {
		t.Fatal(err)
	}
}

// TestUnrepairableFiles empties files whose content cannot be known. The error says so in one line,
// and the files are not changed.
func TestUnrepairableFiles(t *testing.T) {
	t.Parallel()
	original := start(t, newCluster(t))
	stop(t, original)
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no version anywhere": {map[string]string{versionFile: "", "base/1/" + versionFile: ""}, "restore the folder from a backup"},
		"empty control file":  {map[string]string{"global/pg_control": ""}, "restore the folder from a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := original.cluster
			c.dir = filepath.Join(testFolder(t), "postgres")
			copyCluster(t, original.cluster.dir, c.dir)
			for name, text := range test.files {
				leave(t, c, name, text)
			}
			server, err := Start(t.Context(), Options{Dir: c.dir, Settings: quick()})
			if err == nil {
				_ = server.Stop()
				t.Fatal("Start succeeded")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q", err)
			}
			for name, text := range test.files {
				if got, err := os.ReadFile(filepath.Join(c.dir, name)); err != nil || string(got) != text {
					t.Errorf("%s is now %q, %v", name, got, err)
				}
			}
		})
	}
}

// TestKilledDuringCreation kills the parent while initdb runs, and starts again immediately.
func TestKilledDuringCreation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testFolder(t), "postgres")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperDir+"="+dir)
	parent.Stderr = t.Output()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "initdb is running", func() bool {
		found, err := filepath.Glob(dir + ".initdb-*.new/base/1")
		return err == nil && len(found) > 0
	})
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // fails, because it was killed
	server := start(t, dir)
	mustQuery(t, server.URL(), `SELECT ''`)
	stop(t, server)
}

// TestFullDisk starts on a disk that is full, and again after space was freed.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := testFolder(t)
	output, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=120m,mode=755", "tmpfs", disk).CombinedOutput()
	if err != nil {
		t.Logf("a small disk cannot be mounted here: %s", output)
		return
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", disk).Run(); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	dir := filepath.Join(disk, "postgres")
	server := start(t, dir)
	mustQuery(t, server.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	stop(t, server)

	filler := filepath.Join(disk, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("x"), 4096)
	for err == nil {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, err := Start(t.Context(), Options{Dir: dir, Settings: quick()})
		if err == nil {
			_ = again.Stop()
			t.Fatal("Start succeeded on a full disk")
		}
		if !strings.Contains(strings.ToLower(err.Error()), "no space left on device") || strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is %q", err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir)
	if got := mustQuery(t, again.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("the note is %q", got)
	}
	stop(t, again)
}

// TestStubbornLeftover takes over a PostgreSQL that does not shut down because one of its processes
// is frozen, and one whose processes are all frozen.
func TestStubbornLeftover(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		frozen func(postmaster int, left []int) []int
		want   string
	}{
		{"one process", func(postmaster int, left []int) []int {
			for _, pid := range left {
				// Not any process: that of the query may be about to end.
				if pid != postmaster && (!seesAllProcesses || titled(pid, "checkpointer")) {
					return []int{pid}
				}
			}
			return nil
		}, "shutting it down immediately"},
		{"all", func(_ int, left []int) []int { return left }, "killing a PostgreSQL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, postmaster, ended := startLeftover(t)
			if _, err := query(t.Context(), server.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`); err != nil {
				t.Fatal(err)
			}
			left, err := clusterProcesses(t.Context(), server.cluster)
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range test.frozen(postmaster, left) {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) { // it may have ended
					t.Fatal(err)
				}
			}
			var log syncBuffer
			taking := leftovers{quitAfter: 200 * time.Millisecond, killAfter: time.Second, log: slog.New(slog.NewTextHandler(&log, nil))}
			if err := taking.stop(t.Context(), server.cluster, server.socket); err != nil {
				t.Error(err)
			}
			if err := <-ended; err == nil {
				t.Error("the leftover shut down cleanly")
			}
			if !strings.Contains(log.String(), test.want) {
				t.Errorf("the log is %s", log.String())
			}
			again := start(t, server.cluster.dir)
			if got := mustQuery(t, again.URL(), `SELECT text FROM note`); got != "kept" {
				t.Errorf("the note is %q", got)
			}
			stop(t, again)
		})
	}
}

// titled reports whether a process has a title such as "postgres: checkpointer", on Linux.
func titled(pid int, title string) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.Contains(string(line), title)
}

// TestStopsWhileRecovering stops a PostgreSQL that replays its log because one of its processes was
// killed.
func TestStopsWhileRecovering(t *testing.T) {
	t.Parallel()
	server := start(t, newCluster(t))
	mustQuery(t, server.URL(), `CREATE TABLE numbers AS SELECT n FROM generate_series(1, 1000000) n`)
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	eventually(t, "PostgreSQL recovers", func() bool {
		if !seesAllProcesses {
			_, err := query(t.Context(), server.URL(), `SELECT ''`)
			return err != nil
		}
		left, err := clusterProcesses(t.Context(), server.cluster)
		return err == nil && slices.ContainsFunc(left, func(pid int) bool { return titled(pid, "startup recovering") }) &&
			slices.ContainsFunc(left, func(pid int) bool { return titled(pid, "checkpointer") })
	})
	stop(t, server)
	again := start(t, server.cluster.dir)
	if got := mustQuery(t, again.URL(), `SELECT count(*)::text FROM numbers`); got != "1000000" {
		t.Errorf("%s rows, want 1000000", got)
	}
	stop(t, again)
}
