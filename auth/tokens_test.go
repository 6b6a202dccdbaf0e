package auth

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
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/auth/authtest"
	"parlor/room"
)

var secret = []byte("a secret of at least thirty-two bytes")

// keys has one key of each kind.
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

// tokens returns Tokens that verify with all of the keys. Public keys are found by their kid.
func (k keys) tokens() *Tokens {
	return &Tokens{
		Secret:  secret,
		Secrets: map[string][]byte{"2026": k.named, "short": []byte("short")},
		PublicKeys: func(_, kid string) ([]crypto.PublicKey, error) {
			public := map[string]crypto.PublicKey{"rsa": k.rsa.Public(), "weak": k.weak.Public(), "ed25519": k.ed25519.Public(), "oct": k.named}
			key, ok := public[kid]
			if !ok {
				return nil, refuse("No such key.")
			}
			return []crypto.PublicKey{key}, nil
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

// grants returns a function that sets the claim rooms.
func grants(all ...map[string]any) func(jwt.MapClaims) {
	return set("rooms", append([]map[string]any{}, all...))
}

func TestVerifyAcceptsGoodTokens(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	tokens := k.tokens()
	hs, rs, ed := jwt.SigningMethodHS256, jwt.SigningMethodRS256, jwt.SigningMethodEdDSA
	signed := func(change func(jwt.MapClaims)) string { return authtest.Token(t, hs, secret, change, nil) }
	type object = map[string]any
	for what, token := range map[string]string{
		"the secret":              authtest.Token(t, hs, secret, nil, nil),
		"a named secret":          authtest.Token(t, hs, k.named, nil, kid("2026")),
		"an RSA key":              authtest.Token(t, rs, k.rsa, nil, kid("rsa")),
		"an Ed25519 key":          authtest.Token(t, ed, k.ed25519, nil, kid("ed25519")),
		"iat, nbf and others":     signed(func(c jwt.MapClaims) { c["iat"], c["nbf"], c["aud"] = 1, 1, "any" }),
		"the typ of OAuth":        authtest.Token(t, hs, secret, nil, map[string]any{"typ": "application/AT+JWT"}),
		"no typ":                  signRaw(`{"alg":"HS256"}`, alicesClaims),
		"clocks a little ahead":   signed(func(c jwt.MapClaims) { c["iat"], c["nbf"] = time.Now().Unix()+30, time.Now().Unix()+30 }),
		"exp with a fraction":     signed(set("exp", float64(time.Now().Unix())+90.5)),
		"exp in the year 9999":    signed(set("exp", 253_402_300_799)),
		"a name of 256 bytes":     signed(set("name", strings.Repeat("é", 128))),
		"a userID of 64 bytes":    signed(set("sub", strings.Repeat("x", 64))),
		"a userID of other kinds": signed(set("sub", "al ice/*\\")),
		"no grants":               signed(grants()),
		"grants with odd roomIDs": signed(grants(object{"roomID": "."}, object{"roomID": "ünknown", "more": 1})),
	} {
		if _, err := tokens.Verify(token); err != nil {
			t.Errorf("with %s: %v", what, err)
		}
	}
}

func TestVerifyRejectsBadTokens(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	tokens := k.tokens()
	hs, rs, ed := jwt.SigningMethodHS256, jwt.SigningMethodRS256, jwt.SigningMethodEdDSA
	signed := func(change func(jwt.MapClaims)) string { return authtest.Token(t, hs, secret, change, nil) }
	type object = map[string]any
	good := authtest.Token(t, hs, secret, nil, nil)
	parts := strings.Split(good, ".")
	admin, err := tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, token string
		want        error
	}{
		{"no JWT", "hello", room.ErrTokenInvalid},
		{"two parts", parts[0] + "." + parts[1], room.ErrTokenInvalid},
		{"four parts", good + ".x", room.ErrTokenInvalid},
		{"no signature", parts[0] + "." + parts[1] + ".", room.ErrTokenInvalid},
		{"a padded signature", good + "=", room.ErrTokenInvalid},
		{"a changed signature", good[:len(good)-4] + "AAAA", room.ErrTokenInvalid},
		{"changed claims", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"bob","exp":4000000000}`)) + "." + parts[2], room.ErrTokenInvalid},
		{"claims that are no object", sign3(parts[0], `"alice"`), room.ErrTokenInvalid},

		{"the algorithm none", authtest.Token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil), room.ErrTokenInvalid},
		{"HS384", authtest.Token(t, jwt.SigningMethodHS384, secret, nil, nil), room.ErrTokenInvalid},
		{"HS512", authtest.Token(t, jwt.SigningMethodHS512, secret, nil, nil), room.ErrTokenInvalid},
		{"PS256", authtest.Token(t, jwt.SigningMethodPS256, k.rsa, nil, kid("rsa")), room.ErrTokenInvalid},
		{"RS256 signed with the secret", resigned(t, "RS256", kid("rsa"), secret), room.ErrTokenInvalid},
		{"HS256 signed with the public key", authtest.Token(t, hs, pemOf(t, k.rsa), nil, kid("rsa")), room.ErrTokenInvalid},
		{"RS256 without a kid", authtest.Token(t, rs, k.rsa, nil, nil), room.ErrTokenInvalid},
		{"RS256 with an Ed25519 key's kid", authtest.Token(t, rs, k.rsa, nil, kid("ed25519")), room.ErrTokenInvalid},
		{"RS256 with a secret's kid", authtest.Token(t, rs, k.rsa, nil, kid("oct")), room.ErrTokenInvalid},
		{"EdDSA with a secret's kid", authtest.Token(t, ed, k.ed25519, nil, kid("oct")), room.ErrTokenInvalid},
		{"another Ed25519 key", authtest.Token(t, ed, newKeys(t).ed25519, nil, kid("ed25519")), room.ErrTokenInvalid},

		{"another secret", authtest.Token(t, hs, []byte("yet another secret of 32 bytes..."), nil, nil), room.ErrTokenInvalid},
		{"an empty secret", authtest.Token(t, hs, []byte{}, nil, nil), room.ErrTokenInvalid},
		{"a kid that is not known", authtest.Token(t, hs, secret, nil, kid("2025")), room.ErrTokenInvalid},
		{"a kid that is empty", authtest.Token(t, hs, secret, nil, kid("")), room.ErrTokenInvalid},
		{"a kid that is no string", authtest.Token(t, hs, secret, nil, kid(2026)), room.ErrTokenInvalid},
		{"a kid with the secret of none", authtest.Token(t, hs, secret, nil, kid("2026")), room.ErrTokenInvalid},
		{"no kid with a named secret", authtest.Token(t, hs, k.named, nil, nil), room.ErrTokenInvalid},

		{"no exp", signed(without("exp")), room.ErrTokenInvalid},
		{"exp in the past", signed(set("exp", time.Now().Add(-ClockSkew).Unix())), room.ErrTokenExpired},
		{"exp of zero", signed(set("exp", 0)), room.ErrTokenExpired},
		{"exp in milliseconds", signed(set("exp", time.Now().Add(time.Hour).UnixMilli())), room.ErrTokenInvalid},
		{"exp in the year 10000", signed(set("exp", 253_402_300_800)), room.ErrTokenInvalid},
		{"exp beyond all years", signed(set("exp", 9e18)), room.ErrTokenInvalid},
		{"nbf in the future", signed(set("nbf", time.Now().Add(time.Hour).Unix())), room.ErrTokenInvalid},
		{"exp in the past, forged", authtest.Token(t, hs, k.named, set("exp", 1), nil), room.ErrTokenInvalid},

		{"no sub", signed(without("sub")), room.ErrTokenInvalid},
		{"an empty sub", signed(set("sub", "")), room.ErrTokenInvalid},
		{"a number as sub", signed(set("sub", 7)), room.ErrTokenInvalid},
		{"a sub of 65 bytes", signed(set("sub", strings.Repeat("x", 65))), room.ErrTokenInvalid},
		{"a sub outside the character set", signed(set("sub", "älice")), room.ErrTokenInvalid},
		{"the sub ..", signed(set("sub", "..")), room.ErrTokenInvalid},
		{"a sub with NUL", signed(set("sub", "alice\x00")), room.ErrTokenInvalid},
		{"a name of 257 bytes", signed(set("name", strings.Repeat("x", 257))), room.ErrTokenInvalid},
		{"a name of blanks", signed(set("name", " \u3000")), room.ErrTokenInvalid},
		{"a name with a line break", signed(set("name", "Ali\nce")), room.ErrTokenInvalid},
		{"a name with NUL", signed(set("name", "Al\x00ice")), room.ErrTokenInvalid},

		{"crit", authtest.Token(t, hs, secret, nil, map[string]any{"crit": []string{"b64"}, "b64": true}), room.ErrTokenInvalid},
		{"crit of what is not there", authtest.Token(t, hs, secret, nil, map[string]any{"crit": []string{}}), room.ErrTokenInvalid},
		{"crit as null", authtest.Token(t, hs, secret, nil, map[string]any{"crit": nil}), room.ErrTokenInvalid},
		{"the typ of a logout", authtest.Token(t, hs, secret, nil, map[string]any{"typ": "logout+jwt"}), room.ErrTokenInvalid},
		{"a typ that is no string", authtest.Token(t, hs, secret, nil, map[string]any{"typ": 1}), room.ErrTokenInvalid},
		{"two algorithms", signRaw(`{"alg":"none","alg":"HS256"}`, alicesClaims), room.ErrTokenInvalid},
		{"two kids", signRaw(`{"alg":"HS256","kid":"2026","kid":null}`, alicesClaims), room.ErrTokenInvalid},
		{"two subs", signRaw(`{"alg":"HS256"}`, `{"sub":"bob","sub":"alice","exp":4000000000}`), room.ErrTokenInvalid},
		{"two exps", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":1,"exp":4000000000}`), room.ErrTokenInvalid},
		{"a name twice in a grant", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":4000000000,"rooms":[{"roomID":"a","roomID":"*"}]}`), room.ErrTokenInvalid},
		{"sub in capitals", signRaw(`{"alg":"HS256"}`, `{"SUB":"alice","exp":4000000000}`), room.ErrTokenInvalid},
		{"exp in capitals", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","EXP":4000000000}`), room.ErrTokenInvalid},
		{"a name that is not UTF-8", signRaw(`{"alg":"HS256"}`, `{"sub":"alice","exp":4000000000,"name":"`+"\xff"+`"}`), room.ErrTokenInvalid},
		{"iat in the future", signed(set("iat", time.Now().Add(time.Hour).Unix())), room.ErrTokenInvalid},
		{"iat that is no number", signed(set("iat", "now")), room.ErrTokenInvalid},
		{"a weak RSA key", authtest.Token(t, rs, k.weak, nil, kid("weak")), room.ErrTokenInvalid},
		{"a weak secret", authtest.Token(t, hs, []byte("short"), nil, kid("short")), room.ErrTokenInvalid},

		{"rooms of the wrong type", signed(set("rooms", "lobby")), room.ErrTokenInvalid},
		{"rooms as null", signed(set("rooms", nil)), room.ErrTokenInvalid},
		{"peers as null", signed(set("peers", nil)), room.ErrTokenInvalid},
		{"peers of the wrong type", signed(set("peers", true)), room.ErrTokenInvalid},
		{"a peer with NUL", signed(set("peers", []string{"a\x00b"})), room.ErrTokenInvalid},
		{"media as null", signed(set("media", nil)), room.ErrTokenInvalid},
		{"media of the wrong type", signed(set("media", "yes")), room.ErrTokenInvalid},
		{"a grant with NUL", signed(grants(object{"roomID": "a\x00b", "join": true})), room.ErrTokenInvalid},
		{"an admin's token", admin, room.ErrTokenInvalid},
		{"an admin's token with a sub", signed(set("scope", "admin")), room.ErrTokenInvalid},
		{"another scope", signed(set("scope", "user")), room.ErrTokenInvalid},
	} {
		if _, err := tokens.Verify(c.token); !errors.Is(err, c.want) {
			t.Errorf("with %s: got %v, want %v", c.what, err, c.want)
		}
	}
}

func TestAdminTokens(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	tokens := k.tokens()
	tokens.AdminPublicKeys = true
	tokens.Now = func() time.Time { return now }
	hs, admin := jwt.SigningMethodHS256, set("scope", ScopeAdmin)
	printed, err := tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, token string
		want        error
	}{
		{"as the program prints it", printed, nil},
		{"with a sub", authtest.Token(t, hs, secret, admin, nil), nil},
		{"signed with a named secret", authtest.Token(t, hs, k.named, admin, kid("2026")), nil},
		{"signed with an RSA key", authtest.Token(t, jwt.SigningMethodRS256, k.rsa, admin, kid("rsa")), nil},
		{"signed with an Ed25519 key", authtest.Token(t, jwt.SigningMethodEdDSA, k.ed25519, admin, kid("ed25519")), nil},
		{"signed with another secret", authtest.Token(t, hs, k.named, admin, nil), room.ErrTokenInvalid},
		{"unsigned", authtest.Token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, admin, nil), room.ErrTokenInvalid},
		{"of an unknown key", authtest.Token(t, hs, secret, admin, kid("2025")), room.ErrTokenInvalid},
		{"without exp", authtest.Token(t, hs, secret, func(c jwt.MapClaims) { admin(c); delete(c, "exp") }, nil), room.ErrTokenInvalid},
		{"with exp in milliseconds", authtest.Token(t, hs, secret, func(c jwt.MapClaims) { admin(c); c["exp"] = now.UnixMilli() }, nil), room.ErrTokenInvalid},
		{"that has expired", authtest.Token(t, hs, secret, func(c jwt.MapClaims) { admin(c); c["exp"] = now.Add(-ClockSkew).Unix() }, nil), room.ErrTokenExpired},
		{"of no scope", authtest.Token(t, hs, secret, nil, nil), room.ErrNotAdmin},
		{"of another scope", authtest.Token(t, hs, secret, set("scope", "Admin"), nil), room.ErrNotAdmin},
		{"of a list of scopes", authtest.Token(t, hs, secret, set("scope", []string{"admin"}), nil), room.ErrTokenInvalid},
	} {
		_, until, err := tokens.VerifyAdmin(c.token)
		if !errors.Is(err, c.want) {
			t.Errorf("a token %s: %v", c.what, err)
		}
		if err == nil && !until.Equal(now.Add(time.Hour).Truncate(time.Second)) {
			t.Errorf("a token %s lasts until %v", c.what, until)
		}
	}
}

