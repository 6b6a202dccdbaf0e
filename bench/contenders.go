package bench

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
	"strconv"
	"strings"
	"syscall"
	"time"

	"parlor/room"
)

const (
	// startTimeout is how long a server may take to start; a private PostgreSQL is made on the way.
	startTimeout = time.Minute
	// stopTimeout is how long it may take to stop before it is killed.
	stopTimeout = 30 * time.Second
)

// Contest starts servers on this machine, one after the other, to measure them under the same load.
type Contest struct {
	// Program is this program, which serves and is the floor.
	Program string
	// Token signs a token of a user with a secret.
	Token func(secret string, user room.UserID) (string, error)
	// NginxWorkers is how many processes nginx has.
	NginxWorkers int
	// Secret is that of the Parlor servers.
	Secret string
	// Duration is the measured time of each load. Scale makes the loads larger or smaller; 1 leaves them as they are.
	Duration time.Duration
	Scale    float64
	// Rounds is how often all is measured.
	Rounds int
	// Loads are the numbers of the loads to be measured, from 1; none: all.
	Loads []int
}

// contender is a server in the contest.
type contender struct {
	name  string
	start func(ctx context.Context, folder string) (*contestant, error)
	kind  room.MessageKind // of a Parlor
}

// contestant is a server that runs.
type contestant struct {
	*child
	target       func(size int) Target
	pids, beside []int
	metrics      string
}

// errAbsent says that a server is not on this machine.
var errAbsent = errors.New("not on this machine")

func (c *Contest) contenders() []contender {
	return []contender{
		{name: "floor", start: c.startFloor},
		{name: "nchan", start: c.startNchan},
		{name: "barrage", start: c.startParlor, kind: room.KindBarrage},
		{name: "text", start: c.startParlor, kind: room.KindText},
	}
}

// child is a process that the contest started.
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
	// An interrupt from the terminal is for the contest, which then ends its servers in order.
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

// await waits until something holds, as long as the process runs.
func (c *child) await(ctx context.Context, holds func() bool) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(startTimeout)
	for !holds() {
		select {
		case <-ticker.C:
		case <-c.ended:
			return fmt.Errorf("%s ended: %s", c.cmd.Path, c.said())
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %s", c.cmd.Path, startTimeout, c.said())
		}
	}
	return nil
}

// said is the end of what the process wrote.
func (c *child) said() string {
	text, _ := os.ReadFile(c.log)
	text = bytes.TrimSpace(text)
	return string(text[max(len(text)-1000, 0):])
}

// stop ends the process.
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
		return fmt.Errorf("%s had to be killed: %s", c.cmd.Path, c.said())
	}
}

// Ports for servers. The system gives out those above to connections, of which there are many: one could be taken
// before the server listens on it.
const firstPort, lastPort = 20_000, 32_000

// freeAddress is an address that nobody listens on for the moment.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no port is free")
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// launch starts a server that is ready when something holds, and ends it where it does not come so far.
func launch(ctx context.Context, c *child, ready func() bool) error {
	if err := c.await(ctx, ready); err != nil {
		return errors.Join(err, c.stop())
	}
	return nil
}

func (c *Contest) startFloor(ctx context.Context, folder string) (*contestant, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	process, err := startChild(folder, nil, c.Program, "bench", "floor", "--listen", address)
	if err != nil {
		return nil, err
	}
	if err := launch(ctx, process, func() bool { return listens(address) }); err != nil {
		return nil, err
	}
	return &contestant{child: process, pids: []int{process.cmd.Process.Pid}, target: plainAt(address)}, nil
}

func plainAt(address string) func(size int) Target {
	return func(size int) Target {
		return &Plain{Subscribe: "http://" + address + "/sub/" + roomHolder, Publish: "http://" + address + "/pub/" + roomHolder, Size: size}
	}
}

// nchanModules is where distributions put nginx's modules.
var nchanModules = []string{"/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/lib64/nginx/modules/ngx_nchan_module.so", "/usr/local/libexec/nginx/ngx_nchan_module.so"}

const nginxConfiguration = `daemon off;
load_module %[1]s;
%[2]s
pid %[3]s/nginx.pid;
error_log %[3]s/error.log warn;
worker_processes %[4]d;
worker_rlimit_nofile 40000;
events { worker_connections 32000; }
http {
  access_log off;
  client_body_temp_path %[3]s; proxy_temp_path %[3]s; fastcgi_temp_path %[3]s; uwsgi_temp_path %[3]s; scgi_temp_path %[3]s;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 256M;
  server {
    listen %[5]s backlog=4096;
    location ~ ^/pub/(.+)$ { nchan_publisher http; nchan_channel_id $1; nchan_message_buffer_length 5000; nchan_message_timeout 10s; }
    location ~ ^/sub/(.+)$ { nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest; }
  }
}
`

func (c *Contest) startNchan(ctx context.Context, folder string) (*contestant, error) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, fmt.Errorf("nginx: %w; on Debian: apt-get install nginx-light libnginx-mod-nchan", errAbsent)
		}
	}
	module := ""
	for _, path := range nchanModules {
		if _, err := os.Stat(path); err == nil {
			module = path
		}
	}
	if module == "" {
		return nil, fmt.Errorf("nginx's module nchan: %w; on Debian: apt-get install libnginx-mod-nchan", errAbsent)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // else the workers could not read the folder
	}
	path := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(nginxConfiguration, module, user, folder, c.NginxWorkers, address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	process, err := startChild(folder, nil, nginx, "-p", folder, "-c", path, "-e", filepath.Join(folder, "error.log"))
	if err != nil {
		return nil, err
	}
	master := process.cmd.Process.Pid
	ready := func() bool { return listens(address) && len(family(master)) > c.NginxWorkers }
	if err := launch(ctx, process, ready); err != nil {
		return nil, err
	}
	return &contestant{child: process, pids: family(master), target: plainAt(address)}, nil
}

func (c *Contest) startParlor(ctx context.Context, folder string) (*contestant, error) {
	api, err := freeAddress()
	if err != nil {
		return nil, err
	}
	ops, err := freeAddress()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(folder, "data")
	// No limits for a user or an address: a few senders stand for many users, and one address for all of theirs. The limit on
	// open files bounds connections and streams still.
	process, err := startChild(folder, []string{
		"PARLOR_SECRET=" + c.Secret, "DATABASE_URL=", "PARLOR_MESSAGE_RATE=0", "PARLOR_BARRAGE_RATE=0", "PARLOR_BARRAGE_BYTES=0",
		"PARLOR_ADDRESS_LOGIN_RATE=0", "PARLOR_CONNECTIONS_PER_ADDRESS=1000000", "PARLOR_STREAMS_PER_ADDRESS=1000000",
	},
		c.Program, "serve", "--data", data, "--listen", api, "--ops-listen", ops, "--drain", "0s", "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	if err := launch(ctx, process, func() bool { return strings.Contains(process.said(), "Parlor is ready") }); err != nil {
		return nil, err
	}
	running := &contestant{child: process, pids: []int{process.cmd.Process.Pid}, metrics: "http://" + ops + "/metrics"}
	running.beside = postgresIn(data)
	running.target = func(size int) Target {
		return &Parlor{URL: "http://" + api, Size: size, Token: func(user room.UserID) (string, error) { return c.Token(c.Secret, user) }}
	}
	return running, nil
}

// postgresIn is the process of a data folder's private PostgreSQL.
func postgresIn(data string) []int {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil
	}
	return []int{pid}
}
