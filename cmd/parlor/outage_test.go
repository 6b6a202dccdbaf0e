package main

import (
	"context"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// TestStreamsSurviveDatabaseOutage kills PostgreSQL under a running server. Calls fail, streams
// stay open, and continue when the database is back.
func TestStreamsSurviveDatabaseOutage(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--log-level", "warn")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alice := login(ctx, t, p, "alice")
	alice.enter(ctx, t, "hall")
	opened := make(chan struct{})
	follower := &reader{client: alice, opened: opened, enough: func(r *reader) bool {
		return len(r.texts) > 0 && r.texts[len(r.texts)-1] == "after"
	}}
	var reading sync.WaitGroup
	reading.Go(func() { follower.connect(ctx) })
	select {
	case <-opened:
	case <-ctx.Done():
		t.Fatalf("the stream did not open: %s", p.logged())
	}
	if err := alice.sendText(ctx, "hall", "before"); err != nil {
		t.Fatal(err)
	}

	// A stopped PostgreSQL neither answers nor rejects connections, which is the worst kind of
	// outage.
	postgres := postgresOf(p.data)
	signalAll(t, postgres, syscall.SIGSTOP)
	status := make(chan int, 1)
	go func() {
		got, err := alice.call(ctx, "POST", "/v1/rooms/hall/messages",
			map[string]string{"kind": "text", "text": "during", "clientMessageID": "during"}, nil)
		if err != nil {
			t.Error(err)
		}
		status <- got
	}()
	if got := <-status; got != http.StatusServiceUnavailable {
		t.Errorf("a message while PostgreSQL does not answer: status %d, want 503", got)
	}
	signalAll(t, postgres, syscall.SIGKILL)
	if err := alice.sendText(ctx, "hall", "after"); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
	if len(follower.texts) == 0 || follower.texts[0] != "before" || !follower.enough(follower) {
		t.Errorf("the stream delivered %q", follower.texts)
	}
	if follower.fault != "" || follower.broken != 0 {
		t.Errorf("the stream broke %d times, %s: %s", follower.broken, follower.fault, p.logged())
	}
}

// signalAll sends a signal to a PostgreSQL and its backends, each of which leads its own process
// group.
func signalAll(t *testing.T, postgres int, s syscall.Signal) {
	t.Helper()
	children, err := exec.CommandContext(t.Context(), "pgrep", "-P", strconv.Itoa(postgres)).Output()
	if err != nil {
		t.Fatalf("the children of PostgreSQL: %v", err)
	}
	for _, field := range append(strings.Fields(string(children)), strconv.Itoa(postgres)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatalf("signal %d to %d: %v", s, pid, err)
		}
	}
}
