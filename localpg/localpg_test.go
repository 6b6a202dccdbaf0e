package localpg

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// waitLimit is how long a test waits for something that should happen soon.
const waitLimit = 30 * time.Second

// testFolder returns a folder that the database user can reach, which t.TempDir's parents may not
// allow.
func testFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	server, err := Start(t.Context(), Options{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Settings: quick()})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return server
}

// newCluster returns the folder of a new cluster: a copy of one that all tests share. Tests of how
// a cluster is created use Start without it, which runs initdb and takes longer than most tests.
func newCluster(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testFolder(t), "postgres")
	whole, err := template()
	if err != nil {
		t.Fatal(err)
	}
	copyCluster(t, whole, dir)
	return dir
}

// template returns the folder of a cluster that was started once, so that it has Parlor's database,
// and shut down. TestMain removes it.
var template = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "localpg")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		return "", err
	}
	templateFolder = folder
	server, err := Start(context.Background(), Options{Dir: filepath.Join(folder, "postgres"), Settings: quick()})
	if err != nil {
		return "", err
	}
	return server.cluster.dir, server.Stop()
})

// copyCluster copies a cluster's folder, including its owner.
func copyCluster(t *testing.T, from, to string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", output, err)
	}
}

// stop stops the server and checks that none of its processes is left.
func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if left, err := clusterProcesses(t.Context(), server.cluster); err != nil || len(left) > 0 {
		t.Fatalf("after Stop processes %v still serve the folder (error %v)", left, err)
	}
}

// query runs one statement on a connection of its own and returns the first column of the first
// row, if there is one.
func query(ctx context.Context, address, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var value string
	err = conn.QueryRow(ctx, sql).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return value, err
}

func mustQuery(t *testing.T, address, sql string) string {
	t.Helper()
	value, err := query(t.Context(), address, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	deadline := time.After(waitLimit)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out after %s waiting until %s", waitLimit, what)
		}
	}
}

func postmaster(server *Server) int { return filePID(filepath.Join(server.cluster.dir, pidFile)) }

func alive(t *testing.T, server *Server, pid int) bool {
	t.Helper()
	pids, err := clusterProcesses(t.Context(), server.cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

func TestStartStopStartKeepsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testFolder(t), "data", "postgres")

	first := start(t, dir)
	mustQuery(t, first.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	stop(t, first)
	if err := first.Stop(); err != nil {
		t.Fatalf("second Stop: %v", err)
	}

	second := start(t, dir)
	if second.URL() != first.URL() {
		t.Errorf("the URL changed from %s to %s", first.URL(), second.URL())
	}
	if got := mustQuery(t, second.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("after a restart the note is %q", got)
	}
	for setting, want := range map[string]string{
		"listen_addresses": "", "server_encoding": "UTF8", "lc_collate": "C", "data_checksums": "on", "max_connections": "20",
	} {
		if got := mustQuery(t, second.URL(), `SHOW `+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	stop(t, second)
}

func TestRestartsAfterCrash(t *testing.T) {
	t.Parallel()
	server := start(t, newCluster(t))
	mustQuery(t, server.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)

	for range 2 {
		killed := postmaster(server)
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "PostgreSQL answers again", func() bool {
			got, err := query(t.Context(), server.URL(), `SELECT text FROM note`)
			return err == nil && got == "kept" && postmaster(server) != killed
		})
	}
	stop(t, server)
}

func TestStopDuringRestart(t *testing.T) {
	t.Parallel()
	server := start(t, newCluster(t))
	if err := syscall.Kill(postmaster(server), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exit is noticed", func() bool { return len(server.exits) > 0 })
	stop(t, server)
}

// TestParentKilled covers the kernel's signal at the parent's death, on systems that have one, and
// the next Start.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testFolder(t), "postgres")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperDir+"="+dir)
	parent.Stderr = t.Output()
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = parent.Process.Kill()
		_ = parent.Wait()
	}()
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.HasPrefix(address, "postgres:") {
		t.Fatalf("the helper printed %q (error %v)", address, err)
	}
	mustQuery(t, strings.TrimSpace(address), `CREATE TABLE note AS SELECT 'kept' AS text`)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Fatal("the helper ended before it was killed")
	}
	if seesAllProcesses {
		as, err := accountFor(dir)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "PostgreSQL ends with its parent", func() bool {
			left, err := clusterProcesses(t.Context(), cluster{dir: dir, account: as})
			return err == nil && len(left) == 0
		})
	}

	server := start(t, dir)
	if server.URL() != strings.TrimSpace(address) {
		t.Errorf("the URL changed from %s to %s", address, server.URL())
	}
	if got := mustQuery(t, server.URL(), `SELECT text FROM note`); got != "kept" {
		t.Errorf("after the parent's death the note is %q", got)
	}
	stop(t, server)
}

