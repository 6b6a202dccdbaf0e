package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"parlor/auth"
	"parlor/room"
)

// TokenCmd prints tokens for trying Parlor out and for scripts. An application's backend signs its
// own.
type TokenCmd struct {
	User          string        `placeholder:"ID" help:"User ID that the token is for. With --admin: a name for the caller, which the log shows (sub)."`
	Name          string        `placeholder:"NAME" help:"Display name of the user."`
	Admin         bool          `help:"Create a token for the admin API."`
	Grant         []string      `sep:"none" placeholder:"ACTIONS:ROOM" help:"Grant actions in a room: create, join, send, kick, attributes and settings, separated by commas. A ROOM that ends in * stands for all rooms that begin with it. Repeatable. With --grant, --peer, --media or --update-profile, the token allows only what they name; without them it allows everything except kicking and changing settings."`
	Peer          []string      `sep:"none" placeholder:"USER" help:"Grant messages to a user, or with a trailing * to all users whose IDs begin with it. Repeatable."`
	Media         bool          `help:"Grant uploads."`
	UpdateProfile bool          `help:"Grant changes of the user's own name, avatar and extended data."`
	TTL           time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
	Print         string        `default:"token" enum:"token,claims" help:"What to print: the token, or its claims as JSON, which a backend has to sign."`
	Data          string        `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"The server's data folder. Its secrets sign the token if PARLOR_SECRET is not set."`

	Signing // the same settings as those of the server
}

// Help returns the examples of the help text.
func (c *TokenCmd) Help() string {
	return `Examples:

	parlor token --user alice --name Alice
	parlor token --user guest-17 --grant join,send:class-* --peer support-* --media
	parlor token --user teacher --grant create,join,send,kick,attributes,settings:class-7
	parlor token --user guest-17 --grant join:lobby --print claims
	parlor token --admin --user backend --ttl 10m

The token is signed with the settings of the server, and checked as the server does.`
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
	if c.Print == "claims" {
		return to.printClaims(token)
	}
	return to.print(token)
}

// printClaims writes the claims of a token as JSON that people can read.
func (c console) printClaims(token string) error {
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return fmt.Errorf("decode the claims: %w", err)
	}
	var readable bytes.Buffer
	if err := json.Indent(&readable, text, "", "  "); err != nil {
		return fmt.Errorf("decode the claims: %w", err)
	}
	return c.print(readable.String())
}

func (c *TokenCmd) validate() error {
	var faults []error
	fault := func(setting, format string, args ...any) {
		faults = append(faults, fmt.Errorf(setting+": "+format, args...))
	}
	if c.User == "" && !c.Admin {
		fault("token", "set --user ID or --admin")
	}
	if wrong := room.UserID(c.User).Fault(); c.User != "" && wrong != "" {
		fault("--user", "%q is not a user ID: it %s", c.User, wrong)
	}
	if _, bad := room.CleanName(c.Name, room.MaxUserNameBytes); c.Name != "" && bad != nil {
		fault("--name", "%s", bad.Message)
	}
	granted, err := c.grants()
	if err != nil {
		faults = append(faults, err)
	}
	if granted != nil && c.Admin {
		fault("--admin", "admin tokens have no grants: leave --grant, --peer, --media and --update-profile out")
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

// sign returns the token, which the server will accept.
func (c *TokenCmd) sign(tokens *auth.Tokens) (token string, err error) {
	if c.Admin {
		token, err = tokens.SignAdmin(c.User, c.TTL)
		if err == nil {
			_, _, err = tokens.VerifyAdmin(token)
		}
		return token, err
	}
	granted, err := c.grants()
	if err != nil {
		return "", err
	}
	token, err = tokens.SignGrants(room.User{ID: room.UserID(c.User), Name: c.Name}, granted, c.TTL)
	if err == nil {
		_, err = tokens.Verify(token)
	}
	return token, err
}

// grants returns what the token grants. Nil is no grants.
func (c *TokenCmd) grants() (*room.Grants, error) {
	if len(c.Grant) == 0 && len(c.Peer) == 0 && !c.Media && !c.UpdateProfile {
		return nil, nil
	}
	granted := &room.Grants{Media: c.Media, Profile: c.UpdateProfile}
	var faults []error
	for _, text := range c.Grant {
		grant, err := parseGrant(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("--grant: %q %w", text, err))
		}
		granted.Rooms = append(granted.Rooms, grant)
	}
	for _, peer := range c.Peer {
		if !room.ValidPattern(room.UserID(peer)) {
			faults = append(faults, fmt.Errorf("--peer: %q is neither a user ID nor the beginning of user IDs and *", peer))
		}
		granted.Peers = append(granted.Peers, room.UserID(peer))
	}
	return granted, errors.Join(faults...)
}

// parseGrant parses ACTIONS:ROOM, such as join,send:class-*. A room ID may contain colons.
func parseGrant(text string) (room.Grant, error) {
	actions, id, ok := strings.Cut(text, ":")
	if !ok {
		return room.Grant{}, errors.New("is not ACTIONS:ROOM, such as join,send:lobby")
	}
	if !room.ValidPattern(room.RoomID(id)) {
		return room.Grant{}, errors.New("grants no room: write a room ID, or the beginning of room IDs and *, after the colon")
	}
	grant := room.Grant{RoomID: room.RoomID(id)}
	for action := range strings.SplitSeq(actions, ",") {
		switch strings.TrimSpace(action) {
		case "create":
			grant.Create = true
		case "join":
			grant.Join = true
		case "send":
			grant.Send = true
		case "kick":
			grant.Kick = true
		case "attributes":
			grant.Attributes = true
		case "settings":
			grant.Settings = true
		default:
			return grant, fmt.Errorf("has the unknown action %q: use create, join, send, kick, attributes and settings", action)
		}
	}
	return grant, nil
}
