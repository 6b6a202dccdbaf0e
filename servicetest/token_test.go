package servicetest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/handlers"
	"parlor/room"
)

// signed is a token of alice with changed claims, as a customer's backend signs
// it, whatever it writes into it.
func (s *service) signed(change func(jwt.MapClaims)) string {
	s.Helper()
	return s.log.secret(sign(s, jwt.SigningMethodHS256, secret, change, nil))
}

func sign(t testing.TB, method jwt.SigningMethod, key any, change func(jwt.MapClaims), header map[string]any) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	if change != nil {
		change(claims)
	}
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keys is one key of each kind.
type keys struct {
	rsa     *rsa.PrivateKey
	weak    *rsa.PrivateKey // of 1024 bits
	ed25519 ed25519.PrivateKey
	named   []byte
}

func newKeys(t testing.TB) keys {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keys{r, weak, e, []byte("another secret of thirty-two bytes")}
}

// tokens verifies with all of the keys; public keys go by their kid.
func (k keys) tokens() *handlers.Tokens {
	return &handlers.Tokens{
		Secret:  secret,
		Secrets: map[string][]byte{"2026": k.named, "short": []byte("short")},
		PublicKey: func(_, kid string) (crypto.PublicKey, error) {
			public := map[string]crypto.PublicKey{"rsa": k.rsa.Public(), "weak": k.weak.Public(), "ed25519": k.ed25519.Public(), "oct": k.named}
			key, ok := public[kid]
			if !ok {
				return nil, errors.New("no such key")
			}
			return key, nil
		},
	}
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

func without(name string) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { delete(c, name) }
}

func kid(id any) map[string]any { return map[string]any{"kid": id} }

func TestTokensThatAreGood(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	s := newService(t, func(c *setup) { c.api.Tokens = k.tokens() })
	hs, rs, ed := jwt.SigningMethodHS256, jwt.SigningMethodRS256, jwt.SigningMethodEdDSA
	for what, token := range map[string]string{
		"the secret":              sign(t, hs, secret, nil, nil),
		"a named secret":          sign(t, hs, k.named, nil, kid("2026")),
		"an RSA key":              sign(t, rs, k.rsa, nil, kid("rsa")),
		"an Ed25519 key":          sign(t, ed, k.ed25519, nil, kid("ed25519")),
		"iat, nbf and others":     s.signed(func(c jwt.MapClaims) { c["iat"], c["nbf"], c["aud"] = 1, 1, "any" }),
		"the typ of OAuth":        sign(t, hs, secret, nil, map[string]any{"typ": "application/AT+JWT"}),
		"no typ":                  signRaw(`{"alg":"HS256"}`, alicesClaims),
		"clocks a little ahead":   s.signed(func(c jwt.MapClaims) { c["iat"], c["nbf"] = time.Now().Unix()+30, time.Now().Unix()+30 }),
		"exp with a fraction":     s.signed(set("exp", float64(time.Now().Unix())+90.5)),
		"exp in the year 9999":    s.signed(set("exp", 253_402_300_799)),
		"a name of 256 bytes":     s.signed(set("name", strings.Repeat("é", 128))),
		"a userID of 32 bytes":    s.signed(set("sub", strings.Repeat("x", 32))),
		"no grants":               s.signed(grants()),
		"grants with odd roomIDs": s.signed(grants(object{"roomID": "."}, object{"roomID": "ünknown"}, object{})),
	} {
		r := s.stranger().call("POST", "/v1/sessions", object{"token": token})
		if r.StatusCode != http.StatusCreated {
			t.Errorf("with %s: %d: %s", what, r.StatusCode, r.body)
			continue
		}
		c := s.stranger().with(as[session](r).SessionKey)
		c.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
		c.call("PUT", "/v1/sessions/current/token", object{"token": token}).is(http.StatusOK)
	}
}

