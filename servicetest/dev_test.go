package servicetest

import (
	"net/http"
	"testing"
	"time"
)

func TestDevelopmentToken(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for name, body := range map[string]object{
		"alice": {"userID": "alice"}, "Alice": {"userID": "alice", "userName": "Alice"},
	} {
		token := as[struct{ Token string }](s.anonymous().call("POST", "/dev/token", body).is(http.StatusCreated)).Token
		c := s.loginWith(s.log.secret(token))
		if c.UserID != "alice" || c.UserName != name {
			t.Errorf("%v created a session of %s, %s", body, c.UserID, c.UserName)
		}
		if left := time.Until(c.TokenExpiresAt); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the token expires after %s", left)
		}
	}
}

// TestDevelopmentTokenChecksHost checks that the Host header must be loopback. A hostile page can
// make its own host name resolve to loopback (DNS rebinding), but not change the name.
func TestDevelopmentTokenChecksHost(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ask := func(host string) reply {
		t.Helper()
		return s.anonymous().call("POST", "/dev/token", object{"userID": "alice"}, func(r *http.Request) { r.Host = host })
	}
	for _, host := range []string{"localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:80", "127.1.2.3", "[::1]", "[::1]:8080"} {
		if r := ask(host); r.StatusCode != http.StatusCreated {
			t.Errorf("host %s: got status %d: %s", host, r.StatusCode, r.body)
		}
	}
	for _, host := range []string{
		"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.1", "10.0.0.1:8080", "0.0.0.0", "[::]",
		"[fe80::1]", "[::1]x", "localhost@evil.example",
	} {
		if r := ask(host); r.StatusCode != http.StatusForbidden {
			t.Errorf("host %s: got status %d: %s", host, r.StatusCode, r.body)
		}
	}
	ask("evil.example").refused(http.StatusForbidden, "forbidden_host")
}

// TestNoDevelopmentTokenThroughAProxy checks that no development tokens are issued behind a proxy,
// where a request for localhost can come from anywhere.
func TestNoDevelopmentTokenThroughAProxy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, header := range []string{
		"Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Client-Cert",
	} {
		s.anonymous().call("POST", "/dev/token", object{"userID": "ceo"}, func(r *http.Request) {
			r.Host = "localhost"
			r.Header.Set(header, "")
		}).refused(http.StatusForbidden, "forbidden_proxy")
	}
}

func TestNoDevelopmentTokensInProduction(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Development = false })
	s.anonymous().call("POST", "/dev/token", object{"userID": "alice"}).refused(http.StatusNotFound, "not_found")
	s.login("alice").enter("lobby")
}
