package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// counters are metrics of Parlor that a client cannot see.
type counters struct{ shed, logReads, slow float64 }

// readCounters reads the metrics, if there is a URL for them.
func (r *run) readCounters(ctx context.Context) (c counters, err error) {
	if r.Metrics == "" {
		return c, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Metrics, nil)
	if err != nil {
		return c, fmt.Errorf("--metrics: %w", err)
	}
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return c, fmt.Errorf("--metrics: %w", err)
	}
	defer reply.Body.Close()
	for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "parlor_shed_total":
			c.shed = n
		case "parlor_log_reads_total":
			c.logReads = n
		case "parlor_slow_consumers_total":
			c.slow = n
		}
	}
	return c, nil
}

func (r *run) reportCounters(ctx context.Context, before counters) error {
	if r.Metrics == "" {
		return nil
	}
	now, err := r.readCounters(ctx)
	if err != nil {
		return err
	}
	r.report.Server = &ServerCounters{Shed: int64(now.shed - before.shed), LogReads: int64(now.logReads - before.logReads), SlowConsumers: int64(now.slow - before.slow)}
	return nil
}
