package auth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	strictjson "github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	// keysInterval is how often the keys are fetched. A withdrawn key is accepted for up to that
	// long.
	keysInterval = time.Hour
	// keysRetry is the pause after a fetch that failed. It doubles with each failure, up to
	// keysMaxRetry.
	keysRetry    = 10 * time.Second
	keysMaxRetry = 10 * time.Minute
	// keysOnDemand is how often tokens with unknown keys may trigger a fetch, because any client
	// can send such tokens.
	keysOnDemand = time.Minute
	// keysTimeout limits one fetch. A login may be waiting for it.
	keysTimeout  = 5 * time.Second
	maxKeysBytes = 256 << 10
	maxRedirects = 3
)

// KeySet is a set of public keys that verify tokens, fetched from a JWKS URL (RFC 7517). If a fetch
// fails, the keys of the last one stay in use.
type KeySet struct {
	url    string
	client *http.Client
	log    *slog.Logger
	demand *rate.Limiter // limits the fetches of Find

	fetching sync.Mutex // held during a fetch: concurrent callers wait for the same result
	rejected []string   // why keys of the last fetch were ignored; guarded by fetching

	mu   sync.RWMutex // guards keys
	keys []publicKey
}

type publicKey struct {
	kid, algorithm string
	key            crypto.PublicKey
}

// NewKeySet fetches the keys now and regularly until the context ends. If the first fetch fails,
// the set is empty until the next one: the server can still serve users who are logged in.
// transport may be nil.
func NewKeySet(ctx context.Context, url string, log *slog.Logger, transport http.RoundTripper) *KeySet {
	s := &KeySet{
		url: url, log: log.With("component", "jwks"), demand: rate.NewLimiter(rate.Every(keysOnDemand), 1),
		client: &http.Client{Transport: transport, Timeout: keysTimeout, CheckRedirect: safeRedirect},
	}
	go s.refresh(ctx, s.update(ctx))
	return s
}

// SafeURL reports whether keys from u cannot be changed on the way, because the URL is HTTPS or of
// this machine. Any name other than localhost may be that of another machine.
func SafeURL(u *url.URL) bool {
	if u.Scheme == "https" || strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	address, err := netip.ParseAddr(u.Hostname())
	return err == nil && address.Unmap().IsLoopback()
}

// safeRedirect rejects redirects to URLs that are not safe.
func safeRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case !SafeURL(r.URL):
		return errors.New("redirected to plain HTTP")
	}
	return nil
}

// refresh updates the keys regularly until the context ends. err is the result of the first update.
func (s *KeySet) refresh(ctx context.Context, err error) {
	retry := keysRetry
	for {
		pause := keysInterval
		if err != nil {
			pause, retry = retry, min(2*retry, keysMaxRetry)
		} else {
			retry = keysRetry
		}
		select {
		case <-time.After(pause):
			err = s.update(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Find returns the keys that may have signed a token: those with its kid, or the only key for the
// algorithm if kid is empty. If there is no key with the kid, Find fetches the keys again, because
// the key may be new. Errors: room.ErrTokenInvalid.
func (s *KeySet) Find(algorithm, kid string) ([]crypto.PublicKey, error) {
	if keys, err := s.lookup(algorithm, kid); err == nil || kid == "" {
		return keys, err
	}
	s.fetching.Lock()
	defer s.fetching.Unlock()
	keys, unknown := s.lookup(algorithm, kid)
	if unknown == nil {
		return keys, nil
	}
	if !s.demand.Allow() {
		return nil, fmt.Errorf("%w (JWKS: the keys were fetched less than %s ago)", unknown, keysOnDemand)
	}
	if err := s.updateLocked(context.Background()); err != nil { // not the caller's context: other callers wait for it too
		return nil, fmt.Errorf("%w (%w)", unknown, err)
	}
	return s.lookup(algorithm, kid)
}

// lookup returns the keys that may have signed a token, from the keys of the last fetch. Several
// keys may have the same kid, although they should not (RFC 7517, section 4.5).
func (s *KeySet) lookup(algorithm, kid string) ([]crypto.PublicKey, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []crypto.PublicKey
	for _, k := range s.keys {
		if k.algorithm == algorithm && (kid == "" || k.kid == kid) {
			found = append(found, k.key)
		}
	}
	switch {
	case len(found) == 0 && kid == "":
		return nil, refuse("The server's JWK set has no key for %s: publish the key there, or sign with another algorithm.", algorithm)
	case len(found) == 0:
		return nil, refuse("The server's JWK set has no key for %s with the kid %s: publish the key there, or use the kid of a published key.", algorithm, quote(kid))
	case len(found) > 1 && kid == "":
		return nil, refuse("The token has no kid, and the server's JWK set has several keys for %s: name the key in kid.", algorithm)
	}
	return found, nil
}

func (s *KeySet) update(ctx context.Context) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	return s.updateLocked(ctx)
}

// updateLocked fetches and replaces the keys. The caller holds fetching.
func (s *KeySet) updateLocked(ctx context.Context) error {
	keys, rejected, err := s.fetch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("fetching the keys failed, keeping the previous ones", "url", s.url, "error", err)
		}
		return fmt.Errorf("JWKS: %w", err)
	}
	for _, why := range rejected {
		if !slices.Contains(s.rejected, why) { // logged once, not after every fetch
			s.log.Warn("key ignored", "url", s.url, "error", why)
		}
	}
	s.rejected = rejected
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) == 0 {
		s.log.Warn("the key set has no usable keys", "url", s.url)
	}
	s.keys = keys
	return nil
}

