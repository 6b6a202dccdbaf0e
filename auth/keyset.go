package auth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"golang.org/x/time/rate"
)

const (
	// keysInterval is how often the keys are fetched. A key that was withdrawn is accepted for that long.
	keysInterval = time.Hour
	// keysRetry is the pause after a read that failed; it doubles with each that follows, up to keysMaxRetry.
	keysRetry    = 10 * time.Second
	keysMaxRetry = 10 * time.Minute
	// keysAskedFor is how often tokens with unknown keys may make the server read the keys: anybody can send such.
	keysAskedFor = time.Minute
	// keysTimeout bounds one read, for which a login may be waiting.
	keysTimeout  = 5 * time.Second
	maxKeysBytes = 256 << 10
	maxRedirects = 3
)

// KeySet is the public keys of a JWKS (RFC 7517) that verify tokens. While they cannot be read, those that were read last
// count.
type KeySet struct {
	url    string
	client *http.Client
	log    *slog.Logger
	asked  *rate.Limiter

	reading sync.Mutex // held while the keys are read: those who want to know meanwhile wait for the same answer

	mu   sync.RWMutex // guards keys
	keys []publicKey
}

type publicKey struct {
	kid, algorithm string
	key            crypto.PublicKey
}

// NewKeySet reads the keys, and again and again until the context ends. It succeeds without any where they cannot be read
// now: the server can serve everybody who is logged in. transport may be nil.
func NewKeySet(ctx context.Context, url string, log *slog.Logger, transport http.RoundTripper) *KeySet {
	s := &KeySet{
		url: url, log: log.With("component", "jwks"), asked: rate.NewLimiter(rate.Every(keysAskedFor), 1),
		client: &http.Client{Transport: transport, Timeout: keysTimeout, CheckRedirect: safeRedirect},
	}
	go s.follow(ctx, s.read(ctx))
	return s
}

// SafeURL reports whether keys from u cannot be changed on their way: over HTTPS, or from this machine. Any name but
// localhost may be another machine's.
func SafeURL(u *url.URL) bool {
	if u.Scheme == "https" || strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	address, err := netip.ParseAddr(u.Hostname())
	return err == nil && address.Unmap().IsLoopback()
}

// safeRedirect refuses to be sent where others can change the keys on their way.
func safeRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case !SafeURL(r.URL):
		return errors.New("redirected to plain HTTP")
	}
	return nil
}

// follow reads the keys whenever it is time, until the context ends. err is what the first read came to.
func (s *KeySet) follow(ctx context.Context, err error) {
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
			err = s.read(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Find returns the key of a token; an empty kid means the only one for the algorithm. It fetches the keys again where
// there is no such key, because it may have been added since.
func (s *KeySet) Find(algorithm, kid string) (crypto.PublicKey, error) {
	if key, err := s.known(algorithm, kid); err == nil || kid == "" {
		return key, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if key, err := s.known(algorithm, kid); err == nil {
		return key, nil
	}
	if !s.asked.Allow() {
		return nil, fmt.Errorf("JWKS: no key %q for %s, and the keys were fetched less than %s ago", kid, algorithm, keysAskedFor)
	}
	if err := s.readLocked(context.Background()); err != nil { // not the caller's context: others wait for it too
		return nil, err
	}
	return s.known(algorithm, kid)
}

// known is Find among the keys that were read.
func (s *KeySet) known(algorithm, kid string) (crypto.PublicKey, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found crypto.PublicKey
	for _, k := range s.keys {
		switch {
		case k.algorithm != algorithm:
		case kid != "" && k.kid == kid:
			return k.key, nil
		case kid == "" && found != nil:
			return nil, fmt.Errorf("JWKS: the token has no kid, and the set has several keys for %s", algorithm)
		case kid == "":
			found = k.key
		}
	}
	if found == nil {
		return nil, fmt.Errorf("JWKS: no key %q for %s", kid, algorithm)
	}
	return found, nil
}

func (s *KeySet) read(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.readLocked(ctx)
}

// readLocked reads the keys. The caller holds reading.
func (s *KeySet) readLocked(ctx context.Context) error {
	keys, refused, err := s.fetch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("reading the keys failed; those read before still count", "url", s.url, "error", err)
		}
		return fmt.Errorf("JWKS: %w", err)
	}
	for _, why := range refused {
		s.log.Warn("a key is not used", "url", s.url, "error", why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) == 0 {
		s.log.Warn("there are no keys that verify tokens", "url", s.url)
	}
	s.keys = keys
	return nil
}

// fetch gets the keys that verify tokens, and why others do not.
func (s *KeySet) fetch(ctx context.Context) (keys []publicKey, refused []error, err error) {
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
		if err != nil {
			refused = append(refused, fmt.Errorf("key %d, kid %q: %w", i+1, k.kid, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, refused, nil
}

// parseKey reads a key, and returns why it does not verify tokens: what it is for, its use, its operations and its algorithm
// say (RFC 7517, sections 4.2 to 4.4), and it may be too weak.
func parseKey(text []byte) (publicKey, error) {
	var j jwkset.JWKMarshal
	if err := json.Unmarshal(text, &j); err != nil {
		return publicKey{}, err
	}
	k := publicKey{kid: j.KID}
	switch {
	case j.USE != "" && j.USE != jwkset.UseSig:
		return k, fmt.Errorf("use is %q", j.USE)
	case len(j.KEYOPS) > 0 && !slices.Contains(j.KEYOPS, jwkset.KeyOpsVerify):
		return k, fmt.Errorf("key_ops is %q", j.KEYOPS)
	}
	// An algorithm that the library does not know is refused below, and not with an error about the whole key.
	parsed, err := jwkset.NewJWKFromMarshal(j, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true})
	if err != nil {
		return k, err
	}
	switch key := parsed.Key().(type) {
	case *rsa.PublicKey:
		k.algorithm, k.key = "RS256", key
	case ed25519.PublicKey:
		k.algorithm, k.key = "EdDSA", key
	default:
		return k, fmt.Errorf("keys of type %q are used by neither RS256 nor EdDSA", j.KTY)
	}
	if j.ALG != "" && j.ALG.String() != k.algorithm {
		return k, fmt.Errorf("alg is %q", j.ALG)
	}
	return k, checkKey(k.key)
}
