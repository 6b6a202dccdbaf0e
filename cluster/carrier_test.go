package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"parlor/cluster/clustertest"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// waitLimit is how long a test waits for something that must happen.
const waitLimit = 20 * time.Second

// listener is a carrier that listens in the background.
type listener struct {
	t     *testing.T
	stop  context.CancelFunc
	ended chan error

	mu     sync.Mutex // guards both below
	heard  []string
	change chan struct{} // closed and replaced when heard changes
}

// listen makes a carrier listen, and returns when it does.
func listen(t *testing.T, c Carrier) *listener {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listener{t: t, stop: stop, ended: make(chan error, 1), change: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		err := c.Listen(ctx, func() { close(ready) }, l.hear)
		l.ended <- err
	}()
	select {
	case <-ready:
	case err := <-l.ended:
		t.Fatalf("listen: %v", err)
	}
	return l
}

func (l *listener) hear(packet []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, string(packet))
	close(l.change)
	l.change = make(chan struct{})
}

// await waits until a packet is heard, and returns all that were heard so far.
func (l *listener) await(packet string) []string {
	l.t.Helper()
	for limit := time.After(waitLimit); ; {
		l.mu.Lock()
		heard, change := slices.Clone(l.heard), l.change
		l.mu.Unlock()
		if slices.Contains(heard, packet) {
			return heard
		}
		select {
		case <-change:
		case <-limit:
			l.t.Fatalf("%q was not heard, but %q", packet, heard)
		}
	}
}

// awaitEnd waits until Listen returns.
func (l *listener) awaitEnd() error {
	l.t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(waitLimit):
		l.t.Fatal("Listen does not return")
		return nil
	}
}

// close ends Listen.
func (l *listener) close() {
	l.t.Helper()
	l.stop()
	if err := l.awaitEnd(); !errors.Is(err, context.Canceled) {
		l.t.Errorf("Listen returned %v", err)
	}
}

func newNATS(t *testing.T, o NATSOptions) *NATS {
	t.Helper()
	if o.Database == nil {
		o.Database = func() string { return "db" }
	}
	c, err := NewNATS(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newNotify(t *testing.T, databaseURL string) *Notify {
	t.Helper()
	config, err := store.ConnConfig(databaseURL, "parlor bus")
	if err != nil {
		t.Fatal(err)
	}
	return NewNotify(&config.Config)
}

// carriers are the carriers of two nodes.
type carriers struct {
	name string
	// open returns two carriers over the server at an address, and that address.
	open func(t *testing.T, through func(network, address string) string) [2]Carrier
}

// allCarriers returns a pair of each kind. The connections of the second go through an address that
// the test may replace.
func allCarriers() []carriers {
	return []carriers{
		{"NOTIFY", func(t *testing.T, through func(string, string) string) [2]Carrier {
			database := storetest.Database(t)
			first, second := newNotify(t, database), newNotify(t, database)
			network, address := pgconn.NetworkAddress(second.config.Host, second.config.Port)
			if through := through(network, address); through != address {
				host, port, err := net.SplitHostPort(through)
				if err != nil {
					t.Fatal(err)
				}
				n, err := strconv.ParseUint(port, 10, 16)
				if err != nil {
					t.Fatal(err)
				}
				second.config.Host, second.config.Port = host, uint16(n)
			}
			second.silence = 100 * time.Millisecond
			return [2]Carrier{first, second}
		}},
		{"NATS", func(t *testing.T, through func(string, string) string) [2]Carrier {
			address := clustertest.StartNATS(t, nil).Addr().String()
			return [2]Carrier{newNATS(t, NATSOptions{URLs: "nats://" + address}), newNATS(t, NATSOptions{URLs: "nats://" + through("tcp", address)})}
		}},
	}
}

// send sends texts to all nodes.
func send(t *testing.T, c Carrier, texts ...string) {
	t.Helper()
	var packets []Packet
	for _, text := range texts {
		packets = append(packets, Packet{Text: []byte(text)})
	}
	if err := c.Send(t.Context(), packets); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// TestCarriers checks that packets arrive complete and in order.
func TestCarriers(t *testing.T) {
	for _, kind := range allCarriers() {
		t.Run(kind.name, func(t *testing.T) {
			pair := kind.open(t, func(_, address string) string { return address })
			near, far := listen(t, pair[0]), listen(t, pair[1])
			defer near.close()
			defer far.close()
			var want []string
			for i := range 500 {
				want = append(want, fmt.Sprintf("%d: häß\n'\"\\ %s", i, strings.Repeat("👩‍🚀", i%7)))
			}
			want = append(want, strings.Repeat("x", pair[0].PacketBytes()))
			send(t, pair[0], want[:250]...)
			send(t, pair[0], want[250:]...)
			if got := far.await(want[len(want)-1]); !slices.Equal(got, want) {
				t.Errorf("%d packets were heard, in another order or changed", len(got))
			}
			send(t, pair[1], "an answer")
			near.await("an answer")
		})
	}
}

// TestCarriersAfterOutage checks that a carrier notices that its connection is dead although nobody
// says so, and that a new one works.
func TestCarriersAfterOutage(t *testing.T) {
	for _, kind := range allCarriers() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			var relay *clustertest.Relay
			pair := kind.open(t, func(network, address string) string {
				relay = clustertest.StartRelay(t, network, address)
				return relay.Address
			})
			far := listen(t, pair[1])
			relay.Silence()
			if err := far.awaitEnd(); err == nil {
				t.Error("Listen returned without an error")
			}
			relay.Speak()
			near, far := listen(t, pair[0]), listen(t, pair[1])
			defer near.close()
			defer far.close()
			send(t, pair[0], "after the outage")
			far.await("after the outage")
			send(t, pair[1], "an answer")
			near.await("an answer")
		})
	}
}

