// Package localpg runs Parlor's private PostgreSQL: a cluster in the data folder, served by the
// PostgreSQL that is installed on the machine, reachable only through a Unix socket, and supervised
// until it is stopped.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// owner is the name of the cluster's superuser and of Parlor's database.
	owner = "parlor"

	// The delay before a restart doubles from the first to the last value. It starts again at the
	// first after PostgreSQL has run for steadyAfter.
	firstRestartDelay = 250 * time.Millisecond
	lastRestartDelay  = 5 * time.Second
	steadyAfter       = time.Minute

	// stopLimit bounds the checkpoint of a fast shutdown: 128 MB of buffers take seconds even on a
	// slow disk. PostgreSQL is killed afterwards. Nothing is lost, because the next start replays
	// the write-ahead log.
	stopLimit = time.Minute
	// quitLimit is the time after which a fast shutdown becomes an immediate one, which leaves the
	// checkpoint to the next start.
	quitLimit = 20 * time.Second

	// pollInterval is the pause between two checks of a process that is starting or ending.
	pollInterval = 20 * time.Millisecond

	logName = "postgres.log"
)

// Options describes where the cluster is stored and how it runs.
type Options struct {
	// Dir is the cluster's folder. Start creates the cluster if there is none. If the process runs
	// as root and the database user cannot reach Dir, Dir becomes a symbolic link to a folder under
	// /var/lib/parlor.
	Dir string
	// Log receives messages for the operator. Nil discards them.
	Log *slog.Logger
	// Settings are additional PostgreSQL settings, passed as -c name=value. They override the
	// package's own.
	Settings map[string]string
}

// Server is a running private PostgreSQL.
type Server struct {
	cluster cluster
	socket  socketDir
	args    []string
	log     *slog.Logger

	exits chan error         // unexpected exits; Start reads the first, later ones may be discarded
	stop  context.CancelFunc // ends supervise
	done  chan struct{}      // closed by supervise, after PostgreSQL has ended for good
	err   error              // error of a requested stop; written before done is closed
}

// Start creates the cluster if there is none, starts PostgreSQL, and waits until it accepts
// connections and has a database for Parlor. The context bounds only the start: PostgreSQL runs
// until Stop, and is restarted when it dies.
//
// A PostgreSQL that a killed parent left running on the folder is stopped first. That is safe only
// because the caller holds a lock on the data folder, so that no other process can be using it.
//
// The error's text is a single line. It says what to do if PostgreSQL is missing, too old, or of
// another major version than the cluster.
func Start(ctx context.Context, o Options) (*Server, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cluster, err := openCluster(ctx, o, log)
	if err != nil {
		return nil, err
	}
	socket, err := openSocketDir(cluster)
	if err != nil {
		return nil, err
	}
	if err := stopLeftover(ctx, cluster, socket, log); err != nil {
		return nil, err
	}
	if err := cluster.repair(log); err != nil {
		return nil, err
	}
	if err := rotateLog(cluster); err != nil {
		return nil, err
	}

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{
		cluster: cluster,
		socket:  socket,
		args:    arguments(cluster.dir, socket.path, o.Settings),
		log:     log,
		exits:   make(chan error, 1),
		stop:    stop,
		done:    make(chan struct{}),
	}
	go s.supervise(running)
	if err := s.awaitDatabase(ctx); err != nil {
		if stopErr := s.Stop(); stopErr != nil {
			log.Error("PostgreSQL not stopped after a failed start", "error", stopErr)
		}
		return nil, err
	}
	return s, nil
}

// URL returns the address for pgx. It depends only on the cluster's folder, so that it stays the
// same after a restart.
func (s *Server) URL() string { return s.url(owner) }

func (s *Server) url(database string) string { return urlOf(s.socket.path, database) }

func urlOf(socket, database string) string {
	// Port and sslmode are set to their defaults because PGPORT and PGSSLMODE may override them
	// otherwise.
	query := url.Values{"host": {socket}, "port": {socketPort}, "sslmode": {"disable"}}
	// pgx, like libpq, reads a plus sign as itself and not as a space.
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
	u := url.URL{Scheme: "postgres", User: url.User(owner), Path: "/" + database, RawQuery: encoded}
	return u.String()
}

// RunningURL returns the address of the cluster in a folder, as in Options.Dir, that another
// process runs.
func RunningURL(folder string) (string, error) {
	dir, err := filepath.Abs(folder)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("database folder: %w", err)
	}
	if !usableForSocket(dir) {
		dir = temporarySocketDir(dir)
	}
	return urlOf(dir, owner), nil
}

// Stop shuts PostgreSQL down, closes open connections, and waits until it has ended. Later calls
// return the same result.
func (s *Server) Stop() error {
	s.stop()
	<-s.done
	return s.err
}

// supervise runs PostgreSQL until the context ends, and restarts it when it dies.
//
// The goroutine stays locked to its thread: the kernel sends the parent-death signal when the
// thread that forked ends, not when the process does. A thread that a goroutine locks and never
// unlocks ends with the goroutine.
func (s *Server) supervise(ctx context.Context) {
	runtime.LockOSThread()
	defer close(s.done)
	defer s.socket.remove()

	delay := firstRestartDelay
	for {
		began := time.Now()
		err := s.run(ctx)
		if ctx.Err() != nil {
			s.err = errors.Join(err, s.awaitOrphans(ctx))
			return
		}
		select {
		case s.exits <- err:
		default:
		}
		if time.Since(began) > steadyAfter {
			delay = firstRestartDelay
		}
		s.log.Error("PostgreSQL exited unexpectedly, restarting",
			"error", err, "after", delay, "log", filepath.Join(s.cluster.dir, logName))
		select {
		case <-ctx.Done():
			s.err = s.awaitOrphans(ctx)
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRestartDelay)
	}
}

