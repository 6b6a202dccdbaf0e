package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"parlor/cluster"
	"parlor/hub"
	"parlor/store"
)

// streamRoute is excluded from the durations of calls: a stream lasts as long as its client wants.
const streamRoute = "/v1/events"

// readyTimeout is how long the database may take to answer a health check.
const readyTimeout = 2 * time.Second

// operations returns the handler for health checks, metrics and profiles, which has an address of
// its own.
func (s *service) operations(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return withoutBody(mux)
}

// withoutBody limits how long net/http waits for the body of a request before it replies. No
// handler here reads one.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// This fails only if the connection is closed.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		}
		next.ServeHTTP(w, r)
	})
}

// ready reports to load balancers whether this server accepts clients.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if s.draining.Load() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	switch err := s.store.Ping(ctx); {
	case errors.Is(err, store.ErrNewerSchema), errors.Is(err, store.ErrNotMigrated), errors.Is(err, store.ErrPooledTransactions),
		errors.Is(err, store.ErrReadOnly):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
	default:
		_, _ = w.Write([]byte("ok\n"))
		if problem := s.media.problem.Load(); problem != nil {
			// Messages still work. If all servers share the folder or bucket, failing here would
			// take all of them out of service.
			_, _ = fmt.Fprintf(w, "warning: file storage: %s\n", *problem)
		}
	}
}

// metrics are the Prometheus metrics. Every label has a fixed set of values, because each value
// takes memory forever: no room, user or other content of a request is one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(h *hub.Hub) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parlor_http_request_duration_seconds",
			Help: "Duration of API calls by route, method and status, without event streams.",
		}, []string{"route", "method", "status"}),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.requests)
	gauge := func(name, help string, value func(hub.Stats) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(h.Stats()) }))
	}
	counter := func(name, help string, value func(hub.Stats) float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return value(h.Stats()) }))
	}
	gauge("parlor_streams", "Open event streams.", func(s hub.Stats) float64 { return float64(s.Streams) })
	gauge("parlor_topics", "Logs that streams of this server are subscribed to.", func(s hub.Stats) float64 { return float64(s.Topics) })
	counter("parlor_deliveries_total", "Events written to streams.", func(s hub.Stats) float64 { return float64(s.Delivered) })
	counter("parlor_log_reads_total", "Reads of logs from the database to replay events.", func(s hub.Stats) float64 { return float64(s.LogReads) })
	counter("parlor_slow_consumers_total", "Streams closed because their client was too slow.", func(s hub.Stats) float64 { return float64(s.SlowConsumers) })
	counter("parlor_shed_total", "Ephemeral messages that were not delivered to a client because it was too slow.", func(s hub.Stats) float64 { return float64(s.Shed) })
	return m
}

// addConnections adds the number of client connections and its limit.
func (m *metrics) addConnections(c *connections) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parlor_connections", Help: "Open client connections."},
			func() float64 { return float64(c.Open()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parlor_connections_max", Help: "Maximum number of open client connections."},
			func() float64 { return float64(c.most) }),
	)
}

// addGhosts adds how long a client that lost its network may stay a member of a room.
func (m *metrics) addGhosts(peerTimeout, memberTimeout time.Duration) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parlor_ghost_seconds_max",
		Help: "Longest time for which a client that lost its network stays a member of a room: PARLOR_PEER_TIMEOUT plus PARLOR_MEMBER_TIMEOUT, unless the room sets its own memberTimeout.",
	}, func() float64 { return (peerTimeout + memberTimeout).Seconds() }))
}

// addCertificate adds when the API's certificate expires.
func (m *metrics) addCertificate(c *keyPair) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parlor_certificate_not_after_seconds", Help: "Expiry of the current certificate, in seconds since 1970.",
	}, func() float64 { return float64(c.notAfter().Unix()) }))
}

// addNode adds the number of other servers and the state of the clocks.
func (m *metrics) addNode(db *store.Store) {
	gauge := func(name, help string, value func(store.NodeStats) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(db.NodeStats()) }))
	}
	gauge("parlor_other_nodes", "Other servers that use the same database and are not stopping.",
		func(n store.NodeStats) float64 { return float64(n.Others) })
	gauge("parlor_clock_ahead_seconds", "Seconds by which this machine's clock is ahead of the database's.",
		func(n store.NodeStats) float64 { return n.ClockAhead.Seconds() })
	gauge("parlor_timers_stopped", "1 while timers are stopped because a clock cannot be trusted.",
		func(n store.NodeStats) float64 {
			if n.Timers {
				return 0
			}
			return 1
		})
}

// addBus adds the metrics of the bus between servers.
func (m *metrics) addBus(node *cluster.Node) {
	gauge := func(name, help string, value func(cluster.Stats) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value(node.Stats())) }))
	}
	counter := func(name, help string, value func(cluster.Stats) uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(node.Stats())) }))
	}
	gauge("parlor_bus_nodes", "Other servers that are heard on the bus.", func(s cluster.Stats) int { return s.Others })
	gauge("parlor_bus_nodes_unheard", "Other servers that the database lists but that are not heard on the bus. Should be 0.",
		func(s cluster.Stats) int { return s.Unheard })
	counter("parlor_bus_published_total", "Packets sent to other servers.", func(s cluster.Stats) uint64 { return s.Published })
	counter("parlor_bus_heard_total", "Packets received from other servers.", func(s cluster.Stats) uint64 { return s.Heard })
	counter("parlor_bus_ignored_total", "Packets that were not understood.", func(s cluster.Stats) uint64 { return s.Ignored })
	counter("parlor_bus_doubts_total", "Times when packets of other servers may have been lost, and the database was read instead.",
		func(s cluster.Stats) uint64 { return s.Doubts })
	counter("parlor_bus_mended_total", "Rooms and inboxes whose events had been lost on the bus, and were read from the database.",
		func(s cluster.Stats) uint64 { return s.Mended })
}

// addMedia adds the metrics of uploaded files.
func (m *metrics) addMedia(k *mediaKeeper) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parlor_media_up", Help: "1 if files can be stored and read, 0 if the folder or bucket fails or is full.",
		}, func() float64 {
			if k.problem.Load() != nil {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parlor_media_bytes", Help: "Bytes of stored files of all users, as counted for PARLOR_MEDIA_TOTAL.",
		}, func() float64 { return float64(k.bytes.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "parlor_media_lost_total", Help: "Requests for files whose stored bytes are missing or incomplete.",
		}, func() float64 { return float64(k.lost.Load()) }),
	)
}

// observe counts a request and its duration.
func (m *metrics) observe(route, method string, status int, took time.Duration) {
	if route == streamRoute {
		return
	}
	m.requests.WithLabelValues(route, methodLabel(method), strconv.Itoa(status)).Observe(took.Seconds())
}

// methodLabel returns the method of a request if it is one of HTTP's own. A client can send any
// other text as a method too.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
