package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parlor/store/storetest"
)

// asProgram is the environment variable that turns the test program into parlor itself.
const asProgram = "PARLOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], console{out: os.Stdout, err: os.Stderr}))
	}
	code := storetest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// result is the result of a run of the program.
type result struct {
	code     int
	out, err string
}

// parlor runs the program in its own process, with only the given settings in the environment.
func parlor(ctx context.Context, t testing.TB, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // a server that starts by mistake must not block the test
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH")}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env      []string
		args     []string
		code     int
		out, err string // regular expressions for all that is written
	}{
		"nothing":         {nil, nil, exitOK, `(?s)^Usage: parlor .*serve.*migrate.*token.*version`, `^$`},
		"help":            {nil, []string{"serve", "--help"}, exitOK, `(?s)--listen.*PARLOR_LISTEN`, `^$`},
		"version":         {nil, []string{"version"}, exitOK, `^parlor \S.* go1\.\S+ \w+/\w+\n$`, `^$`},
		"unknown command": {nil, []string{"dance"}, exitUsage, `^$`, `^parlor: [^\n]*dance[^\n]*\n$`},
		"unknown flag":    {nil, []string{"serve", "--dance"}, exitUsage, `^$`, `^parlor: unknown flag --dance[^\n]*\n$`},
		"wrong form":      {[]string{"PARLOR_DRAIN=soon"}, []string{"serve"}, exitUsage, `^$`, `^parlor: [^\n]*PARLOR_DRAIN[^\n]*\n$`},
		"all faults": {
			[]string{"PARLOR_SECRET=hush", "PARLOR_DRAIN=-1s", "PARLOR_HEARTBEAT=1s"},
			[]string{"serve"},
			exitUsage, `^$`,
			`^parlor: PARLOR_SECRET: has 4 bytes[^\n]*\nparlor: PARLOR_HEARTBEAT: [^\n]*\nparlor: PARLOR_DRAIN: [^\n]*\n$`,
		},
		"values that cannot be read": {
			[]string{
				"PARLOR_MIGRATE=perhaps", "PARLOR_MAX_MEMBERS=many", "PARLOR_SAME_USER=both", "PARLOR_DRAIN=soon",
				"PARLOR_LOG_LEVEL=loud", "PARLOR_SECRET=hush", "PARLOR_HEARTBEAT=1s",
			},
			[]string{"serve", "--lisen", "127.0.0.1:1", "--member-timeout=30", "--tls-key"},
			exitUsage, `^$`,
			`^parlor: unknown flag --lisen, did you mean "--listen"\?
parlor: --tls-key: needs a value
parlor: PARLOR_MIGRATE: "perhaps" is not one of true, false
parlor: PARLOR_MEMBER_TIMEOUT: "30" is not a duration such as 30s, 5m or 1h30m
parlor: PARLOR_MAX_MEMBERS: "many" is not a whole number
parlor: PARLOR_SAME_USER: "both" is not one of allow, replace, reject
parlor: PARLOR_DRAIN: "soon" is not a duration [^\n]*
parlor: PARLOR_LOG_LEVEL: "loud" is not one of debug, info, warn, error
parlor: PARLOR_SECRET: has 4 bytes[^\n]*
parlor: PARLOR_HEARTBEAT: 1s is outside [^\n]*
$`,
		},
		"unknown settings": {
			[]string{"PARLOR_MESAGE_RETENTION=1h", "PARLOR_SECRT=" + string(goodSecret), "PARLOR_ZEBRA_STRIPES=7", "PARLOR_PORT=8080"},
			[]string{"token", "--admin"},
			exitUsage, `^$`,
			`^parlor: PARLOR_MESAGE_RETENTION: unknown setting; did you mean PARLOR_MESSAGE_RETENTION\?
parlor: PARLOR_PORT: unknown setting[^\n]*
parlor: PARLOR_SECRT: unknown setting; did you mean PARLOR_SECRETS?\?
parlor: PARLOR_ZEBRA_STRIPES: unknown setting
$`,
		},
		"settings of other commands, of tools and of Kubernetes": {
			[]string{
				"PARLOR_SECRET=" + string(goodSecret), "PARLOR_LISTEN=:1", "PARLOR_CHROMIUM=/usr/bin/chromium", "PARLOR_TEST_BINARY=x",
				"PARLOR_SERVICE_HOST=10.0.0.1", "PARLOR_SERVICE_PORT=80", "PARLOR_SERVICE_PORT_HTTP=80", "PARLOR_PORT=tcp://10.0.0.1:80",
				"PARLOR_PORT_80_TCP=tcp://10.0.0.1:80", "PARLOR_PORT_80_TCP_ADDR=10.0.0.1", "PARLOR_OPS_SERVICE_HOST=10.0.0.2",
			},
			[]string{"token", "--admin"},
			exitOK, `^eyJ\S+\n$`, `^$`,
		},
		"variables of a command without settings": {[]string{"PARLOR_MESAGE_RETENTION=1h"}, []string{"version"}, exitOK, `^parlor `, `^$`},

		"token without a user":        {nil, []string{"token"}, exitUsage, `^$`, `^parlor: token: set --user ID or --admin\n$`},
		"token without a data folder": {nil, []string{"token", "--admin"}, exitError, `^$`, `^parlor: no secret: the data folder ./data does not exist[^\n]*\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parlor(t.Context(), t, test.env, test.args...)
			if got.code != test.code || !regexp.MustCompile(test.out).MatchString(got.out) || !regexp.MustCompile(test.err).MatchString(got.err) {
				t.Errorf("exit code %d, output %q, errors %q", got.code, got.out, got.err)
			}
		})
	}
}

func TestLockRejectsSecondServer(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	lock, err := openDataFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^parlor: data folder ` + regexp.QuoteMeta(folder) + ` is in use by another parlor \(pid ` + strconv.Itoa(os.Getpid()) + `\)\n$`)
	for _, command := range []string{"serve", "migrate"} {
		got := parlor(t.Context(), t, []string{"PARLOR_DATA=" + folder}, command)
		if got.code != exitError || !want.MatchString(got.err) {
			t.Errorf("%s: exit code %d, errors %q", command, got.code, got.err)
		}
	}
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
	again, err := lockFolder(folder)
	if err != nil {
		t.Fatalf("a free folder cannot be locked: %v", err)
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignDataFolder runs as a user that may not open the lock file.
func TestForeignDataFolder(t *testing.T) {
	t.Parallel()
	folder := storetest.Folder(t)
	program := filepath.Join(folder, "parlor") // the test program's own folder is closed to others
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(program, text, 0o755), os.WriteFile(filepath.Join(folder, "lock"), nil, 0)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "migrate", "--data", folder)
	cmd.Dir = folder
	cmd.Env = []string{asProgram + "=1"}
	if os.Geteuid() == 0 { // root may open everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	output, err := cmd.CombinedOutput()
	want := regexp.MustCompile(`^parlor: lock the data folder: open \S+/lock: permission denied: run Parlor as the owner [^\n]*\n$`)
	if err == nil || !want.Match(output) {
		t.Errorf("%q, %v", output, err)
	}
}

func TestMigratePrivateDatabase(t *testing.T) {
	t.Parallel()
	env := []string{"PARLOR_DATA=" + filepath.Join(storetest.Folder(t), "data")}
	first := parlor(t.Context(), t, env, "migrate")
	if first.code != exitOK || !strings.HasPrefix(first.out, "applied 00001_") {
		t.Errorf("first: exit code %d, output %q, errors %q", first.code, first.out, first.err)
	}
	second := parlor(t.Context(), t, env, "migrate")
	if second.code != exitOK || second.out != "no pending migrations: the schema is up to date\n" || second.err != "" {
		t.Errorf("second: exit code %d, output %q, errors %q", second.code, second.out, second.err)
	}
}