// TestNATSRoutes checks that packets of a log go to those who follow it, also over a later
// connection, and that servers of another database hear nothing.
func TestNATSRoutes(t *testing.T) {
	address := "nats://" + clustertest.StartNATS(t, nil).Addr().String()
	epoch := atomic.Pointer[string]{}
	epoch.Store(new("db"))
	from, to, stranger := newNATS(t, NATSOptions{URLs: address}),
		newNATS(t, NATSOptions{URLs: address, Database: func() string { return *epoch.Load() }}),
		newNATS(t, NATSOptions{URLs: address, Database: func() string { return "other" }})
	near, far, other := listen(t, from), listen(t, to), listen(t, stranger)
	defer near.close()
	defer other.close()
	say := func(l *listener, text string, logs ...room.LogID) []string {
		t.Helper()
		var packets []Packet
		for _, log := range logs {
			packets = append(packets, Packet{Log: log, Text: fmt.Appendf(nil, "%s %d", text, log)})
		}
		if err := from.Send(t.Context(), append(packets, Packet{Text: []byte(text + " end")})); err != nil {
			t.Fatal(err)
		}
		return l.await(text + " end")
	}
	if got := say(far, "first", 1, 2); !slices.Equal(got, []string{"first end"}) {
		t.Errorf("a node that follows nothing heard %q", got)
	}
	if err := to.Follow(t.Context(), []room.LogID{1, 3}); err != nil {
		t.Fatal(err)
	}
	if got := say(far, "second", 1, 2, 3); !slices.Equal(got, []string{"first end", "second 1", "second 3", "second end"}) {
		t.Errorf("a node that follows 1 and 3 heard %q", got)
	}
	to.Unfollow([]room.LogID{3, 4})

	epoch.Store(new("restored"))
	if err := far.awaitEnd(); err == nil {
		t.Error("Listen goes on for the database as it was")
	}
	epoch.Store(new("db"))
	far = listen(t, to)
	defer far.close()
	if got := say(far, "third", 1, 3); !slices.Equal(got, []string{"third 1", "third end"}) {
		t.Errorf("a node that follows 1 heard %q on its next connection", got)
	}
	near.mu.Lock()
	defer near.mu.Unlock()
	if len(near.heard) > 0 {
		t.Errorf("the sender heard itself: %q", near.heard)
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.heard) > 0 {
		t.Errorf("a node of another database heard %q", other.heard)
	}
}

// TestNATSCluster checks that packets of a log reach a node at another server of a NATS cluster within
// spreadTime after the log was followed.
func TestNATSCluster(t *testing.T) {
	first := clustertest.StartNATS(t, func(o *server.Options) {
		o.ServerName, o.Cluster = "first", server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: server.RANDOM_PORT}
	})
	second := clustertest.StartNATS(t, func(o *server.Options) {
		o.ServerName, o.Cluster = "second", server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		o.Routes = []*url.URL{{Scheme: "nats", Host: first.ClusterAddr().String()}}
	})
	from, to := newNATS(t, NATSOptions{URLs: "nats://" + first.Addr().String()}), newNATS(t, NATSOptions{URLs: "nats://" + second.Addr().String()})
	near, far := listen(t, from), listen(t, to)
	defer near.close()
	defer far.close()
	for connected, limit := false, time.Now().Add(waitLimit); !connected; { // the servers find each other
		send(t, from, "hello")
		<-time.After(10 * time.Millisecond) // a slow listener would lose its connection
		far.mu.Lock()
		connected = len(far.heard) > 0
		far.mu.Unlock()
		if time.Now().After(limit) {
			t.Fatal("the servers do not find each other")
		}
	}
	for log := room.LogID(1); log <= 4; log++ {
		if err := to.Follow(t.Context(), []room.LogID{log}); err != nil {
			t.Fatal(err)
		}
		<-time.After(spreadTime)
		if err := from.Send(t.Context(), []Packet{{Log: log, Text: fmt.Append(nil, log)}}); err != nil {
			t.Fatal(err)
		}
		far.await(fmt.Sprint(log))
	}
}

