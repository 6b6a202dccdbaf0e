package servicetest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	contract "parlor"
	"parlor/auth"
	"parlor/auth/authtest"
	"parlor/room"
)

// signed returns a token of alice with changed claims, as an application's backend signs it.
func (s *service) signed(change func(jwt.MapClaims)) string {
	s.Helper()
	return s.log.secret(authtest.Token(s, jwt.SigningMethodHS256, secret, change, nil))
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

// TestSessionsExpireByTheDatabasesClock: a server whose clock is ahead does not reject sessions
// early, so that all servers agree.
func TestSessionsExpireByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	database := func() time.Time { return time.Now().Add(-time.Minute) }
	s := newService(t, func(c *setup) {
		c.store.Now, c.api.Tokens.Now = database, database
	})
	alice := s.loginWith(s.signed(set("exp", time.Now().Add(-10*time.Second).Unix())))
	if got := alice.state(); got != "detached" {
		t.Errorf("the session is %s", got)
	}
	alice.enter("lobby")
	alice.listen()
}

// TestGoodTokensOpenSessions covers what the database stores of a token, up to the limits of each
// claim.
func TestGoodTokensOpenSessions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for what, token := range map[string]string{
		"the secret":              s.signed(nil),
		"iat, nbf and others":     s.signed(func(c jwt.MapClaims) { c["iat"], c["nbf"], c["aud"] = 1, 1, "any" }),
		"clocks a little ahead":   s.signed(func(c jwt.MapClaims) { c["iat"], c["nbf"] = time.Now().Unix()+30, time.Now().Unix()+30 }),
		"exp with a fraction":     s.signed(set("exp", float64(time.Now().Unix())+90.5)),
		"exp in the year 9999":    s.signed(set("exp", 253_402_300_799)),
		"a name of 256 bytes":     s.signed(set("name", strings.Repeat("é", 128))),
		"a userID of 64 bytes":    s.signed(set("sub", strings.Repeat("x", 64))),
		"no grants":               s.signed(grants()),
		"grants with odd roomIDs": s.signed(grants(object{"roomID": "."}, object{"roomID": "ünknown", "more": 1})),
	} {
		r := s.anonymous().call("POST", "/v1/sessions", object{"token": token})
		if r.StatusCode != http.StatusCreated {
			t.Errorf("with %s: got status %d: %s", what, r.StatusCode, r.body)
			continue
		}
		c := s.anonymous().withKey(as[session](r).SessionKey)
		c.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
		c.call("PUT", "/v1/sessions/current/token", object{"token": token}).is(http.StatusOK)
	}
}

// strictKeys are the keys of strictService.
type strictKeys struct {
	named, admin []byte
	first, other ed25519.PrivateKey // of the JWK set, with the kids first and other
}

// strictService returns a service with every setting for tokens.
func strictService(t *testing.T) (*service, strictKeys) {
	t.Helper()
	k := strictKeys{named: []byte("another secret of thirty-two bytes"), admin: []byte("the admins' secret of 32 bytes....")}
	var set []object
	publish := func(kid string) ed25519.PrivateKey {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, object{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(public)})
		return private
	}
	k.first, k.other = publish("first"), publish("other")
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(object{"keys": set}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(issuer.Close)
	s := newService(t, func(c *setup) {
		tokens := c.api.Tokens
		tokens.Secrets, tokens.AdminSecret = map[string][]byte{"2026": k.named, "weak": []byte("only 13 bytes")}, k.admin
		tokens.PublicKeys = auth.NewKeySet(t.Context(), issuer.URL, c.api.Log, nil).Find
		tokens.Audience, tokens.Issuer = "parlor", "https://id.example.com"
		tokens.Lifetime, tokens.AdminLifetime = time.Hour, time.Hour
		tokens.AdminsVoidBefore = time.Now().Add(-30 * time.Minute)
	})
	for _, key := range [][]byte{secret, k.named, k.admin, []byte("only 13 bytes")} {
		s.log.secret(string(key))
	}
	return s, k
}

