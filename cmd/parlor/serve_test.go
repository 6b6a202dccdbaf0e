package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// process is a parlor in its own process.
type process struct {
	cmd  *exec.Cmd
	env  []string // settings in the environment
	data string   // data folder
	url  string   // URL of the API, without a slash at the end
	ops  string   // URL of health and metrics, likewise
	log  *os.File
	// openFiles limits its open files. 0 means the limit of the test.
	openFiles int
	network   *network      // of the process; nil if it is that of the test
	done      chan struct{} // closed when the process has ended
}

// startParlor starts a server in development mode on a data folder and waits until it is ready. It
// stops with the test.
func startParlor(t testing.TB, data string, args ...string) *process {
	t.Helper()
	return startParlorWith(t, data, []string{"PARLOR_DEV=true"}, args...)
}

// startParlorWith starts a server with settings in the environment, without development mode.
func startParlorWith(t testing.TB, data string, env []string, args ...string) *process {
	t.Helper()
	p := &process{env: env, data: data, url: "http://" + freeAddress(t), ops: "http://" + freeAddress(t)}
	p.start(t, args...)
	t.Cleanup(func() { p.signal(syscall.SIGTERM) })
	return p
}

// start starts the program. If it is called again, the addresses and the data are the same.
func (p *process) start(t testing.TB, args ...string) {
	t.Helper()
	args = append([]string{
		"serve", "--data", p.data,
		"--listen", strings.TrimPrefix(p.url, "http://"), "--ops-listen", strings.TrimPrefix(p.ops, "http://"),
	}, args...)
	p.cmd = exec.Command(os.Args[0], args...)
	if p.openFiles > 0 {
		p.cmd = exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, p.openFiles), os.Args[0]}, args...)...)
	}
	if p.network != nil {
		p.cmd = p.network.namespace.command(os.Args[0], args...)
	}
	p.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "PARLOR_DRAIN=0s"}, p.env...) // the last value of a variable wins
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.data, "parlor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "Parlor is ready") {
				ready <- true
			}
		}
		_ = p.cmd.Wait()
		_ = p.log.Close()
	}()
	select {
	case <-ready:
	case <-p.done:
		t.Fatalf("parlor ended: %s", p.logged())
	case <-time.After(time.Minute):
		t.Fatalf("parlor is not ready: %s", p.logged())
	}
}

// signal sends a signal that ends the process, and waits until it has ended.
func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	<-p.done
}

func (p *process) logged() string {
	text, err := os.ReadFile(filepath.Join(p.data, "parlor.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// usedAddresses holds the addresses that freeAddress has returned.
var usedAddresses sync.Map

// freeAddress returns a loopback address that nobody listens on, and never the same one twice: a
// server needs two of them before it opens the first. The port is below the range from which the
// system takes the ports of outgoing connections, or a client of another test could get it before
// the server opens it.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if _, used := usedAddresses.LoadOrStore(address, true); used {
			continue
		}
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
}

// postgresOf returns the process ID of a data folder's PostgreSQL, or 0.
func postgresOf(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0 // not completely written yet
	}
	return pid
}

func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

func TestServeStopsCleanly(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := startParlor(t, storetest.Folder(t))
			postgres := postgresOf(p.data)
			if !alive(postgres) {
				t.Fatalf("no PostgreSQL runs: %s", p.logged())
			}
			if got := get(t, p.ops+"/readyz"); got != "ok\n" {
				t.Errorf("/readyz: %q", got)
			}
			if got := get(t, p.ops+"/metrics"); !strings.Contains(got, "parlor_streams 0") {
				t.Errorf("/metrics has no parlor_streams")
			}
			p.signal(s)
			if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
				t.Errorf("exit code %d: %s", code, p.logged())
			}
			if alive(postgres) {
				t.Error("PostgreSQL still runs")
			}
		})
	}
}

// TestServeStopsWithOpenFeed checks that the reader of a feed is asked to reconnect, and that the
// server does not wait for it.
func TestServeStopsWithOpenFeed(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t))
	admin := parlor(t.Context(), t, []string{"PARLOR_DATA=" + p.data}, "token", "--admin")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/admin/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(admin.out))
	feed, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Body.Close()
	p.signal(syscall.SIGTERM)
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.logged())
	}
	text, err := io.ReadAll(feed.Body)
	if err != nil || !strings.Contains(string(text), "event: feedReady\n") || !strings.Contains(string(text), "event: reconnect\n") {
		t.Errorf("the feed was: %q, %v", text, err)
	}
}

func TestServeRejectsFolderInUse(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t))
	second := parlor(context.Background(), t, nil, "serve", "--data", p.data, "--listen", freeAddress(t), "--ops-listen", "")
	if second.code != exitError || !strings.Contains(second.err, "is in use by another parlor") {
		t.Errorf("the second server: exit code %d, %s", second.code, second.err)
	}
	if got := get(t, p.ops+"/livez"); got != "ok\n" {
		t.Errorf("the first server: /livez: %q", got)
	}
}

// TestDevelopmentTokensNeedDevelopmentMode checks that only development mode gives tokens away.
// Behind a reverse proxy on the same machine, every request comes from a loopback address, and a
// simple proxy does not name the client.
func TestDevelopmentTokensNeedDevelopmentMode(t *testing.T) {
	t.Parallel()
	data := storetest.Folder(t)
	for _, test := range []struct {
		env    []string
		status int
		logged bool
	}{
		{nil, http.StatusNotFound, false},
		{[]string{"PARLOR_DEV=true"}, http.StatusCreated, true},
	} {
		p := startParlorWith(t, data, test.env)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/dev/token", strings.NewReader(`{"userID":"ceo"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		if reply.StatusCode != test.status {
			t.Errorf("with %q: status %d, want %d", test.env, reply.StatusCode, test.status)
		}
		if logged := strings.Contains(p.logged(), "DEVELOPMENT MODE"); logged != test.logged {
			t.Errorf("with %q, development mode is logged: %t", test.env, logged)
		}
		p.signal(syscall.SIGTERM)
	}
}

// metric returns a metric of a server.
func metric(t testing.TB, p *process, name string) float64 {
	t.Helper()
	for line := range strings.Lines(get(t, p.ops+"/metrics")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the server has no metric %s", name)
	return 0
}

func get(t testing.TB, url string) string {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
