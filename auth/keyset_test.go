package auth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/auth/authtest"
	"parlor/room"
)

// published is a JWK.
type published map[string]any

func publishedRSA(t testing.TB, kid string, bits int) published {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return published{"kty": "RSA", "kid": kid, "n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())}
}

func publishedEd25519(t testing.TB, kid string) published {
	t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return published{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(key)}
}

// with returns the key with one more member.
func (p published) with(name string, value any) published {
	other := published{name: value}
	for n, v := range p {
		if n != name {
			other[n] = v
		}
	}
	return other
}

// keyServer serves a JWKS.
type keyServer struct {
	reply atomic.Value // of string: the body; "" fails
	reads atomic.Int64 // number of fetches
}

func (s *keyServer) publish(t testing.TB, keys ...published) {
	t.Helper()
	set, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	s.reply.Store(string(set))
}

func (s *keyServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.reads.Add(1)
	body, _ := s.reply.Load().(string)
	if body == "" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte(body))
}

// RoundTrip replies without a network.
func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// TestUnusableKeysAreIgnored has keys for encryption, for other algorithms, and too weak ones. They
// verify no token, and do not affect the other keys.
func TestUnusableKeysAreIgnored(t *testing.T) {
	t.Parallel()
	strong, ed := publishedRSA(t, "k", 2048), publishedEd25519(t, "k")
	for what, test := range map[string]struct {
		key  published
		want string // the algorithm that it is for
	}{
		"RSA":                                {strong, "RS256"},
		"Ed25519":                            {ed, "EdDSA"},
		"for signatures":                     {strong.with("use", "sig"), "RS256"},
		"for encryption":                     {strong.with("use", "enc"), ""},
		"for another use":                    {strong.with("use", "tea"), ""},
		"to verify":                          {ed.with("key_ops", []string{"verify"}), "EdDSA"},
		"to verify and an unknown operation": {ed.with("key_ops", []string{"verify", "toast"}), "EdDSA"},
		"to encrypt":                         {strong.with("key_ops", []string{"encrypt", "wrapKey"}), ""},
		"for RS256":                          {strong.with("alg", "RS256"), "RS256"},
		"for PS256":                          {strong.with("alg", "PS256"), ""},
		"for an unknown algorithm":           {strong.with("alg", "RS257"), ""},
		"for EdDSA":                          {ed.with("alg", "EdDSA"), "EdDSA"},
		"Ed25519 for RS256":                  {ed.with("alg", "RS256"), ""},
		"of 1024 bits":                       {publishedRSA(t, "k", 1024), ""},
		"a secret":                           {published{"kty": "oct", "kid": "k", "k": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}, ""},
		"for another curve":                  {published{"kty": "OKP", "crv": "Ed448", "kid": "k", "x": "AAAA"}, ""},
		"of an unknown type":                 {published{"kty": "PQC", "kid": "k"}, ""},
		"no key":                             {published{"kid": "k"}, ""},
		"for elliptic curves":                {published{"kty": "EC", "crv": "P-521", "kid": "k", "x": "AAAA", "y": "AAAA"}, ""},
		"only in a certificate":              {published{"kty": "RSA", "kid": "k", "x5c": []string{"MIIB"}}, ""},
		"with a broken certificate":          {strong.with("x5c", []string{"-----BEGIN CERTIFICATE-----\\nMIIB"}), "RS256"},
		"in base64 with padding":             {ed.with("x", standard(t, ed["x"])), "EdDSA"},
		"in base64 with line breaks":         {strong.with("n", standard(t, strong["n"])[:64]+"\n"+standard(t, strong["n"])[64:]), "RS256"},
		"not in base64":                      {ed.with("x", "*"), ""},
		"of 31 bytes":                        {ed.with("x", base64.RawURLEncoding.EncodeToString(make([]byte, 31))), ""},
		"without an exponent":                {strong.with("e", ""), ""},
		"with the exponent 1":                {strong.with("e", "AQ"), ""},
		"with a long exponent":               {strong.with("e", strong["n"]), ""},
		"of 16385 bits":                      {strong.with("n", base64.RawURLEncoding.EncodeToString(append([]byte{1}, make([]byte, 2048)...))), ""},
		"for Ed25519 by its own name":        {ed.with("alg", "Ed25519"), "EdDSA"},
		"with a number as use":               {ed.with("use", 1), ""},
		"with a text as operations":          {ed.with("key_ops", "verify"), ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := &keyServer{}
			server.publish(t, test.key, publishedEd25519(t, "good"))
			var log bytes.Buffer
			s := &KeySet{url: "https://id.example.com/keys", client: &http.Client{Transport: server}, log: slog.New(slog.NewJSONHandler(&log, nil))}
			if err := s.update(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, algorithm := range []string{"RS256", "EdDSA"} {
				if _, err := s.lookup(algorithm, "k"); (err == nil) != (algorithm == test.want) {
					t.Errorf("for %s: %v", algorithm, err)
				}
			}
			if _, err := s.lookup("EdDSA", "good"); err != nil {
				t.Errorf("the other key: %v", err)
			}
			if logged := strings.Contains(log.String(), `"msg":"key ignored"`); logged != (test.want == "") {
				t.Errorf("the log: %s", &log)
			}
		})
	}
}

