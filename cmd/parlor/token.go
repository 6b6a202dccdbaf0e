package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// TokenCmd makes tokens for trying things out and for scripts. An application's backend signs its own.
type TokenCmd struct {
	User   string        `placeholder:"ID" help:"The user whom the token is for."`
	Name   string        `placeholder:"NAME" help:"The user's name."`
	Admin  bool          `help:"Make a token for the admin API."`
	TTL    time.Duration `name:"ttl" default:"1h" help:"How long the token is good."`
	Data   string        `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"Data folder, whose secret signs where PARLOR_SECRET is not set."`
	Secret Secret        `env:"PARLOR_SECRET" placeholder:"SECRET" help:"The server's secret."`
}

// Run prints the token.
func (c *TokenCmd) Run(to console) error {
	secret, err := c.signingSecret()
	if err != nil {
		return err
	}
	token, err := c.sign(secret)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(to.out, token)
	return err
}

func (c *TokenCmd) validate() error {
	var faults []error
	if c.User == "" && !c.Admin {
		faults = append(faults, errors.New("token: say --user ID, or --admin"))
	}
	if c.User != "" && !room.UserID(c.User).Valid() {
		faults = append(faults, fmt.Errorf("--user: %q is not a user ID: 1 to %d letters, digits and !#$%%&()+-:;<=.>?@[]^_{}|~",
			c.User, room.MaxUserIDBytes))
	}
	if len(c.Name) > room.MaxUserNameBytes {
		faults = append(faults, fmt.Errorf("--name: has %d bytes, more than %d", len(c.Name), room.MaxUserNameBytes))
	}
	if c.TTL < time.Second {
		faults = append(faults, fmt.Errorf("--ttl: %s is shorter than a second", c.TTL))
	}
	if c.Secret != "" && len(c.Secret) < minSecretBytes {
		faults = append(faults, fmt.Errorf("PARLOR_SECRET: has %d bytes, fewer than %d", len(c.Secret), minSecretBytes))
	}
	return errors.Join(faults...)
}

// signingSecret returns PARLOR_SECRET or the data folder's secret. It makes the secret, so that a token may be made before
// the first start, but not the folder: in the wrong folder no server would ever accept the token.
func (c *TokenCmd) signingSecret() (Secret, error) {
	if c.Secret != "" {
		return c.Secret, nil
	}
	if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no secret: there is no data folder %s; set PARLOR_DATA to the server's, or PARLOR_SECRET", c.Data)
	}
	return folderSecret(c.Data)
}

func (c *TokenCmd) sign(secret Secret) (string, error) {
	tokens := handlers.Tokens{Secret: []byte(secret)}
	if c.Admin {
		return tokens.SignAdmin(c.TTL)
	}
	return tokens.Sign(room.User{ID: room.UserID(c.User), Name: c.Name}, c.TTL)
}
