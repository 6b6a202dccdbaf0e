package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	contract "parlor"
	"parlor/auth"
	"parlor/cluster"
	"parlor/handlers"
	"parlor/hub"
	"parlor/media"
	"parlor/room"
	"parlor/store"
	"parlor/web"
)

const (
	// headerTimeout ends connections whose header arrives byte by byte.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than that of proxies. Otherwise a proxy could send a request on a
	// connection that is being closed.
	idleTimeout = 120 * time.Second
	// stalledTimeout ends HTTP/2 connections whose peer does not read. Other writes have deadlines
	// of their own.
	stalledTimeout = 30 * time.Second
	// maxHeaderBytes is far more than browsers and proxies send.
	maxHeaderBytes = 64 << 10
	// sweepInterval is the interval between sweeps, and therefore how late a timeout may fire.
	sweepInterval = time.Second
	// strayInterval limits how long a session may count as online after its stream was lost
	// together with the database.
	strayInterval = time.Minute
)

// service is the running server. The store passes commits to the node, which passes them to the hub
// and to other servers. The hub reads logs from the store and reports which streams ended, and the
// handlers use both.
type service struct {
	store    *store.Store
	hub      *hub.Hub
	node     *cluster.Node
	media    *mediaKeeper
	handlers *handlers.API
	api, ops *http.Server
	draining atomic.Bool
	// conflict receives an error if this server may no longer run beside another one.
	conflict chan error
	log      *slog.Logger
}