// startLeftover starts a PostgreSQL on the folder of a server that was stopped, as if that server
// had been killed and had left it running. ended receives the result of the process.
func startLeftover(t *testing.T) (server *Server, pid int, ended <-chan error) {
	t.Helper()
	server = start(t, newCluster(t))
	stop(t, server)
	leftover := server.cluster.command(context.Background(), "postgres", server.args...)
	leftover.Dir = server.cluster.dir
	var output syncBuffer
	leftover.Stdout, leftover.Stderr = &output, &output
	started, result := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // see cluster.command
		started <- leftover.Start()
		result <- leftover.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leftover serves", func() bool {
		if len(result) > 0 {
			t.Fatalf("the leftover ended: %v: %s", <-result, output.String())
		}
		_, err := query(t.Context(), server.URL(), `SELECT ''`)
		return err == nil
	})
	return server, leftover.Process.Pid, result
}

// TestTakesOverLeftover calls Start while a PostgreSQL that got no signal still runs on the folder.
func TestTakesOverLeftover(t *testing.T) {
	t.Parallel()
	server, _, ended := startLeftover(t)
	again := start(t, server.cluster.dir)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the leftover did not shut down cleanly: %v", err)
		}
	default:
		t.Error("the leftover is still running")
	}
	mustQuery(t, again.URL(), `SELECT ''`)
	stop(t, again)
}

// TestLockFileNamesOtherProcess starts over a lock file with the process ID of a running program
// that is not PostgreSQL.
func TestLockFileNamesOtherProcess(t *testing.T) {
	t.Parallel()
	if !seesAllProcesses {
		t.Log("on this system PostgreSQL itself handles its lock files")
		return
	}
	server := start(t, newCluster(t))
	stop(t, server)

	// It must run as the database user: PostgreSQL ignores process IDs that it may not signal.
	other := server.cluster.account.command(t.Context(), "/bin/sh", "-c", "read line")
	input, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = input.Close()
		_ = other.Wait() // fails, as read does at the end of input
	}()
	lock := strconv.Itoa(other.Process.Pid) + "\n" + server.cluster.dir + "\n"
	for _, path := range []string{filepath.Join(server.cluster.dir, pidFile), filepath.Join(server.socket.path, socketName+".lock")} {
		if err := os.WriteFile(path, []byte(lock), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := server.cluster.account.own(path); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, server.cluster.dir)
	mustQuery(t, again.URL(), `SELECT ''`)
	stop(t, again)
}

func TestLongFolderName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testFolder(t), strings.Repeat("long", 20), "with space, comma", "postgres")
	first := start(t, dir)
	mustQuery(t, first.URL(), `SELECT ''`)
	info, err := os.Lstat(first.socket.path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("socket folder: %v, error %v", info, err)
	}
	if uid, _ := ownerOf(info); uid != first.cluster.account.uid {
		t.Errorf("the socket folder belongs to user %d", uid)
	}
	stop(t, first)
	if _, err := os.Lstat(first.socket.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket folder is still there: %v", err)
	}

	// A folder that other users may enter, or that another user created, is rejected.
	for _, step := range []struct {
		name    string
		prepare func(path string) error
	}{
		{"open", func(path string) error { return errors.Join(os.Mkdir(path, 0o755), first.cluster.account.own(path)) }},
		{"link", func(path string) error { return os.Symlink(testFolder(t), path) }},
		{"foreign", func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Lchown(path, strangerUID(first), -1))
		}},
	} {
		if step.name == "foreign" && os.Geteuid() != 0 {
			continue // only root can create one
		}
		if err := step.prepare(first.socket.path); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Options{Dir: dir, Settings: quick()}); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%s socket folder: Start returned %v", step.name, err)
		}
		if err := os.Remove(first.socket.path); err != nil {
			t.Fatal(err)
		}
	}
}

// strangerUID returns a user ID that is neither root nor the database user.
func strangerUID(s *Server) int { return int(s.cluster.account.uid) + 1 }

func TestUnreachableFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root runs PostgreSQL as another user")
		return
	}
	home := testFolder(t)
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "parlor", "data", "postgres")
	first := start(t, dir)
	target, err := os.Readlink(dir)
	if err != nil || filepath.Dir(target) != systemFolder {
		t.Fatalf("the folder links to %q (error %v)", target, err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(target) })
	mustQuery(t, first.URL(), `CREATE TABLE note AS SELECT 'kept' AS text`)
	stop(t, first)

	// The data is found again even if the link was lost with the data folder.
	for _, lose := range []bool{false, true} {
		if lose {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}
		again := start(t, dir)
		if again.URL() != first.URL() {
			t.Errorf("the URL changed from %s to %s", first.URL(), again.URL())
		}
		if got := mustQuery(t, again.URL(), `SELECT text FROM note`); got != "kept" {
			t.Errorf("the note is %q", got)
		}
		stop(t, again)
	}

	if err := os.RemoveAll(target); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "without a target") {
		t.Errorf("Start over a dangling link: %v", err)
	}
}