// TestEveryRuleOfTokens has a token for each rule that a token can break, and the words of the
// reply that name the rule.
func TestEveryRuleOfTokens(t *testing.T) {
	t.Parallel()
	s, k := strictService(t)
	hs, ed := jwt.SigningMethodHS256, jwt.SigningMethodEdDSA
	now := time.Now().Unix()
	valid := func(c jwt.MapClaims) {
		c["aud"], c["iss"], c["iat"], c["exp"] = "parlor", "https://id.example.com", now, now+1800
	}
	but := func(changes ...func(jwt.MapClaims)) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			valid(c)
			for _, change := range changes {
				change(c)
			}
		}
	}
	lacking := func(name string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, name) } }
	claim := func(name string, value any) string { return authtest.Token(t, hs, secret, but(set(name, value)), nil) }
	head := func(name string, value any) string {
		return authtest.Token(t, hs, secret, valid, object{name: value})
	}
	good := authtest.Token(t, hs, secret, valid, nil)
	parts := strings.Split(good, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	// raw signs a header and claims of any text.
	raw := func(header, claims string) string {
		text := encode(header) + "." + encode(claims)
		signature, err := hs.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	asAdmin := set("scope", "admin")
	admin := authtest.Token(t, hs, k.admin, but(asAdmin), nil)
	opened := s.loginWith(good)
	s.anonymous().withKey(admin).call("GET", "/v1/admin/rooms", nil).is(http.StatusOK)

	var details []string
	// The rules that hold for both kinds of tokens are tried with a user's token.
	for _, c := range []struct{ what, token, code, detail string }{
		{"no JWT", "hello", "token_invalid", "not a JWT, which has three parts"},
		{"four parts", good + ".x", "token_invalid", "not a JWT, which has three parts"},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "=", "token_invalid", "The signature of the token cannot be decoded: encode it as base64url without padding"},
		{"base64 in the header", "e+/=." + parts[1] + "." + parts[2], "token_invalid", "The header of the token cannot be decoded"},
		{"base64 in the claims", parts[0] + ".e+/." + parts[2], "token_invalid", "The claims of the token cannot be decoded"},

		{"a header that is not JSON", raw("alg", "{}"), "token_invalid", "no valid JSON in UTF-8 in the header"},
		{"a header that is no object", raw("[]", "{}"), "token_invalid", "no JSON object in the header"},
		{"a name twice in the header", raw(`{"alg":"none","alg":"HS256"}`, "{}"), "token_invalid", "A name appears twice in the header"},
		{"a kid that is a number", head("kid", 7), "token_invalid", "kid in the header of the token has the wrong type: it must be a string"},
		{"a kid that is empty", head("kid", ""), "token_invalid", "kid in the header of the token is empty"},
		{"crit", head("crit", []string{"b64"}), "token_invalid", "crit in the header"},
		{"the typ of a logout", head("typ", "logout+jwt"), "token_invalid", `typ in the header of the token is "logout+jwt": it must be JWT or at+jwt`},

		{"no algorithm", raw(`{}`, "{}"), "token_invalid", "alg, is missing: the server accepts HS256, RS256, EdDSA"},
		{"the algorithm none", authtest.Token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, valid, nil), "token_invalid", `alg, is "none"`},
		{"HS512", authtest.Token(t, jwt.SigningMethodHS512, secret, valid, nil), "token_invalid", `alg, is "HS512"`},
		{"a kid of no secret", head("kid", "2025"), "token_invalid", `No secret of the server has the kid "2025": name one of PARLOR_SECRETS, or leave kid out`},
		{"a kid of no public key", authtest.Token(t, ed, k.first, valid, object{"kid": "last"}), "token_invalid", `no key for EdDSA with the kid "last": publish the key`},
		{"no public key for the algorithm", raw(`{"alg":"RS256"}`, "{}"), "token_invalid", "no key for RS256"},
		{"no kid, and several public keys", authtest.Token(t, ed, k.first, valid, nil), "token_invalid", "has no kid, and the server's JWK set has several keys for EdDSA"},
		{"a secret that is too short", authtest.Token(t, hs, []byte("only 13 bytes"), valid, object{"kid": "weak"}), "token_invalid", "use a secret of at least 32 bytes"},
		{"another secret", authtest.Token(t, hs, []byte("yet another secret of 32 bytes..."), valid, nil), "token_invalid", "signature of the token is wrong: sign with the server's secret, byte for byte"},
		{"another public key", authtest.Token(t, ed, k.first, valid, object{"kid": "other"}), "token_invalid", "signature of the token is wrong: sign with the private key"},
		{"no signature", parts[0] + "." + parts[1] + ".", "token_invalid", "signature of the token is wrong"},
		{"another claim", parts[0] + "." + encode(`{"sub":"bob"}`) + "." + parts[2], "token_invalid", "signature of the token is wrong"},

		{"claims that are not JSON", raw(`{"alg":"HS256"}`, "sub=alice"), "token_invalid", "no valid JSON in UTF-8 in the claims"},
		{"claims that are no object", raw(`{"alg":"HS256"}`, `"alice"`), "token_invalid", "no JSON object in the claims"},
		{"claims that are not UTF-8", raw(`{"alg":"HS256"}`, "{\"sub\":\"\xff\"}"), "token_invalid", "no valid JSON in UTF-8 in the claims"},
		{"a claim twice", raw(`{"alg":"HS256"}`, `{"sub":"bob","sub":"alice"}`), "token_invalid", "A name appears twice in the claims"},

		{"no exp", authtest.Token(t, hs, secret, but(lacking("exp")), nil), "token_invalid", "exp is missing in the claims"},
		{"exp in milliseconds", claim("exp", now*1000), "token_invalid", "exp in the claims of the token is out of range: it must be in seconds since 1970, not in milliseconds"},
		{"exp as a text", claim("exp", "tomorrow"), "token_invalid", "exp in the claims of the token is not a number"},
		{"exp in quotes", claim("exp", fmt.Sprint(now+60)), "token_invalid", "exp in the claims of the token is not a number: it must be in seconds since 1970, without quotes"},
		{"exp that has passed", authtest.Token(t, hs, secret, but(set("exp", now-300)), nil), "token_expired", "The token expired at " + room.InstantOf(time.Unix(now-300, 0)).String() + " (exp), which was 5 minutes ago by the server's clock: get a new one"},
		{"exp that is long past", claim("exp", 0), "token_expired", "(exp), which was 2"},
		{"nbf in the future", claim("nbf", now+7199), "token_invalid", "(nbf), by the server's clock in 119 minutes: correct the clock"},
		{"nbf as true", claim("nbf", true), "token_invalid", "nbf in the claims of the token is not a number"},
		{"iat in the future", claim("iat", now+7199), "token_invalid", "(iat), which is 119 minutes after the server's time: correct the clock"},
		{"a long lifetime", claim("exp", now+3601), "token_invalid", "exp in the claims of the token is more than 1h0m0s after iat"},
		{"a long lifetime, without iat", authtest.Token(t, hs, secret, but(lacking("iat"), set("exp", now+4000)), nil), "token_invalid", "or after now without iat"},
		{"another issuer", claim("iss", "https://example.org"), "token_invalid", `iss in the claims of the token is "https://example.org": it must be "https://id.example.com"`},
		{"no issuer", authtest.Token(t, hs, secret, but(lacking("iss")), nil), "token_invalid", "iss in the claims of the token is missing: it must be"},
		{"iss as a number", claim("iss", 1), "token_invalid", "iss in the claims of the token has the wrong type: it must be a string"},
		{"another audience", claim("aud", []string{"mail", "feed"}), "token_invalid", `aud in the claims of the token is "mail, feed": it must contain "parlor"`},
		{"no audience", authtest.Token(t, hs, secret, but(lacking("aud")), nil), "token_invalid", "aud in the claims of the token is missing: it must contain"},
		{"aud as a number", claim("aud", 1), "token_invalid", "aud in the claims of the token has the wrong type: it must be a list"},
		{"a number in aud", claim("aud", []any{"parlor", 1}), "token_invalid", "aud[1] in the claims of the token has the wrong type: it must be a string"},

		{"no sub", authtest.Token(t, hs, secret, but(lacking("sub")), nil), "token_invalid", "sub in the claims of the token is missing or empty: it must be the userID"},
		{"an empty sub", claim("sub", ""), "token_invalid", "sub in the claims of the token is missing or empty"},
		{"a number as sub", claim("sub", 7), "token_invalid", "sub in the claims of the token has the wrong type: it must be a string"},
		{"a long sub", claim("sub", strings.Repeat("x", room.MaxUserIDBytes+1)), "token_invalid", "sub in the claims of the token is not a userID: it must be at most 64 bytes."},
		{"a space at the end of sub", claim("sub", "alice "), "token_invalid", "sub in the claims of the token is not a userID: it must not begin or end with a space."},
		{"NUL in sub", claim("sub", "alice\x00"), "token_invalid", "sub in the claims of the token is not a userID: it must not contain U+0000"},
		{"the sub ..", claim("sub", ".."), "token_invalid", "sub in the claims of the token is not a userID: it must not be or contain the path segment"},
		{"a long name", claim("name", strings.Repeat("x", 257)), "token_invalid", "name in the claims of the token"},
		{"NUL in the name", claim("name", "Al\x00ice"), "token_invalid", "name in the claims of the token"},
		{"a number as name", claim("name", 7), "token_invalid", "name in the claims of the token has the wrong type: it must be a string"},

		{"rooms as a text", claim("rooms", "lobby"), "token_invalid", "rooms in the claims of the token has the wrong type: it must be a list"},
		{"rooms as null", claim("rooms", nil), "token_invalid", "rooms in the claims of the token is null: leave it out, or write []"},
		{"a text in rooms", claim("rooms", []string{"lobby"}), "token_invalid", "rooms[0] in the claims of the token has the wrong type: it must be an object"},
		{"join as a text", claim("rooms", []object{{"roomID": "a"}, {"roomID": "b", "join": "yes"}}), "token_invalid", "rooms[1].join in the claims of the token has the wrong type: it must be true or false"},
		{"a roomID as a number", claim("rooms", []object{{"roomID": 1}}), "token_invalid", "rooms[0].roomID in the claims of the token has the wrong type: it must be a string"},
		{"a grant without roomID", claim("rooms", []object{{"room": "a", "join": true}}), "token_invalid", "rooms[0].roomID in the claims of the token is missing or empty"},
		{"NUL in a grant", claim("rooms", []object{{"roomID": "a\x00b"}}), "token_invalid", "rooms[0].roomID in the claims of the token contains a NUL character"},
		{"peers as true", claim("peers", true), "token_invalid", "peers in the claims of the token has the wrong type: it must be a list"},
		{"peers as null", claim("peers", nil), "token_invalid", "peers in the claims of the token is null"},
		{"a number in peers", claim("peers", []any{"a", 1}), "token_invalid", "peers[1] in the claims of the token has the wrong type: it must be a string"},
		{"an empty peer", claim("peers", []string{""}), "token_invalid", "peers[0] in the claims of the token is missing or empty"},
		{"NUL in a peer", claim("peers", []string{"a\x00b"}), "token_invalid", "peers[0] in the claims of the token contains a NUL character"},
		{"media as a text", claim("media", "yes"), "token_invalid", "media in the claims of the token has the wrong type: it must be true or false"},
		{"media as null", claim("media", nil), "token_invalid", "media in the claims of the token has the wrong type: it must be true or false"},

		{"an admin token", admin, "token_invalid", "is signed with the key of admin tokens, which signs no user tokens"},
		{"the scope admin", claim("scope", "admin"), "token_invalid", "is an admin token, which cannot start a session"},
		{"another scope", claim("scope", "user"), "token_invalid", `scope in the claims of the token is "user", which cannot start a session: leave scope out`},
		{"a list of scopes", claim("scope", []string{"admin"}), "token_invalid", "scope in the claims of the token has the wrong type: it must be a string"},
	} {
		for _, r := range []reply{
			s.anonymous().call("POST", "/v1/sessions", object{"token": c.token}),
			opened.call("PUT", "/v1/sessions/current/token", object{"token": c.token}),
		} {
			details = append(details, s.refusedToken(r, c.what, c.token, http.StatusUnauthorized, c.code, c.detail))
		}
	}
	s.anonymous().call("POST", "/v1/sessions", object{"token": good + strings.Repeat("x", 8192)}).refused(http.StatusBadRequest, "invalid_request")
	opened.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)

	for _, c := range []struct {
		what, token string
		status      int
		code        string
		detail      string
	}{
		{"a user's token", good, http.StatusUnauthorized, "token_invalid", "is signed with a key of user tokens, which signs no admin tokens: sign it with PARLOR_ADMIN_SECRET"},
		{"a user's token of a public key", authtest.Token(t, ed, k.first, valid, object{"kid": "first"}), http.StatusUnauthorized, "token_invalid", "is signed with a key of user tokens"},
		{"the scope admin by the secret of users", claim("scope", "admin"), http.StatusUnauthorized, "token_invalid", "is signed with a key of user tokens"},
		{"a public key that signed nothing", authtest.Token(t, ed, k.first, but(asAdmin), object{"kid": "other"}), http.StatusUnauthorized, "token_invalid", "Public keys sign no admin tokens on this server"},
		{"a kid", authtest.Token(t, hs, k.admin, but(asAdmin), object{"kid": "2026"}), http.StatusUnauthorized, "token_invalid", "The server's admin secret has no kid"},
		{"another secret", authtest.Token(t, hs, []byte("yet another secret of 32 bytes..."), but(asAdmin), nil), http.StatusUnauthorized, "token_invalid", "signature of the token is wrong"},
		{"a session key", opened.SessionKey, http.StatusUnauthorized, "token_invalid", "is not a JWT"},
		{"no scope", authtest.Token(t, hs, k.admin, valid, nil), http.StatusForbidden, "not_admin", "use one with the scope admin"},
		{"a long token", admin + strings.Repeat("x", 8192), http.StatusUnauthorized, "token_invalid", "and at most 8192 are allowed"},
		{"exp that has passed", authtest.Token(t, hs, k.admin, but(asAdmin, set("exp", now-300)), nil), http.StatusUnauthorized, "token_expired", "which was 5 minutes ago"},
		{"iat before all tokens were voided", authtest.Token(t, hs, k.admin, but(asAdmin, set("iat", now-3000), set("exp", now+300)), nil), http.StatusUnauthorized, "token_void", "declared void"},
	} {
		r := s.anonymous().withKey(c.token).call("GET", "/v1/admin/rooms", nil)
		details = append(details, s.refusedToken(r, c.what, c.token, c.status, c.code, c.detail))
	}
	checkTokenGuide(t, details)
}