func TestTokensThatAreNot(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	s := newService(t, func(c *setup) { c.api.Tokens = k.tokens() })
	alice := s.login("alice")
	hs, rs, ed := jwt.SigningMethodHS256, jwt.SigningMethodRS256, jwt.SigningMethodEdDSA
	good := sign(t, hs, secret, nil, nil)
	parts := strings.Split(good, ".")
	admin, err := s.tokens.SignAdmin(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, token, code string
	}{
		{"no JWT", "hello", "token_invalid"},
		{"two parts", parts[0] + "." + parts[1], "token_invalid"},
		{"four parts", good + ".x", "token_invalid"},
		{"no signature", parts[0] + "." + parts[1] + ".", "token_invalid"},
		{"a padded signature", good + "=", "token_invalid"},
		{"a changed signature", good[:len(good)-4] + "AAAA", "token_invalid"},
		{"changed claims", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"bob","exp":4000000000}`)) + "." + parts[2], "token_invalid"},
		{"claims that are no object", sign3(parts[0], `"alice"`), "token_invalid"},

		{"the algorithm none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil), "token_invalid"},
		{"HS384", sign(t, jwt.SigningMethodHS384, secret, nil, nil), "token_invalid"},
		{"HS512", sign(t, jwt.SigningMethodHS512, secret, nil, nil), "token_invalid"},
		{"PS256", sign(t, jwt.SigningMethodPS256, k.rsa, nil, kid("rsa")), "token_invalid"},
		{"RS256 signed with the secret", resigned(t, "RS256", kid("rsa"), secret), "token_invalid"},
		{"HS256 signed with the public key", sign(t, hs, pemOf(t, k.rsa), nil, kid("rsa")), "token_invalid"},
		{"RS256 without a kid", sign(t, rs, k.rsa, nil, nil), "token_invalid"},
		{"RS256 with an Ed25519 key's kid", sign(t, rs, k.rsa, nil, kid("ed25519")), "token_invalid"},
		{"RS256 with a secret's kid", sign(t, rs, k.rsa, nil, kid("oct")), "token_invalid"},
		{"EdDSA with a secret's kid", sign(t, ed, k.ed25519, nil, kid("oct")), "token_invalid"},
		{"another Ed25519 key", sign(t, ed, newKeys(t).ed25519, nil, kid("ed25519")), "token_invalid"},

		{"another secret", sign(t, hs, []byte("yet another secret of 32 bytes..."), nil, nil), "token_invalid"},
		{"an empty secret", sign(t, hs, []byte{}, nil, nil), "token_invalid"},
		{"a kid that is not known", sign(t, hs, secret, nil, kid("2025")), "token_invalid"},
		{"a kid that is empty", sign(t, hs, secret, nil, kid("")), "token_invalid"},
		{"a kid that is no string", sign(t, hs, secret, nil, kid(2026)), "token_invalid"},
		{"a kid with the secret of none", sign(t, hs, secret, nil, kid("2026")), "token_invalid"},
		{"no kid with a named secret", sign(t, hs, k.named, nil, nil), "token_invalid"},

		{"no exp", s.signed(without("exp")), "token_invalid"},
		{"exp in the past", s.signed(set("exp", time.Now().Unix()-1)), "token_expired"},
		{"exp of zero", s.signed(set("exp", 0)), "token_expired"},
		{"exp in milliseconds", s.signed(set("exp", time.Now().Add(time.Hour).UnixMilli())), "token_invalid"},
		{"exp in the year 10000", s.signed(set("exp", 253_402_300_800)), "token_invalid"},
		{"exp beyond all years", s.signed(set("exp", 9e18)), "token_invalid"},
		{"nbf in the future", s.signed(set("nbf", time.Now().Add(time.Hour).Unix())), "token_invalid"},
		{"exp in the past, forged", sign(t, hs, k.named, set("exp", 1), nil), "token_invalid"},

		{"no sub", s.signed(without("sub")), "token_invalid"},
		{"an empty sub", s.signed(set("sub", "")), "token_invalid"},
		{"a number as sub", s.signed(set("sub", 7)), "token_invalid"},
		{"a sub of 33 bytes", s.signed(set("sub", strings.Repeat("x", 33))), "token_invalid"},
		{"a sub outside the character set", s.signed(set("sub", "al ice")), "token_invalid"},
		{"the sub ..", s.signed(set("sub", "..")), "token_invalid"},
		{"a sub with NUL", s.signed(set("sub", "alice\x00")), "token_invalid"},
		{"a name of 257 bytes", s.signed(set("name", strings.Repeat("x", 257))), "token_invalid"},
		{"a name with NUL", s.signed(set("name", "Al\x00ice")), "token_invalid"},

		{"crit", sign(t, hs, secret, nil, map[string]any{"crit": []string{"b64"}, "b64": true}), "token_invalid"},
		{"crit of what is not there", sign(t, hs, secret, nil, map[string]any{"crit": []string{}}), "token_invalid"},
		{"crit as null", sign(t, hs, secret, nil, map[string]any{"crit": nil}), "token_invalid"},
		{"the typ of a logout", sign(t, hs, secret, nil, map[string]any{"typ": "logout+jwt"}), "token_invalid"},
		{"a typ that is no string", sign(t, hs, secret, nil, map[string]any{"typ": 1}), "token_invalid"},
		{"two algorithms", signRaw(`{"alg":"none","alg":"HS256"}`, alicesClaims), "token_invalid"},
		{"two kids", signRaw(`{"alg":"HS256","kid":"2026","kid":null}`, alicesClaims), "token_invalid"},
		{"two subs", signRaw(`{"alg":"HS256"}`, `{"sub":"bob","sub":"alice","exp":4000000000}`), "token_invalid"},
		{"two exps", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":1,"exp":4000000000}`), "token_invalid"},
		{"a name twice in a grant", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":4000000000,"rooms":[{"roomID":"a","roomID":"*"}]}`), "token_invalid"},
		{"sub in capitals", signRaw(`{"alg":"HS256"}`, `{"SUB":"alice","exp":4000000000}`), "token_invalid"},
		{"exp in capitals", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","EXP":4000000000}`), "token_invalid"},
		{"a name that is not UTF-8", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":4000000000,"name":"`+"\xff"+`"}`), "token_invalid"},
		{"iat in the future", s.signed(set("iat", time.Now().Add(time.Hour).Unix())), "token_invalid"},
		{"iat that is no number", s.signed(set("iat", "now")), "token_invalid"},
		{"a weak RSA key", sign(t, rs, k.weak, nil, kid("weak")), "token_invalid"},
		{"a weak secret", sign(t, hs, []byte("short"), nil, kid("short")), "token_invalid"},

		{"rooms of the wrong type", s.signed(set("rooms", "lobby")), "token_invalid"},
		{"rooms as null", s.signed(set("rooms", nil)), "token_invalid"},
		{"peers as null", s.signed(set("peers", nil)), "token_invalid"},
		{"peers of the wrong type", s.signed(set("peers", true)), "token_invalid"},
		{"a peer with NUL", s.signed(set("peers", []string{"a\x00b"})), "token_invalid"},
		{"media as null", s.signed(set("media", nil)), "token_invalid"},
		{"media of the wrong type", s.signed(set("media", "yes")), "token_invalid"},
		{"a grant with NUL", s.signed(grants(object{"roomID": "a\x00b", "join": true})), "token_invalid"},
		{"an admin's token", admin, "token_invalid"},
		{"an admin's token with a sub", s.signed(set("scope", "admin")), "token_invalid"},
		{"another scope", s.signed(set("scope", "user")), "token_invalid"},
	} {
		for _, r := range []reply{
			s.stranger().call("POST", "/v1/sessions", object{"token": c.token}),
			alice.call("PUT", "/v1/sessions/current/token", object{"token": c.token}),
		} {
			if p := as[problem](r); r.StatusCode != http.StatusUnauthorized || p.Code != c.code {
				t.Errorf("with %s: %s: %d %s", c.what, r.call, r.StatusCode, r.body)
			}
		}
	}
	if !s.log.contains("token contains an invalid number of segments") {
		t.Error("the log does not say what is wrong with a token")
	}
}

func TestAdminTokens(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	tokens := k.tokens()
	tokens.AdminPublicKeys = true
	tokens.Now = func() time.Time { return now }
	hs, admin := jwt.SigningMethodHS256, set("scope", handlers.ScopeAdmin)
	printed, err := tokens.SignAdmin(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, token string
		want        error
	}{
		{"as the program prints it", printed, nil},
		{"with a sub", sign(t, hs, secret, admin, nil), nil},
		{"signed with a named secret", sign(t, hs, k.named, admin, kid("2026")), nil},
		{"signed with an RSA key", sign(t, jwt.SigningMethodRS256, k.rsa, admin, kid("rsa")), nil},
		{"signed with an Ed25519 key", sign(t, jwt.SigningMethodEdDSA, k.ed25519, admin, kid("ed25519")), nil},
		{"signed with another secret", sign(t, hs, k.named, admin, nil), room.ErrTokenInvalid},
		{"unsigned", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, admin, nil), room.ErrTokenInvalid},
		{"of an unknown key", sign(t, hs, secret, admin, kid("2025")), room.ErrTokenInvalid},
		{"without exp", sign(t, hs, secret, func(c jwt.MapClaims) { admin(c); delete(c, "exp") }, nil), room.ErrTokenInvalid},
		{"with exp in milliseconds", sign(t, hs, secret, func(c jwt.MapClaims) { admin(c); c["exp"] = now.UnixMilli() }, nil), room.ErrTokenInvalid},
		{"that ran out", sign(t, hs, secret, func(c jwt.MapClaims) { admin(c); c["exp"] = now.Unix() - 1 }, nil), room.ErrTokenExpired},
		{"of no scope", sign(t, hs, secret, nil, nil), room.ErrNotAdmin},
		{"of another scope", sign(t, hs, secret, set("scope", "Admin"), nil), room.ErrNotAdmin},
		{"of a list of scopes", sign(t, hs, secret, set("scope", []string{"admin"}), nil), room.ErrTokenInvalid},
	} {
		until, err := tokens.VerifyAdmin(c.token)
		if !errors.Is(err, c.want) {
			t.Errorf("a token %s: %v", c.what, err)
		}
		if err == nil && !until.Equal(now.Add(time.Hour).Truncate(time.Second)) {
			t.Errorf("a token %s lasts until %v", c.what, until)
		}
	}
}

