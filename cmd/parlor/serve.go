package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"

	"parlor/handlers"
	"parlor/store"
)

// gcPercent is how much garbage may come, in per cent of the memory in use, before it is collected, where the environment's GOGC
// does not say otherwise. With Go's 100, one message in twenty came while garbage was collected, and those were the slow ones.
// Twice that halves them for up to half as much memory again (docs/performance.md).
const gcPercent = 200

// Run serves until the context ends, then stops everything in the reverse order of its start.
func (c *ServeCmd) Run(ctx context.Context, to console) (err error) {
	log := c.logger(to.err)
	if c.Dev {
		log.Warn("DEVELOPMENT MODE: POST /dev/token gives a token of any user to anybody who can reach the API; never put this server behind a proxy")
	}
	secured, unwatch, err := c.watchKeyPair(ctx, log)
	if err != nil {
		return err
	}
	defer unwatch()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}

	lock, err := openDataFolder(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()

	tokens, err := c.verifier(ctx, log)
	if err != nil {
		return err
	}

	databaseURL, stopDatabase, err := c.openDatabase(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDatabase()) }()

	if tokens.AdminSecret == nil {
		log.Warn("whoever signs user tokens can sign admin tokens: set PARLOR_ADMIN_SECRET to keep them apart")
	}
	return c.serve(ctx, to, log, tokens, databaseURL, secured)
}

// verifier returns the keys of tokens, and what tokens must say.
func (c *ServeCmd) verifier(ctx context.Context, log *slog.Logger) (*handlers.Tokens, error) {
	tokens, err := c.tokens(c.Data)
	if err != nil {
		return nil, err
	}
	keyed, err := c.keyedSecrets()
	if err != nil {
		return nil, err
	}
	tokens.Secrets = make(map[string][]byte, len(keyed))
	for kid, secret := range keyed {
		tokens.Secrets[kid] = []byte(secret)
	}
	tokens.AdminPublicKeys, tokens.AdminsVoidBefore = c.JWKSAdmin, c.AdminTokensVoidBefore
	if c.JWKSURL != "" {
		tokens.PublicKey = newKeySet(ctx, c.JWKSURL, log, nil).find
	}
	return tokens, nil
}

// openDatabase returns the address of a database with this program's schema, and the function that stops it if it is ours.
// The private database is always migrated; a foreign one only when asked, since other servers may be using it.
func (c *ServeCmd) openDatabase(ctx context.Context, log *slog.Logger) (address string, stop func() error, err error) {
	address, stop = string(c.DatabaseURL), func() error { return nil }
	if address == "" {
		private, err := startPrivate(ctx, c.Data, log)
		if err != nil {
			return "", nil, err
		}
		address, stop = private.URL(), private.Stop
	} else if !c.Migrate {
		return address, stop, store.Migrated(ctx, address)
	}

	applied, err := store.Migrate(ctx, address, log)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	for _, name := range applied {
		log.Info("migration applied", "name", name)
	}
	return address, stop, nil
}
