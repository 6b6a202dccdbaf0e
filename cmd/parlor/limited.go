package main

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parlor/handlers"
)

// limitWarningInterval is the minimum time between two warnings about a limit, because rejected
// clients keep retrying.
const limitWarningInterval = time.Minute

const (
	limitOpsConnections handlers.Limit = "opsConnections"
	limitOpenFiles      handlers.Limit = "openFiles"
)

// limits maps the limits that the log warns about to the setting of each.
var limits = map[handlers.Limit]string{
	handlers.LimitConnections:           "PARLOR_MAX_CONNECTIONS",
	handlers.LimitConnectionsPerAddress: "PARLOR_CONNECTIONS_PER_ADDRESS",
	handlers.LimitStreams:               "PARLOR_MAX_STREAMS",
	handlers.LimitStreamsPerAddress:     "PARLOR_STREAMS_PER_ADDRESS",
	handlers.LimitStreamsPerUser:        "PARLOR_STREAMS_PER_USER",
	handlers.LimitTransfers:             "ulimit -n",
	handlers.LimitTransfersPerAddress:   "ulimit -n",
	handlers.LimitLoginsPerAddress:      "PARLOR_ADDRESS_LOGIN_RATE",
	limitOpsConnections:                 "PARLOR_OPS_LISTEN",
	limitOpenFiles:                      "ulimit -n",
}

// limited counts the rejections by each limit, and logs warnings about them.
type limited struct {
	log   *slog.Logger
	total *prometheus.CounterVec

	mu    sync.Mutex // guards since
	since map[handlers.Limit]*rejections
}

// rejections are the rejections by a limit since the last warning.
type rejections struct {
	warned time.Time
	n      int
}

func newLimited(log *slog.Logger, registry prometheus.Registerer) *limited {
	l := &limited{
		log: log,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parlor_limited_total", Help: "Connections, streams and calls rejected by a limit, by limit.",
		}, []string{"limit"}),
		since: make(map[handlers.Limit]*rejections),
	}
	registry.MustRegister(l.total)
	for _, limit := range append(handlers.RateLimits, slices.Collect(maps.Keys(limits))...) {
		l.total.WithLabelValues(string(limit)) // exported as 0
	}
	return l
}

// rejected counts a rejection and logs a warning if one is due. from is the client's address.
func (l *limited) rejected(limit handlers.Limit, from netip.Prefix) {
	l.total.WithLabelValues(string(limit)).Inc()
	setting, warns := limits[limit]
	if !warns {
		return
	}
	now := time.Now()
	l.mu.Lock()
	s := l.since[limit]
	if s == nil {
		s = &rejections{}
		l.since[limit] = s
	}
	s.n++
	n, due := s.n, now.Sub(s.warned) >= limitWarningInterval
	if due {
		s.warned, s.n = now, 0
	}
	l.mu.Unlock()
	if due {
		l.log.Warn("limit reached", "limit", limit, "setting", setting, "rejected", n, "address", from)
	}
}
