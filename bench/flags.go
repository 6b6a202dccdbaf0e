package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Flags are the command-line flags that load generators have in common, for package kong.
type Flags struct {
	Streams         int     `default:"1000" help:"Number of event streams, each with its own session."`
	Rooms           int     `default:"1" help:"Number of rooms that the streams are spread over."`
	SourceAddresses int     `help:"Number of loopback addresses that the streams come from. 0: as many as needed."`
	Rate            float64 `default:"10" help:"Messages per second over all rooms."`
	Saturate        bool    `help:"Send as fast as the server replies, instead of at --rate."`
	Senders         int     `help:"Maximum number of messages in flight. Default: 64, or 8 with --saturate."`
	Undelivered     int     `help:"Maximum number of messages on their way to the streams. Senders wait until fewer are. 0: any number."`
	Size            int     `default:"64" help:"Size of a message in bytes."`

	Duration time.Duration `default:"10s" help:"How long to measure."`
	Warmup   time.Duration `default:"2s" help:"How long to apply the same load before measuring."`
	Idle     bool          `help:"Send nothing, and measure open streams."`
	Churn    string        `default:"0%" placeholder:"SHARE" help:"Share of the streams that reconnect each second. Example: 1%."`
	Stopped  int           `help:"Number of streams that stop reading during the measurement and resume afterwards."`
	Herd     bool          `help:"At the end, cut all streams, let them reconnect within a second, and report when all have caught up."`

	PID       []int `name:"pid" placeholder:"PID,…" help:"Process IDs of the server whose CPU and memory are measured."`
	BesidePID []int `name:"beside-pid" placeholder:"PID,…" help:"Process IDs to measure separately, with their children. Use it for the database."`
	JSON      bool  `name:"json" help:"Print the report as JSON."`
	Quiet     bool  `help:"Print no progress on standard error."`
}

// Options returns the options of a run against a server. Its errors name the flags.
func (f *Flags) Options(t Target) (Options, error) {
	o := Options{
		Target: t, Streams: f.Streams, Rooms: f.Rooms, SourceAddresses: f.SourceAddresses,
		Rate: f.Rate, Senders: f.Senders, Undelivered: f.Undelivered, Warmup: f.Warmup, Duration: f.Duration, Idle: f.Idle, Stopped: f.Stopped, Herd: f.Herd,
		PIDs: f.PID, BesidePIDs: f.BesidePID,
	}
	if f.Saturate {
		o.Rate = 0
	} else if f.Rate <= 0 {
		return o, fmt.Errorf("--rate: %v must be greater than 0", f.Rate)
	}
	if o.Senders == 0 {
		o.Senders = 64
		if f.Saturate {
			o.Senders = 8
		}
	}
	percent, isPercent := strings.CutSuffix(f.Churn, "%")
	share, err := strconv.ParseFloat(percent, 64)
	if err != nil || !isPercent {
		return o, fmt.Errorf("--churn: %q is not a percentage such as 1%%", f.Churn)
	}
	o.Churn = share / 100
	return o, o.Check()
}

// Run loads a server, and writes the report to out and progress to progress. It fails if messages
// were lost or duplicated.
func (f *Flags) Run(ctx context.Context, o Options, out, progress io.Writer) error {
	if !f.Quiet {
		o.Progress = progress
	}
	report, err := Run(ctx, o)
	if report == nil {
		return fmt.Errorf("bench: %w", err)
	}
	write := report.WriteText
	if f.JSON {
		write = report.WriteJSON
	}
	if err := errors.Join(err, write(out)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if !report.Complete() {
		return errors.New("bench: messages were lost or duplicated: see the report")
	}
	return nil
}
