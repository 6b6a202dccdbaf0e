// Package auth verifies and signs the tokens of users and admins, and loads the keys for that. It
// knows no HTTP routes: package handlers decides which token a call needs.
package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"parlor/room"
)

// Tokens verifies and signs the tokens of users and admins. Each key is valid only for its own
// algorithm (RFC 8725, section 3.1): secrets for HS256, public keys for RS256 and EdDSA.
type Tokens struct {
	// Secret verifies tokens without a kid, and signs.
	Secret []byte
	// Secrets verify tokens with a kid.
	Secrets map[string][]byte
	// PublicKey returns the key of an RS256 or EdDSA token. kid is empty if the token has none. If
	// PublicKey is nil, those tokens are rejected.
	PublicKey func(algorithm, kid string) (crypto.PublicKey, error)

	// AdminSecret verifies and signs admin tokens instead of Secret and Secrets. nil means that
	// Secret and Secrets do.
	AdminSecret []byte
	// AdminPublicKeys accepts admin tokens that are signed with public keys.
	AdminPublicKeys bool
	// AdminsVoidBefore voids the admin tokens that were issued before it. Zero voids none.
	AdminsVoidBefore time.Time

	// Audience and Issuer must be in the claims aud and iss of every token, and Sign writes them.
	// Empty values are not checked.
	Audience, Issuer string
	// Lifetime and AdminLifetime limit the time between the iat and the exp of a token. Zero means
	// no limit.
	Lifetime, AdminLifetime time.Duration

	// Now returns the current time. nil means time.Now.
	Now func() time.Time
}

const (
	// ClockSkew is how far the clocks of token issuers may be ahead.
	ClockSkew = time.Minute
	// MinSecretBytes follows RFC 7518, section 3.2: a key of HS256 is at least as long as its hash.
	MinSecretBytes = 32
	// minRSABits follows RFC 7518, section 3.3.
	minRSABits = 2048
	// maxYear is the last year that RFC 3339 can represent.
	maxYear = 9999
)

// ScopeAdmin is the scope of admin tokens.
const ScopeAdmin = "admin"

// tokenHeader is the header of a token. Headers that refer to a key (jku, x5u, jwk) are never
// followed.
type tokenHeader struct {
	Type     string         `json:"typ"`
	KeyID    *string        `json:"kid"`
	Critical jsontext.Value `json:"crit"`
}

// check returns an error if the header makes the token unacceptable.
func (h tokenHeader) check() error {
	switch {
	case h.Critical != nil:
		return errors.New("crit names extensions, and none are supported") // RFC 7515, section 4.1.11
	case h.KeyID != nil && *h.KeyID == "":
		return errors.New("kid is empty")
	}
	// Other kinds of tokens that the same key signs have a typ of their own (RFC 8725, section
	// 3.11): a token about a logout or a security event must not open a session. The typ of an
	// OAuth access token is at+jwt (RFC 9068).
	switch strings.TrimPrefix(strings.ToLower(h.Type), "application/") {
	case "", "jwt", "at+jwt":
		return nil
	}
	return fmt.Errorf("typ is %q", h.Type)
}

// claims are the claims of a token as they are encoded.
type claims struct {
	jwt.RegisteredClaims
	Name  string                 `json:"name,omitempty"`
	Scope string                 `json:"scope,omitempty"`
	Rooms grantList[room.Grant]  `json:"rooms,omitempty"`
	Peers grantList[room.UserID] `json:"peers,omitempty"`
	Media jsontext.Value         `json:"media,omitempty"`
}

// UnmarshalJSON decodes claims strictly. Parsers disagree about duplicate names and names in
// another case.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return json.Unmarshal(b, (*plain)(c))
}

// grantList is the claim rooms or peers. A missing claim can mean that everything is allowed, and
// an empty list allows nothing. null, which a backend may write for either, is rejected.
type grantList[T any] []T

// UnmarshalJSON rejects null and strings that the database cannot store.
func (l *grantList[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return errors.New("null grants nothing; leave it out, or write []")
	}
	if err := json.Unmarshal(b, (*[]T)(l)); err != nil {
		return err
	}
	for _, granted := range *l {
		if strings.ContainsRune(fmt.Sprint(granted), 0) {
			return errors.New("a grant contains a NUL character")
		}
	}
	return nil
}

