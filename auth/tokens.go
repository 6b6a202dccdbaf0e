// Package auth verifies and signs the tokens of users and admins, and loads the keys they are signed with. It knows no
// HTTP routes: package handlers decides which token a call needs.
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

// Tokens verifies and signs the tokens of users and of servers. Each key is good for its own
// algorithm only (RFC 8725, section 3.1): secrets for HS256, public keys for RS256 and EdDSA.
type Tokens struct {
	// Secret is for tokens without a kid, and signs development tokens.
	Secret []byte
	// Secrets is for tokens with a kid.
	Secrets map[string][]byte
	// PublicKey finds the key of an RS256 or EdDSA token; kid is empty where the token names none. nil
	// refuses those tokens.
	PublicKey func(algorithm, kid string) (crypto.PublicKey, error)

	// AdminSecret signs admin tokens, and then neither Secret nor Secrets do. nil: both do.
	AdminSecret []byte
	// AdminPublicKeys says that public keys sign admin tokens too.
	AdminPublicKeys bool
	// AdminsVoidBefore makes admin tokens void that were issued before; zero: none.
	AdminsVoidBefore time.Time

	// Audience and Issuer must be in the claims aud and iss of every token, and Sign writes them. Empty: not
	// looked at.
	Audience, Issuer string
	// Lifetime and AdminLifetime are the longest time between the iat and the exp of a token; zero: any.
	Lifetime, AdminLifetime time.Duration

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const (
	// ClockSkew is how far the clocks of those who sign may be ahead.
	ClockSkew = time.Minute
	// MinSecretBytes is RFC 7518, section 3.2: a key of HS256 is at least as long as its hash.
	MinSecretBytes = 32
	// minRSABits is RFC 7518, section 3.3.
	minRSABits = 2048
)

// ScopeAdmin is the scope of tokens for server-to-server calls.
const ScopeAdmin = "admin"

// tokenHeader is what a token says of its signature. Headers that name a key elsewhere (jku, x5u, jwk) are
// never followed.
type tokenHeader struct {
	Type     string         `json:"typ"`
	KeyID    *string        `json:"kid"`
	Critical jsontext.Value `json:"crit"`
}

// check returns what keeps the token from being looked at any further.
func (h tokenHeader) check() error {
	switch {
	case h.Critical != nil:
		return errors.New("crit names extensions, and none are understood") // RFC 7515, section 4.1.11
	case h.KeyID != nil && *h.KeyID == "":
		return errors.New("kid is empty")
	}
	// Tokens of other kinds that the same key signs say so (RFC 8725, section 3.11): those about a logout or
	// a security event must let nobody in. An access token of OAuth says at+jwt (RFC 9068).
	switch strings.TrimPrefix(strings.ToLower(h.Type), "application/") {
	case "", "jwt", "at+jwt":
		return nil
	}
	return fmt.Errorf("typ is %q", h.Type)
}

// claims is what a token says, as it is written.
type claims struct {
	jwt.RegisteredClaims
	Name  string                 `json:"name,omitempty"`
	Scope string                 `json:"scope,omitempty"`
	Rooms grantList[room.Grant]  `json:"rooms,omitempty"`
	Peers grantList[room.UserID] `json:"peers,omitempty"`
	Media jsontext.Value         `json:"media,omitempty"`
}

// UnmarshalJSON reads claims strictly: names that stand twice, and names in other case, mean one thing to
// one reader and something else to the next.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return json.Unmarshal(b, (*plain)(c))
}

// grantList is the claim rooms or peers. Absent it may fence nothing and empty it
// allows nothing, so null, which a backend may write for either, is refused.
type grantList[T any] []T

// UnmarshalJSON refuses null and what the database cannot store.
func (l *grantList[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return errors.New("null grants nothing; leave it out, or write []")
	}
	if err := json.Unmarshal(b, (*[]T)(l)); err != nil {
		return err
	}
	for _, granted := range *l {
		if strings.ContainsRune(fmt.Sprint(granted), 0) {
			return errors.New("a grant holds a NUL character")
		}
	}
	return nil
}

