package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"parlor/auth"
	"parlor/bench"
	"parlor/room"
)

// BenchCmd measures servers.
type BenchCmd struct {
	Run   BenchRunCmd   `cmd:"" default:"withargs" help:"Load a server with streams and messages, and say what came of it."`
	Floor BenchFloorCmd `cmd:"" help:"Run the cheapest server there can be, which writes messages to sockets and nothing else."`
	Table BenchTableCmd `cmd:"" help:"Measure Parlor beside nchan and the floor, on this machine, and print a table."`
}

// BenchRunCmd is a run of the load generator.
type BenchRunCmd struct {
	Target       string `default:"parlor" enum:"parlor,sse" help:"What the server is: parlor, or sse: anything that publishes by POST and streams by GET."`
	URL          string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"The Parlor server."`
	SubscribeURL string `name:"subscribe-url" placeholder:"URL" help:"Where a plain server streams, with {room} in it."`
	PublishURL   string `name:"publish-url" placeholder:"URL" help:"Where a plain server takes messages, with {room} in it."`
	Data         string `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"The server's data folder, whose secrets sign the tokens where PARLOR_SECRET is not set."`

	Signing // as the server has them

	Streams         int     `default:"1000" help:"Event streams, each of a session of its own."`
	Rooms           int     `default:"1" help:"Rooms that the streams are spread over."`
	SourceAddresses int     `help:"Addresses of the loopback network that the streams come from. 0: as many as needed."`
	Rate            float64 `default:"10" help:"Messages a second over all rooms."`
	Saturate        bool    `help:"Send as fast as the server answers, instead of --rate."`
	Senders         int     `help:"Messages under way at the same time, at most. Default 64, with --saturate 8."`
	Kind            string  `default:"text" enum:"text,barrage,command,custom" help:"Kind of the messages."`
	Size            int     `default:"64" help:"Bytes of a message."`
	As              string  `default:"members" enum:"members,admin" help:"Who sends: the sessions in turn, each within its rate limit, or the admin API."`
	Retry           bool    `help:"Give each message a clientMessageID, and send it again when the server is away for a moment. --herd does."`

	Duration time.Duration `default:"10s" help:"How long is measured."`
	Warmup   time.Duration `default:"2s" help:"How long the same load goes before."`
	Idle     bool          `help:"Send nothing: measure open streams."`
	Churn    string        `default:"0%" placeholder:"SHARE" help:"Share of the streams that reconnect each second, as 1%."`
	Stopped  int           `help:"Streams that read nothing while it is measured, and read on afterwards."`
	Herd     bool          `help:"Cut all streams at the end, let them come back within a second, and say when all are complete."`

	PID       []int  `name:"pid" placeholder:"PID,…" help:"Processes of the server, to measure its CPU and memory."`
	BesidePID []int  `name:"beside-pid" placeholder:"PID,…" help:"Processes to be measured apart, with their children: the database's."`
	Metrics   string `placeholder:"URL" help:"The server's metrics, as http://127.0.0.1:8081/metrics, for what was shed and read."`
	JSON      bool   `name:"json" help:"Write the report as JSON."`
	Quiet     bool   `help:"No progress on standard error."`
}

// Run measures, and writes the report. It fails when something was lost.
func (c *BenchRunCmd) Run(ctx context.Context, to console) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	if !c.Quiet {
		options.Progress = to.err
	}
	report, err := bench.Run(ctx, options)
	if report == nil {
		return fmt.Errorf("bench: %w", err)
	}
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := errors.Join(err, write(to.out)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if !report.Complete() {
		return errors.New("bench: something was lost or came twice: see the report")
	}
	return nil
}

// options are those of the run. What is wrong with them is the user's fault.
func (c *BenchRunCmd) options() (bench.Options, error) {
	o := bench.Options{
		Streams: c.Streams, Rooms: c.Rooms, SourceAddresses: c.SourceAddresses,
		Rate: c.Rate, Senders: c.Senders, Warmup: c.Warmup, Duration: c.Duration, Idle: c.Idle, Stopped: c.Stopped, Herd: c.Herd,
		PIDs: c.PID, BesidePIDs: c.BesidePID, Metrics: c.Metrics,
	}
	if c.Saturate {
		o.Rate = 0
	} else if c.Rate <= 0 {
		return o, usageError{fmt.Errorf("--rate: %v is not more than 0", c.Rate)}
	}
	if o.Senders == 0 {
		o.Senders = 64
		if c.Saturate {
			o.Senders = 8
		}
	}
	percent, isPercent := strings.CutSuffix(c.Churn, "%")
	share, err := strconv.ParseFloat(percent, 64)
	if err != nil || !isPercent {
		return o, usageError{fmt.Errorf("--churn: %q is not a share such as 1%%", c.Churn)}
	}
	o.Churn = share / 100
	if c.Target == "sse" {
		o.Target = &bench.Plain{Subscribe: c.SubscribeURL, Publish: c.PublishURL, Size: c.Size}
	} else if o.Target, err = c.parlor(); err != nil {
		return o, err
	}
	if err := o.Check(); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func (c *BenchRunCmd) parlor() (*bench.Parlor, error) {
	if c.Secret == "" {
		if _, err := os.Stat(c.Data); err != nil {
			return nil, fmt.Errorf("no secret: set PARLOR_DATA to the server's data folder, or PARLOR_SECRET: %w", err)
		}
	}
	tokens, err := c.tokens(c.Data)
	if err != nil {
		return nil, err
	}
	ttl, adminTTL := c.Warmup+c.Duration+time.Hour, c.Warmup+c.Duration+time.Hour
	if c.TokenLifetime > 0 {
		ttl = min(ttl, c.TokenLifetime)
	}
	if c.AdminTokenLifetime > 0 {
		adminTTL = min(adminTTL, c.AdminTokenLifetime)
	}
	p := &bench.Parlor{
		URL: c.URL, Kind: room.MessageKind(c.Kind), Size: c.Size, MessageIDs: c.Retry || c.Herd,
		Token: func(id room.UserID) (string, error) { return tokens.Sign(room.User{ID: id}, ttl) },
	}
	if c.As == "admin" {
		if p.AdminToken, err = tokens.SignAdmin(adminTTL); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// BenchFloorCmd is the server that others are measured against.
type BenchFloorCmd struct {
	Listen string `default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Address to listen on."`
}

