package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"

	"parlor/auth"
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

	database, err := c.openDatabase(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.stop()) }()

	if tokens.AdminSecret == nil {
		log.Warn("whoever signs user tokens can sign admin tokens: set PARLOR_ADMIN_SECRET to keep them apart")
	}
	return c.serve(ctx, to, log, tokens, database, secured)
}

// verifier returns the keys of tokens, and what tokens must say.
func (c *ServeCmd) verifier(ctx context.Context, log *slog.Logger) (*auth.Tokens, error) {
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
		tokens.PublicKey = auth.NewKeySet(ctx, c.JWKSURL, log, nil).Find
	}
	return tokens, nil
}

// database is where the service keeps its data.
type database struct {
	url string
	// files tells the private database's files from a restored copy; empty otherwise.
	files string
	stop  func() error // ends the private database
}

// openDatabase returns a database with this program's schema. The private one is always migrated; a foreign one only when
// asked, since other servers may be using it.
func (c *ServeCmd) openDatabase(ctx context.Context, log *slog.Logger) (database, error) {
	d := database{url: string(c.DatabaseURL), stop: func() error { return nil }}
	if d.url == "" {
		private, err := startPrivate(ctx, c.Data, log)
		if err != nil {
			return d, err
		}
		d.url, d.stop = private.URL(), private.Stop
		if d.files, err = private.Files(); err != nil {
			return d, errors.Join(err, d.stop())
		}
	} else if !c.Migrate {
		return d, store.CheckMigrated(ctx, d.url)
	}

	applied, err := store.Migrate(ctx, d.url, log)
	if err != nil {
		return d, errors.Join(err, d.stop())
	}
	for _, name := range applied {
		log.Info("migration applied", "name", name)
	}
	return d, nil
}