// TestRestoredByRoot starts a cluster whose files root copied back from a backup.
func TestRestoredByRoot(t *testing.T) {
	t.Parallel()
	server := start(t, newCluster(t))
	stop(t, server)
	if server.cluster.account.switched {
		if err := (account{switched: true}).ownTree(server.cluster.dir); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, server.cluster.dir)
	mustQuery(t, again.URL(), `SELECT ''`)
	stop(t, again)
}

func TestInterruptedCreation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testFolder(t), "postgres")
	if err := os.MkdirAll(filepath.Join(dir+".new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	server := start(t, dir)
	mustQuery(t, server.URL(), `SELECT ''`)
	stop(t, server)
	if _, err := os.Lstat(dir + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished folder is still there: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	foreign := filepath.Join(testFolder(t), "foreign")
	old := filepath.Join(testFolder(t), "old")
	for path, text := range map[string]string{filepath.Join(foreign, "letter.txt"): "dear", filepath.Join(old, "PG_VERSION"): "9\n"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context
		options Options
		want    string
	}{
		"other files": {t.Context(), Options{Dir: foreign}, "neither empty nor"},
		"old cluster": {t.Context(), Options{Dir: old}, "was created by PostgreSQL 9"},
		"bad setting": {t.Context(), Options{
			Dir:      newCluster(t),
			Settings: map[string]string{"fsync": "off", "no_such_setting": "1"},
		}, `unrecognized configuration parameter "no_such_setting"`},
		"cancelled": {cancelled, Options{Dir: filepath.Join(testFolder(t), "postgres")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := Start(test.ctx, test.options)
			if err == nil {
				_ = server.Stop()
				t.Fatal("Start succeeded")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q", err)
			}
		})
	}
}

func TestMissingPrograms(t *testing.T) {
	t.Parallel()
	as, err := accountFor(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	empty := findInstalls(t.Context(), []string{testFolder(t), "", "relative", "/no/such/folder"}, as)
	for name, test := range map[string]struct {
		installs []install
		major    int
		want     string
		picked   string
	}{
		"none":           {empty, 0, "apt-get install postgresql", ""},
		"none for old":   {empty, 16, "apt-get install postgresql", ""},
		"too old":        {[]install{{"/a", 14}}, 0, "only PostgreSQL 14 (/a) is installed", ""},
		"other major":    {[]install{{"/a", 15}, {"/b", 17}}, 16, "only PostgreSQL 15 (/a), PostgreSQL 17 (/b)", ""},
		"first":          {[]install{{"/a", 14}, {"/b", 16}, {"/c", 17}}, 0, "", "/b"},
		"same as before": {[]install{{"/b", 17}, {"/c", 16}}, 16, "", "/c"},
	} {
		got, err := chooseInstall(test.installs, "/data", test.major)
		switch {
		case test.want == "" && (err != nil || got.dir != test.picked):
			t.Errorf("%s: picked %+v, error %v", name, got, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if found := findInstalls(t.Context(), installFolders(), as); len(found) == 0 || found[0].major < oldestMajor {
		t.Errorf("found %+v on this machine", found)
	}
}

// syncBuffer is a log that a test reads while the server writes to it.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestCrashIsLogged(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	server, err := Start(t.Context(), Options{
		Dir: newCluster(t), Log: slog.New(slog.NewTextHandler(&log, nil)), Settings: quick(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop() }() // stop, below, reports the error
	if err := syscall.Kill(postmaster(server), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the crash is logged", func() bool { return strings.Contains(log.String(), "PostgreSQL exited unexpectedly") })
	stop(t, server)
}

// TestIgnoresTerminal checks that Ctrl-C, which goes to the terminal's process group, does not
// reach PostgreSQL.
func TestIgnoresTerminal(t *testing.T) {
	t.Parallel()
	server := start(t, newCluster(t))
	group, err := syscall.Getpgid(postmaster(server))
	if err != nil || group == syscall.Getpgrp() {
		t.Errorf("PostgreSQL runs in group %d, the test in %d (error %v)", group, syscall.Getpgrp(), err)
	}
	if !alive(t, server, postmaster(server)) {
		t.Error("the postmaster is not found among the processes")
	}
	stop(t, server)
}

func TestURL(t *testing.T) {
	t.Parallel()
	s := &Server{socket: socketDir{path: "/tmp/a b&c"}}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if u.Path != "/parlor" || u.User.Username() != "parlor" || u.Query().Get("host") != "/tmp/a b&c" {
		t.Errorf("the URL is %s", u)
	}
	if config, err := pgx.ParseConfig(s.URL()); err != nil || config.Host != "/tmp/a b&c" || config.TLSConfig != nil {
		t.Errorf("pgx reads %+v (error %v)", config, err)
	}
}
