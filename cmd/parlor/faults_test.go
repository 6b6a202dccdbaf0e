package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
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

	"parlor/localpg"
	"parlor/store/storetest"
)

// faultInjector kills, freezes and restarts servers and their database, as machines, kernels and
// operators do.
type faultInjector struct {
	t       *testing.T
	ctx     context.Context
	random  *rand.Rand
	servers []*process
	server  *process // the one that the current fault is about
	args    []string // of each server
	data    string   // the folder that contains the database
	// shared is the database of several servers, which the test runs. It is nil if the only server
	// runs its own.
	shared *localpg.Server
	// nats connects several servers. If it is nil, the database does.
	nats   *natsBus
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
		if m.send(syscall.SIGKILL, postgresOf(m.data)) == 0 {
			return ""
		}
		return "killed PostgreSQL"
	},
	func(m *faultInjector) string {
		if m.send(syscall.SIGQUIT, postgresOf(m.data)) == 0 {
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
		if m.nats != nil {
			away := m.pause(3 * time.Second)
			m.nats.stop()
			wait(m.ctx, away)
			m.nats.start()
			return fmt.Sprintf("stopped NATS for %s", away.Round(time.Millisecond))
		}
		if n := m.cutBus("random() < 0.5"); n > 0 {
			return fmt.Sprintf("terminated %d connections of the bus", n)
		}
		return ""
	},
	func(m *faultInjector) string { return m.stopDatabase(m.pause(3 * time.Second)) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), both, postgresPeer) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), sent, postgresPeer) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), received, postgresPeer) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), m.anyDirection(), natsPeer) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), both, postgresPeer, natsPeer) },
	func(m *faultInjector) string { return m.cutOff(m.pause(3*time.Second), both, allPeers...) },
	func(m *faultInjector) string {
		network := m.server.network
		if network == nil {
			return ""
		}
		network.lose(both, allPeers...) // nobody hears of the end of the server
		m.server.signal(syscall.SIGKILL)
		wait(m.ctx, m.pause(3*time.Second))
		network.mend()
		m.restart()
		return "killed the server while it was cut off"
	},
	func(m *faultInjector) string {
		postgres := postgresOf(m.data)
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
	func(m *faultInjector) string { return m.cutOff(20*time.Second, both, postgresPeer, natsPeer) },
	func(m *faultInjector) string { return m.cutOff(20*time.Second, m.anyDirection(), postgresPeer) },
	func(m *faultInjector) string { return m.cutOff(20*time.Second, both, allPeers...) },
	func(m *faultInjector) string { return m.stopDatabase(time.Minute) },
	func(m *faultInjector) string {
		if m.shared != nil {
			return "" // a database that stays frozen ends the start of a server
		}
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
			for _, m.server = range m.servers {
				select {
				case <-m.server.done:
					m.t.Errorf("a server exited unexpectedly: %s", m.server.cmd.ProcessState)
					m.restart()
				default:
				}
			}
			m.server = m.servers[m.random.IntN(len(m.servers))]
			began := time.Now()
			if did := kinds[kind](m); did != "" {
				m.faults++
				m.t.Logf("%6.1f s: %s (%.1f s)", began.Sub(m.began).Seconds(), did, time.Since(began).Seconds())
			}
		}
	}
}

// deafen makes the servers miss what is sent from now on. It returns a function that ends that.
func (m *faultInjector) deafen() (end func()) {
	if m.nats != nil {
		m.nats.stop()
		return m.nats.start
	}
	m.cutBus("true")
	return func() {} // they connect again at once
}

// cutBus terminates those connections to the database that are for the bus and for which a condition
// holds, and returns how many.
func (m *faultInjector) cutBus(condition string) (n int) {
	err := m.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'parlor bus' AND "+condition, &n)
	if err != nil {
		return 0
	}
	return n
}

// cutOff makes the network of the server lose what it exchanges with peers, or one direction of it.
func (m *faultInjector) cutOff(d time.Duration, way direction, peers ...peer) string {
	if m.nats == nil {
		peers = slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p == natsPeer })
	}
	network := m.server.network
	if network == nil || len(peers) == 0 {
		return ""
	}
	network.lose(way, peers...)
	wait(m.ctx, d)
	network.mend()
	return fmt.Sprintf("lost %s %s for %s", way, namesOf(peers), d.Round(time.Millisecond))
}

