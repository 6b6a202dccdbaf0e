// Command parlor runs the room and message service, and contains tools for its operators.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes. A wrong setting or clock has its own, because a restart cannot fix it.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// program is the command line. The settings table of docs/operations.md is generated from its
// model.
type program struct {
	Serve   ServeCmd   `cmd:"" help:"Run the server."`
	Migrate MigrateCmd `cmd:"" help:"Migrate the database schema, show its status, or undo a migration."`
	Media   MediaCmd   `cmd:"" help:"Check the uploaded files against the database."`
	Nodes   NodesCmd   `cmd:"" help:"List the servers that share the database, whether or not they run."`
	Token   TokenCmd   `cmd:"" help:"Print a user token or an admin token."`
	Bench   BenchCmd   `cmd:"" help:"Measure a server under load."`
	Version VersionCmd `cmd:"" help:"Print the version."`
}

// console is the output of a command: its result goes to out, everything else to err.
type console struct {
	out, err io.Writer
}

// print writes a line of the command's result.
func (c console) print(words ...any) error {
	_, err := fmt.Fprintln(c.out, words...)
	return err
}

// usageError is an error in the command line or the environment, or in the machine's clock.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:], console{out: os.Stdout, err: os.Stderr}))
}

// run runs the command in the arguments and returns the exit code. Each line of an error is printed
// with a prefix.
func run(args []string, to console) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		// A second signal ends the program immediately, without an orderly shutdown. It would be
		// lost if the shutdown began before this.
		signal.Stop(signals)
		stop()
	}()

	err := dispatch(ctx, args, to)
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(to.err, "parlor:", strings.TrimSuffix(line, "\n"))
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitError
}

// dispatch parses the arguments and runs their command. Without arguments it prints the help.
func dispatch(ctx context.Context, args []string, to console) error {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parse(args, to)
	if err != nil || command == nil {
		return err
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(to)
}

// newParser returns the parser of the command line, which calls exit after it has printed a help
// text.
func newParser(grammar *program, to console, exit func(int)) (*kong.Kong, error) {
	return kong.New(grammar,
		kong.Name("parlor"),
		kong.Description("Parlor is a self-hosted room and message service."),
		kong.Writers(to.out, to.err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
}
