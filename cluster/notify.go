package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// channel is the notification channel of the nodes. Each database has channels of its own.
const channel = "parlor"

const (
	// closeTimeout bounds how long the end of a connection may take.
	closeTimeout = time.Second
	// notifyInterval is the shortest time between two transactions of Send. Under load, one for each
	// message costs PostgreSQL and the nodes that listen more than the messages do. Messages arrive
	// 2 to 3 ms later at other nodes than at their own.
	notifyInterval = 3500 * time.Microsecond
	// notifyStatement is the prepared statement of Send.
	notifyStatement = "notify"
)

// errNotConnected is returned by Send while there is no connection.
var errNotConnected = errors.New("not connected")

// Notify carries packets as PostgreSQL notifications, over a connection that both listens and
// notifies, outside all transactions that write. A node hears its own notifications, too. Over one
// connection, they arrive together with PostgreSQL's answer to the transaction, and wake neither
// another process of PostgreSQL nor this one a second time.
type Notify struct {
	config  *pgconn.Config
	silence time.Duration // after which the connection is checked

	mu   sync.Mutex // guards conn
	conn *notifyConn
}

// notifyConn is a connection of which one goroutine reads and others write.
type notifyConn struct {
	net.Conn
	frontend *pgproto3.Frontend
	// answered receives a value for each answer of PostgreSQL, unless it has one.
	answered chan struct{}
	// ended is closed when nothing is read any more.
	ended chan struct{}

	mu sync.Mutex // guards writing
}

// NewNotify returns a carrier over a database.
func NewNotify(config *pgconn.Config) *Notify {
	return &Notify{config: config, silence: unheardAfter}
}

// PacketBytes returns the size of the largest notification: PostgreSQL refuses 8000 bytes.
func (c *Notify) PacketBytes() int { return 7999 }

// Interval implements Carrier.
func (c *Notify) Interval() time.Duration { return notifyInterval }

// Listen implements Carrier.
func (c *Notify) Listen(ctx context.Context, ready func(), hear func(packet []byte)) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.setConn(conn)
	defer conn.close()
	defer c.setConn(nil)
	ready()
	return conn.read(ctx, c.silence, hear)
}

// connect returns a connection that listens.
func (c *Notify) connect(ctx context.Context) (*notifyConn, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, c.config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	// A notification that is lost in a crash of PostgreSQL needs no disk: the nodes that listened
	// lose their connections too.
	_, err = conn.Exec(ctx, "SET synchronous_commit = off; LISTEN "+channel).ReadAll()
	if err == nil {
		_, err = conn.Prepare(ctx, notifyStatement, "SELECT pg_notify('"+channel+"', $1)", nil)
	}
	if err == nil {
		err = conn.SyncConn(ctx) // Hijack needs it
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return nil, fmt.Errorf("listen: %w", errors.Join(err, conn.Close(closing)))
	}
	// One goroutine reads and another writes, which pgconn does not allow.
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	return &notifyConn{Conn: hijacked.Conn, frontend: hijacked.Frontend, answered: make(chan struct{}, 1), ended: make(chan struct{})}, nil
}

func (c *Notify) setConn(conn *notifyConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

// Send implements Carrier. It returns when PostgreSQL has committed the notifications. If it refuses
// them, Listen returns.
func (c *Notify) Send(ctx context.Context, packets []Packet) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errNotConnected
	}
	messages := make([]pgproto3.FrontendMessage, 0, 2*len(packets)+1)
	for _, p := range packets {
		messages = append(messages, &pgproto3.Bind{PreparedStatement: notifyStatement, Parameters: [][]byte{p.Text}}, &pgproto3.Execute{})
	}
	select {
	case <-conn.answered: // an earlier answer
	default:
	}
	if err := conn.write(append(messages, &pgproto3.Sync{})...); err != nil {
		return err
	}
	select {
	case <-conn.answered:
		return nil
	case <-conn.ended:
		return errNotConnected
	case <-ctx.Done():
		return fmt.Errorf("wait for the answer of the database: %w", ctx.Err())
	}
}

// write writes messages. If it fails, the connection ends.
func (c *notifyConn) write(messages ...pgproto3.FrontendMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		c.frontend.Send(m)
	}
	err := c.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		err = c.frontend.Flush()
	}
	if err != nil {
		_ = c.Conn.Close() // PostgreSQL may have received a part of a message
		return fmt.Errorf("write to the database: %w", err)
	}
	return nil
}

// read reads notifications until the context ends or the connection fails. If nothing is heard for a
// time, although a node with others hears at least its own beats, it checks whether the connection
// works: TCP would not notice for a while that a peer has vanished.
func (c *notifyConn) read(ctx context.Context, silence time.Duration, hear func(packet []byte)) error {
	defer close(c.ended)
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	for checked := false; ; {
		if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return fmt.Errorf("read from the database: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		message, err := c.frontend.Receive()
		switch {
		case err == nil:
			checked = false
		case errors.Is(err, os.ErrDeadlineExceeded) && !checked:
			checked = true
			if err := c.write(&pgproto3.Query{}); err != nil {
				return err
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return fmt.Errorf("read from the database: %w", err)
		}
		switch m := message.(type) {
		case *pgproto3.NotificationResponse:
			hear([]byte(m.Payload))
		case *pgproto3.ReadyForQuery:
			select {
			case c.answered <- struct{}{}:
			default: // nobody has waited for the last one
			}
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		}
	}
}

// close ends the session.
func (c *notifyConn) close() {
	_ = c.write(&pgproto3.Terminate{}) // PostgreSQL also notices the end of the connection
	_ = c.Conn.Close()
}
