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

// parse reads the command line and the environment. It returns nil where a help text was all that was asked for. All faults
// come at once, a line for each: an operator who mends one should not find the next by starting again.
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

// withoutFault returns the arguments without the one at which the parser stopped, and without its value, so that what
// follows is read too.
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
	if len(read) == 0 && !strings.HasPrefix(name, "-") { // no command of ours: whose settings would the others be?
		return nil, false
	}
	if strings.HasPrefix(name, "-") && !strings.Contains(name, "=") && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		rest = rest[1:]
	}
	return slices.Concat(read, rest), true
}

// valueFaults are the values that could not be read, by the setting that they are of.
type valueFaults map[*kong.Value][]error

// collectFaults has the parser remember the values that it cannot read, instead of stopping at the first one.
func collectFaults(parser *kong.Kong) valueFaults {
	faults := valueFaults{}
	_ = kong.Visit(parser.Model.Node, func(node kong.Visitable, next kong.Next) error { // neither this nor next fails
		if flag, ok := node.(*kong.Flag); ok {
			flag.Mapper = lenientMapper{flag.Mapper, flag, faults}
		}
		return next(nil)
	})
	return faults
}

// of returns the faults of a command's own settings. The parser reads the environment for all commands.
func (f valueFaults) of(command *kong.Context) []error {
	var faults []error
	for _, flag := range command.Flags() {
		faults = append(faults, f[flag.Value]...)
	}
	return faults
}

// lenientMapper leaves a setting at its default where the value is wrong.
type lenientMapper struct {
	kong.Mapper
	flag   *kong.Flag
	faults valueFaults
}

func (m lenientMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	said := ctx.Scan.Peek()
	err := m.Mapper.Decode(ctx, target)
	switch {
	case err != nil && said.IsEOL():
		return errors.New("needs a value")
	case err != nil && !said.IsValue(): // the next flag
		return err
	}
	if err == nil && (m.flag.Enum == "" || slices.Contains(m.flag.EnumSlice(), fmt.Sprint(target))) {
		return nil
	}
	fault := fmt.Errorf("%s: %q is not %s", settingName(m.flag), said.String(), expected(m.flag, target))
	m.faults[m.flag.Value] = append(m.faults[m.flag.Value], fault)
	if !m.flag.HasDefault {
		target.SetZero()
		return nil
	}
	initially := kong.Token{Type: kong.FlagValueToken, Value: m.flag.Default}
	return m.Mapper.Decode(ctx.WithScanner(kong.ScanFromTokens(initially)), target)
}

// settingName is what faults call a setting: as the settings table does, by its variable where it has one.
func settingName(flag *kong.Flag) string {
	if len(flag.Envs) > 0 {
		return flag.Envs[0]
	}
	return "--" + flag.Name
}

// expected says what a setting takes.
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

// toolNames are variables that scripts and tests of this repository take, so that a shell that has them can start a server.
var toolNames = []string{"PARLOR_CHROMIUM", "PARLOR_TEST_"}

// unknownSettings returns a fault for each variable that is called like a setting and is none: a misspelt retention would
// keep messages for longer than was promised, and nobody would notice. Commands that read no variables do not mind them.
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

// isServiceLink reports whether a variable is of those that Kubernetes gives to every pod for a Service that is called
// parlor or parlor-something (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func isServiceLink(name, value string) bool {
	if serviceHost.MatchString(name) {
		return true
	}
	parts := servicePort.FindStringSubmatch(name)
	return parts != nil && (parts[4] != "" || serviceURL.MatchString(value))
}

// nearest returns the name that is the fewest changed letters away, or nothing where all are too far to be meant.
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

// changedLetters is the Levenshtein distance: how many letters are to be put in, taken out or replaced.
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
