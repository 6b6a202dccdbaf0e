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

// readCounters returns the sums of the metrics of all servers that have a URL for them.
func (r *run) readCounters(ctx context.Context) (sum counters, err error) {
	for _, url := range r.Metrics {
		c, err := readCounters(ctx, url)
		if err != nil {
			return sum, fmt.Errorf("--metrics: %w", err)
		}
		sum = counters{sum.shed + c.shed, sum.logReads + c.logReads, sum.slow + c.slow}
	}
	return sum, nil
}

func readCounters(ctx context.Context, url string) (c counters, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return c, err
	}
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return c, err
	}
	defer reply.Body.Close()
	lines := bufio.NewScanner(reply.Body)
	for lines.Scan() {
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
	return c, lines.Err()
}

func (r *run) reportCounters(ctx context.Context, before counters) error {
	if len(r.Metrics) == 0 {
		return nil
	}
	now, err := r.readCounters(ctx)
	if err != nil {
		return err
	}
	r.report.Server = &ServerCounters{Shed: int64(now.shed - before.shed), LogReads: int64(now.logReads - before.logReads), SlowConsumers: int64(now.slow - before.slow)}
	return nil
}
