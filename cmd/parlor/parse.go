package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// parse reads the command line and the environment. It returns nil if only a help text was
// requested. It returns all errors at once, one per line, so that an operator can fix them
// together.
func parse(args []string, to console) (*kong.Context, error) {
	var faults []error
	for {
		helped := false
		parser, err := newParser(&program{}, to, func(int) { helped = true })
		if err != nil {
			return nil, fmt.Errorf("command line: %w", err)
		}
		values := collectFaults(parser)
		command, err := parser.Parse(args)
		if helped {
			return nil, nil
		}
		if err != nil {
			faults = append(faults, err)
			shorter, ok := withoutFault(args, err)
			if !ok {
				return nil, usageError{errors.Join(faults...)}
			}
			args = shorter
			continue
		}
		faults = append(faults, values.of(command)...)
		faults = append(faults, unknownSettings(parser, command, os.Environ())...)
		if checked, ok := command.Selected().Target.Addr().Interface().(interface{ validate() error }); ok {
			faults = append(faults, checked.validate())
		}
		if err := errors.Join(faults...); err != nil {
			return nil, usageError{err}
		}
		return command, nil
	}
}

// withoutFault returns the arguments without the one at which the parser stopped, and without its
// value, so that the rest is parsed too.
func withoutFault(args []string, err error) (shorter []string, ok bool) {
	var failed *kong.ParseError
	if !errors.As(err, &failed) || failed.Context == nil || failed.Context.Error == nil {
		return nil, false
	}
	path := failed.Context.Path
	rest := path[len(path)-1].Remainder()
	if len(rest) == 0 || len(rest) > len(args) {
		return nil, false
	}
	read, name, rest := args[:len(args)-len(rest)], rest[0], rest[1:]
	if len(read) == 0 && !strings.HasPrefix(name, "-") {
		return nil, false // an unknown command: its flags are unknown too
	}
	if strings.HasPrefix(name, "-") && !strings.Contains(name, "=") && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		rest = rest[1:]
	}
	return slices.Concat(read, rest), true
}

// valueFaults are the errors of values that could not be parsed, by setting.
type valueFaults map[*kong.Value][]error

// collectFaults makes the parser collect the values that it cannot parse, instead of stopping at
// the first.
func collectFaults(parser *kong.Kong) valueFaults {
	faults := valueFaults{}
	_ = kong.Visit(parser.Model.Node, func(node kong.Visitable, next kong.Next) error { // never fails
		if flag, ok := node.(*kong.Flag); ok {
			flag.Mapper = lenientMapper{flag.Mapper, flag, faults}
		}
		return next(nil)
	})
	return faults
}

// of returns the errors of a command's own settings. The parser also reads those of other commands
// from the environment.
func (f valueFaults) of(command *kong.Context) []error {
	var faults []error
	for _, flag := range command.Flags() {
		faults = append(faults, f[flag.Value]...)
	}
	return faults
}

// lenientMapper uses the default of a setting if its value is wrong.
type lenientMapper struct {
	kong.Mapper
	flag   *kong.Flag
	faults valueFaults
}

func (m lenientMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	given := ctx.Scan.Peek()
	err := m.Mapper.Decode(ctx, target)
	switch {
	case err != nil && given.IsEOL():
		return errors.New("needs a value")
	case err != nil && !given.IsValue(): // the next flag
		return err
	}
	if err == nil && (m.flag.Enum == "" || slices.Contains(m.flag.EnumSlice(), fmt.Sprint(target))) {
		return nil
	}
	fault := fmt.Errorf("%s: %q is not %s", settingName(m.flag), given.String(), expected(m.flag, target))
	m.faults[m.flag.Value] = append(m.faults[m.flag.Value], fault)
	if !m.flag.HasDefault {
		target.SetZero()
		return nil
	}
	fallback := kong.Token{Type: kong.FlagValueToken, Value: m.flag.Default}
	return m.Mapper.Decode(ctx.WithScanner(kong.ScanFromTokens(fallback)), target)
}

// settingName returns the name of a setting in errors: its environment variable if it has one, as
// in the settings table.
func settingName(flag *kong.Flag) string {
	if len(flag.Envs) > 0 {
		return flag.Envs[0]
	}
	return "--" + flag.Name
}

// expected describes the values of a setting.
func expected(flag *kong.Flag, target reflect.Value) string {
	if flag.Enum != "" {
		return "one of " + strings.Join(flag.EnumSlice(), ", ")
	}
	switch target.Interface().(type) {
	case time.Duration:
		return "a duration such as 30s, 5m or 1h30m"
	case time.Time:
		return "an instant such as 2026-11-21T15:00:00Z"
	case slog.Level:
		return "one of debug, info, warn, error"
	}
	switch kind := target.Kind(); {
	case kind == reflect.Bool:
		return "one of true, false"
	case kind == reflect.Float64:
		return "a number"
	case kind == reflect.Slice:
		return "a comma-separated list of whole numbers"
	}
	return "a whole number"
}

// toolNames are variables of the scripts and tests of this repository, or their prefixes. They are
// ignored, so that a shell that sets them can start a server.
var toolNames = []string{"PARLOR_CHROMIUM", "PARLOR_TEST_"}

// unknownSettings returns an error for each variable that is named like a setting but is not one:
// with a misspelled retention, messages would be kept for too long without anyone noticing.
// Commands that read no variables ignore them.
func unknownSettings(parser *kong.Kong, command *kong.Context, environment []string) []error {
	if !slices.ContainsFunc(command.Flags(), func(flag *kong.Flag) bool { return len(flag.Envs) > 0 }) {
		return nil
	}
	known := map[string]bool{}
	_ = kong.Visit(parser.Model.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
		return next(nil)
	})
	var faults []error
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		name, value, _ := strings.Cut(variable, "=")
		ofTools := slices.ContainsFunc(toolNames, func(tool string) bool {
			return name == tool || strings.HasSuffix(tool, "_") && strings.HasPrefix(name, tool)
		})
		if !strings.HasPrefix(name, "PARLOR_") || known[name] || ofTools || isServiceLink(name, value) {
			continue
		}
		hint := ""
		if near := nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
			hint = "; did you mean " + near + "?"
		}
		faults = append(faults, fmt.Errorf("%s: unknown setting%s", name, hint))
	}
	return faults
}

var (
	serviceHost = regexp.MustCompile(`^PARLOR_([A-Z0-9_]+_)?SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$`)
	servicePort = regexp.MustCompile(`^PARLOR_([A-Z0-9_]+_)?PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)
	serviceURL  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// isServiceLink reports whether a variable is one that Kubernetes sets in every pod for a Service
// named parlor or parlor-something
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func isServiceLink(name, value string) bool {
	if serviceHost.MatchString(name) {
		return true
	}
	parts := servicePort.FindStringSubmatch(name)
	return parts != nil && (parts[4] != "" || serviceURL.MatchString(value))
}

// nearest returns the most similar of names, or an empty string if none is similar enough.
func nearest(name string, names []string) string {
	const farthest = 4
	best, nearest := farthest+1, ""
	for _, candidate := range names {
		if d := changedLetters(name, candidate); d < best {
			best, nearest = d, candidate
		}
	}
	return nearest
}

// changedLetters returns the Levenshtein distance of two names: the number of letters to insert,
// delete or replace.
func changedLetters(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
