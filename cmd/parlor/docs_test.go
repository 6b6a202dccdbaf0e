package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the settings table into docs/operations.md")

const (
	operationsPage = "../../docs/operations.md"
	tableBegin     = "<!-- settings: made by go test ./cmd/parlor -run TestSettingsTable -update -->\n"
	tableEnd       = "<!-- settings end -->\n"
)

// TestSettingsTable compares the table of docs/operations.md with the flags of serve, and writes it with -update.
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

// settingsTable returns the settings of serve as a Markdown table.
func settingsTable(t *testing.T) string {
	t.Helper()
	parser, err := newParser(&program{}, console{out: t.Output(), err: t.Output()}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n")
	for _, command := range parser.Model.Children {
		if command.Name != "serve" {
			continue
		}
		for _, setting := range command.Flags {
			initially := setting.Default
			if setting.IsBool() {
				initially = "false"
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s |\n",
				code("--"+setting.Name), code(environment(t, setting)), code(initially), setting.Help)
		}
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
