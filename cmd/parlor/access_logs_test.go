package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAccessLogsOmitQuery runs proxies with the log formats of docs/operations.md: the path of a
// call is in the log, and the stream's key is not.
func TestAccessLogsOmitQuery(t *testing.T) {
	t.Parallel()
	formats := accessLogFormats(t)
	folder, listen := t.TempDir(), map[string]string{}
	for _, name := range []string{"nginx", "caddy", "haproxy"} {
		listen[name] = freeAddress(t)
	}
	in := func(file string) string { return filepath.Join(folder, file) }
	user := ""
	if os.Geteuid() == 0 { // other users cannot read the folder of the test
		user = "user root;\n"
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, in(kind))
	}
	for name, c := range map[string]struct {
		program string
		args    []string
		config  string
	}{
		"nginx": {"nginx", []string{"-p", folder, "-c", in("nginx")}, fmt.Sprintf(
			"%sdaemon off;\npid %s;\nerror_log %s crit;\nevents {}\nhttp {\n%s%s\nserver { listen %s; location / { return 204; } }\n}\n",
			user, in("nginx.pid"), in("nginx.errors"), temporary,
			strings.Replace(formats[0], "/var/log/nginx/access.log", in("nginx.log"), 1), listen["nginx"])},
		"caddy": {"caddy", []string{"run", "--config", in("caddy"), "--adapter", "caddyfile"}, fmt.Sprintf(
			"{\nadmin off\nauto_https off\n%s}\nhttp://%s {\nlog\nreverse_proxy 127.0.0.1:1\n}\n", formats[1], listen["caddy"])},
		"haproxy": {"haproxy", []string{"-f", in("haproxy")}, fmt.Sprintf(
			"global\nlog stdout format raw local0\ndefaults\nmode http\nlog global\ntimeout connect 1s\ntimeout client 5s\ntimeout server 5s\n%s"+
				"frontend f\nbind %s\nhttp-request return status 204\n", formats[2], listen["haproxy"])},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := os.WriteFile(in(name), []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			program, err := findProgram(c.program)
			if err != nil {
				t.Fatalf("%s is not installed: run scripts/setup.sh %[1]s", c.program)
			}
			output, err := os.Create(in(name + ".log"))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, c.args...)
			cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
			cmd.Stdout, cmd.Stderr = output, output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				_ = cmd.Wait()
				_ = output.Close()
			}
			t.Cleanup(stop)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listen[name]+"/v1/events?stream_key=hush", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Referer", "http://chat.example.com/?signature=hush")
			eventually(t, name+" answers", func() bool {
				reply, err := http.DefaultClient.Do(r)
				if err == nil {
					_ = reply.Body.Close()
				}
				return err == nil
			})
			eventually(t, name+" has logged", func() bool {
				log, err := os.ReadFile(in(name + ".log"))
				if strings.Contains(string(log), "hush") {
					t.Fatalf("the log contains the key:\n%s", log)
				}
				return err == nil && strings.Contains(string(log), "/v1/events")
			})
		})
	}
}

// accessLogFormats returns the blocks of the section: nginx, Caddy, haproxy.
func accessLogFormats(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Secrets in access logs\n")
	var formats []string
	for len(formats) < 3 {
		_, rest, found := strings.Cut(section, "```text\n")
		block, after, closed := strings.Cut(rest, "```\n")
		if !found || !closed {
			t.Fatalf("%s has %d log formats", operationsPage, len(formats))
		}
		formats, section = append(formats, block), after
	}
	return formats
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(time.Minute); !condition(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}
