package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/tcp"
)

// channel is the notification channel of the nodes. Each database has channels of its own.
const channel = "parlor"

const (
	// closeTimeout bounds how long the end of a connection may take.
	closeTimeout = time.Second
	// notifyInterval is the shortest time between two statements of Send. Under load, a statement for
	// each message costs PostgreSQL and the nodes that listen more than the messages do.
	notifyInterval = 1500 * time.Microsecond
)

// Notify carries packets as PostgreSQL notifications. It has two connections of its own: one
// listens, and the other notifies, outside all transactions that write.
type Notify struct {
	config  *pgx.ConnConfig
	silence time.Duration // after which the connection is checked
	pace    pace          // of Send
	sender  *pgx.Conn     // nil if it is not connected; only Send and Close use it
}

// NewNotify returns a carrier over the database of a URL.
func NewNotify(url string) (*Notify, error) {
	pool, err := pgxpool.ParseConfig(url) // the URL may contain settings of the store's pools
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = "parlor bus"
	config.ConnectTimeout, config.DialFunc = sendTimeout, tcp.Dial
	return &Notify{config: config, silence: unheardAfter}, nil
}

// PacketBytes returns the size of the largest notification: PostgreSQL refuses 8000 bytes.
func (c *Notify) PacketBytes() int { return 7999 }

// Listen implements Carrier. If nothing is heard for a time, although a node with others hears at
// least its own beats, it checks whether the connection works: TCP would not notice for many minutes
// that a peer has vanished.
func (c *Notify) Listen(ctx context.Context, ready func(), hear func(packet []byte)) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer c.disconnect(conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		notification, err := c.wait(ctx, conn)
		if err != nil {
			return fmt.Errorf("wait for a notification: %w", err)
		}
		if notification != nil {
			hear([]byte(notification.Payload))
		}
	}
}

// wait returns the next notification, or nil if there was none for a time and the connection works.
func (c *Notify) wait(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, c.silence)
	defer cancel()
	notification, err := conn.WaitForNotification(waiting)
	if err == nil || waiting.Err() == nil || ctx.Err() != nil {
		return notification, err
	}
	checking, cancel := context.WithTimeout(ctx, c.silence)
	defer cancel()
	return nil, conn.Ping(checking)
}

// Send implements Carrier. One statement sends all packets, so PostgreSQL commits once.
func (c *Notify) Send(ctx context.Context, packets []Packet) (err error) {
	if c.sender == nil {
		if c.sender, err = c.connect(ctx); err != nil {
			c.sender = nil
			return err
		}
		// A notification that is lost in a crash of PostgreSQL needs no disk: the nodes that
		// listened lose their connections too.
		if _, err = c.sender.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			c.Close()
			return fmt.Errorf("set up the connection: %w", err)
		}
	}
	c.pace.wait(ctx, notifyInterval)
	texts := make([]string, len(packets))
	for i, p := range packets {
		texts[i] = string(p.Text)
	}
	if _, err = c.sender.Exec(ctx, "SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p", channel, texts); err != nil {
		c.Close()
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// Close closes the connection of Send.
func (c *Notify) Close() {
	if c.sender != nil {
		c.disconnect(c.sender)
		c.sender = nil
	}
}

func (c *Notify) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, c.config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if _, err := conn.Exec(ctx, tcp.PostgresSettings); err != nil {
		c.disconnect(conn)
		return nil, fmt.Errorf("set up the connection: %w", err)
	}
	return conn, nil
}

func (c *Notify) disconnect(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is not used again, even if this fails
}