// grants is what the claims allow; nil is everything. One grant of any kind fences
// the token everywhere.
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

// validName reports whether a token's name may be shown as a user's.
func validName(name string) bool {
	return len(name) <= room.MaxUserNameBytes && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

// maxYear is the last one that RFC 3339 can write.
const maxYear = 9999

func (t *Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Until returns the time until an instant, by the clock that tokens are verified with.
func (t *Tokens) Until(instant time.Time) time.Duration { return instant.Sub(t.now()) }

// Verify is what a user token says. Errors: room.ErrTokenInvalid,
// room.ErrTokenExpired.
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
	said := room.Claims{User: room.User{ID: room.UserID(c.Subject), Name: c.Name}, Grants: granted, ExpiresAt: c.ExpiresAt.UTC()}
	if c.IssuedAt != nil {
		said.IssuedAt = c.IssuedAt.UTC()
	}
	return said, nil
}

// VerifyAdmin is when an admin token runs out. Errors: room.ErrTokenInvalid, room.ErrTokenExpired,
// room.ErrTokenVoid, and room.ErrNotAdmin for a good token of other scope.
func (t *Tokens) VerifyAdmin(token string) (expiresAt time.Time, err error) {
	c, err := t.read(token, t.adminKey, t.AdminLifetime)
	switch {
	case err != nil:
		return time.Time{}, err
	case c.Scope != ScopeAdmin:
		return time.Time{}, room.ErrNotAdmin
	case c.IssuedAt == nil && !t.AdminsVoidBefore.IsZero(), c.IssuedAt != nil && c.IssuedAt.Before(t.AdminsVoidBefore):
		return time.Time{}, room.ErrTokenVoid
	}
	return c.ExpiresAt.UTC(), nil
}

// read is the claims of a token that was signed with its key and lasts. What the
// claims say of a user is not looked at.
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
		err = t.judge(c, lifetime)
	}
	if err != nil && !errors.Is(err, room.ErrTokenExpired) {
		err = fmt.Errorf("%w (%w)", room.ErrTokenInvalid, err)
	}
	return c, err
}

// readHeader is the header of a token. The parser has split and decoded it before, but takes the last of
// names that stand twice.
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

// judge returns why claims that were signed do not count, or do not count now. That a token has expired is
// said only of one that was good. Errors: room.ErrTokenExpired and others.
func (t *Tokens) judge(c claims, lifetime time.Duration) error {
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

// issuedBy is when the token was issued, or the latest that it can have been where it does not say.
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

// userKey finds the key that a user token must be signed with.
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

// adminKey finds the key that an admin token must be signed with.
func (t *Tokens) adminKey(algorithm string, kid *string) (any, error) {
	switch {
	case algorithm != jwt.SigningMethodHS256.Alg():
		if !t.AdminPublicKeys {
			return nil, errors.New("public keys sign no admin tokens here")
		}
	case t.AdminSecret != nil:
		if kid != nil {
			return nil, fmt.Errorf("no key %q signs admin tokens", *kid)
		}
		return t.AdminSecret, nil
	}
	return t.userKey(algorithm, kid)
}

// checkKey returns why a key is too weak, or of a kind, for tokens to be verified with it.
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
		return fmt.Errorf("a key of the type %T verifies no tokens", key)
	}
	return nil
}

// Sign makes a token of a user.
func (t *Tokens) Sign(u room.User, ttl time.Duration) (string, error) {
	c := claims{RegisteredClaims: t.registered(ttl), Name: u.Name}
	c.Subject = string(u.ID)
	return sign(c, t.Secret)
}

// SignAdmin makes a token for server-to-server calls.
func (t *Tokens) SignAdmin(ttl time.Duration) (string, error) {
	secret := t.AdminSecret
	if secret == nil {
		secret = t.Secret
	}
	return sign(claims{RegisteredClaims: t.registered(ttl), Scope: ScopeAdmin}, secret)
}

// registered is the claims that every token has.
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
