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
	Run   BenchRunCmd   `cmd:"" default:"withargs" help:"Load a server with streams and messages, and print a report."`
	Floor BenchFloorCmd `cmd:"" help:"Run a minimal server that only copies messages to sockets, as a baseline."`
	Table BenchTableCmd `cmd:"" help:"Compare Parlor with nchan and the floor on this machine, and print a table."`
}

// BenchRunCmd is a run of the load generator.
type BenchRunCmd struct {
	Target       string `default:"parlor" enum:"parlor,sse" help:"Kind of server: parlor, or sse for any server that publishes by POST and streams by GET."`
	URL          string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"URL of the Parlor server."`
	SubscribeURL string `name:"subscribe-url" placeholder:"URL" help:"Stream URL of a server with --target sse. {room} stands for the room."`
	PublishURL   string `name:"publish-url" placeholder:"URL" help:"Publish URL of a server with --target sse. {room} stands for the room."`
	Data         string `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"The server's data folder. Its secrets sign the tokens if PARLOR_SECRET is not set."`

	Signing // as the server has them

	Streams         int     `default:"1000" help:"Number of event streams, each with its own session."`
	Rooms           int     `default:"1" help:"Number of rooms that the streams are spread over."`
	SourceAddresses int     `help:"Number of loopback addresses that the streams come from. 0: as many as needed."`
	Rate            float64 `default:"10" help:"Messages per second over all rooms."`
	Saturate        bool    `help:"Send as fast as the server replies, instead of at --rate."`
	Senders         int     `help:"Maximum number of messages in flight. Default: 64, or 8 with --saturate."`
	Kind            string  `default:"text" enum:"text,barrage,command,custom" help:"Kind of the messages."`
	Size            int     `default:"64" help:"Size of a message in bytes."`
	As              string  `default:"members" enum:"members,admin" help:"Who sends: members sends from the sessions in turn, each within its rate limit; admin sends through the admin API."`
	Retry           bool    `help:"Give each message a clientMessageID and retry it while the server is unavailable. --herd implies it."`

	Duration time.Duration `default:"10s" help:"How long to measure."`
	Warmup   time.Duration `default:"2s" help:"How long to apply the same load before measuring."`
	Idle     bool          `help:"Send nothing, and measure open streams."`
	Churn    string        `default:"0%" placeholder:"SHARE" help:"Share of the streams that reconnect each second. Example: 1%."`
	Stopped  int           `help:"Number of streams that stop reading during the measurement and resume afterwards."`
	Herd     bool          `help:"At the end, cut all streams, let them reconnect within a second, and report when all have caught up."`

	PID       []int  `name:"pid" placeholder:"PID,…" help:"Process IDs of the server whose CPU and memory are measured."`
	BesidePID []int  `name:"beside-pid" placeholder:"PID,…" help:"Process IDs to measure separately, with their children. Use it for the database."`
	Metrics   string `placeholder:"URL" help:"URL of the server's metrics, to report what it shed and how often it read logs. Example: http://127.0.0.1:8081/metrics."`
	JSON      bool   `name:"json" help:"Print the report as JSON."`
	Quiet     bool   `help:"Print no progress on standard error."`
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
		return errors.New("bench: messages were lost or duplicated: see the report")
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
		return o, usageError{fmt.Errorf("--rate: %v must be greater than 0", c.Rate)}
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
		return o, usageError{fmt.Errorf("--churn: %q is not a percentage such as 1%%", c.Churn)}
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
			return nil, fmt.Errorf("no secret: set PARLOR_DATA to the server's data folder, or set PARLOR_SECRET: %w", err)
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
	Duration     time.Duration `default:"10s" help:"How long to measure each load."`
	Scale        float64       `default:"1" help:"Factor for all loads. Example: 0.1."`
	Rounds       int           `default:"1" help:"How often to measure everything. The table shows the medians."`
	Loads        []int         `placeholder:"N,…" help:"Measure only these loads, 1 to 4."`
	NginxWorkers int           `default:"2" help:"Number of nginx worker processes."`
}

// Run writes the table to the output, and the reports of all runs to standard error.
func (c *BenchTableCmd) Run(ctx context.Context, to console) error {
	if c.Scale <= 0 || c.Scale > 100 || c.Duration <= 0 || c.NginxWorkers < 1 || c.Rounds < 1 {
		return usageError{errors.New("--scale (up to 100), --duration, --rounds and --nginx-workers must be greater than 0")}
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
