package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/room"
)

// Tokens verifies and signs the tokens of users and of servers. Each key is good for its own
// algorithm only (RFC 8725, section 3.1): secrets for HS256, the public keys of
// a JWKS for RS256 and EdDSA.
type Tokens struct {
	// Secret is for tokens without a kid, and signs development tokens.
	Secret []byte
	// Secrets is for tokens with a kid.
	Secrets map[string][]byte
	// PublicKey finds the key of an RS256 or EdDSA token; nil refuses those.
	PublicKey jwt.Keyfunc
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// ScopeAdmin is the scope of tokens for server-to-server calls.
const ScopeAdmin = "admin"

// claims is what a token says, as it is written.
type claims struct {
	jwt.RegisteredClaims
	Name  string `json:"name,omitempty"`
	Scope string `json:"scope,omitempty"`
	Rooms grants `json:"rooms,omitempty"`
}

// grants is the claim rooms. Absent it fences nothing in and empty it allows
// nothing, so null, which a backend may write for either, is refused.
type grants room.Grants

// UnmarshalJSON refuses null and what the database cannot store.
func (g *grants) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return errors.New("rooms is null")
	}
	if err := json.Unmarshal(b, (*room.Grants)(g)); err != nil {
		return err
	}
	for _, grant := range *g {
		if strings.ContainsRune(string(grant.RoomID), 0) {
			return errors.New("rooms holds a NUL character")
		}
	}
	return nil
}

// check returns what keeps the claims from being a user's.
func (c claims) check() error {
	switch {
	case c.Scope != "":
		return fmt.Errorf("a token of scope %q opens no session", c.Scope)
	case !room.UserID(c.Subject).Valid():
		return errors.New("sub is not a valid userID")
	case !validName(c.Name):
		return errors.New("name is not a valid userName")
	}
	return nil
}

// maxYear is the last one that RFC 3339 can write.
const maxYear = 9999

func (t *Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Verify is what a user token says. Errors: room.ErrTokenInvalid,
// room.ErrTokenExpired.
func (t *Tokens) Verify(token string) (room.Claims, error) {
	c, err := t.read(token)
	if err != nil {
		return room.Claims{}, err
	}
	if err := c.check(); err != nil {
		return room.Claims{}, fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	}
	return room.Claims{
		User:   room.User{ID: room.UserID(c.Subject), Name: c.Name},
		Grants: room.Grants(c.Rooms), ExpiresAt: c.ExpiresAt.UTC(),
	}, nil
}

// VerifyAdmin is when an admin token runs out. Errors: room.ErrTokenInvalid,
// room.ErrTokenExpired, and room.ErrNotAdmin for a good token of other scope.
func (t *Tokens) VerifyAdmin(token string) (expiresAt time.Time, err error) {
	c, err := t.read(token)
	switch {
	case err != nil:
		return time.Time{}, err
	case c.Scope != ScopeAdmin:
		return time.Time{}, room.ErrNotAdmin
	}
	return c.ExpiresAt.UTC(), nil
}

// read is the claims of a token that was signed with one of the keys and lasts,
// whoever it is for.
func (t *Tokens) read(token string) (claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, t.key,
		jwt.WithValidMethods(t.methods()), jwt.WithExpirationRequired(), jwt.WithTimeFunc(t.now), jwt.WithStrictDecoding())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return claims{}, room.ErrTokenExpired
	case err != nil:
		return claims{}, fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	case c.ExpiresAt.UTC().Year() > maxYear:
		return claims{}, fmt.Errorf("%w (exp is out of range; it counts seconds)", room.ErrTokenInvalid)
	}
	return c, nil
}

func (t *Tokens) methods() []string {
	if t.PublicKey == nil {
		return []string{jwt.SigningMethodHS256.Alg()}
	}
	return []string{jwt.SigningMethodHS256.Alg(), jwt.SigningMethodRS256.Alg(), jwt.SigningMethodEdDSA.Alg()}
}

// key finds the key that a token must be signed with.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	if token.Method != jwt.SigningMethodHS256 {
		// A JWKS may list keys of other kinds too: RS256 and EdDSA take none
		// but a public key of their own.
		return t.PublicKey(token)
	}
	kid, named := token.Header["kid"]
	if !named {
		return t.Secret, nil
	}
	name, _ := kid.(string)
	secret, ok := t.Secrets[name]
	if !ok {
		return nil, fmt.Errorf("no key %q", name)
	}
	return secret, nil
}

// Sign makes a token of a user.
func (t *Tokens) Sign(u room.User, ttl time.Duration) (string, error) {
	now := t.now()
	return t.sign(claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: string(u.ID), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Name: u.Name,
	})
}

// SignAdmin makes a token for server-to-server calls.
func (t *Tokens) SignAdmin(ttl time.Duration) (string, error) {
	now := t.now()
	return t.sign(claims{
		RegisteredClaims: jwt.RegisteredClaims{
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Scope: ScopeAdmin,
	})
}

func (t *Tokens) sign(c claims) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(t.Secret)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}