// serve runs the service until the context ends, and then drains streams and calls.
func (c *ServeCmd) serve(ctx context.Context, to console, log *slog.Logger, tokens *auth.Tokens, database database, secured *keyPair) (err error) {
	s := &service{log: log, conflict: make(chan error, 1)}
	bucket, err := c.openMedia(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	// The store may refer to the hub before it exists, because nothing is committed until both do.
	s.store, err = store.Open(ctx, database.url, store.Options{
		Origin:        database.files,
		Commit:        s.apply,
		CommitUnknown: func() { s.node.Resync() },
		Settle:        func(ctx context.Context) { s.node.Settle(ctx) },
		Reset:         func() { s.hub.ReconnectAll() },
		Defaults: room.Config{
			DestroyDelay:  room.Seconds(c.DestroyDelay / time.Second),
			UnusedTimeout: room.Seconds(c.UnusedTimeout / time.Second),
			MemberTimeout: room.Seconds(c.MemberTimeout / time.Second),
			MaxMembers:    c.MaxMembers,
			SameUser:      room.SameUser(c.SameUser),

			HistoryVisible: room.HistoryVisible(c.HistoryVisible),
			Lifetime:       room.LifetimeUntilEmpty,
			History:        room.History(c.History),
			Presence:       room.PresenceMode(c.Presence),
			NamesUpTo:      c.NamesUpTo,
			MemberStates:   c.MemberStates,
		},
		MaxRooms:        c.MaxRooms,
		RoomsPerCreator: c.RoomsPerCreator,
		RoomsPerUser:    c.RoomsPerUser,
		SessionsPerUser: c.SessionsPerUser,
		FeedRetention:   c.FeedRetention,
		FeedPeers:       c.FeedPeers,

		StatusVisible:       room.StatusVisibility(c.StatusVisible),
		StatusSubscriptions: c.Subscriptions,

		MessageRetention: c.MessageRetention,
		PeerRetention:    c.PeerRetention,
		SessionIdle:      c.SessionIdle,
		UserRetention:    c.UserRetention,
		MediaPerUser:     int64(c.MediaPerUser) << 20,
		MediaTotal:       int64(c.MediaTotal) << 20,
		NodeName:         hostName(),
		Version:          version(),
		Settings:         c.sharedSettings(tokens, bucket, log),
		Log:              log,
	})
	var conflict *room.SettingConflict
	switch {
	case errors.Is(err, store.ErrClockSkew):
		return usageError{err} // a restart does not help
	case errors.As(err, &conflict):
		return usageError{conflict}
	case err != nil:
		return err
	}
	defer s.store.Close()
	s.hub = hub.New(s.store, hub.Options{
		OnStreamEnd: s.store.Detach, Now: s.store.Now, Heartbeat: c.Heartbeat, Logger: log,
		Window: cmp.Or(c.DeliveryWindow, -1), // the hub's 0 is its default
		// No log has a topic before the node exists.
		Follow:   func(log room.LogID) { s.node.Follow(log) },
		Unfollow: func(log room.LogID) { s.node.Unfollow(log) },
	})
	defer s.hub.Close()
	carrier, err := c.carrier(database.url, s.store.Epoch, log)
	if err != nil {
		return err
	}
	s.node = cluster.New(s.store.NodeID(), s.hub, s.store, carrier, log)
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	var connecting sync.WaitGroup
	connecting.Go(func() { s.node.Run(connected) })
	// The node hears others until all streams have ended.
	defer connecting.Wait()
	defer disconnect()

	s.media = &mediaKeeper{store: s.store, bucket: bucket, log: log, total: int64(c.MediaTotal) << 20}
	s.media.check(ctx)

	// The lease is renewed until all streams have ended, so that other servers do not consider them
	// lost before.
	renewing, stopRenewing := context.WithCancel(context.WithoutCancel(ctx))
	var renewed sync.WaitGroup
	renewed.Go(func() { s.renew(renewing) })
	defer renewed.Wait()
	defer stopRenewing()

	trusted, err := c.trustedProxies()
	if err != nil {
		return err
	}
	files, err := openFiles()
	if err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	capacity, err := c.shareFiles(files, s.store.Connections()+2) // the node has two
	if err != nil {
		return err
	}
	metrics := newMetrics(s.hub)
	metrics.addNode(s.store)
	metrics.addBus(s.node)
	metrics.addMedia(s.media)
	limited := newLimited(log, metrics.registry)
	clients := &connections{
		limit: handlers.LimitConnections, most: capacity.connections, mostPerAddress: capacity.perAddress, mostRejected: capacity.rejected,
		trusted: trusted, limited: limited.rejected,
	}
	metrics.addConnections(clients)
	metrics.addGhosts(c.PeerTimeout, c.MemberTimeout)
	if secured != nil {
		metrics.addCertificate(secured)
	}
	log.Info("connection limits", "connections", capacity.connections, "perAddress", capacity.perAddress, "openFiles", files)
	api, err := listen(ctx, c.Listen, clients)
	if err != nil {
		return err
	}
	api.proxyProtocol, api.log, api.complain.Interval = c.ProxyProtocol, log, limitWarningInterval
	s.handlers = handlers.New(handlers.Options{
		Store: s.store, Hub: s.hub, Tokens: tokens, HeardNodes: s.node.HeardSince,
		Ceilings: c.ceilings(), SignedNames: c.SignedNames,
		RoomsPerUser: c.RoomsPerUser, PublicURL: c.PublicURL, AllowedOrigins: c.AllowedOrigins,
		Development: c.Dev,
		Media:       bucket, MediaSecret: tokens.Secret, MediaLost: func() { s.media.lost.Add(1) },
		Heartbeat: c.Heartbeat,
		TakesTLS:  true,

		CompressStreams: c.Compression == "gzip",
		StreamOpens: func(ctx context.Context) {
			if err := setUnackedTimeout(ctx, c.unacked()); err != nil {
				log.Warn("stream timeout not set: a lost client will be noticed late", "error", err)
			}
		},
		Limits: c.limits(capacity), Rates: c.rates(), Limited: limited.rejected, Refused: rejection, TrustedProxies: trusted,
		Contract: contract.Contract, Errors: contract.Errors, TokenGuide: contract.TokenGuide, Web: web.Dist(),
		Log: log, Observe: metrics.observe,
	})
	s.api = newServer(log, s.handlers)
	failed := make(chan error, 2) // one per server, so that neither blocks
	go func() { failed <- serveAPI(s.api, api, secured) }()
	if c.OpsListen != "" {
		ops, err := listen(ctx, c.OpsListen, &connections{limit: limitOpsConnections, most: capacity.operators, limited: limited.rejected})
		if err != nil {
			return errors.Join(err, s.api.Close())
		}
		s.ops = newServer(log, s.operations(metrics))
		go func() { failed <- s.ops.Serve(ops) }()
		log.Info("health and metrics ready", "address", ops.Addr().String())
	}
	sweeping, stopSweeping := context.WithCancel(context.WithoutCancel(ctx))
	var swept sync.WaitGroup
	swept.Go(func() { s.sweep(sweeping) })
	swept.Go(func() { s.media.run(sweeping) })
	swept.Go(func() { s.broadcast(sweeping) })

	_, _ = fmt.Fprintf(to.out, "Parlor is ready: %s\n", c.address(api.Addr()))
	select {
	case <-ctx.Done():
	case err = <-failed:
	case err = <-s.conflict:
	}
	delay := c.DrainDelay
	if c.Dev {
		delay = 0 // no load balancer sends clients to a server in development mode
	}
	err = errors.Join(err, s.shutdown(c.Drain, delay))
	stopSweeping() // last, because timeouts must fire while streams are open
	swept.Wait()
	return err
}

// hostName returns the name of this machine for other servers and for operators. It is empty if the
// system does not tell.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// openMedia opens the bucket of uploaded files.
func (c *ServeCmd) openMedia(ctx context.Context) (*media.Bucket, error) {
	address := string(c.MediaURL)
	if address == "" {
		address = filepath.Join(c.Data, "media")
	}
	bucket, err := media.Open(ctx, address)
	if err == nil {
		bucket.KeepFree = int64(c.MediaKeepFree) << 20
	}
	return bucket, err
}

func newServer(log *slog.Logger, h http.Handler) *http.Server {
	// HTTP/2 without TLS is for proxies, which can send many streams over one connection.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		ConnContext:       withConn,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: stalledTimeout},
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func serveAPI(s *http.Server, l net.Listener, secured *keyPair) error {
	if secured != nil {
		s.TLSConfig.GetCertificate = secured.get
		return s.ServeTLS(l, "", "")
	}
	return s.Serve(l)
}

func (c *ServeCmd) address(a net.Addr) string {
	if c.TLSCert != "" {
		return "https://" + a.String() + "/"
	}
	return "http://" + a.String() + "/"
}

// apply delivers a change to the streams of this process. It logs which admin removed sessions from
// rooms or ended them, because their users may ask.
func (s *service) apply(c room.Change) {
	s.node.Apply(c)
	if c.By.Kind == room.ActorAdmin && len(c.Left)+len(c.Ended) > 0 {
		s.log.Info("sessions removed by an admin", "admin", c.By.ID, "requestID", c.By.RequestID, "left", len(c.Left), "ended", len(c.Ended))
	}
}

// renew keeps renewing this server's lease. It has a goroutine of its own, because a sweep may take
// longer than a lease lasts.
func (s *service) renew(ctx context.Context) {
	do := func(ctx context.Context) error {
		err := s.store.RenewLease(ctx)
		var conflict *room.SettingConflict
		if errors.As(err, &conflict) {
			select {
			case s.conflict <- usageError{conflict}:
			default: // the server is stopping
			}
		}
		return err
	}
	repeat(ctx, room.LeaseInterval, do,
		func(err error) { s.log.Error("lease renewal failed", "error", err) },
		func() { s.log.Info("lease renewal works again") })
}

// sweep runs the store's sweeps until the context ends.
func (s *service) sweep(ctx context.Context) {
	strays := time.Now().Add(strayInterval)
	do := func(ctx context.Context) error {
		err := s.store.Sweep(ctx)
		if now := time.Now(); err == nil && now.After(strays) {
			strays = now.Add(strayInterval)
			err = s.store.DetachStrays(ctx, s.hub.HasStream)
		}
		return err
	}
	repeat(ctx, sweepInterval, do,
		func(err error) { s.log.Error("sweep failed", "error", err) },
		func() { s.log.Info("sweep works again") })
}

// broadcast sends messages to many rooms.
func (s *service) broadcast(ctx context.Context) {
	repeat(ctx, sweepInterval, s.store.SendBroadcasts,
		func(err error) { s.log.Error("broadcast interrupted", "error", err) },
		func() { s.log.Info("broadcasts work again") })
}

// repeat calls do at an interval until the context ends. It calls fails when do begins to fail, and
// works when it succeeds again: once each per outage.
func repeat(ctx context.Context, interval time.Duration, do func(context.Context) error, fails func(error), works func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := do(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !failing:
			fails(err)
		case err == nil && failing:
			works()
		}
		failing = err != nil
	}
}