// TestVerifyWithoutPublicKeys checks that without PublicKeys only HS256 tokens are verified.
func TestVerifyWithoutPublicKeys(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	tokens := &Tokens{Secret: secret}
	for _, token := range []string{
		authtest.Token(t, jwt.SigningMethodRS256, k.rsa, nil, kid("rsa")), authtest.Token(t, jwt.SigningMethodEdDSA, k.ed25519, nil, nil),
	} {
		if _, err := tokens.Verify(token); !errors.Is(err, room.ErrTokenInvalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestVerifyReturnsSignedClaims(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	tokens := &Tokens{Secret: secret, Now: func() time.Time { return now }}
	alice := room.User{ID: "alice", Name: "Alice"}
	token, err := tokens.Sign(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokens.Verify(token)
	want := room.Claims{User: alice, IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, claims (-want +got):\n%s", err, diff)
	}
}

// TestExpiredTokens checks that a token is accepted until a minute after its exp, because the clock
// of its backend may be behind, and that what it opens then lasts as long.
func TestExpiredTokens(t *testing.T) {
	t.Parallel()
	exp := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	now := exp
	tokens := &Tokens{Secret: secret, Now: func() time.Time { return now }}
	user := authtest.Token(t, jwt.SigningMethodHS256, secret, set("exp", exp.Unix()), nil)
	admin := authtest.Token(t, jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["exp"], c["scope"] = exp.Unix(), ScopeAdmin }, nil)
	for _, c := range []struct {
		after time.Duration
		until time.Time
		err   error
	}{
		{-time.Nanosecond, exp, nil},
		{0, exp.Add(ClockSkew), nil},
		{ClockSkew - time.Nanosecond, exp.Add(ClockSkew), nil},
		{ClockSkew, time.Time{}, room.ErrTokenExpired},
	} {
		now = exp.Add(c.after)
		got, err := tokens.Verify(user)
		if !errors.Is(err, c.err) || !got.ExpiresAt.Equal(c.until) {
			t.Errorf("%s after exp, a user's token lasts until %s: %v", c.after, got.ExpiresAt, err)
		}
		_, until, err := tokens.VerifyAdmin(admin)
		if !errors.Is(err, c.err) || !until.Equal(c.until) {
			t.Errorf("%s after exp, an admin's token lasts until %s: %v", c.after, until, err)
		}
	}
}

// TestTokensOfOtherApplications checks the audience and the issuer: an identity provider signs the
// tokens of all its applications with the same keys, and those for another application must not be
// accepted.
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
		for _, step := range []struct {
			how  string
			sign func(func(jwt.MapClaims)) string
		}{
			{"an RSA key", func(c func(jwt.MapClaims)) string {
				return authtest.Token(t, jwt.SigningMethodRS256, k.rsa, c, kid("rsa"))
			}},
			{"an Ed25519 key", func(c func(jwt.MapClaims)) string {
				return authtest.Token(t, jwt.SigningMethodEdDSA, k.ed25519, c, kid("ed25519"))
			}},
			{"the secret", func(c func(jwt.MapClaims)) string { return authtest.Token(t, jwt.SigningMethodHS256, secret, c, nil) }},
		} {
			if _, err := tokens.Verify(step.sign(c.claim)); !errors.Is(err, c.want) {
				t.Errorf("a user's token %s by %s: %v", c.what, step.how, err)
			}
			admin := func(claims jwt.MapClaims) { c.claim(claims); claims["scope"] = "admin" }
			if _, _, err := tokens.VerifyAdmin(step.sign(admin)); !errors.Is(err, c.want) {
				t.Errorf("an admin's token %s by %s: %v", c.what, step.how, err)
			}
		}
	}
	user, err := tokens.Sign(room.User{ID: "alice"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(user); err != nil {
		t.Errorf("Verify of a token of Sign: %v", err)
	}
	checkSignAdmin(t, tokens)
}

// checkSignAdmin checks that tokens of SignAdmin are accepted by VerifyAdmin.
func checkSignAdmin(t *testing.T, tokens *Tokens) {
	t.Helper()
	token, err := tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.VerifyAdmin(token); err != nil {
		t.Errorf("VerifyAdmin of a token of SignAdmin: %v", err)
	}
}

// TestAdminSecret checks that with an admin secret, the keys of users sign no admin tokens, and the
// admin secret signs no user tokens.
func TestAdminSecret(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	adminSecret := []byte("the admins' secret of 32 bytes....")
	hs, admin := jwt.SigningMethodHS256, set("scope", ScopeAdmin)
	for _, c := range []struct {
		what, token         string
		withSecret, without bool // whether it is accepted with and without an AdminSecret
	}{
		{"signed with the admin secret", authtest.Token(t, hs, adminSecret, admin, nil), true, false},
		{"signed with the user secret", authtest.Token(t, hs, secret, admin, nil), false, true},
		{"signed with a named secret", authtest.Token(t, hs, k.named, admin, kid("2026")), false, true},
		{"signed with the admin secret and a kid", authtest.Token(t, hs, adminSecret, admin, kid("2026")), false, false},
		{"signed with an RSA key", authtest.Token(t, jwt.SigningMethodRS256, k.rsa, admin, kid("rsa")), false, false},
		{"signed with an Ed25519 key", authtest.Token(t, jwt.SigningMethodEdDSA, k.ed25519, admin, kid("ed25519")), false, false},
	} {
		tokens := k.tokens()
		if _, _, err := tokens.VerifyAdmin(c.token); (err == nil) != c.without {
			t.Errorf("without an admin secret, a token %s: %v", c.what, err)
		}
		tokens.AdminSecret = adminSecret
		if _, _, err := tokens.VerifyAdmin(c.token); (err == nil) != c.withSecret {
			t.Errorf("with an admin secret, a token %s: %v", c.what, err)
		}
	}
	tokens := k.tokens()
	tokens.AdminSecret = adminSecret
	if _, err := tokens.Verify(authtest.Token(t, hs, adminSecret, nil, nil)); !errors.Is(err, room.ErrTokenInvalid) {
		t.Errorf("a user's token signed with the admin secret: %v", err)
	}
	checkSignAdmin(t, tokens)
}

// TestTokenLifetimes checks the limits of lifetimes, which count from iat, or from now without
// iat.
func TestTokenLifetimes(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	tokens := &Tokens{Secret: secret, Lifetime: time.Hour, AdminLifetime: 10 * time.Minute, Now: func() time.Time { return now }}
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
		if _, err := tokens.Verify(authtest.Token(t, jwt.SigningMethodHS256, secret, c.claims, nil)); !errors.Is(err, c.user) {
			t.Errorf("a user's token %s: %v", c.what, err)
		}
		admin := func(claims jwt.MapClaims) { c.claims(claims); claims["scope"] = "admin" }
		if _, _, err := tokens.VerifyAdmin(authtest.Token(t, jwt.SigningMethodHS256, secret, admin, nil)); !errors.Is(err, c.admin) {
			t.Errorf("an admin's token %s: %v", c.what, err)
		}
	}
}

// TestVoidAdminTokens checks that old admin tokens can be voided without changing the secret.
func TestVoidAdminTokens(t *testing.T) {
	t.Parallel()
	void := time.Now().Add(-time.Minute).Truncate(time.Second)
	tokens := &Tokens{Secret: secret, AdminsVoidBefore: void}
	for _, c := range []struct {
		what  string
		claim func(jwt.MapClaims)
		want  error
	}{
		{"issued before", set("iat", void.Unix()-1), room.ErrTokenVoid},
		{"without iat", func(jwt.MapClaims) {}, room.ErrTokenVoid},
		{"issued at the instant", set("iat", void.Unix()), nil},
	} {
		admin := func(claims jwt.MapClaims) { c.claim(claims); claims["scope"] = "admin" }
		if _, _, err := tokens.VerifyAdmin(authtest.Token(t, jwt.SigningMethodHS256, secret, admin, nil)); !errors.Is(err, c.want) {
			t.Errorf("a token %s: %v", c.what, err)
		}
	}
}

// alicesClaims are the encoded claims of a token of alice.
const alicesClaims = `{"sub":"alice","exp":4000000000}`

// signRaw returns a token with the given JSON as header and claims, valid or not.
func signRaw(header, claims string) string {
	return sign3(base64.RawURLEncoding.EncodeToString([]byte(header)), claims)
}

// sign3 returns a token of an encoded header and claims of any kind.
func sign3(header, claims string) string {
	text := header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	signature, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		panic(err) // the secret is of the right type
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// resigned returns a token whose header names another algorithm than the one it is signed with.
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

// pemOf returns a public key in PEM.
func pemOf(t testing.TB, key *rsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
