package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"parlor/handlers"
	"parlor/hub"
)

// TestMetricsIgnoreUnknownMethods covers a past failure: 1,000 requests with invented methods of 30
// KB each made /metrics 434 MB, and the memory was never freed.
func TestMetricsIgnoreUnknownMethods(t *testing.T) {
	t.Parallel()
	h := hub.New(nil, hub.Options{})
	t.Cleanup(h.Close)
	metrics := newMetrics(h)
	api := handlers.New(handlers.Options{Hub: h, Log: slog.New(slog.DiscardHandler), Observe: metrics.observe})
	scrape := func() string {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			for _, method := range []string{"GET", "OPTIONS", fmt.Sprintf("INVENTED%d", i), "get", "CONNECT", "TRACE"} {
				for _, path := range []string{"/", "/v1/sessions", "/v1/rooms/invented%d", "/v1/invented%d", "/invented%d", "//invented%d/", "*"} {
					r := httptest.NewRequest(http.MethodGet, "/", nil)
					r.Method, r.Host = method, fmt.Sprintf("invented%d.example", i)
					r.URL.Path = strings.ReplaceAll(path, "%d", fmt.Sprint(i))
					r.Header.Set("Origin", fmt.Sprintf("https://invented%d.example", i))
					api.ServeHTTP(httptest.NewRecorder(), r)
				}
			}
		}
	}
	ask(0, 1)
	series := strings.Count(scrape(), "\n")
	ask(1, 50)
	after := scrape()
	if got := strings.Count(after, "\n"); got != series {
		t.Errorf("%d lines of metrics after the first requests, and %d after more of them", series, got)
	}
	if at := strings.Index(strings.ToLower(after), "invented"); at >= 0 {
		t.Errorf("the metrics contain text of requests: %.200s", after[at:])
	}
	if !strings.Contains(after, `method="other"`) {
		t.Error("requests of other methods are not counted")
	}
}
