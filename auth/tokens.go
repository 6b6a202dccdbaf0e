// Package auth verifies and signs the tokens of users and admins, and loads the keys for that. It
// knows no HTTP routes: package handlers decides which token a call needs.
package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	// PublicKeys returns the keys that an RS256 or EdDSA token may be signed with. kid is empty if
	// the token has none. If PublicKeys is nil, those tokens are rejected.
	PublicKeys func(algorithm, kid string) ([]crypto.PublicKey, error)

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
	// maxTokenBytes is the maxLength of a token in the contract.
	maxTokenBytes = 8192
	// MinSecretBytes follows RFC 7518, section 3.2: a key of HS256 is at least as long as its hash.
	MinSecretBytes = 32
	// minRSABits follows RFC 7518, section 3.3.
	minRSABits = 2048
)

// hs256 is the algorithm of the secrets; all others are those of public keys.
const hs256 = "HS256"

// tokenHeader is the header of a token. Headers that refer to a key (jku, x5u, jwk) are never
// followed.
type tokenHeader struct {
	Algorithm string         `json:"alg"`
	Type      string         `json:"typ"`
	KeyID     *string        `json:"kid"`
	Critical  jsontext.Value `json:"crit"`
}

// check returns an error if the header makes the token unacceptable.
func (h tokenHeader) check() error {
	switch {
	case h.Critical != nil:
		return refuse("crit in the header of the token names extensions, and none are supported: leave it out.") // RFC 7515, section 4.1.11
	case h.KeyID != nil && *h.KeyID == "":
		return refuse("kid in the header of the token is empty: leave it out, or name the key.")
	}
	// Other kinds of tokens that the same key signs have a typ of their own (RFC 8725, section
	// 3.11): a token about a logout or a security event must not open a session. The typ of an
	// OAuth access token is at+jwt (RFC 9068).
	switch strings.TrimPrefix(strings.ToLower(h.Type), "application/") {
	case "", "jwt", "at+jwt":
		return nil
	}
	return refuse("typ in the header of the token is %s: it must be JWT or at+jwt, or left out.", quote(h.Type))
}

// signedToken is a token whose signature may not have been verified yet.
type signedToken struct {
	header    tokenHeader
	text      string // what is signed
	claims    []byte
	signature []byte
}

// split decodes the parts of a token, but not the claims.
func split(token string) (s signedToken, err error) {
	if len(token) > maxTokenBytes {
		return s, refuse("The token has %d bytes, and at most %d are allowed: leave claims out that Parlor does not need, or grant with patterns such as class*.", len(token), maxTokenBytes)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return s, refuse("The token is not a JWT, which has three parts with dots between them: send it exactly as your backend signed it.")
	}
	s.text = parts[0] + "." + parts[1]
	var header []byte
	for _, part := range []struct {
		name, text string
		decoded    *[]byte
	}{{"header", parts[0], &header}, {"claims", parts[1], &s.claims}, {"signature", parts[2], &s.signature}} {
		if *part.decoded, err = base64.RawURLEncoding.Strict().DecodeString(part.text); err != nil {
			return s, refuse("The %s of the token cannot be decoded: encode it as base64url without padding, and send the token exactly as your backend signed it.", part.name)
		}
	}
	if err := json.Unmarshal(header, &s.header); err != nil {
		return s, undecodable("header", err)
	}
	return s, s.header.check()
}

func (t *Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Until returns the time until an instant, by the clock that verifies tokens.
func (t *Tokens) Until(instant time.Time) time.Duration { return instant.Sub(t.now()) }

// Verify returns the claims of a user token. Errors: room.ErrTokenInvalid, room.ErrTokenExpired,
// each with the rule that the token breaks.
func (t *Tokens) Verify(token string) (room.Claims, error) {
	s, err := split(token)
	if err != nil {
		return room.Claims{}, err
	}
	if err := t.verifySignature(s, t.userKeys); err != nil {
		if t.AdminSecret != nil && t.verifySignature(s, t.adminKeys) == nil {
			err = refuse("The token is signed with the key of admin tokens, which signs no user tokens: sign it with the key of user tokens.")
		}
		return room.Claims{}, err
	}
	c, err := decodeClaims(s.claims)
	if err == nil {
		err = t.check(c, t.Lifetime)
	}
	if err != nil {
		return room.Claims{}, err
	}
	user, err := c.user()
	if err != nil {
		return room.Claims{}, err
	}
	granted, err := c.grants()
	if err != nil {
		return room.Claims{}, err
	}
	verified := room.Claims{User: user, Grants: granted, ExpiresAt: t.until(c)}
	if c.IssuedAt != nil {
		verified.IssuedAt = c.IssuedAt.UTC()
	}
	return verified, nil
}

// VerifyAdmin returns the subject of an admin token, which may be empty, and when the token
// expires. Errors: room.ErrTokenInvalid, room.ErrTokenExpired, room.ErrTokenVoid, and
// room.ErrNotAdmin for a valid token of another scope.
func (t *Tokens) VerifyAdmin(token string) (subject string, expiresAt time.Time, err error) {
	s, err := split(token)
	if err != nil {
		return "", time.Time{}, err
	}
	if err := t.verifySignature(s, t.adminKeys); err != nil {
		if t.verifySignature(s, t.userKeys) == nil {
			err = refuse("The token is signed with a key of user tokens, which signs no admin tokens: sign it with PARLOR_ADMIN_SECRET and the scope admin, or use parlor token --admin.")
		}
		return "", time.Time{}, err
	}
	c, err := decodeClaims(s.claims)
	if err == nil {
		err = t.check(c, t.AdminLifetime)
	}
	switch {
	case err != nil:
		return "", time.Time{}, err
	case c.Scope != ScopeAdmin:
		return "", time.Time{}, room.ErrNotAdmin
	case c.IssuedAt == nil && !t.AdminsVoidBefore.IsZero(), c.IssuedAt != nil && c.IssuedAt.Before(t.AdminsVoidBefore):
		return "", time.Time{}, room.ErrTokenVoid
	}
	return c.Subject, t.until(c), nil
}

// keyFinder returns the keys that may have signed a token with an algorithm and a kid: at least
// one.
type keyFinder func(algorithm string, kid *string) ([]crypto.PublicKey, error)

// verifySignature returns an error unless one of the keys has signed the token.
func (t *Tokens) verifySignature(s signedToken, find keyFinder) error {
	if !slices.Contains(t.algorithms(), s.header.Algorithm) {
		return refuse("The algorithm of the token, alg, is %s: the server accepts %s.", quote(s.header.Algorithm), strings.Join(t.algorithms(), ", "))
	}
	keys, err := find(s.header.Algorithm, s.header.KeyID)
	if err != nil {
		return err
	}
	var weak error
	method := jwt.GetSigningMethod(s.header.Algorithm)
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			weak = err
		} else if method.Verify(s.text, s.signature, key) == nil {
			return nil
		}
	}
	switch {
	case weak != nil:
		// The strength of a key is told to the log only.
		return fmt.Errorf("%w (%w)", refuse("The key of the token cannot be used: use a secret of at least %d bytes, or an RSA key of at least %d bits.", MinSecretBytes, minRSABits), weak)
	case s.header.Algorithm == hs256:
		return refuse("The signature of the token is wrong: sign with the server's secret, byte for byte as it is configured, without decoding hexadecimal or base64.")
	}
	return refuse("The signature of the token is wrong: sign with the private key that belongs to the kid in the server's JWK set.")
}

