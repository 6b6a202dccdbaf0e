package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"parlor/auth"
)

var update = flag.Bool("update", false, "write the settings table into docs/operations.md")

const (
	topFolder      = "../.."
	operationsPage = topFolder + "/docs/operations.md"
	tableBegin     = "<!-- settings: made by go test ./cmd/parlor -run TestSettingsTable -update -->\n"
	tableEnd       = "<!-- settings end -->\n"
)

// TestSettingsTable compares the table of docs/operations.md with the flags of serve, and writes it
// with -update.
func TestSettingsTable(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, begun := strings.Cut(string(data), tableBegin)
	old, tail, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no settings table between its two comments", operationsPage)
	}
	table := "\n" + settingsTable(t) + "\n"
	if old == table {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run go test ./cmd/parlor -run TestSettingsTable -update", operationsPage)
	}
	if err := os.WriteFile(operationsPage, []byte(head+tableBegin+table+tableEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestLimitsOfSeveralServers checks that docs/operations.md says of each limit and time among the
// settings, once, how it holds if there are several servers.
func TestLimitsOfSeveralServers(t *testing.T) {
	t.Parallel()
	_, rest, begun := strings.Cut(readOperations(t), "| Settings | With several servers |\n")
	table, _, ended := strings.Cut(rest, "\n\n")
	if !begun || !ended {
		t.Fatalf("%s has no table of limits with several servers", operationsPage)
	}
	listed := make(map[string]int)
	for line := range strings.Lines(table) {
		settings, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, name := range regexp.MustCompile("`(PARLOR_[A-Z_]+)`").FindAllStringSubmatch(settings, -1) {
			listed[name[1]]++
		}
	}
	for _, setting := range serveSettings(t) {
		switch setting.Target.Type() {
		case reflect.TypeFor[int](), reflect.TypeFor[time.Duration]():
			name := environment(t, setting)
			if listed[name] != 1 {
				t.Errorf("%s is %d times in the table", name, listed[name])
			}
			delete(listed, name)
		}
	}
	for name := range listed {
		t.Errorf("%s is in the table, but no number or duration", name)
	}
}

// TestProductionSettings starts a server with the settings file of docs/operations.md and one more,
// wrong setting, which must be the only error.
func TestProductionSettings(t *testing.T) {
	t.Parallel()
	env := append(settingsFile(t, "ini"), "PARLOR_DRAIN=-1s")
	got := parlor(t.Context(), t, env, "serve")
	if got.code != exitUsage || strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, "parlor: PARLOR_DRAIN: ") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	if got := parlor(t.Context(), t, env, "token", "--admin"); got.code != exitOK {
		t.Errorf("a token: exit code %d: %s", got.code, got.err)
	}
}

// settingsFile returns the settings file of docs/operations.md in a block with these words after its
// fence, with secrets.
func settingsFile(t *testing.T, words string) (env []string) {
	t.Helper()
	for line := range strings.Lines(operationsBlock(t, words)) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "<64 digits>", string(digitsSecret))
		if line != "" { // the block may be indented
			env = append(env, strings.ReplaceAll(line, "<64 other digits>", strings.Repeat("ad", 32)))
		}
	}
	return env
}

// digitsSecret is PARLOR_SECRET of settingsFile.
var digitsSecret = auth.Secret(strings.Repeat("5e", 32))

// operationsBlock returns the first block of docs/operations.md with these words after its fence.
func operationsBlock(t *testing.T, words string) string {
	t.Helper()
	_, rest, begun := strings.Cut(readOperations(t), "```"+words+"\n")
	block, _, ended := strings.Cut(rest, "```\n")
	if !begun || !ended {
		t.Fatalf("%s has no block %q", operationsPage, words)
	}
	return block
}

// serveSettings returns the settings of serve.
func serveSettings(t *testing.T) []*kong.Flag {
	t.Helper()
	parser, err := newParser(&program{}, console{out: t.Output(), err: t.Output()}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		if command.Name == "serve" {
			return command.Flags
		}
	}
	t.Fatal("there is no command serve")
	return nil
}

// settingsTable returns the settings of serve as a Markdown table.
func settingsTable(t *testing.T) string {
	t.Helper()
	var table strings.Builder
	table.WriteString("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n")
	for _, setting := range serveSettings(t) {
		initially := setting.Default
		if setting.IsBool() {
			initially = "false"
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n",
			code("--"+setting.Name), code(environment(t, setting)), code(initially), setting.Help)
	}
	return table.String()
}

// environment returns the setting's variable. Each has exactly one.
func environment(t *testing.T, setting *kong.Flag) string {
	t.Helper()
	if len(setting.Envs) != 1 {
		t.Fatalf("--%s has the variables %q", setting.Name, setting.Envs)
	}
	return setting.Envs[0]
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// markdownFiles returns the documents of the repository, as paths from its top folder.
func markdownFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "clients/go/*.md", "examples/*.md"} {
		found, err := fs.Glob(os.DirFS(topFolder), pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 10 {
		t.Fatalf("found only %q", files)
	}
	return files
}

// TestLinksOfDocuments checks that the files and headings exist that documents link to.
func TestLinksOfDocuments(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^():\s]*)\)`)
	code := regexp.MustCompile("(?s)```.*?```")
	for _, name := range markdownFiles(t) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(readDocument(t, name), ""), -1) {
			file, anchor, _ := strings.Cut(match[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(topFolder, target)); err != nil {
				t.Errorf("%s links to %s: %v", name, match[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(readDocument(t, target)), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", name, match[1])
			}
		}
	}
}

// TestFilesOfArchitecture checks that the files and folders exist that docs/architecture.md names.
func TestFilesOfArchitecture(t *testing.T) {
	t.Parallel()
	const name = "docs/architecture.md"
	files := regexp.MustCompile("`([a-z0-9_./-]+/[a-z0-9_.-]*)`").FindAllStringSubmatch(readDocument(t, name), -1)
	if len(files) == 0 {
		t.Fatalf("%s names no files", name)
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(topFolder, file[1])); err != nil {
			t.Errorf("%s names %s: %v", name, file[1], err)
		}
	}
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(topFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns the names by which links reach the headings of a document, as GitHub makes them.
func anchors(document string) []string {
	var names []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(document, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
