package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/auth"
	"parlor/localpg"
	"parlor/room"
	"parlor/store/storetest"
)

// sendRooms is the number of rooms of BenchmarkSend.
const sendRooms = 64

// BenchmarkSend measures stored messages per second of the real program for several numbers of
// senders, each of which waits for a reply before it sends again. BenchmarkSend/pgbench measures
// how fast pgbench inserts the same rows into the same PostgreSQL. Senders, server and database
// share the machine.
func BenchmarkSend(b *testing.B) {
	pg, err := localpg.Start(b.Context(), localpg.Options{Dir: filepath.Join(storetest.Folder(b), "postgres")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = pg.Stop() })
	env := []string{"DATABASE_URL=" + pg.URL(), "PARLOR_SECRET=" + string(goodSecret)}
	if got := parlor(b.Context(), b, env, "migrate"); got.code != exitOK {
		b.Fatal(got.err)
	}
	storetest.BenchmarkPgbench(b, pg.URL())
	server := startParlorWith(b, storetest.Folder(b), env, "--message-rate", "0", "--log-level", "error")
	var senders []*sender
	for _, n := range []int{1, 16, 256} {
		for len(senders) < n {
			senders = append(senders, newSender(b, server, env, len(senders)))
		}
		b.Run(fmt.Sprintf("senders=%d", n), func(b *testing.B) { send(b, senders[:n]) })
	}
	if log := server.logged(); log != "" {
		b.Errorf("the server's log: %s", log)
	}
}

// send makes the senders store b.N messages, and checks that each was acknowledged.
func send(b *testing.B, senders []*sender) {
	b.Helper()
	var (
		left  atomic.Int64
		all   sync.WaitGroup
		calls = make([][]time.Duration, len(senders))
		fault = make([]error, len(senders))
	)
	left.Store(int64(b.N))
	b.ResetTimer()
	for i, s := range senders {
		all.Go(func() {
			for left.Add(-1) >= 0 && fault[i] == nil {
				began := time.Now()
				fault[i] = s.send()
				calls[i] = append(calls[i], time.Since(began))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if err := errors.Join(fault...); err != nil {
		b.Fatal(err)
	}
	took := slices.Concat(calls...)
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}

// sender is a session that sends one message again and again, over its own cheap connection.
type sender struct {
	conn    net.Conn
	replies *bufio.Reader
	request []byte
}

func newSender(b *testing.B, server *process, env []string, i int) *sender {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	c := &client{http: http.DefaultClient, base: server.url, user: fmt.Sprintf("user%d", i)}
	token, err := (&auth.Tokens{Secret: []byte(goodSecret)}).Sign(room.User{ID: room.UserID(c.user)}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	var session struct{ SessionKey string }
	if err := c.succeed(ctx, "POST", "/v1/sessions", map[string]string{"token": token}, &session); err != nil {
		b.Fatal(err)
	}
	c.key = session.SessionKey
	path := fmt.Sprintf("/v1/rooms/room%d", i%sendRooms)
	if err := c.succeed(ctx, "POST", path+"/enter", map[string]any{}, nil); err != nil {
		b.Fatal(err)
	}
	host := strings.TrimPrefix(server.url, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	const body = `{"kind":"text","text":"good morning, everybody"}`
	return &sender{conn: conn, replies: bufio.NewReader(conn), request: fmt.Appendf(nil,
		"POST %s/messages HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, host, c.key, len(body), body)}
}

// send sends the message once and reads the whole reply.
func (s *sender) send() error {
	if _, err := s.conn.Write(s.request); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := s.replies.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 201 ")) {
			return fmt.Errorf("the server replied %q", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) == len("\r\n") {
			_, err := s.replies.Discard(length)
			return err
		}
	}
}
