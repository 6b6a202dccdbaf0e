package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"parlor/bench"
	"parlor/room"
)

// BenchCmd measures how much load a Parlor server can take.
type BenchCmd struct {
	URL  []string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL,…" help:"URL of the Parlor server. Several servers that share a database get the streams and messages in turn."`
	Data string   `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"The server's data folder. Its secrets sign the tokens if PARLOR_SECRET is not set."`

	Signing // the same settings as those of the server

	Kind    string   `default:"text" enum:"text,barrage,command,custom" help:"Kind of the messages."`
	As      string   `default:"members" enum:"members,admin" help:"Who sends: members sends from the sessions in turn, each within its rate limit; admin sends through the admin API."`
	Retry   bool     `help:"Give each message a clientMessageID and retry it while the server is unavailable. --herd implies it."`
	Gzip    bool     `help:"Ask for compressed streams. Decompressing them takes the load generator's time."`
	Metrics []string `placeholder:"URL,…" help:"URL of the server's metrics, to report what it shed and how often it read logs. Example: http://127.0.0.1:8081/metrics."`

	bench.Flags
}

// Run loads the server and prints a report. It fails if messages were lost or duplicated.
func (c *BenchCmd) Run(ctx context.Context, to console) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	options, err := c.Options(target)
	if err != nil {
		return usageError{err}
	}
	options.Metrics = c.Metrics
	return c.Flags.Run(ctx, options, to.out, to.err)
}

// target returns the server, with tokens that it accepts.
func (c *BenchCmd) target() (*bench.Parlor, error) {
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
		URLs: c.URL, Kind: room.MessageKind(c.Kind), Size: c.Size, Gzip: c.Gzip, MessageIDs: c.Retry || c.Herd,
		Token: func(id room.UserID) (string, error) { return tokens.Sign(room.User{ID: id}, ttl) },
	}
	if c.As == "admin" {
		if p.AdminToken, err = tokens.SignAdmin("bench", adminTTL); err != nil {
			return nil, err
		}
	}
	return p, nil
}