// checkTokenGuide compares the table of refusals in docs/tokens.md with the details of refusals:
// each row is about at least one of them, and each of them has a row.
func checkTokenGuide(t *testing.T, details []string) {
	t.Helper()
	_, table, _ := bytes.Cut(contract.TokenGuide, []byte("\n## If a token is refused\n"))
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\|$").FindAllSubmatch(table, -1)
	about := func(row [][]byte, detail string) bool { return strings.Contains(detail, string(row[1])) }
	for _, detail := range details {
		if !slices.ContainsFunc(rows, func(row [][]byte) bool { return about(row, detail) }) {
			t.Errorf("docs/tokens.md has no row about %s", detail)
		}
	}
	for _, row := range rows {
		if !slices.ContainsFunc(details, func(detail string) bool { return about(row, detail) }) {
			t.Errorf("docs/tokens.md has a row about no refusal: %s", row[0])
		}
	}
}

// refusedToken checks that a reply refuses a token and names the rule, in a sentence that says what
// to do and contains no part of the token. It returns that sentence.
func (s *service) refusedToken(r reply, what, token string, status int, code, detail string) string {
	s.Helper()
	p := as[problem](r)
	if r.StatusCode != status || p.Code != code || !strings.Contains(p.Detail, detail) {
		s.Errorf("with %s: %s: got status %d, want %d %s %q: %s", what, r.call, r.StatusCode, status, code, detail, r.body)
	}
	if !strings.HasSuffix(p.Detail, ".") || !strings.Contains(p.Detail, ": ") || len(p.Detail) > 300 {
		s.Errorf("with %s: the detail is no sentence that says what to do: %s", what, p.Detail)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 8 && strings.Contains(p.Detail, part) {
			s.Errorf("with %s: the detail contains the token: %s", what, p.Detail)
		}
	}
	for _, key := range s.log.secrets {
		if strings.Contains(p.Detail, key) {
			s.Errorf("with %s: the detail contains a secret: %s", what, p.Detail)
		}
	}
	return p.Detail
}