// standard returns bytes in base64url as base64 with padding.
func standard(t testing.TB, text any) string {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(fmt.Sprint(text))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(decoded)
}

// TestKeysWithBadNeighbors has a set with entries that are no keys, keys without a kid, and several
// keys with the same kid. The good keys are found, and each ignored one is logged once.
func TestKeysWithBadNeighbors(t *testing.T) {
	t.Parallel()
	one, two, three, unnamed := publishedEd25519(t, "k"), publishedEd25519(t, "k"), publishedEd25519(t, "other"), publishedRSA(t, "", 2048)
	delete(unnamed, "kid")
	server := &keyServer{}
	var log bytes.Buffer
	s := &KeySet{url: "https://id.example.com/keys", client: &http.Client{Transport: server}, log: slog.New(slog.NewJSONHandler(&log, nil))}
	encoded, err := json.Marshal([]published{one, two, one, three, unnamed, publishedRSA(t, "weak", 1024), one.with("use", "enc")})
	if err != nil {
		t.Fatal(err)
	}
	server.reply.Store(`{"keys":[null,"k",7,{"kid":5,"kty":"RSA"},{"kty":"RSA","kty":"OKP"},` + string(encoded[1:]) + `}`)
	for range 3 {
		if err := s.update(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		algorithm, kid string
		want           int
	}{
		{"EdDSA", "k", 2}, {"EdDSA", "other", 1}, {"EdDSA", "", 0}, {"RS256", "", 1}, {"RS256", "k", 0}, {"RS256", "weak", 0},
	} {
		if keys, err := s.lookup(c.algorithm, c.kid); len(keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s with the kid %q: %d keys, want %d: %v", c.algorithm, c.kid, len(keys), c.want, err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 7 {
		t.Errorf("%d lines for 7 ignored keys:\n%s", lines, &log)
	}
}

// TestKeysOfOneKid checks that a token is accepted whichever of the keys with its kid has signed
// it.
func TestKeysOfOneKid(t *testing.T) {
	t.Parallel()
	k, other := newKeys(t), newKeys(t)
	tokens := &Tokens{Secret: secret, PublicKeys: func(_, _ string) ([]crypto.PublicKey, error) {
		return []crypto.PublicKey{k.weak.Public(), k.ed25519.Public(), other.ed25519.Public()}, nil
	}}
	for _, c := range []struct {
		what string
		key  ed25519.PrivateKey
		want error
	}{
		{"the first", k.ed25519, nil}, {"the second", other.ed25519, nil}, {"neither", newKeys(t).ed25519, room.ErrTokenInvalid},
	} {
		if _, err := tokens.Verify(authtest.Token(t, jwt.SigningMethodEdDSA, c.key, nil, kid("k"))); !errors.Is(err, c.want) {
			t.Errorf("a token that %s key has signed: %v", c.what, err)
		}
	}
}

// TestKeysAreFetchedAgain covers the fetches for an unknown key, which are limited, those every
// hour, and the retries after a failure.
func TestKeysAreFetchedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		server := &keyServer{}
		s := newKeySetOf(t, server, &log)
		if _, err := s.Find("EdDSA", "a"); err == nil || server.reads.Load() != 2 {
			t.Errorf("without published keys: %v after %d fetches", err, server.reads.Load())
		}
		server.publish(t, publishedEd25519(t, "a"))
		<-time.After(keysRetry + time.Second)
		if _, err := s.Find("EdDSA", "a"); err != nil || server.reads.Load() != 3 {
			t.Errorf("soon after a failure: %v after %d fetches", err, server.reads.Load())
		}
		if _, err := s.Find("EdDSA", ""); err != nil {
			t.Errorf("the only key, without a kid: %v", err)
		}
		if lines := strings.Count(log.String(), `"msg":"fetching the keys failed`); lines != 2 || !json.Valid(bytes.Split(log.Bytes(), []byte("\n"))[0]) {
			t.Errorf("the log of two failures: %s", &log)
		}

		server.publish(t, publishedEd25519(t, "a"), publishedEd25519(t, "b"))
		<-time.After(keysOnDemand)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if _, err := s.Find("EdDSA", "b"); err != nil {
					t.Errorf("a new key: %v", err)
				}
			})
		}
		callers.Wait()
		for i := range 1000 {
			if _, err := s.Find("EdDSA", fmt.Sprint("invented", i)); err == nil {
				t.Error("an unknown key was found")
			}
		}
		if server.reads.Load() != 4 {
			t.Errorf("%d fetches", server.reads.Load())
		}
		if _, err := s.Find("EdDSA", ""); err == nil {
			t.Error("without a kid, one of two keys was taken")
		}

		server.publish(t, publishedEd25519(t, "b"))
		<-time.After(keysInterval)
		if _, err := s.lookup("EdDSA", "a"); err == nil {
			t.Error("a withdrawn key is still accepted after an hour")
		}
		server.reply.Store("")
		<-time.After(2 * keysInterval)
		if _, err := s.Find("EdDSA", "b"); err != nil {
			t.Errorf("while the keys cannot be fetched: %v", err)
		}
	})
}

