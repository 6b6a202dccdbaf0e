package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// callTimeout is how long a server may take to reply.
const callTimeout = 30 * time.Second

// caller makes calls over one connection that it keeps open. It is for one goroutine, and much
// cheaper than an http.Client, which has two goroutines and a pool for each connection.
type caller struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	reply   []byte
}

func newCaller(address string) *caller {
	return &caller{address: address, in: bufio.NewReaderSize(nil, 4<<10)}
}

// call sends a request and returns the status and the body of the reply. The body is valid until
// the next call. If the server has closed the connection of an earlier call, and nothing of the
// reply has arrived, the request is sent again on a new connection.
func (c *caller) call(ctx context.Context, request []byte) (status int, reply []byte, err error) {
	kept := c.conn != nil
	status, begun, err := c.try(ctx, request)
	if err != nil && kept && !begun && ctx.Err() == nil {
		status, _, err = c.try(ctx, request)
	}
	return status, c.reply, err
}

func (c *caller) try(ctx context.Context, request []byte) (status int, begun bool, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn == nil {
		dialer := net.Dialer{Timeout: callTimeout}
		if c.conn, err = dialer.DialContext(ctx, "tcp", c.address); err != nil {
			return 0, false, err
		}
		c.in.Reset(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return 0, false, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, false, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return 0, false, fmt.Errorf("no reply: %w", err)
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, true, fmt.Errorf("reply: %w", err)
	}
	defer r.Body.Close()
	c.reply = c.reply[:0]
	for chunk := [1024]byte{}; err == nil; {
		var n int
		n, err = r.Body.Read(chunk[:])
		c.reply = append(c.reply, chunk[:n]...)
	}
	if err != io.EOF { //nolint:errorlint // Read returns io.EOF itself
		return 0, true, fmt.Errorf("reply: %w", err)
	}
	if r.Close {
		c.close()
	}
	return r.StatusCode, true, nil
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// appendCall appends a request with a JSON body.
func appendCall(b []byte, method, path, host, key string, body []byte) []byte {
	b = fmt.Appendf(b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	if key != "" {
		b = append(append(append(b, "Authorization: Bearer "...), key...), "\r\n"...)
	}
	if body != nil {
		b = fmt.Appendf(b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return append(append(b, "\r\n"...), body...)
}
