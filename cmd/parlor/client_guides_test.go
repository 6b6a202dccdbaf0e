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

	"parlor/store/storetest"
)

// guides are the clients that documents contain, each with a program that prints the texts that it
// receives.
var guides = map[string]string{
	"docs/polling.md": `
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
`,
	"docs/clients.md": `
let resumed = false
for await (const { name, data } of eventsOf(process.argv[2], process.argv[3])) {
  if (name === 'sessionReady' && !resumed) console.log('ready')
  resumed = true
  for (const message of data.messageList ?? []) console.log(message.text)
}
console.log('ended')
`,
}

// TestProgramsOfGuides runs the clients of documents while the server is restarted. They receive every
// message once and in order.
func TestProgramsOfGuides(t *testing.T) {
	t.Parallel()
	for document, program := range guides {
		t.Run(document, func(t *testing.T) {
			t.Parallel()
			blocks := codeBlocks(t, document, "js")
			testGuide(t, blocks[len(blocks)-1]+program)
		})
	}
}

func testGuide(t *testing.T, text string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := startParlorWith(t, storetest.Folder(t), []string{"PARLOR_SECRET=" + string(goodSecret)})
	alice, bob := loginWithSecret(ctx, t, p, "alice"), loginWithSecret(ctx, t, p, "bob")
	alice.enter(ctx, t, "hall")
	bob.enter(ctx, t, "hall")

	file := filepath.Join(t.TempDir(), "client.mjs")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
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
