// Command parlor-bench compares Parlor with other servers. It is for people who work on Parlor and
// is not shipped: `parlor bench` measures a server of your own.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"parlor/bench"
)

type program struct {
	Table TableCmd `cmd:"" help:"Compare Parlor with nchan and the floor on this machine, and print a table."`
	Nodes NodesCmd `cmd:"" help:"Compare two Parlor servers that share a database with one, and print a table."`
	Load  LoadCmd  `cmd:"" help:"Load any server that publishes by POST and streams by GET, and print a report."`
	Floor FloorCmd `cmd:"" help:"Run a minimal server that only copies messages to sockets, as a baseline."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	command := kong.Parse(&program{},
		kong.Name("parlor-bench"),
		kong.Description("Measures Parlor beside other servers."),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	err := command.Run()
	stop()
	command.FatalIfErrorf(err)
}

// LoadCmd loads a server other than Parlor.
type LoadCmd struct {
	SubscribeURL string `name:"subscribe-url" required:"" placeholder:"URL" help:"Stream URL of the server. {room} stands for the room."`
	PublishURL   string `name:"publish-url" required:"" placeholder:"URL" help:"Publish URL of the server. {room} stands for the room."`

	bench.Flags
}

// Run loads the server and prints a report. It fails if messages were lost or duplicated.
func (c *LoadCmd) Run(ctx context.Context) error {
	options, err := c.Options(&bench.Plain{Subscribe: c.SubscribeURL, Publish: c.PublishURL, Size: c.Size})
	if err != nil {
		return err
	}
	return c.Flags.Run(ctx, options, os.Stdout, os.Stderr)
}

// FloorCmd runs the floor, the server that others are compared with.
type FloorCmd struct {
	Listen  string `default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Address to listen on."`
	NetHTTP bool   `name:"net-http" help:"Let package net/http serve the calls, to measure what that costs."`
}

// Run serves until the context ends.
func (c *FloorCmd) Run(ctx context.Context) error {
	serve := serveFloor
	if c.NetHTTP {
		serve = serveHTTPFloor
	}
	return serve(ctx, c.Listen, func(a net.Addr) {
		fmt.Printf("subscribe: http://%s/sub/{room}\npublish:   http://%s/pub/{room}\n", a, a)
	})
}
