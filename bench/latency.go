package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram counts latencies from a microsecond to a minute, in steps of a thousandth of their
// value.
type histogram struct{ *hdrhistogram.Histogram }

func newHistogram() histogram {
	return histogram{hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)}
}

// add counts a latency. Latencies above a minute count as a minute.
func (h histogram) add(d time.Duration) {
	us := min(max(int64(d/time.Microsecond), 1), h.HighestTrackableValue())
	_ = h.RecordValue(us) // fails only for values out of range
}

// Latency is the latency of messages in milliseconds: from just before the request is written until
// a reader has read the frame from the socket.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func (h histogram) summary() Latency {
	at := func(percent float64) float64 { return float64(h.ValueAtPercentile(percent)) / 1000 }
	return Latency{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}