// algorithms returns the algorithms that the server accepts.
func (t *Tokens) algorithms() []string {
	if t.PublicKeys == nil {
		return []string{hs256}
	}
	return []string{hs256, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodEdDSA.Alg()}
}

// userKeys returns the keys that may have signed a user token.
func (t *Tokens) userKeys(algorithm string, kid *string) ([]crypto.PublicKey, error) {
	switch {
	case algorithm != hs256 && kid == nil:
		return t.PublicKeys(algorithm, "")
	case algorithm != hs256:
		return t.PublicKeys(algorithm, *kid)
	case kid == nil:
		return []crypto.PublicKey{t.Secret}, nil
	}
	secret, ok := t.Secrets[*kid]
	if !ok {
		return nil, refuse("No secret of the server has the kid %s: name one of PARLOR_SECRETS, or leave kid out to sign with PARLOR_SECRET.", quote(*kid))
	}
	return []crypto.PublicKey{secret}, nil
}

// adminKeys returns the keys that may have signed an admin token.
func (t *Tokens) adminKeys(algorithm string, kid *string) ([]crypto.PublicKey, error) {
	switch {
	case algorithm != hs256:
		if !t.AdminPublicKeys {
			return nil, refuse("Public keys sign no admin tokens on this server: sign with HS256 and the admin secret, or set PARLOR_JWKS_ADMIN.")
		}
	case t.AdminSecret != nil:
		if kid != nil {
			return nil, refuse("The server's admin secret has no kid: leave kid out in the header of admin tokens.")
		}
		return []crypto.PublicKey{t.AdminSecret}, nil
	}
	return t.userKeys(algorithm, kid)
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

// Sign returns a new token for a user without grants, which allows everything except kicking.
func (t *Tokens) Sign(u room.User, ttl time.Duration) (string, error) {
	return t.SignGrants(u, nil, ttl)
}

// SignGrants returns a new token for a user that allows only what is granted. Nil is no grants.
func (t *Tokens) SignGrants(u room.User, granted *room.Grants, ttl time.Duration) (string, error) {
	c := t.claims(ttl)
	c.Subject, c.Name = string(u.ID), u.Name
	if granted != nil {
		c.Rooms, c.Peers = granted.Rooms, granted.Peers
		c.Media = strconv.AppendBool(nil, granted.Media)
		if granted.Profile {
			c.Profile = strconv.AppendBool(nil, true)
		}
	}
	return sign(c, t.Secret)
}

// SignAdmin returns a token for the calls of a server. The subject, which may be empty, names the
// caller in Parlor's log.
func (t *Tokens) SignAdmin(subject string, ttl time.Duration) (string, error) {
	secret := t.AdminSecret
	if secret == nil {
		secret = t.Secret
	}
	c := t.claims(ttl)
	c.Subject, c.Scope = subject, ScopeAdmin
	return sign(c, secret)
}

// claims returns the claims that every token has.
func (t *Tokens) claims(ttl time.Duration) claims {
	now := t.now()
	c := claims{Issuer: t.Issuer, IssuedAt: seconds(now), ExpiresAt: seconds(now.Add(ttl))}
	if t.Audience != "" {
		c.Audience = audience{t.Audience}
	}
	return c
}

// sign returns a token with the claims.
func sign(c claims, secret []byte) (string, error) {
	encoded, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	text := signedHeader + "." + base64.RawURLEncoding.EncodeToString(encoded)
	signature, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// signedHeader is the header of the tokens that Sign and SignAdmin return.
var signedHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