// TestPublicKeysAreRefusedUnlessSet: the secret alone verifies HS256 alone.
func TestPublicKeysAreRefusedUnlessSet(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	tokens := &handlers.Tokens{Secret: secret}
	for _, token := range []string{
		sign(t, jwt.SigningMethodRS256, k.rsa, nil, kid("rsa")), sign(t, jwt.SigningMethodEdDSA, k.ed25519, nil, nil),
	} {
		if _, err := tokens.Verify(token); !errors.Is(err, room.ErrTokenInvalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestVerifyIsWhatWasSigned(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	tokens := &handlers.Tokens{Secret: secret, Now: func() time.Time { return now }}
	alice := room.User{ID: "alice", Name: "Alice"}
	token, err := tokens.Sign(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokens.Verify(token)
	want := room.Claims{User: alice, IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	now = now.Add(time.Hour)
	if _, err := tokens.Verify(token); !errors.Is(err, room.ErrTokenExpired) {
		t.Errorf("at its end: %v", err)
	}
}

// TestTokensOfOtherApplications: an identity provider signs the tokens of all its applications with the same keys. Those for
// another one, or of another issuer, let nobody in, whoever they are about, and whichever key signed them.
func TestTokensOfOtherApplications(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	tokens := k.tokens()
	tokens.Audience, tokens.Issuer, tokens.AdminPublicKeys = "parlor", "https://id.example.com", true
	ours := func(c jwt.MapClaims) { c["aud"], c["iss"] = "parlor", "https://id.example.com" }
	but := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			ours(c)
			c[name] = value
		}
	}
	for _, c := range []struct {
		what  string
		claim func(jwt.MapClaims)
		want  error
	}{
		{"for us", ours, nil},
		{"for us and others", but("aud", []string{"mail", "parlor"}), nil},
		{"for another application", but("aud", "mail"), room.ErrTokenInvalid},
		{"for others", but("aud", []string{"mail", "parlor2"}), room.ErrTokenInvalid},
		{"for nobody", but("aud", []string{}), room.ErrTokenInvalid},
		{"of no audience", func(c jwt.MapClaims) { ours(c); delete(c, "aud") }, room.ErrTokenInvalid},
		{"of another issuer", but("iss", "https://id.example.com/"), room.ErrTokenInvalid},
		{"of no issuer", func(c jwt.MapClaims) { ours(c); delete(c, "iss") }, room.ErrTokenInvalid},
		{"for another application, which has expired", func(c jwt.MapClaims) { ours(c); c["aud"], c["exp"] = "mail", 1 }, room.ErrTokenInvalid},
		{"for us, which has expired", but("exp", 1), room.ErrTokenExpired},
	} {
		for how, sign := range map[string]func(func(jwt.MapClaims)) string{
			"an RSA key": func(c func(jwt.MapClaims)) string { return sign(t, jwt.SigningMethodRS256, k.rsa, c, kid("rsa")) },
			"an Ed25519 key": func(c func(jwt.MapClaims)) string {
				return sign(t, jwt.SigningMethodEdDSA, k.ed25519, c, kid("ed25519"))
			},
			"the secret": func(c func(jwt.MapClaims)) string { return sign(t, jwt.SigningMethodHS256, secret, c, nil) },
		} {
			if _, err := tokens.Verify(sign(c.claim)); !errors.Is(err, c.want) {
				t.Errorf("a user's token %s by %s: %v", c.what, how, err)
			}
			admin := func(claims jwt.MapClaims) { c.claim(claims); claims["scope"] = "admin" }
			if _, err := tokens.VerifyAdmin(sign(admin)); !errors.Is(err, c.want) {
				t.Errorf("an admin's token %s by %s: %v", c.what, how, err)
			}
		}
	}
	user, err := tokens.Sign(room.User{ID: "alice"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(user); err != nil {
		t.Errorf("what Sign makes: %v", err)
	}
	admin, err := tokens.SignAdmin(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.VerifyAdmin(admin); err != nil {
		t.Errorf("what SignAdmin makes: %v", err)
	}
}

// TestAdminSecret: where admins have a secret of their own, no key of users signs admin tokens, nor the other way round.
func TestAdminSecret(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	adminSecret := []byte("the admins' secret of 32 bytes....")
	hs, admin := jwt.SigningMethodHS256, set("scope", handlers.ScopeAdmin)
	for _, c := range []struct {
		what, token   string
		apart, shared bool // what lets it in: a secret of their own, no such secret
	}{
		{"signed with the admins' secret", sign(t, hs, adminSecret, admin, nil), true, false},
		{"signed with the users' secret", sign(t, hs, secret, admin, nil), false, true},
		{"signed with a named secret", sign(t, hs, k.named, admin, kid("2026")), false, true},
		{"signed with the admins' secret and a kid", sign(t, hs, adminSecret, admin, kid("2026")), false, false},
		{"signed with an RSA key", sign(t, jwt.SigningMethodRS256, k.rsa, admin, kid("rsa")), false, false},
		{"signed with an Ed25519 key", sign(t, jwt.SigningMethodEdDSA, k.ed25519, admin, kid("ed25519")), false, false},
	} {
		tokens := k.tokens()
		if _, err := tokens.VerifyAdmin(c.token); (err == nil) != c.shared {
			t.Errorf("without an admins' secret, a token %s: %v", c.what, err)
		}
		tokens.AdminSecret = adminSecret
		if _, err := tokens.VerifyAdmin(c.token); (err == nil) != c.apart {
			t.Errorf("with an admins' secret, a token %s: %v", c.what, err)
		}
	}
	tokens := k.tokens()
	tokens.AdminSecret = adminSecret
	if _, err := tokens.Verify(sign(t, hs, adminSecret, nil, nil)); !errors.Is(err, room.ErrTokenInvalid) {
		t.Errorf("a user's token signed with the admins' secret: %v", err)
	}
	signed, err := tokens.SignAdmin(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.VerifyAdmin(signed); err != nil {
		t.Errorf("what SignAdmin makes: %v", err)
	}
}

// TestLifetimeOfTokens: it counts from iat, or from now where the token does not say.
func TestLifetimeOfTokens(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	tokens := &handlers.Tokens{Secret: secret, Lifetime: time.Hour, AdminLifetime: 10 * time.Minute, Now: func() time.Time { return now }}
	lasting := func(iat, exp time.Duration) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c["iat"], c["exp"] = now.Add(iat).Unix(), now.Add(exp).Unix() }
	}
	for _, c := range []struct {
		what        string
		claims      func(jwt.MapClaims)
		user, admin error
	}{
		{"as long as allowed", lasting(-30*time.Minute, 30*time.Minute), nil, room.ErrTokenInvalid},
		{"a second longer", lasting(-30*time.Minute, 30*time.Minute+time.Second), room.ErrTokenInvalid, room.ErrTokenInvalid},
		{"short", lasting(-5*time.Minute, 5*time.Minute), nil, nil},
		{"a year, at its end", lasting(-365*24*time.Hour, time.Minute), room.ErrTokenInvalid, room.ErrTokenInvalid},
		{"without iat, from a clock a little ahead", set("exp", now.Add(time.Hour+time.Minute).Unix()), nil, room.ErrTokenInvalid},
		{"without iat, longer", set("exp", now.Add(time.Hour+61*time.Second).Unix()), room.ErrTokenInvalid, room.ErrTokenInvalid},
		{"without iat, for ever", set("exp", 253_402_300_799), room.ErrTokenInvalid, room.ErrTokenInvalid},
	} {
		if _, err := tokens.Verify(sign(t, jwt.SigningMethodHS256, secret, c.claims, nil)); !errors.Is(err, c.user) {
			t.Errorf("a user's token %s: %v", c.what, err)
		}
		admin := func(claims jwt.MapClaims) { c.claims(claims); claims["scope"] = "admin" }
		if _, err := tokens.VerifyAdmin(sign(t, jwt.SigningMethodHS256, secret, admin, nil)); !errors.Is(err, c.admin) {
			t.Errorf("an admin's token %s: %v", c.what, err)
		}
	}
}

// TestVoidAdminTokens: a stolen admin token is made useless without taking the secret from all servers.
func TestVoidAdminTokens(t *testing.T) {
	t.Parallel()
	void := time.Now().Add(-time.Minute).Truncate(time.Second)
	tokens := &handlers.Tokens{Secret: secret, AdminsVoidBefore: void}
	for _, c := range []struct {
		what  string
		claim func(jwt.MapClaims)
		want  error
	}{
		{"issued before", set("iat", void.Unix()-1), room.ErrTokenVoid},
		{"that does not say when", func(jwt.MapClaims) {}, room.ErrTokenVoid},
		{"issued at the instant", set("iat", void.Unix()), nil},
	} {
		admin := func(claims jwt.MapClaims) { c.claim(claims); claims["scope"] = "admin" }
		if _, err := tokens.VerifyAdmin(sign(t, jwt.SigningMethodHS256, secret, admin, nil)); !errors.Is(err, c.want) {
			t.Errorf("a token %s: %v", c.what, err)
		}
	}
}

// alicesClaims are those of a token of alice, as they are written.
const alicesClaims = `{"sub":"alice","exp":4000000000}`

// signRaw is a token whose header and claims are written as nobody should.
func signRaw(header, claims string) string {
	return sign3(base64.RawURLEncoding.EncodeToString([]byte(header)), claims)
}

// sign3 puts a token together from a header and claims of any kind.
func sign3(header, claims string) string {
	text := header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	signature, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		panic(err) // the secret is of the right type
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// resigned is a token whose header names an algorithm that it is not signed
// with.
func resigned(t testing.TB, algorithm string, header map[string]any, key []byte) string {
	t.Helper()
	header["alg"] = algorithm
	encoded, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	claims := fmt.Sprintf(`{"sub":"alice","exp":%d}`, time.Now().Add(time.Hour).Unix())
	text := base64.RawURLEncoding.EncodeToString(encoded) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	signature, err := jwt.SigningMethodHS256.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// pemOf is a public key as it is published.
func pemOf(t testing.TB, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
