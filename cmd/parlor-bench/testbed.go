package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"parlor/auth"
	"parlor/bench"
	"parlor/localpg"
	"parlor/room"
)

// testbed starts the servers of a command and measures them.
type testbed struct {
	Parlor string `placeholder:"FILE" help:"The program parlor. Default: the one in the folder of this program."`

	self    string // path of this program, which runs the floor
	secret  string // PARLOR_SECRET of the Parlor servers
	natsURL string // their PARLOR_NATS_URL
	folder  string // contains all files, and is removed at the end
}

// contender is a kind of server to compare.
type contender struct {
	name  string
	start func(ctx context.Context, folder string) (*running, error)
	kind  room.MessageKind // kind of the messages, for Parlor
}

// running is a running server, with the options of a run that depend on it.
type running struct {
	*child
	// second is a server that shares the database of the first; nil if there is none.
	second *child
	// database is the one of several servers; nil if the only server runs its own.
	database *localpg.Server
	target   bench.Target
	// pids and beside are bench.Options.PIDs and BesidePIDs.
	pids, beside []int
	metrics      []string // bench.Options.Metrics
}

// stop stops all servers, and then the database.
func (r *running) stop() error {
	var err error
	if r.second != nil {
		err = r.second.stop()
	}
	err = errors.Join(err, r.child.stop())
	if r.database != nil {
		err = errors.Join(err, r.database.Stop())
	}
	return err
}

func (b *testbed) open() (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.Parlor == "" {
		b.Parlor = filepath.Join(filepath.Dir(b.self), "parlor")
	}
	b.secret = rand.Text() + rand.Text()
	b.folder, err = newFolder("")
	return err
}

func (b *testbed) close() error { return os.RemoveAll(b.folder) }

// startParlor starts a Parlor server with a database of its own.
func (b *testbed) startParlor(ctx context.Context, folder string) (*running, error) {
	data, err := b.newDataFolder(ctx, folder)
	if err != nil {
		return nil, err
	}
	return b.startOn(ctx, folder, data, "")
}

// startOn starts a Parlor server with a data folder, whose database runs at a URL, or is started by
// the server if that is empty.
func (b *testbed) startOn(ctx context.Context, folder, data, database string) (*running, error) {
	process, api, ops, err := b.serve(ctx, folder, data, database)
	if err != nil {
		return nil, err
	}
	tokens := auth.Tokens{Secret: []byte(b.secret)}
	return &running{
		child: process, pids: []int{process.cmd.Process.Pid}, beside: postgresIn(data), metrics: []string{ops + "/metrics"},
		target: &bench.Parlor{
			URLs: []string{api}, Size: messageSize,
			Token: func(user room.UserID) (string, error) { return tokens.Sign(room.User{ID: user}, time.Hour) },
		},
	}, nil
}

// serve starts the program parlor, and returns its URLs. Without a database, it runs a private one.
func (b *testbed) serve(ctx context.Context, folder, data, database string) (process *child, api, ops string, err error) {
	if api, err = freeAddress(); err != nil {
		return nil, "", "", err
	}
	if ops, err = freeAddress(); err != nil {
		return nil, "", "", err
	}
	// There are no limits per user or address, because a few senders and one address stand for
	// many. The limit on open files still applies to connections and streams. Servers on one
	// database must have the same place for files, although no files are sent.
	env := []string{
		"PARLOR_MEDIA_URL=file://" + filepath.Join(b.folder, "media"),
		"PARLOR_SECRET=" + b.secret, "DATABASE_URL=" + database, "PARLOR_MIGRATE=true", "PARLOR_MESSAGE_RATE=0", "PARLOR_BARRAGE_RATE=0", "PARLOR_BARRAGE_BYTES=0",
		"PARLOR_ADDRESS_LOGIN_RATE=0", "PARLOR_CONNECTIONS_PER_ADDRESS=1000000", "PARLOR_STREAMS_PER_ADDRESS=1000000",
	}
	if b.natsURL != "" { // an earlier program does not know the setting
		env = append(env, "PARLOR_NATS_URL="+b.natsURL)
	}
	process, err = startChild(folder, env,
		b.Parlor, "serve", "--data", data, "--listen", api, "--ops-listen", ops, "--drain", "0s", "--log-level", "warn")
	if err != nil {
		return nil, "", "", err
	}
	err = process.await(ctx, func() bool { return strings.Contains(process.output(), "Parlor is ready") })
	return process, "http://" + api, "http://" + ops, err
}

// newDataFolder returns a data folder of Parlor with a migrated private database. It copies one
// that it has created for the first server, because creating a database takes longer than a short
// measurement.
func (b *testbed) newDataFolder(ctx context.Context, folder string) (string, error) {
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL=")
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, output)
		}
		return nil
	}
	template, data := filepath.Join(b.folder, "template"), filepath.Join(folder, "data")
	if _, err := os.Stat(template); err != nil {
		if err := run(b.Parlor, "migrate", "--data", template); err != nil {
			return "", err
		}
	}
	return data, run("cp", "-a", template, data)
}

// postgresIn returns the process ID of the PostgreSQL of a data folder, if it runs.
func postgresIn(data string) []int {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return nil
	}
	return []int{pid}
}

// messageSize is the size of a message in bytes.
const messageSize = 100

// measure starts a server, measures it under one load, and stops it.
func (b *testbed) measure(ctx context.Context, contender contender, o bench.Options) (report *bench.Report, err error) {
	folder, err := newFolder(b.folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	server, err := contender.start(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	o.PIDs, o.BesidePIDs, o.Metrics = server.pids, server.beside, server.metrics
	o.Target = server.target
	if p, ok := o.Target.(*bench.Parlor); ok {
		p.Kind, p.KeepSessions, p.MessageIDs = contender.kind, true, o.Herd
	}
	return bench.Run(ctx, o)
}

// newFolder creates a temporary folder in parent, or in the system's own if parent is empty.
func newFolder(parent string) (string, error) {
	folder, err := os.MkdirTemp(parent, "parlor-bench")
	if err != nil {
		return "", err
	}
	return folder, os.Chmod(folder, 0o711) // PostgreSQL, which does not run as root, must reach its folder
}