// TestNATSSecured checks the ways in which a NATS server knows a node, and that neither a stranger nor
// a node with other credentials can listen. Errors contain no secrets.
func TestNATSSecured(t *testing.T) {
	const password = "a-password-that-nobody-sees"
	user, seed := userNKey(t)
	operator, credentials := jwtUser(t)
	certificate, ca := selfSigned(t)
	file := func(content []byte) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct {
		name    string
		server  func(*server.Options)
		address string // of the URL, with %s for the address of the server
		options NATSOptions
		refused bool
	}{
		{"password", func(o *server.Options) { o.Username, o.Password = "parlor", password }, "nats://parlor:" + password + "@%s", NATSOptions{}, false},
		{"wrong password", func(o *server.Options) { o.Username, o.Password = "parlor", "other" }, "nats://parlor:" + password + "@%s", NATSOptions{}, true},
		{"no password", func(o *server.Options) { o.Username, o.Password = "parlor", password }, "nats://%s", NATSOptions{}, true},
		{"token", func(o *server.Options) { o.Authorization = password }, "nats://" + password + "@%s", NATSOptions{}, false},
		{"NKey", func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: user}} }, "nats://%s", NATSOptions{NKey: file(seed)}, false},
		{"no NKey", func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: user}} }, "nats://%s", NATSOptions{}, true},
		{"credentials", operator, "nats://%s", NATSOptions{Credentials: file(credentials)}, false},
		{"no credentials", operator, "nats://%s", NATSOptions{}, true},
		{"TLS", func(o *server.Options) { o.TLS, o.TLSConfig = true, certificate }, "tls://%s", NATSOptions{CA: file(ca)}, false},
		{"TLS with an unknown certificate", func(o *server.Options) { o.TLS, o.TLSConfig = true, certificate }, "tls://%s", NATSOptions{}, true},
		{"small messages only", func(o *server.Options) { o.MaxPayload = 1000 }, "nats://%s", NATSOptions{}, true},
		{"no server", func(o *server.Options) { o.DontListen = true }, "nats://parlor:" + password + "@127.0.0.1:9", NATSOptions{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := tt.options
			o.URLs = tt.address
			if strings.Contains(o.URLs, "%s") {
				o.URLs = fmt.Sprintf(tt.address, clustertest.StartNATS(t, tt.server).Addr())
			}
			c := newNATS(t, o)
			if !tt.refused {
				listen(t, c).close()
				return
			}
			err := c.Listen(t.Context(), func() { t.Error("it listens") }, func([]byte) {})
			if err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("Listen returned %v", err)
			}
			if err := c.Send(t.Context(), []Packet{{Text: []byte("x")}}); err == nil {
				t.Error("Send has no error")
			}
		})
	}
}

// userNKey returns the public key of a NATS user, and its seed.
func userNKey(t *testing.T) (public string, seed []byte) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
		t.Fatal(err)
	}
	if seed, err = key.Seed(); err != nil {
		t.Fatal(err)
	}
	return public, seed
}

// jwtUser returns the options of a NATS server that trusts an operator, and the content of the
// credentials file of a user of one of the operator's accounts.
func jwtUser(t *testing.T) (options func(*server.Options), credentials []byte) {
	t.Helper()
	key := func(create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string) {
		pair, err := create()
		if err != nil {
			t.Fatal(err)
		}
		if public, err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
		return pair, public
	}
	operatorKey, operator := key(nkeys.CreateOperator)
	accountKey, account := key(nkeys.CreateAccount)
	user, seed := userNKey(t)
	accountJWT, err := jwt.NewAccountClaims(account).Encode(operatorKey)
	if err != nil {
		t.Fatal(err)
	}
	userJWT, err := jwt.NewUserClaims(user).Encode(accountKey)
	if err != nil {
		t.Fatal(err)
	}
	if credentials, err = jwt.FormatUserConfig(userJWT, seed); err != nil {
		t.Fatal(err)
	}
	return func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		if err := resolver.Store(account, accountJWT); err != nil {
			t.Error(err)
		}
		o.TrustedKeys, o.AccountResolver = []string{operator}, resolver
	}, credentials
}

// selfSigned returns the TLS configuration of a server at 127.0.0.1, and its certificate.
func selfSigned(t *testing.T) (config *tls.Config, certificate []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	return config, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestParseNATSURLs(t *testing.T) {
	for list, want := range map[string]string{
		"nats://a": "a:4222",
		"nats://u:p@b:1, tls://u:p@a,nats://x@b:1": "a:4222,b:1",
		"nats://[::1]:7": "[::1]:7",
	} {
		servers, err := ParseNATSURLs(list)
		if got := NATSAddresses(servers); err != nil || got != want {
			t.Errorf("%q has the addresses %q (error %v)", list, got, err)
		}
	}
	for _, list := range []string{
		"", ",", "a:4222", "http://a", "nats://", "nats://a/x", "nats://secret@a:port", "nats://a,", "nats://u:secret@a?x=1", "nats://u:secret@a#x", "nats://u:sec ret@ a\x00",
	} {
		if _, err := ParseNATSURLs(list); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec ret") {
			t.Errorf("%q: error %v", list, err)
		}
	}
}
