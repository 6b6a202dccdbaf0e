package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"parlor/room"
	"parlor/tcp"
)

const (
	// natsPort is the usual port of NATS.
	natsPort = "4222"
	// natsPacketBytes is the maximum size of a packet. It is far below the usual limit of a NATS
	// server (1 MiB), because a server may have a lower one, and holds what it has not delivered.
	natsPacketBytes = 64 << 10
	// natsPending bounds the packets that wait to be heard. When it is exceeded, packets are lost
	// and the node connects again.
	natsPending = 16 << 10
	// natsInterval is the shortest time between two sends, which saves system calls under load.
	natsInterval = 500 * time.Microsecond
	// natsPing is how often the connection is checked. It is dead after two checks without an
	// answer.
	natsPing = time.Second
	// natsConnect bounds the attempt to connect to one NATS server.
	natsConnect = 2 * time.Second
)

// NATS carries packets over NATS. Everything uses one connection, so that packets are heard in the
// order in which they were sent.
type NATS struct {
	servers  []string
	options  []nats.Option
	database func() string

	mu sync.Mutex // guards all below
	// conn is nil unless it is connected. subject is where its packets go, and messages is where
	// those that it receives arrive.
	conn     *nats.Conn
	subject  string
	messages chan *nats.Msg
	// followed holds the logs that are followed, with their subscriptions to conn.
	followed map[room.LogID]*nats.Subscription
}

// NATSOptions are the settings of a NATS carrier.
type NATSOptions struct {
	// URLs are those of NATS servers of one cluster, separated by commas: nats:// or tls://, with a
	// user and a password, or with a token, if the servers want one.
	URLs string
	// Credentials is a file with a JWT and its key, and NKey one with the seed of an NKey. CA is a
	// file with the certificates that sign those of the servers. All may be empty.
	Credentials, NKey, CA string
	// Name is the name of the connection that the NATS servers show.
	Name string
	// Database returns an ID of the database, so that servers of other databases can use the same
	// NATS servers. It may change while the database is replaced by another.
	Database func() string
}

// NewNATS returns a carrier over NATS servers, which need not run. Errors say which option is wrong,
// without secrets.
func NewNATS(o NATSOptions) (*NATS, error) {
	servers, err := ParseNATSURLs(o.URLs)
	if err != nil {
		return nil, err
	}
	c := &NATS{database: o.Database, followed: make(map[room.LogID]*nats.Subscription), options: []nats.Option{
		// Listen connects again itself. Packets of this node are not heard: they are half of all.
		nats.NoReconnect(), nats.NoEcho(), nats.Name(o.Name),
		nats.PingInterval(natsPing), nats.MaxPingsOutstanding(2), nats.Timeout(natsConnect), nats.FlusherTimeout(sendTimeout),
	}}
	for _, s := range servers {
		c.servers = append(c.servers, s.String())
	}
	if o.Credentials != "" {
		c.options = append(c.options, nats.UserCredentials(o.Credentials))
	}
	if o.NKey != "" {
		signed, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("seed of the NKey: %w", err)
		}
		c.options = append(c.options, signed)
	}
	if o.CA != "" {
		c.options = append(c.options, nats.RootCAs(o.CA))
	}
	return c, nil
}

// ParseNATSURLs parses a list of URLs of NATS servers. Its errors do not contain the URLs, because
// those may contain passwords.
func ParseNATSURLs(list string) (servers []*url.URL, err error) {
	for i, text := range strings.Split(list, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
			return nil, fmt.Errorf("URL %d of the list is not of the form nats://USER:PASSWORD@HOST:PORT", i+1)
		case u.Scheme != "nats" && u.Scheme != "tls":
			return nil, fmt.Errorf("URL %d of the list must begin with nats:// or tls://", i+1)
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), natsPort)
		}
		servers = append(servers, u)
	}
	return servers, nil
}

// NATSAddresses returns the addresses of NATS servers in alphabetical order, without users and
// passwords.
func NATSAddresses(servers []*url.URL) string {
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Host)
	}
	slices.Sort(addresses)
	return strings.Join(slices.Compact(addresses), ",")
}

// PacketBytes implements Carrier.
func (c *NATS) PacketBytes() int { return natsPacketBytes }

// Interval implements Carrier.
func (c *NATS) Interval() time.Duration { return natsInterval }

