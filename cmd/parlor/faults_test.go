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

// faultInjector kills, freezes and restarts a server and its private database, as machines, kernels
// and operators do.
type faultInjector struct {
	t      *testing.T
	ctx    context.Context
	random *rand.Rand
	server *process
	args   []string // of the server
	began  time.Time
	faults int
}

// fault is one kind of fault. It returns a description of what it did, or an empty string if it was
// not possible.
type fault func(*faultInjector) string

// quickFaults end within seconds.
var quickFaults = []fault{
	func(m *faultInjector) string {
		m.server.signal(syscall.SIGKILL)
		m.restart()
		return "killed the server"
	},
	func(m *faultInjector) string {
		m.server.signal(syscall.SIGTERM)
		m.restart()
		return "restarted the server"
	},
	func(m *faultInjector) string {
		return "froze the server for " + m.freeze(m.pause(3*time.Second), m.server.cmd.Process.Pid)
	},
	func(m *faultInjector) string {
		if m.send(syscall.SIGKILL, postgresOf(m.server.data)) == 0 {
			return ""
		}
		return "killed PostgreSQL"
	},
	func(m *faultInjector) string {
		if m.send(syscall.SIGQUIT, postgresOf(m.server.data)) == 0 {
			return ""
		}
		return "crashed PostgreSQL"
	},
	func(m *faultInjector) string {
		return "froze PostgreSQL for " + m.freeze(m.pause(3*time.Second), m.postgres()...)
	},
	func(m *faultInjector) string {
		if backend := m.backend(); m.send(syscall.SIGKILL, backend) > 0 {
			return "killed a backend"
		}
		return ""
	},
	func(m *faultInjector) string {
		if backend := m.backend(); backend != 0 {
			return "froze a backend for " + m.freeze(m.pause(3*time.Second), backend)
		}
		return ""
	},
	func(m *faultInjector) string {
		var n int
		if m.query(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5`, &n) != nil {
			return ""
		}
		return fmt.Sprintf("terminated %d backends", n)
	},
	func(m *faultInjector) string {
		postgres := postgresOf(m.server.data)
		_ = m.server.cmd.Process.Signal(syscall.SIGKILL)
		m.send(syscall.SIGKILL, postgres)
		<-m.server.done
		m.restart()
		return "killed the server and PostgreSQL"
	},
}

// slowFaults last longer than a timeout: that of statements, of the lease, or of stopping a
// database.
var slowFaults = []fault{
	func(m *faultInjector) string {
		return "froze PostgreSQL for " + m.freeze(12*time.Second, m.postgres()...)
	},
	func(m *faultInjector) string {
		return "froze the server for " + m.freeze(20*time.Second, m.server.cmd.Process.Pid)
	},
	func(m *faultInjector) string {
		m.send(syscall.SIGSTOP, m.postgres()...)
		m.server.signal(syscall.SIGKILL)
		m.restart()
		return "killed the server beside a frozen PostgreSQL"
	},
}

// run injects faults for a time: each kind once in random order, and again. A long run includes the
// slow ones in every third round. Everything is running when it returns.
func (m *faultInjector) run(duration time.Duration, long bool) {
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
				m.t.Errorf("the server exited unexpectedly: %s", m.server.cmd.ProcessState)
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

func (m *faultInjector) restart() { m.server.start(m.t, m.args...) }

// pause returns a random duration up to a limit.
func (m *faultInjector) pause(limit time.Duration) time.Duration {
	return time.Duration(m.random.Int64N(int64(limit)))
}

// send sends a signal to processes, and returns how many of them existed.
func (m *faultInjector) send(s syscall.Signal, pids ...int) (n int) {
	for _, pid := range pids {
		if pid > 0 && syscall.Kill(pid, s) == nil {
			n++
		}
	}
	return n
}

// freeze stops processes for a while, and returns the duration as text.
func (m *faultInjector) freeze(d time.Duration, pids ...int) string {
	m.send(syscall.SIGSTOP, pids...)
	wait(m.ctx, d)
	m.send(syscall.SIGCONT, pids...)
	return d.Round(time.Millisecond).String()
}

// postgres returns the process IDs of the private database, beginning with the postmaster.
func (m *faultInjector) postgres() []int {
	postmaster := postgresOf(m.server.data)
	if postmaster == 0 {
		return nil
	}
	pids := []int{postmaster}
	children, err := exec.CommandContext(m.ctx, "pgrep", "-P", strconv.Itoa(postmaster)).Output()
	if err != nil {
		return pids // it has ended
	}
	for _, field := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// backend returns the process ID of one of the server's backends, or 0.
func (m *faultInjector) backend() (pid int) {
	err := m.query(`SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		ORDER BY random() LIMIT 1`, &pid)
	if err != nil {
		return 0
	}
	return pid
}

// query runs a query on the private database, which may be unavailable.
func (m *faultInjector) query(sql string, to any) error {
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
