package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"parlor/bench"
	"parlor/room"
)

// errAbsent means that a server is not installed on this machine.
var errAbsent = errors.New("not on this machine")

// The contenders, in the order of the columns of the table.
const (
	bare = iota
	netHTTP
	nchan
	centrifugo
	barrage
	text
)

func (c *TableCmd) contenders() []contender {
	return []contender{
		bare:       {name: "floor", start: c.floorStart()},
		netHTTP:    {name: "net/http floor", start: c.floorStart("--net-http")},
		nchan:      {name: "nchan", start: c.startNchan},
		centrifugo: {name: "Centrifugo", start: c.startCentrifugo},
		barrage:    {name: "barrage", start: c.startParlor, kind: room.KindBarrage},
		text:       {name: "text", start: c.startParlor, kind: room.KindText},
	}
}

// floorStart returns a function that starts the floor, with the given flags.
func (c *TableCmd) floorStart(flags ...string) func(context.Context, string) (*running, error) {
	return func(ctx context.Context, folder string) (*running, error) {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		process, err := startChild(folder, nil, c.self, append([]string{"floor", "--listen", address}, flags...)...)
		if err != nil {
			return nil, err
		}
		if err := process.await(ctx, func() bool { return listens(address) }); err != nil {
			return nil, err
		}
		return &running{child: process, pids: []int{process.cmd.Process.Pid}, target: plainAt(address, messageSize)}, nil
	}
}

func plainAt(address string, size int) *bench.Plain {
	return &bench.Plain{Subscribe: "http://" + address + "/sub/{room}", Publish: "http://" + address + "/pub/{room}", Size: size}
}

// nchanModules are the paths at which distributions install nginx's module nchan.
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

func (c *TableCmd) startNchan(ctx context.Context, folder string) (*running, error) {
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
		user = "user root;" // the workers could not read the folder otherwise
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
	ready := func() bool { return listens(address) && len(bench.Family(master)) > c.NginxWorkers }
	if err := process.await(ctx, ready); err != nil {
		return nil, err
	}
	return &running{child: process, pids: bench.Family(master), target: plainAt(address, messageSize)}, nil
}

const centrifugoConfiguration = `{
  "http_server": {"address": "127.0.0.1", "port": %q}, "log": {"level": "error"},
  "client": {"insecure": true}, "http_api": {"insecure": true}, "uni_sse": {"enabled": true},
  "channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}}
}`

// startCentrifugo starts Centrifugo with unidirectional streams, an API without a key, and nothing
// stored.
func (c *TableCmd) startCentrifugo(ctx context.Context, folder string) (*running, error) {
	program, err := exec.LookPath(c.Centrifugo)
	if err != nil {
		return nil, fmt.Errorf("centrifugo: %w; --centrifugo names its program", errAbsent)
	}
	if program, err = filepath.Abs(program); err != nil { // it runs in another folder
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "config.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, centrifugoConfiguration, port), 0o600); err != nil {
		return nil, err
	}
	process, err := startChild(folder, nil, program, "--config", path)
	if err != nil {
		return nil, err
	}
	if err := process.await(ctx, func() bool { return listens(address) }); err != nil {
		return nil, err
	}
	return &running{child: process, pids: []int{process.cmd.Process.Pid}, target: &bench.Plain{
		Subscribe: "http://" + address + `/connection/uni_sse?cf_connect={"subs":{"{room}":{}}}`,
		Publish:   "http://" + address + "/api/publish", Envelope: `{"channel":"{room}","data":"{message}"}`,
		Size: messageSize, Greets: true,
	}}, nil
}
