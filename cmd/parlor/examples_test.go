package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// example is a program of examples/ that runs.
type example struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// runExample starts a program, which ends with ctx.
func runExample(ctx context.Context, t *testing.T, env []string, command ...string) *example {
	t.Helper()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &example{cmd, bufio.NewScanner(output)}
}

// next returns the next line that the program prints.
func (e *example) next(t *testing.T) string {
	t.Helper()
	if !e.lines.Scan() {
		t.Fatalf("%s has ended: %v", e.cmd.Path, e.lines.Err())
	}
	return e.lines.Text()
}

// end ends the program with a signal.
func (e *example) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	_ = e.cmd.Wait() // it reports the signal
}

// tokenOf asks the backend of an example for a token, as soon as it listens.
func tokenOf(ctx context.Context, t *testing.T, url, user, password string) (status int, token string) {
	t.Helper()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			if ctx.Err() != nil {
				t.Fatal(err)
			}
			wait(ctx, 10*time.Millisecond)
			continue
		}
		defer response.Body.Close()
		var reply struct{ Token string }
		if response.StatusCode == http.StatusCreated {
			if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
				t.Fatal(err)
			}
		}
		return response.StatusCode, reply.Token
	}
}

// TestExamples runs both backends and the bot. The backends print each event, and the bot answers
// each message, also if the server or they themselves are restarted.
func TestExamples(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	built := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-o", built, "./...")
	build.Dir = topFolder + "/examples"
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	sdk, err := filepath.Abs(topFolder + "/web/sdk")
	if err != nil {
		t.Fatal(err)
	}
	node := t.TempDir()
	program := []byte(readDocument(t, "examples/backend-node/main.mjs"))
	for _, err := range []error{
		os.WriteFile(filepath.Join(node, "main.mjs"), program, 0o600),
		os.Mkdir(filepath.Join(node, "node_modules"), 0o755),
		os.Symlink(sdk, filepath.Join(node, "node_modules", "parlor-sdk")), // as npm installs it
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	p := startParlorWith(t, storetest.Folder(t), []string{"PARLOR_SECRET=" + string(goodSecret)})
	env := []string{"PARLOR_URL=" + p.url, "PARLOR_SECRET=" + string(goodSecret)}
	type backend struct {
		*example
		command []string
		env     []string
		cursor  string // its file
		url     string
		last    string // the last line that it printed
	}
	var backends []*backend
	for _, command := range [][]string{{filepath.Join(built, "backend-go")}, {"node", filepath.Join(node, "main.mjs")}} {
		address := freeAddress(t)
		port := address[strings.LastIndex(address, ":")+1:]
		b := &backend{command: command, cursor: filepath.Join(t.TempDir(), "cursor"), url: "http://" + address + "/token"}
		b.env = append(slices.Clone(env), "LISTEN_PORT="+port, "CURSOR_FILE="+b.cursor)
		b.example = runExample(ctx, t, b.env, command...)
		backends = append(backends, b)
	}
	defer func() {
		for _, b := range backends {
			b.end(t, syscall.SIGKILL)
		}
	}()
	expect := func(lines ...string) {
		t.Helper()
		for _, b := range backends {
			for _, want := range lines {
				if b.last = b.next(t); b.last != want {
					t.Errorf("%s printed %q, want %q", b.command, b.last, want)
				}
			}
		}
	}

	alice := &client{http: http.DefaultClient, base: p.url, user: "alice"}
	for _, b := range backends {
		for _, wrong := range [][2]string{{"alice", "bob-demo"}, {"carol", ""}, {"", ""}} {
			if status, _ := tokenOf(ctx, t, b.url, wrong[0], wrong[1]); status != http.StatusUnauthorized {
				t.Errorf("%s replied to %q with status %d", b.command, wrong, status)
			}
		}
		_, token := tokenOf(ctx, t, b.url, "alice", "alice-demo")
		if err := alice.begin(ctx, token); err != nil {
			t.Fatalf("%s signed %q: %v", b.command, token, err)
		}
		for !exists(b.cursor) { // the feed is open
			if wait(ctx, 10*time.Millisecond); ctx.Err() != nil {
				t.Fatalf("%s has not opened the feed", b.command)
			}
		}
	}
	if err := alice.succeed(ctx, "POST", "/v1/rooms/hall/enter", nil, nil); err == nil {
		t.Error("the token grants another room than class-*")
	}
	// She has no stream, and stays for the whole test.
	config := map[string]any{"config": map[string]int{"memberTimeout": 300}}
	alice.mustCall(ctx, t, "POST", "/v1/rooms/class-1/enter", config, nil)
	expect("class-1: alice joined")
	bot := runExample(ctx, t, append(env, "TOKEN_URL=http://bot:bot-demo@"+backends[0].url[len("http://"):]), filepath.Join(built, "bot"))
	expect("class-1: bot joined")
	say := func(text string) {
		t.Helper()
		if err := alice.sendText(ctx, "class-1", text); err != nil {
			t.Fatal(err)
		}
	}
	say("hello")
	expect("class-1: alice: hello", "class-1: bot: You said: hello")

	p.signal(syscall.SIGTERM)
	p.start(t)
	say("are you there?")
	expect("class-1: alice: are you there?", "class-1: bot: You said: are you there?")

	for _, b := range backends {
		b.end(t, syscall.SIGKILL)
	}
	say("is nobody listening?")
	for i, b := range backends {
		// A backend may print its last event again, because it was killed before it had stored its ID.
		b.example = runExample(ctx, t, b.env, b.command...)
		last := b.last
		if b.last = b.next(t); b.last == last {
			b.last = b.next(t)
		}
		if b.last != "class-1: alice: is nobody listening?" {
			t.Errorf("backend %d printed %q after its restart", i, b.last)
		}
	}
	expect("class-1: bot: You said: is nobody listening?")

	admin := &client{http: http.DefaultClient, base: p.url}
	admin.key = parlor(ctx, t, []string{"PARLOR_SECRET=" + string(goodSecret)}, "token", "--admin").out
	admin.key = admin.key[:len(admin.key)-1]
	admin.mustCall(ctx, t, "DELETE", "/v1/admin/users/bot/sessions", nil, nil)
	if got := bot.next(t); got != "the session has ended: kickedOut" {
		t.Errorf("the bot printed %q", got)
	}
	if err := bot.cmd.Wait(); err != nil {
		t.Errorf("the bot: %v", err)
	}
	expect("class-1: bot left: kicked")
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