// TestClocksOfBackends checks that tokens of backends whose clocks are up to a minute ahead or
// behind open sessions, and that a session of a token that has just expired lasts as long as such a
// token is accepted.
func TestClocksOfBackends(t *testing.T) {
	t.Parallel()
	s := newService(t)
	now := time.Now().Truncate(time.Second)
	for _, c := range []struct {
		what     string
		iat, nbf time.Duration
		exp      time.Duration
		until    time.Duration // tokenExpiresAt
	}{
		{"ahead", 5 * time.Second, 5 * time.Second, time.Hour, time.Hour},
		{"far ahead", 59 * time.Second, 59 * time.Second, time.Hour, time.Hour},
		{"behind", -time.Hour, -time.Hour, -5 * time.Second, 55 * time.Second},
		{"far behind", -time.Hour, -time.Hour, -45 * time.Second, 15 * time.Second},
	} {
		token := s.signed(func(claims jwt.MapClaims) {
			claims["iat"], claims["nbf"], claims["exp"] = now.Add(c.iat).Unix(), now.Add(c.nbf).Unix(), now.Add(c.exp).Unix()
		})
		alice := s.loginWith(token)
		if want := now.Add(c.until); !alice.TokenExpiresAt.Equal(want) {
			t.Errorf("with a clock that is %s, the session lasts until %s, want %s", c.what, alice.TokenExpiresAt, want)
		}
		alice.listen()
		alice.enter("lobby")
		alice.call("PUT", "/v1/sessions/current/token", object{"token": token}).is(http.StatusOK)
		alice.logout()
	}
}
