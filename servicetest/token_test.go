package servicetest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/auth/authtest"
)

// signed returns a token of alice with changed claims, as an application's backend signs it.
func (s *service) signed(change func(jwt.MapClaims)) string {
	s.Helper()
	return s.log.secret(authtest.Token(s, jwt.SigningMethodHS256, secret, change, nil))
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
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
		"a userID of 32 bytes":    s.signed(set("sub", strings.Repeat("x", 32))),
		"no grants":               s.signed(grants()),
		"grants with odd roomIDs": s.signed(grants(object{"roomID": "."}, object{"roomID": "ünknown"}, object{})),
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

// TestBadTokens has one token for each kind of rejection. The tests of package auth cover the rest.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	admin, err := s.tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, token, code string }{
		{"no JWT", "hello", "token_invalid"},
		{"another secret", authtest.Token(t, jwt.SigningMethodHS256, []byte("yet another secret of 32 bytes..."), nil, nil), "token_invalid"},
		{"the algorithm none", authtest.Token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil), "token_invalid"},
		{"a kid that is not known", authtest.Token(t, jwt.SigningMethodHS256, secret, nil, map[string]any{"kid": "2025"}), "token_invalid"},
		{"exp in the past", s.signed(set("exp", time.Now().Unix()-1)), "token_expired"},
		{"exp in milliseconds", s.signed(set("exp", time.Now().Add(time.Hour).UnixMilli())), "token_invalid"},
		{"a sub with NUL", s.signed(set("sub", "alice\x00")), "token_invalid"},
		{"a name with NUL", s.signed(set("name", "Al\x00ice")), "token_invalid"},
		{"a grant with NUL", s.signed(grants(object{"roomID": "a\x00b", "join": true})), "token_invalid"},
		{"a peer with NUL", s.signed(set("peers", []string{"a\x00b"})), "token_invalid"},
		{"rooms as null", s.signed(set("rooms", nil)), "token_invalid"},
		{"an admin's token", admin, "token_invalid"},
	} {
		for _, r := range []reply{
			s.anonymous().call("POST", "/v1/sessions", object{"token": c.token}),
			alice.call("PUT", "/v1/sessions/current/token", object{"token": c.token}),
		} {
			if p := as[problem](r); r.StatusCode != http.StatusUnauthorized || p.Code != c.code {
				t.Errorf("with %s: %s: got status %d: %s", c.what, r.call, r.StatusCode, r.body)
			}
		}
	}
	if !s.log.contains("token contains an invalid number of segments") {
		t.Error("the log does not contain the reason for rejecting a token")
	}
}