func newKeySetOf(t *testing.T, server http.RoundTripper, log *bytes.Buffer) *KeySet {
	t.Helper()
	return NewKeySet(t.Context(), "https://id.example.com/keys", slog.New(slog.NewJSONHandler(log, nil)), server)
}

// TestBadRepliesKeepKeys has replies that are not key sets, too long ones, and redirects.
func TestBadRepliesKeepKeys(t *testing.T) {
	t.Parallel()
	server := &keyServer{}
	web := httptest.NewServer(server)
	defer web.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler("http://id.example.com/keys", http.StatusFound))
	defer elsewhere.Close()
	around := httptest.NewServer(nil)
	defer around.Close()
	around.Config.Handler = http.RedirectHandler(around.URL, http.StatusFound)

	server.publish(t, publishedEd25519(t, "a"))
	var log bytes.Buffer
	s := NewKeySet(t.Context(), web.URL, slog.New(slog.NewJSONHandler(&log, nil)), nil)
	for what, test := range map[string]struct{ url, body, want string }{
		"an error page":               {web.URL, "", "status 500"},
		"a page":                      {web.URL, "<!doctype html>", "not a JWK set"},
		"an object":                   {web.URL, `{"error":"later"}`, "it has no keys"},
		"a long set":                  {web.URL, `{"keys":[]` + strings.Repeat(" ", maxKeysBytes) + `}`, "more than"},
		"a redirect to plain HTTP":    {elsewhere.URL, "", "plain HTTP"},
		"redirects that never end":    {around.URL, "", "too many redirects"},
		"an address that is not open": {"http://127.0.0.1:1/", "", "refused"},
	} {
		server.reply.Store(test.body)
		s.url = test.url
		if err := s.update(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := s.lookup("EdDSA", "a"); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
	}
}