// grants returns what the claims allow; nil means everything. If one of rooms, peers and media is
// given, the token allows nothing else: a missing claim then allows nothing.
func (c *claims) grants() (*room.Grants, error) {
	if c.Rooms == nil && c.Peers == nil && c.Media == nil {
		return nil, nil
	}
	g := &room.Grants{Rooms: c.Rooms, Peers: c.Peers}
	switch string(c.Media) {
	case "true":
		g.Media = true
	case "false", "":
	default:
		return nil, errors.New("media is neither true nor false")
	}
	return g, nil
}

// check returns an error if the claims are not those of a user.
func (c claims) check() error {
	switch {
	case c.Scope != "":
		return fmt.Errorf("a token with scope %q cannot open a session", c.Scope)
	case !room.UserID(c.Subject).Valid():
		return errors.New("sub is not a valid userID")
	case !validName(c.Name):
		return errors.New("name is not a valid userName")
	}
	return nil
}

// validName reports whether a name in a token is a valid userName.
func validName(name string) bool {
	return len(name) <= room.MaxUserNameBytes && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

func (t *Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Until returns the time until an instant, by the clock that verifies tokens.
func (t *Tokens) Until(instant time.Time) time.Duration { return instant.Sub(t.now()) }

// Verify returns the claims of a user token. Errors: room.ErrTokenInvalid, room.ErrTokenExpired.
func (t *Tokens) Verify(token string) (room.Claims, error) {
	c, err := t.read(token, t.userKey, t.Lifetime)
	if err != nil {
		return room.Claims{}, err
	}
	if err := c.check(); err != nil {
		return room.Claims{}, fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	}
	granted, err := c.grants()
	if err != nil {
		return room.Claims{}, fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	}
	verified := room.Claims{User: room.User{ID: room.UserID(c.Subject), Name: c.Name}, Grants: granted, ExpiresAt: c.ExpiresAt.UTC()}
	if c.IssuedAt != nil {
		verified.IssuedAt = c.IssuedAt.UTC()
	}
	return verified, nil
}

// VerifyAdmin returns the subject of an admin token, which may be empty, and when the token
// expires. Errors: room.ErrTokenInvalid, room.ErrTokenExpired, room.ErrTokenVoid, and
// room.ErrNotAdmin for a valid token of another scope.
func (t *Tokens) VerifyAdmin(token string) (subject string, expiresAt time.Time, err error) {
	c, err := t.read(token, t.adminKey, t.AdminLifetime)
	switch {
	case err != nil:
		return "", time.Time{}, err
	case c.Scope != ScopeAdmin:
		return "", time.Time{}, room.ErrNotAdmin
	case c.IssuedAt == nil && !t.AdminsVoidBefore.IsZero(), c.IssuedAt != nil && c.IssuedAt.Before(t.AdminsVoidBefore):
		return "", time.Time{}, room.ErrTokenVoid
	}
	return c.Subject, c.ExpiresAt.UTC(), nil
}

// read returns the claims of a token that has a valid signature and has not expired. It does not
// check the claims about the user.
func (t *Tokens) read(token string, key func(algorithm string, kid *string) (any, error), lifetime time.Duration) (claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(parsed *jwt.Token) (any, error) {
		h, err := readHeader(token)
		if err != nil {
			return nil, err
		}
		k, err := key(parsed.Method.Alg(), h.KeyID)
		if err != nil {
			return nil, err
		}
		return k, checkKey(k)
	}, jwt.WithValidMethods(t.methods()), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	if err == nil {
		err = t.checkClaims(c, lifetime)
	}
	if err != nil && !errors.Is(err, room.ErrTokenExpired) {
		err = fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	}
	return c, err
}

// readHeader returns the header of a token. The parser has already split and decoded it, but takes
// the last of duplicate names.
func readHeader(token string) (h tokenHeader, err error) {
	segment, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	return h, h.check()
}

// checkClaims returns an error if signed claims are not valid, or not valid at this time. It
// returns room.ErrTokenExpired only for a token that is valid otherwise.
func (t *Tokens) checkClaims(c claims, lifetime time.Duration) error {
	now := t.now()
	latest := now.Add(ClockSkew)
	switch {
	case c.ExpiresAt == nil:
		return errors.New("exp is missing")
	case c.ExpiresAt.UTC().Year() > maxYear:
		return errors.New("exp is out of range; it counts seconds")
	case t.Issuer != "" && c.Issuer != t.Issuer:
		return fmt.Errorf("iss is %q", c.Issuer)
	case t.Audience != "" && !slices.Contains(c.Audience, t.Audience):
		return fmt.Errorf("aud is %q", c.Audience)
	case c.NotBefore != nil && c.NotBefore.After(latest):
		return errors.New("nbf is in the future")
	case c.IssuedAt != nil && c.IssuedAt.After(latest):
		return errors.New("iat is in the future")
	case lifetime > 0 && c.ExpiresAt.Sub(c.issuedBy(latest)) > lifetime:
		return fmt.Errorf("exp is more than %s after iat, or after now", lifetime)
	case !now.Before(c.ExpiresAt.Time):
		return room.ErrTokenExpired
	}
	return nil
}

// issuedBy returns when the token was issued, or else the latest time at which it can have been
// issued.
func (c claims) issuedBy(latest time.Time) time.Time {
	if c.IssuedAt != nil {
		return c.IssuedAt.Time
	}
	return latest
}

func (t *Tokens) methods() []string {
	if t.PublicKey == nil {
		return []string{jwt.SigningMethodHS256.Alg()}
	}
	return []string{jwt.SigningMethodHS256.Alg(), jwt.SigningMethodRS256.Alg(), jwt.SigningMethodEdDSA.Alg()}
}

// userKey returns the key that must have signed a user token.
func (t *Tokens) userKey(algorithm string, kid *string) (any, error) {
	switch {
	case algorithm != jwt.SigningMethodHS256.Alg() && kid == nil:
		return t.PublicKey(algorithm, "")
	case algorithm != jwt.SigningMethodHS256.Alg():
		return t.PublicKey(algorithm, *kid)
	case kid == nil:
		return t.Secret, nil
	}
	secret, ok := t.Secrets[*kid]
	if !ok {
		return nil, fmt.Errorf("no key %q", *kid)
	}
	return secret, nil
}

// adminKey returns the key that must have signed an admin token.
func (t *Tokens) adminKey(algorithm string, kid *string) (any, error) {
	switch {
	case algorithm != jwt.SigningMethodHS256.Alg():
		if !t.AdminPublicKeys {
			return nil, errors.New("public keys may not sign admin tokens")
		}
	case t.AdminSecret != nil:
		if kid != nil {
			return nil, fmt.Errorf("no key %q for admin tokens", *kid)
		}
		return t.AdminSecret, nil
	}
	return t.userKey(algorithm, kid)
}

// checkKey returns an error if a key is too weak, or of a type that does not verify tokens.
func checkKey(key any) error {
	switch key := key.(type) {
	case []byte:
		if len(key) < MinSecretBytes {
			return fmt.Errorf("the secret has %d bytes, fewer than %d", len(key), MinSecretBytes)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("the RSA key has %d bits, fewer than %d", bits, minRSABits)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T cannot verify tokens", key)
	}
	return nil
}

// Sign returns a new token for a user.
func (t *Tokens) Sign(u room.User, ttl time.Duration) (string, error) {
	c := claims{RegisteredClaims: t.registered(ttl), Name: u.Name}
	c.Subject = string(u.ID)
	return sign(c, t.Secret)
}

// SignAdmin returns a token for the calls of a server. The subject, which may be empty, names the
// caller in Parlor's log.
func (t *Tokens) SignAdmin(subject string, ttl time.Duration) (string, error) {
	secret := t.AdminSecret
	if secret == nil {
		secret = t.Secret
	}
	c := claims{RegisteredClaims: t.registered(ttl), Scope: ScopeAdmin}
	c.Subject = subject
	return sign(c, secret)
}

// registered returns the claims that every token has.
func (t *Tokens) registered(ttl time.Duration) jwt.RegisteredClaims {
	now := t.now()
	c := jwt.RegisteredClaims{
		Issuer: t.Issuer, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}
	if t.Audience != "" {
		c.Audience = jwt.ClaimStrings{t.Audience}
	}
	return c
}

func sign(c claims, secret []byte) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}
