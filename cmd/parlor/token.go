package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"parlor/auth"
	"parlor/room"
)

// TokenCmd prints tokens for trying Parlor out and for scripts. An application's backend signs its
// own.
type TokenCmd struct {
	User  string        `placeholder:"ID" help:"User ID that the token is for. With --admin: a name for the caller, which the log shows (sub)."`
	Name  string        `placeholder:"NAME" help:"Display name of the user."`
	Admin bool          `help:"Create a token for the admin API."`
	TTL   time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
	Data  string        `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"The server's data folder. Its secrets sign the token if PARLOR_SECRET is not set."`

	Signing // the same settings as those of the server
}

// Run prints the token.
func (c *TokenCmd) Run(to console) error {
	tokens, err := c.signer()
	if err != nil {
		return err
	}
	token, err := c.sign(tokens)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(to.out, token)
	return err
}

func (c *TokenCmd) validate() error {
	var faults []error
	fault := func(setting, format string, args ...any) {
		faults = append(faults, fmt.Errorf(setting+": "+format, args...))
	}
	if c.User == "" && !c.Admin {
		fault("token", "set --user ID or --admin")
	}
	if c.User != "" && !room.UserID(c.User).Valid() {
		fault("--user", "%q is not a user ID: 1 to %d letters, digits and !#$%%&()+-:;<=.>?@[]^_{}|~", c.User, room.MaxUserIDBytes)
	}
	if len(c.Name) > room.MaxUserNameBytes {
		fault("--name", "has %d bytes; at most %d are allowed", len(c.Name), room.MaxUserNameBytes)
	}
	longest := c.TokenLifetime
	if c.Admin {
		longest = c.AdminTokenLifetime
	}
	switch {
	case c.TTL < time.Second:
		fault("--ttl", "%s is shorter than a second", c.TTL)
	case longest > 0 && c.TTL > longest:
		fault("--ttl", "%s is longer than the %s that the server accepts", c.TTL, longest)
	}
	c.check(fault)
	return errors.Join(faults...)
}

// signer returns the server's Tokens. It creates the secrets of the data folder, so that a token
// can be printed before the first start, but not the folder: no server would accept a token from
// the wrong folder.
func (c *TokenCmd) signer() (*auth.Tokens, error) {
	if c.Secret == "" {
		if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no secret: the data folder %s does not exist; set PARLOR_DATA to the server's data folder, or set PARLOR_SECRET", c.Data)
		}
	}
	return c.Signing.tokens(c.Data)
}

func (c *TokenCmd) sign(tokens *auth.Tokens) (string, error) {
	if c.Admin {
		return tokens.SignAdmin(c.User, c.TTL)
	}
	return tokens.Sign(room.User{ID: room.UserID(c.User), Name: c.Name}, c.TTL)
}
