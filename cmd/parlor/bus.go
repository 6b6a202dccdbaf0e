package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"parlor/auth"
	"parlor/cluster"
	"parlor/store"
)

// Bus is how the servers of one database exchange what happens.
type Bus struct {
	NATSURL         auth.Secret `name:"nats-url" env:"PARLOR_NATS_URL" placeholder:"URL,…" help:"URLs of the NATS servers over which several servers exchange what happens: nats://USER:PASSWORD@HOST:PORT, or tls:// for an encrypted connection. All servers need the same list. Empty: they use PostgreSQL notifications."`
	NATSCredentials string      `name:"nats-credentials" env:"PARLOR_NATS_CREDENTIALS" placeholder:"FILE" help:"File with the credentials of a NATS user (JWT and key)."`
	NATSNKey        string      `name:"nats-nkey" env:"PARLOR_NATS_NKEY" placeholder:"FILE" help:"File with the seed of a NATS user's NKey."`
	NATSCA          string      `name:"nats-ca" env:"PARLOR_NATS_CA" placeholder:"FILE" help:"File with the certificates (PEM) that sign those of the NATS servers. Empty: those that the system trusts."`
}

// check reports each error in the settings.
func (b *Bus) check(fault func(setting, format string, args ...any)) {
	if b.NATSURL != "" {
		if _, err := cluster.ParseNATSURLs(string(b.NATSURL)); err != nil {
			fault("PARLOR_NATS_URL", "%w", err)
		}
	}
	for _, file := range []struct{ setting, name string }{
		{"PARLOR_NATS_CREDENTIALS", b.NATSCredentials}, {"PARLOR_NATS_NKEY", b.NATSNKey}, {"PARLOR_NATS_CA", b.NATSCA},
	} {
		if file.name == "" {
			continue
		}
		if b.NATSURL == "" {
			fault(file.setting, "requires PARLOR_NATS_URL")
		}
		if _, err := os.ReadFile(file.name); err != nil {
			fault(file.setting, "%w", err)
		}
	}
	if b.NATSCredentials != "" && b.NATSNKey != "" {
		fault("PARLOR_NATS_NKEY", "cannot be combined with PARLOR_NATS_CREDENTIALS, which contains a key")
	}
}

// carrier returns the carrier of the bus. epoch returns that of the database.
func (b *Bus) carrier(databaseURL string, epoch func() string, log *slog.Logger) (cluster.Carrier, error) {
	if b.NATSURL == "" {
		config, err := store.ConnConfig(databaseURL, "parlor bus")
		if err != nil {
			return nil, fmt.Errorf("bus: %w", err)
		}
		return cluster.NewNotify(&config.Config), nil
	}
	carrier, err := cluster.NewNATS(cluster.NATSOptions{
		URLs: string(b.NATSURL), Credentials: b.NATSCredentials, NKey: b.NATSNKey, CA: b.NATSCA,
		Name: "parlor " + hostName(), Database: epoch,
	})
	if err != nil {
		return nil, usageError{fmt.Errorf("PARLOR_NATS_NKEY: %w", err)} // check has seen the rest
	}
	if b.open() {
		log.Warn("NATS servers without a user: anyone who reaches them can read all messages and send in the name of any user")
	}
	return carrier, nil
}

// open reports whether anyone who reaches the NATS servers can use them.
func (b *Bus) open() bool {
	if b.NATSCredentials != "" || b.NATSNKey != "" {
		return false
	}
	for _, server := range b.servers() {
		if server.User == nil && !isLoopback(server.Hostname()) {
			return true
		}
	}
	return false
}

// servers returns the NATS servers, or none.
func (b *Bus) servers() []*url.URL {
	servers, err := cluster.ParseNATSURLs(string(b.NATSURL))
	if err != nil { // it is empty: check has refused everything else
		return nil
	}
	return servers
}
