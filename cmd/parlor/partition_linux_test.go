package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestServersReturnAfterPartition cuts servers off from their database in different ways, for longer
// than data may stay unacknowledged. It checks that their sweeps, which have no deadline, notice it
// rather than wait for TCP, and how soon the servers accept messages again.
func TestServersReturnAfterPartition(t *testing.T) {
	t.Parallel()
	if runInNamespace(t) {
		return
	}
	const (
		outage = 14 * time.Second
		limit  = 5 * time.Second
	)
	ways := []direction{sent, received, both}
	m := startSeparately(t, len(ways))
	ctx := m.ctx
	mended := make(chan struct{})
	var (
		mendedAt time.Time // set before mended is closed
		sending  sync.WaitGroup
	)
	for i, way := range ways {
		c := loginWithSecret(ctx, t, m.servers[i], fmt.Sprint("user", i))
		room := fmt.Sprint("room", i)
		c.enter(ctx, t, room)
		sending.Go(func() {
			for n := 0; ; n++ {
				if err := c.sendText(ctx, room, fmt.Sprint(n)); err != nil {
					t.Errorf("lost %s PostgreSQL: %v", way, err)
					return
				}
				select {
				case <-mended:
					took := time.Since(mendedAt)
					t.Logf("lost %s PostgreSQL: accepted a message %s after the network worked again", way, took.Round(time.Millisecond))
					if took > limit {
						t.Errorf("more than %s", limit)
					}
					return
				default:
				}
			}
		})
	}
	for i, way := range ways {
		m.servers[i].network.lose(way, postgresPeer)
	}
	wait(ctx, outage)
	for i, p := range m.servers {
		if !strings.Contains(p.logged(), "sweep failed") {
			t.Errorf("lost %s PostgreSQL: the sweep still waits after %s", ways[i], outage)
		}
		p.network.mend()
	}
	mendedAt = time.Now()
	close(mended)
	sending.Wait()
}

// TestDatabaseForgetsVanishedServer checks that PostgreSQL ends the sessions of a server of which it
// hears nothing any more, not even the end.
func TestDatabaseForgetsVanishedServer(t *testing.T) {
	t.Parallel()
	if runInNamespace(t) {
		return
	}
	const limit = 20 * time.Second
	m := startSeparately(t, 2)
	awaitBus(m.ctx, t, m.servers) // it has all connections
	lost := m.servers[0]
	sessions := func() (n int) {
		t.Helper()
		if err := m.query("SELECT count(*) FROM pg_stat_activity WHERE client_addr = '"+lost.network.address(postgresPeer)+"'", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := sessions(); n < 3 {
		t.Fatalf("the server has %d sessions, not those of the pools, of its lease and of the bus", n)
	}
	lost.network.lose(both, postgresPeer)
	lost.signal(syscall.SIGKILL)
	began := time.Now()
	for sessions() > 0 && time.Since(began) < limit {
		wait(m.ctx, 100*time.Millisecond)
	}
	if n := sessions(); n > 0 {
		t.Errorf("after %s, the server still has %d sessions", limit, n)
	}
	t.Logf("PostgreSQL ended the last session after %s", time.Since(began).Round(time.Millisecond))
}

// startSeparately starts a database and servers with networks of their own, until the end of the
// test.
func startSeparately(t *testing.T, servers int) *faultInjector {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	m := &faultInjector{t: t, ctx: ctx, args: []string{"--message-rate", "0", "--log-level", "warn"}}
	m.start(servers, false)
	t.Cleanup(m.logFailure)
	return m
}
