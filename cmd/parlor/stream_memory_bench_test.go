package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"parlor/auth"
	"parlor/store/storetest"
)

// BenchmarkStreamMemory opens a thousand idle streams at the real program, and measures by how much
// the memory that it uses grows for each of them, without garbage. The sessions were there before,
// so their memory is not included.
func BenchmarkStreamMemory(b *testing.B) {
	for _, k := range []streamKind{
		{name: "HTTP1"},
		{name: "HTTP1/TLS", tls: true},
		{name: "HTTP2/connection-each", http2: true},
		{name: "HTTP2/shared-connections", http2: true, shared: true},
		{name: "HTTP2/TLS/connection-each", tls: true, http2: true},
		{name: "HTTP2/TLS/shared-connections", tls: true, http2: true, shared: true},
	} {
		b.Run(k.name, func(b *testing.B) {
			var each float64
			for b.Loop() {
				each += k.memory(b, 1000)
			}
			b.ReportMetric(each/float64(b.N)/(1<<10), "KiB/stream")
		})
	}
}

// streamKind is how clients open their streams.
type streamKind struct {
	name       string
	tls, http2 bool
	// shared is whether streams share connections, up to 250 each, as behind a proxy.
	shared bool
}

// memory returns the memory that a stream takes, in bytes.
func (k streamKind) memory(b *testing.B, streams int) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	args, trust, scheme := []string{"--log-level", "error"}, (*tls.Config)(nil), "http:"
	if k.tls {
		c := selfSigned(b)
		args = append(args, "--tls-cert", c.chain, "--tls-key", c.key)
		trust, scheme = &tls.Config{RootCAs: c.trust, ServerName: publicHost, MinVersion: tls.VersionTLS12}, "https:"
	}
	server := startParlorWith(b, storetest.Folder(b), []string{"PARLOR_SECRET=" + string(goodSecret)}, args...)
	defer server.signal(syscall.SIGTERM)
	calls := k.httpClient(trust)
	defer calls.CloseIdleConnections()
	clients := make([]*client, streams)
	for i := range clients {
		base := strings.Replace(server.url, "http:", scheme, 1)
		clients[i] = &client{http: calls, base: base, user: fmt.Sprintf("user%04d", i)}
		if err := clients[i].loginWith(ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
			b.Fatal(err)
		}
	}
	before := memoryInUse(b, server)
	for _, c := range clients {
		if !k.shared {
			c.http = k.httpClient(trust)
		}
		if err := c.openStream(ctx, "/v1/events", k.http2); err != nil {
			b.Fatal(err)
		}
	}
	return (memoryInUse(b, server) - before) / float64(streams)
}

// memoryInUse returns how many bytes of heap and stacks a server uses, without garbage. A sync.Pool
// is empty after two collections.
func memoryInUse(b *testing.B, p *process) float64 {
	b.Helper()
	for range 3 {
		get(b, p.ops+"/debug/pprof/heap?gc=1")
	}
	return metric(b, p, "go_memstats_heap_alloc_bytes") + metric(b, p, "go_memstats_stack_inuse_bytes")
}

func (k streamKind) httpClient(trust *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{Protocols: only(k.http2, k.tls), TLSClientConfig: trust}}
}

// only returns the protocols of clients that use HTTP/2 and nothing else, or HTTP/1.1.
func only(http2, overTLS bool) *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2 && overTLS)
	p.SetUnencryptedHTTP2(http2 && !overTLS)
	return p
}

// openStream opens a stream, which ends with the context, and reads its first event. It fails if the
// stream uses another version of HTTP.
func (c *client) openStream(ctx context.Context, path string, http2 bool) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	stream, err := c.http.Do(r) //nolint:bodyclose // the context closes it
	if err != nil {
		return err
	}
	if stream.StatusCode != http.StatusOK || stream.ProtoAtLeast(2, 0) != http2 {
		return fmt.Errorf("open a stream: %s %s", stream.Proto, stream.Status)
	}
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			return nil
		}
	}
	return errors.Join(errors.New("the stream ended without an event"), lines.Err())
}
