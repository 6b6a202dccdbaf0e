package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pollingProgram runs the client of docs/polling.md outside of a mini-program, and prints the texts
// that it receives.
const pollingProgram = `
const wx = {
  request({ url, header, timeout, success, fail }) {
    fetch(url, { headers: header, signal: AbortSignal.timeout(timeout) })
      .then(async (reply) => success({ statusCode: reply.status, data: await reply.json() })).catch(fail)
  },
}
follow(process.argv[2], process.argv[3], (event, data) => {
  if (event === 'sessionReady') console.log('ready')
  for (const message of data.messageList ?? []) console.log(message.text)
}).then(() => console.log('ended'))
`

// TestPollingGuide runs the client of docs/polling.md while the server is restarted. It receives every
// message once and in order.
func TestPollingGuide(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := startParlorWith(t, t.TempDir(), []string{"PARLOR_SECRET=" + string(goodSecret)})
	alice, bob := loginWithSecret(ctx, t, p, "alice"), loginWithSecret(ctx, t, p, "bob")
	alice.enter(ctx, t, "hall")
	bob.enter(ctx, t, "hall")

	file := filepath.Join(t.TempDir(), "client.mjs")
	if err := os.WriteFile(file, []byte(codeBlock(t, "docs/polling.md", "js")+pollingProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	program := exec.CommandContext(ctx, "node", file, p.url, alice.key)
	program.Stderr = t.Output()
	output, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	next := func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the program has ended: %v", lines.Err())
		}
		return lines.Text()
	}
	if got := next(); got != "ready" {
		t.Errorf("the program begins with %q", got)
	}
	for i := range 20 {
		if i == 10 {
			p.signal(syscall.SIGTERM)
			p.start(t)
		}
		text := fmt.Sprint("message ", i)
		if err := bob.sendText(ctx, "hall", text); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != text {
			t.Errorf("the program received %q, want %q", got, text)
		}
	}
	alice.mustCall(ctx, t, "DELETE", "/v1/sessions/current", nil, nil)
	if got := next(); got != "ended" {
		t.Errorf("after the end of the session, the program printed %q", got)
	}
	if err := program.Wait(); err != nil {
		t.Error(err)
	}
}
