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

// gcPercent is the garbage collection target (GOGC) unless the environment sets one. With Go's
// default of 100, one message in twenty arrived during a collection, and those were the slow ones.
// 200 halves their number, for up to half as much memory again (docs/performance.md).
const gcPercent = 200

// Run serves until the context ends, and then stops everything in reverse order.
func (c *ServeCmd) Run(ctx context.Context, to console) (err error) {
	log := c.logger(to.err)
	if c.Dev {
		log.Warn("DEVELOPMENT MODE: any client that can reach the API can get a token for any user from POST /dev/token; never put this server behind a proxy")
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
		log.Warn("the keys of user tokens can sign admin tokens too: set PARLOR_ADMIN_SECRET to separate them")
	}
	return c.serve(ctx, to, log, tokens, database, secured)
}

// verifier returns the Tokens with which the server verifies tokens.
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
		tokens.PublicKeys = auth.NewKeySet(ctx, c.JWKSURL, log, nil).Find
	}
	return tokens, nil
}

// database is the database that the service uses.
type database struct {
	url string
	// files identifies the files of a private database, to detect a restored copy. It is empty for
	// another database.
	files string
	stop  func() error // stops the private database
}

// openDatabase returns a database with this program's schema. The private one is always migrated,
// another one only if the settings ask for it, because other servers may be using it.
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
