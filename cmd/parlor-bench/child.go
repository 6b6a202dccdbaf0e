package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a server may take to start, including the creation of a private
	// PostgreSQL.
	startTimeout = time.Minute
	// stopTimeout is how long a server may take to stop before it is killed.
	stopTimeout = 30 * time.Second
)

// child is a server process that was started for a measurement.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	log   string
}

// startChild starts a program whose output goes to a file in the folder.
func startChild(folder string, env []string, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), ended: make(chan struct{}), log: filepath.Join(folder, "log")}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Dir = folder
	// An interrupt from the terminal must not reach the servers, which are stopped in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// await waits until ready returns true. If the process does not become ready, await stops it.
func (c *child) await(ctx context.Context, ready func() bool) error {
	if err := c.awaitReady(ctx, ready); err != nil {
		return errors.Join(err, c.stop())
	}
	return nil
}

func (c *child) awaitReady(ctx context.Context, ready func() bool) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(startTimeout)
	for !ready() {
		select {
		case <-ticker.C:
		case <-c.ended:
			return fmt.Errorf("%s ended: %s", c.cmd.Path, c.output())
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %s", c.cmd.Path, startTimeout, c.output())
		}
	}
	return nil
}

// output returns the end of what the process has printed.
func (c *child) output() string {
	text, _ := os.ReadFile(c.log)
	text = bytes.TrimSpace(text)
	return string(text[max(len(text)-1000, 0):])
}

// stop asks the process to stop, and kills it after stopTimeout.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.ended:
		return nil
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("%s had to be killed: %s", c.cmd.Path, c.output())
	}
}

// Servers listen on ports below the ephemeral ports of the system, because an outgoing connection
// could take one of those before the server listens on it.
const firstPort, lastPort = 20_000, 32_000

// freeAddress returns an address that is not in use at the moment.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("found no free port")
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
