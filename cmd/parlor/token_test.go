package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenClaims is what a token says.
type tokenClaims struct {
	jwt.RegisteredClaims
	Name  string `json:"name"`
	Scope string `json:"scope"`
}

// verify parses a token as the server does.
func verify(t *testing.T, output string, secret Secret) tokenClaims {
	t.Helper()
	token, rest, _ := strings.Cut(output, "\n")
	if rest != "" {
		t.Errorf("more than a token: %q", output)
	}
	var claims tokenClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return []byte(secret), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		t.Fatalf("%q: %v", output, err)
	}
	return claims
}

func TestToken(t *testing.T) {
	t.Parallel()
	env := []string{"PARLOR_SECRET=" + string(goodSecret)}
	before := time.Now().Truncate(time.Second)

	got := parlor(t.Context(), t, env, "token", "--user", "alice", "--name", "Alice Ü", "--ttl", "90m")
	if got.code != exitOK || got.err != "" {
		t.Fatalf("exit code %d, errors %q", got.code, got.err)
	}
	claims := verify(t, got.out, goodSecret)
	if claims.Subject != "alice" || claims.Name != "Alice Ü" || claims.Scope != "" {
		t.Errorf("the claims are %+v", claims)
	}
	if claims.IssuedAt.Before(before) || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != 90*time.Minute {
		t.Errorf("issued at %s, good until %s", claims.IssuedAt, claims.ExpiresAt)
	}

	claims = verify(t, parlor(t.Context(), t, env, "token", "--admin").out, goodSecret)
	if claims.Subject != "" || claims.Scope != "admin" || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != time.Hour {
		t.Errorf("the admin's claims are %+v", claims)
	}
}

func TestTokenFromDataFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	got := parlor(t.Context(), t, []string{"PARLOR_DATA=" + folder}, "token", "--user", "alice")
	secret, err := os.ReadFile(filepath.Join(folder, secretName))
	if err != nil {
		t.Fatal(err)
	}
	if claims := verify(t, got.out, Secret(strings.TrimSpace(string(secret)))); claims.Subject != "alice" {
		t.Errorf("the claims are %+v", claims)
	}
}

func TestTokenFaults(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--user", ""},
		{"--user", "alice smith"},
		{"--user", strings.Repeat("a", 33)},
		{"--user", "alice", "--name", strings.Repeat("n", 257)},
		{"--user", "alice", "--ttl", "0s"},
		{"--user", "alice", "--secret", "short"},
	} {
		if got := parlor(t.Context(), t, nil, append([]string{"token"}, args...)...); got.code != exitUsage || got.out != "" {
			t.Errorf("%q: exit code %d, output %q", args, got.code, got.out)
		}
	}
}