// Listen implements Carrier.
func (c *NATS) Listen(ctx context.Context, ready func(), hear func(packet []byte)) error {
	lost := make(chan error, 1)
	lose := func(err error) {
		select {
		case lost <- err:
		default: // an earlier error is enough
		}
	}
	defer c.close()
	conn, messages, err := c.connect(ctx, lose)
	if err != nil {
		return err
	}
	if err := flush(ctx, conn); err != nil {
		return err
	}
	ready()
	subject := c.subjectOf()
	moved := time.NewTicker(time.Second)
	defer moved.Stop()
	for {
		select {
		case m := <-messages:
			hear(m.Data)
		case err := <-lost:
			return err
		case <-moved.C:
			if subject != c.subjectOf() {
				return errors.New("the database is another one")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect connects, and subscribes to what all nodes hear and to the logs that are followed. lost is
// called when the connection has ended or packets were lost.
func (c *NATS) connect(ctx context.Context, lost func(error)) (*nats.Conn, <-chan *nats.Msg, error) {
	options := slices.Concat(c.options, []nats.Option{
		nats.SetCustomDialer(contextDialer{ctx}),
		nats.ClosedHandler(func(conn *nats.Conn) { lost(fmt.Errorf("connection to NATS closed: %w", cause(conn.LastError()))) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { lost(fmt.Errorf("NATS: %w", err)) }),
	})
	conn, err := nats.Connect(strings.Join(c.servers, ","), options...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if most := conn.MaxPayload(); most < natsPacketBytes {
		conn.Close()
		return nil, nil, fmt.Errorf("the NATS server accepts messages of %d bytes (max_payload), and %d are needed", most, natsPacketBytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.subject, c.messages = conn, c.subjectOf(), make(chan *nats.Msg, natsPending)
	if _, err := conn.ChanSubscribe(c.subjectLocked(0), c.messages); err != nil {
		return nil, nil, fmt.Errorf("subscribe to what all servers hear: %w", err)
	}
	for log := range c.followed {
		if err := c.subscribeLocked(log); err != nil {
			return nil, nil, err
		}
	}
	return conn, c.messages, nil
}

// cause returns the cause of the end of a connection, which NATS does not always tell.
func cause(err error) error {
	if err == nil {
		return nats.ErrConnectionClosed
	}
	return err
}

// subjectOf returns the beginning of the subjects of the database.
func (c *NATS) subjectOf() string { return "parlor." + c.database() }

// subjectLocked returns the subject of a log, or that of all nodes if the log is 0. The caller holds
// mu.
func (c *NATS) subjectLocked(log room.LogID) string {
	if log == 0 {
		return c.subject + ".all"
	}
	return c.subject + ".log." + strconv.FormatInt(int64(log), 10)
}

// subscribeLocked subscribes to a log. The caller holds mu.
func (c *NATS) subscribeLocked(log room.LogID) error {
	subscription, err := c.conn.ChanSubscribe(c.subjectLocked(log), c.messages)
	if err != nil {
		return fmt.Errorf("subscribe to a log: %w", err)
	}
	c.followed[log] = subscription
	return nil
}

// Follow implements Router. Without a connection, the next one begins with the logs.
func (c *NATS) Follow(ctx context.Context, logs []room.LogID) error {
	conn, err := c.follow(logs)
	if err != nil || conn == nil {
		return err
	}
	return flush(ctx, conn)
}

// follow returns the connection that has to be flushed, or nil if there is none.
func (c *NATS) follow(logs []room.LogID) (*nats.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range logs {
		if _, already := c.followed[log]; already {
			continue
		}
		c.followed[log] = nil
		if c.conn == nil {
			continue
		}
		if err := c.subscribeLocked(log); err != nil {
			return nil, err
		}
	}
	return c.conn, nil
}

// flush waits until the NATS server has handled everything that was sent to it.
func flush(ctx context.Context, conn *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	return nil
}

// Unfollow implements Router.
func (c *NATS) Unfollow(logs []room.LogID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range logs {
		if s := c.followed[log]; s != nil {
			_ = s.Unsubscribe() // it fails if the connection has ended, and the subscription with it
		}
		delete(c.followed, log)
	}
}

// Send implements Carrier. It does not wait until the NATS server has the packets. If the connection
// is lost, Listen returns.
func (c *NATS) Send(_ context.Context, packets []Packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return errNotConnected
	}
	for _, p := range packets {
		if err := c.conn.Publish(c.subjectLocked(p.Log), p.Text); err != nil {
			return fmt.Errorf("publish to NATS: %w", err)
		}
	}
	return nil
}

func (c *NATS) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return
	}
	c.conn.Close()
	c.conn = nil
	for log := range c.followed {
		c.followed[log] = nil
	}
}

// contextDialer dials until its context ends, or for at most natsConnect.
type contextDialer struct{ ctx context.Context }

// Dial implements nats.CustomDialer.
func (d contextDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, natsConnect)
	defer cancel()
	return tcp.Dial(ctx, network, address)
}