// Run serves until the context ends.
func (c *BenchFloorCmd) Run(ctx context.Context, to console) error {
	return bench.Floor(ctx, c.Listen, func(a net.Addr) {
		_, _ = fmt.Fprintf(to.out, "subscribe: http://%s/sub/{room}\npublish:   http://%s/pub/{room}\n", a, a)
	})
}

// BenchTableCmd measures Parlor beside other servers.
type BenchTableCmd struct {
	Duration     time.Duration `default:"10s" help:"How long each load is measured."`
	Scale        float64       `default:"1" help:"Makes all loads larger or smaller, as 0.1."`
	Rounds       int           `default:"1" help:"How often everything is measured; the table has the medians."`
	Loads        []int         `placeholder:"N,…" help:"Only some of the loads, 1 to 4."`
	NginxWorkers int           `default:"2" help:"Processes of nginx."`
}

// Run writes the table to the output, and the reports of all runs to standard error.
func (c *BenchTableCmd) Run(ctx context.Context, to console) error {
	if c.Scale <= 0 || c.Scale > 100 || c.Duration <= 0 || c.NginxWorkers < 1 || c.Rounds < 1 {
		return usageError{errors.New("--scale (up to 100), --duration, --rounds and --nginx-workers must be more than 0")}
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	contest := bench.Contest{
		Program: program, Secret: rand.Text() + rand.Text(), NginxWorkers: c.NginxWorkers, Duration: c.Duration, Scale: c.Scale, Loads: c.Loads, Rounds: c.Rounds,
		Token: func(secret string, user room.UserID) (string, error) {
			tokens := auth.Tokens{Secret: []byte(secret)}
			return tokens.Sign(room.User{ID: user}, time.Hour)
		},
	}
	return contest.Table(ctx, to.out, to.err)
}