// fetch returns the keys that verify tokens, and the reasons for ignoring the others.
func (s *KeySet) fetch(ctx context.Context) (keys []publicKey, rejected []string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, nil, err
	}
	reply, err := s.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("status %d", reply.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxKeysBytes+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(body) > maxKeysBytes:
		return nil, nil, fmt.Errorf("the reply has more than %d bytes", maxKeysBytes)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("the reply is not a JWK set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New("the reply is not a JWK set: it has no keys")
	}
	for i, text := range set.Keys {
		k, err := parseKey(text)
		switch {
		case err != nil:
			rejected = append(rejected, fmt.Sprintf("key %d, kid %q: %v", i+1, shorten(k.kid), err))
		case !slices.ContainsFunc(keys, k.equal):
			keys = append(keys, k)
		}
	}
	return keys, rejected, nil
}

// jwk is a JWK as it is encoded. Certificates (x5c, x5u) are not used.
type jwk struct {
	Type       string   `json:"kty"`
	KeyID      string   `json:"kid"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	Curve      string   `json:"crv"`
	Modulus    keyBytes `json:"n"`
	Exponent   keyBytes `json:"e"`
	Point      keyBytes `json:"x"`
}

// keyBytes are bytes in base64url. Some issuers write base64, or padding.
type keyBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *keyBytes) UnmarshalText(text []byte) error {
	plain := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(string(text))
	decoded, err := base64.RawURLEncoding.DecodeString(plain)
	*b = decoded
	return err
}

// parseKey decodes a key. It returns an error if the key may not verify tokens because of its use,
// operations or algorithm (RFC 7517, sections 4.2 to 4.4), or is too weak.
func parseKey(text []byte) (publicKey, error) {
	var j jwk
	err := strictjson.Unmarshal(text, &j)
	k := publicKey{kid: j.KeyID}
	switch {
	case err != nil:
		return k, fmt.Errorf("not a JWK: %w", err)
	case j.Use != "" && j.Use != "sig":
		return k, fmt.Errorf("use is %q, not sig", shorten(j.Use))
	case len(j.Operations) > 0 && !slices.Contains(j.Operations, "verify"):
		return k, fmt.Errorf("key_ops is %s, without verify", quote(strings.Join(j.Operations, ", ")))
	}
	names := []string{jwt.SigningMethodRS256.Alg()} // that alg may have
	switch {
	case j.Type == "RSA":
		k.key, err = rsaKey(j.Modulus, j.Exponent)
	case j.Type == "OKP" && j.Curve == "Ed25519":
		names = []string{jwt.SigningMethodEdDSA.Alg(), "Ed25519"} // RFC 9864
		k.key, err = ed25519Key(j.Point)
	default:
		err = fmt.Errorf("kty is %s and crv is %s: RS256 needs RSA, EdDSA needs OKP and Ed25519", quote(j.Type), quote(j.Curve))
	}
	k.algorithm = names[0]
	switch {
	case err != nil:
		return k, err
	case j.Algorithm != "" && !slices.Contains(names, j.Algorithm):
		return k, fmt.Errorf("alg is %s, not %s", quote(j.Algorithm), k.algorithm)
	}
	return k, checkKey(k.key)
}

// maxRSABits bounds the time that it takes to verify a signature.
const maxRSABits = 16384

func rsaKey(modulus, exponent []byte) (crypto.PublicKey, error) {
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	switch {
	case len(modulus) == 0 || len(exponent) == 0:
		return nil, errors.New("n or e is missing; x5c is not used")
	case n.BitLen() > maxRSABits:
		return nil, fmt.Errorf("the RSA key has more than %d bits", maxRSABits)
	case e.Cmp(big.NewInt(2)) <= 0 || e.BitLen() > 31:
		return nil, errors.New("e is not an exponent from 3 to 2147483647")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func ed25519Key(point []byte) (crypto.PublicKey, error) {
	if len(point) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x has %d bytes, not %d", len(point), ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(point), nil
}

// equal reports whether two keys are the same, and have the same kid.
func (k publicKey) equal(other publicKey) bool {
	key, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.kid == other.kid && key.Equal(other.key)
}
