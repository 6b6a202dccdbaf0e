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

// Find returns the key of a token. An empty kid means the only key for the algorithm. If there is
// no such key, Find fetches the keys again, because the key may be new.
func (s *KeySet) Find(algorithm, kid string) (crypto.PublicKey, error) {
	if key, err := s.lookup(algorithm, kid); err == nil || kid == "" {
		return key, err
	}
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if key, err := s.lookup(algorithm, kid); err == nil {
		return key, nil
	}
	if !s.demand.Allow() {
		return nil, fmt.Errorf("JWKS: no key %q for %s, and the keys were fetched less than %s ago", kid, algorithm, keysOnDemand)
	}
	if err := s.updateLocked(context.Background()); err != nil { // not the caller's context: other callers wait for it too
		return nil, err
	}
	return s.lookup(algorithm, kid)
}

// lookup returns the key of a token from the keys of the last fetch.
func (s *KeySet) lookup(algorithm, kid string) (crypto.PublicKey, error) {
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
		s.log.Warn("key ignored", "url", s.url, "error", why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) == 0 {
		s.log.Warn("the key set has no usable keys", "url", s.url)
	}
	s.keys = keys
	return nil
}

// fetch returns the keys that verify tokens, and the reasons for ignoring the others.
func (s *KeySet) fetch(ctx context.Context) (keys []publicKey, rejected []error, err error) {
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
			rejected = append(rejected, fmt.Errorf("key %d, kid %q: %w", i+1, k.kid, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, rejected, nil
}

// parseKey decodes a key. It returns an error if the key may not verify tokens because of its use,
// operations or algorithm (RFC 7517, sections 4.2 to 4.4), or is too weak.
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
	// The library would reject a key with an operation that it does not know, even if the key may
	// also verify.
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
