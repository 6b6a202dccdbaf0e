package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
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

// mischief does to a server and its private database what machines, kernels and operators do.
type mischief struct {
	t      *testing.T
	ctx    context.Context
	random *rand.Rand
	server *process
	args   []string // of the server
	began  time.Time
	faults int
}

// fault is one kind of mischief. It returns what it did, or nothing where it could not.
type fault func(*mischief) string

// quickFaults are over within seconds.
var quickFaults = []fault{
	func(m *mischief) string {
		m.server.signal(syscall.SIGKILL)
		m.restart()
		return "killed the server"
	},
	func(m *mischief) string {
		m.server.signal(syscall.SIGTERM)
		m.restart()
		return "restarted the server"
	},
	func(m *mischief) string {
		return "froze the server for " + m.freeze(m.pause(3*time.Second), m.server.cmd.Process.Pid)
	},
	func(m *mischief) string {
		if m.send(syscall.SIGKILL, postgresOf(m.server.data)) == 0 {
			return ""
		}
		return "killed PostgreSQL"
	},
	func(m *mischief) string {
		if m.send(syscall.SIGQUIT, postgresOf(m.server.data)) == 0 {
			return ""
		}
		return "crashed PostgreSQL"
	},
	func(m *mischief) string {
		return "froze PostgreSQL for " + m.freeze(m.pause(3*time.Second), m.postgres()...)
	},
	func(m *mischief) string {
		if backend := m.backend(); m.send(syscall.SIGKILL, backend) > 0 {
			return "killed a backend"
		}
		return ""
	},
	func(m *mischief) string {
		if backend := m.backend(); backend != 0 {
			return "froze a backend for " + m.freeze(m.pause(3*time.Second), backend)
		}
		return ""
	},
	func(m *mischief) string {
		var n int
		if m.query(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5`, &n) != nil {
			return ""
		}
		return fmt.Sprintf("terminated %d backends", n)
	},
	func(m *mischief) string {
		postgres := postgresOf(m.server.data)
		_ = m.server.cmd.Process.Signal(syscall.SIGKILL)
		m.send(syscall.SIGKILL, postgres)
		<-m.server.done
		m.restart()
		return "killed the server and PostgreSQL"
	},
}

// slowFaults outlast a timeout: that of statements, of a node's lease, of a database that does not stop.
var slowFaults = []fault{
	func(m *mischief) string { return "froze PostgreSQL for " + m.freeze(12*time.Second, m.postgres()...) },
	func(m *mischief) string {
		return "froze the server for " + m.freeze(20*time.Second, m.server.cmd.Process.Pid)
	},
	func(m *mischief) string {
		m.send(syscall.SIGSTOP, m.postgres()...)
		m.server.signal(syscall.SIGKILL)
		m.restart()
		return "killed the server beside a frozen PostgreSQL"
	},
}

// run makes mischief for so long: each kind once in a random order, and then again, the slow ones every third time of a
// long run. It ends with everything running.
func (m *mischief) run(duration time.Duration, long bool) {
	deadline := time.Now().Add(duration)
	for round := 0; ; round++ {
		kinds := slices.Clone(quickFaults)
		if long && round%3 == 0 {
			kinds = append(kinds, slowFaults...)
		}
		for _, kind := range m.random.Perm(len(kinds)) {
			wait(m.ctx, m.pause(1500*time.Millisecond))
			if time.Now().After(deadline) || m.ctx.Err() != nil {
				return
			}
			select {
			case <-m.server.done:
				m.t.Errorf("the server ended by itself: %s", m.server.cmd.ProcessState)
				m.restart()
			default:
			}
			began := time.Now()
			if did := kinds[kind](m); did != "" {
				m.faults++
				m.t.Logf("%6.1f s: %s (%.1f s)", began.Sub(m.began).Seconds(), did, time.Since(began).Seconds())
			}
		}
	}
}

func (m *mischief) restart() { m.server.start(m.t, m.args...) }

// pause is a random time up to a limit.
func (m *mischief) pause(limit time.Duration) time.Duration {
	return time.Duration(m.random.Int64N(int64(limit)))
}

// send sends a signal to processes, and returns how many there were. Some may be gone.
func (m *mischief) send(s syscall.Signal, pids ...int) (n int) {
	for _, pid := range pids {
		if pid > 0 && syscall.Kill(pid, s) == nil {
			n++
		}
	}
	return n
}

// freeze stops processes for a while, and returns for how long.
func (m *mischief) freeze(d time.Duration, pids ...int) string {
	m.send(syscall.SIGSTOP, pids...)
	wait(m.ctx, d)
	m.send(syscall.SIGCONT, pids...)
	return d.Round(time.Millisecond).String()
}

// postgres returns the processes of the private database, the postmaster first.
func (m *mischief) postgres() []int {
	postmaster := postgresOf(m.server.data)
	if postmaster == 0 {
		return nil
	}
	pids := []int{postmaster}
	children, err := exec.CommandContext(m.ctx, "pgrep", "-P", strconv.Itoa(postmaster)).Output()
	if err != nil {
		return pids // it is gone
	}
	for _, field := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// backend returns one of the processes that serve the server, or 0.
func (m *mischief) backend() (pid int) {
	err := m.query(`SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		ORDER BY random() LIMIT 1`, &pid)
	if err != nil {
		return 0
	}
	return pid
}

// query asks the private database. It may be away.
func (m *mischief) query(sql string, to any) error {
	ctx, cancel := context.WithTimeout(m.ctx, 2*time.Second)
	defer cancel()
	folder, err := filepath.Abs(filepath.Join(m.server.data, "postgres"))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, "postgres://parlor@/parlor?"+url.Values{"host": {folder}, "port": {"5432"}}.Encode())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.QueryRow(ctx, sql).Scan(to)
}