// anyDirection returns a random direction.
func (m *faultInjector) anyDirection() direction {
	return []direction{sent, received, both}[m.random.IntN(3)]
}

// stopDatabase stops the shared database for a time.
func (m *faultInjector) stopDatabase(d time.Duration) string {
	if m.shared == nil {
		return ""
	}
	if err := m.shared.Stop(); err != nil {
		m.t.Error(err)
	}
	wait(m.ctx, d)
	m.startDatabase()
	return fmt.Sprintf("stopped PostgreSQL for %s", d.Round(time.Millisecond))
}

// start starts a server on a database of its own, or several on one that they share, connected by
// the database or by NATS.
func (m *faultInjector) start(servers int, nats bool) {
	m.t.Helper()
	m.data = storetest.Folder(m.t)
	env := []string{"PARLOR_SECRET=" + string(goodSecret)}
	if servers == 1 {
		m.servers = []*process{startParlorWith(m.t, m.data, env, m.args...)}
		return
	}
	if hasNamespaces {
		openNetworks(m.t)
	}
	m.startDatabase()
	m.t.Cleanup(func() {
		if err := m.shared.Stop(); err != nil {
			m.t.Error(err)
		}
	})
	url, host := m.shared.URL(), "127.0.0.1"
	if hasNamespaces {
		url, host = "postgres://parlor@"+postgresPeer.address()+"/parlor?sslmode=disable", natsPeer.address()
	}
	env = sharedEnv(m.t, url)
	if nats {
		m.nats = startNATSAt(m.t, host)
		env = append(env, m.nats.env()...)
	}
	for i := range servers {
		p := &process{env: env, data: storetest.Folder(m.t), url: "http://" + freeAddress(m.t), ops: "http://" + freeAddress(m.t)}
		if hasNamespaces {
			p.network = addNetwork(m.t, i)
			address := p.network.address(clientsPeer)
			p.url, p.ops = "http://"+address+":8080", "http://"+address+":9090"
		}
		p.start(m.t, m.args...)
		m.t.Cleanup(func() { p.signal(syscall.SIGTERM) })
		m.servers = append(m.servers, p)
	}
}

// logFailure writes what is left of the members that were removed, and the ends of the logs of all
// servers, if the test has failed.
func (m *faultInjector) logFailure() {
	if !m.t.Failed() {
		return
	}
	var removed string
	err := m.query("SELECT coalesce(string_agg(d::text, E'\\n'), '') FROM (SELECT * FROM departures ORDER BY left_at DESC LIMIT 50) d", &removed)
	m.t.Logf("removed from rooms (error %v):\n%s", err, removed)
	for i, p := range m.servers {
		// An outage has a line for each call.
		lines := slices.DeleteFunc(strings.Split(p.logged(), "\n"), func(line string) bool { return strings.Contains(line, "msg=unavailable") })
		m.t.Logf("the end of the log of server %d:\n%s", i, strings.Join(lines[max(0, len(lines)-50):], "\n"))
	}
}

// startDatabase starts the shared database.
func (m *faultInjector) startDatabase() {
	m.t.Helper()
	settings := map[string]string{"fsync": "off"}
	if hasNamespaces {
		settings["listen_addresses"] = postgresPeer.address()
		settings["hba_file"] = filepath.Join(m.data, "access")
		// PostgreSQL may run as another user, who has to read the file.
		if err := os.WriteFile(settings["hba_file"], []byte("local all all trust\nhost all all 192.0.2.0/24 trust\n"), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	var err error
	m.shared, err = localpg.Start(m.ctx, localpg.Options{Dir: filepath.Join(m.data, "postgres"), Settings: settings})
	if err != nil {
		m.t.Fatal(err)
	}
}

// restart starts the server again. A shared database has to be available first.
func (m *faultInjector) restart() {
	var one int
	for m.shared != nil && m.query("SELECT 1", &one) != nil && m.ctx.Err() == nil {
		wait(m.ctx, 20*time.Millisecond)
	}
	m.server.start(m.t, m.args...)
}

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
	postmaster := postgresOf(m.data)
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
	folder, err := filepath.Abs(filepath.Join(m.data, "postgres"))
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