// awaitOrphans waits until the processes of a killed postmaster have ended too, because the caller
// of Stop may remove or copy its folder.
func (s *Server) awaitOrphans(ctx context.Context) error {
	return stopLeftover(context.WithoutCancel(ctx), s.cluster, s.socket, s.log)
}

// run starts PostgreSQL and waits until it has ended. It returns nil after a shutdown that the
// context requested.
func (s *Server) run(ctx context.Context) error {
	logFile, err := openLog(s.cluster)
	if err != nil {
		return err
	}
	defer logFile.Close()

	cmd := s.cluster.command(ctx, "postgres", s.args...)
	cmd.Dir = s.cluster.dir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.WaitDelay = stopLimit
	var quit *time.Timer // set by Cancel, which has returned before Wait does
	cmd.Cancel = func() error {
		quit = time.AfterFunc(quitLimit, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
		return cmd.Process.Signal(s.stopSignal())
	}
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.log.Debug("PostgreSQL started", "pid", cmd.Process.Pid)
	err = cmd.Wait()
	if ctx.Err() != nil {
		if quit != nil {
			quit.Stop()
		}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			return fmt.Errorf("PostgreSQL did not shut down within %s and was killed", stopLimit)
		}
		return nil
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("PostgreSQL: %w", err)
}

// stopSignal returns the signal that stops PostgreSQL in its present state. A fast shutdown never
// ends while PostgreSQL recovers from the crash of one of its processes (PostgreSQL 15 waits for a
// checkpointer that is not stopped). An immediate one is enough then, because the next start
// recovers.
func (s *Server) stopSignal() syscall.Signal {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err == nil {
		_ = conn.Close(ctx)
		return syscall.SIGINT
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && stillStarting(refused) {
		return syscall.SIGQUIT
	}
	return syscall.SIGINT
}

// awaitDatabase waits until PostgreSQL accepts connections and Parlor's database exists. Replaying
// the log after a crash may take minutes, so only the context limits it.
func (s *Server) awaitDatabase(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := s.createDatabase(ctx)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && !stillStarting(refused) {
			return err
		}
		select {
		case err := <-s.exits:
			line := lastLogLine(s.cluster.dir)
			if line != "" {
				err = fmt.Errorf("%w: %s", err, line)
			}
			return fmt.Errorf("%w%s", err, remedy(s.cluster.dir, line))
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL to accept connections: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// stillStarting reports whether an error is temporary: 57P03 is cannot_connect_now (starting up, or
// replaying the log).
func stillStarting(err *pgconn.PgError) bool { return err.Code == "57P03" }

func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))

	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, owner).Scan(&exists); err != nil {
		return fmt.Errorf("look for database %s: %w", owner, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{owner}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", owner, err)
	}
	return nil
}

// arguments returns the server's command line. It contains the settings, rather than
// postgresql.conf, so that a new version of Parlor changes them for existing clusters too.
func arguments(dir, socket string, extra map[string]string) []string {
	settings := map[string]string{
		"listen_addresses": "",
		// The value is a list, hence the quotes.
		"unix_socket_directories": `"` + strings.ReplaceAll(socket, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
		"port":                    socketPort,
		"max_connections":         "100",
		"shared_buffers":          "128MB",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_checkpoints":         "off", // a line every five minutes that nobody reads
	}
	maps.Copy(settings, extra)

	args := []string{"-D", dir}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// rotateLog keeps the log of the previous run, which may say why it ended.
func rotateLog(c cluster) error {
	path := filepath.Join(c.dir, logName)
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate the database log: %w", err)
	}
	// O_EXCL, because root must not follow a link that the database user put here.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create the database log: %w", err)
	}
	defer file.Close()
	// A base backup reads every file of the cluster as the database user.
	if err := c.account.own(path); err != nil {
		return fmt.Errorf("create the database log: %w", err)
	}
	return nil
}

// openLog opens the log for one run of the server. rotateLog has made sure that the file is ours.
func openLog(c cluster) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(c.dir, logName), os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the database log: %w", err)
	}
	return file, nil
}

// lastLogLine returns the log line that most likely says why PostgreSQL did not start.
func lastLogLine(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		return ""
	}
	return errorLine(string(data))
}

// errorLine returns the last line of a program's output that mentions an error, or else its last
// line.
func errorLine(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range slices.Backward(lines) {
		for _, mark := range []string{"FATAL: ", "PANIC: ", "error: "} {
			if _, text, found := strings.Cut(line, mark); found {
				return strings.TrimSpace(text)
			}
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// command prepares one of PostgreSQL's programs to run as the database user. The end of the context
// stops it with SIGINT: a fast shutdown for postgres, a clean-up for initdb. So does the death of
// our process, or of the thread that starts the program: the caller must be locked to its thread
// until the program has ended.
func (c cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := c.account.command(ctx, filepath.Join(c.install.dir, program), args...)
	endWithParent(cmd.SysProcAttr)
	return cmd
}
