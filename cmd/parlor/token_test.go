package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/auth"
	"parlor/room"
	"parlor/store/storetest"
)

// tokenClaims are the claims of a token.
type tokenClaims struct {
	jwt.RegisteredClaims
	Name  string `json:"name"`
	Scope string `json:"scope"`
}

// verify parses a token as the server does.
func verify(t *testing.T, output string, secret auth.Secret) tokenClaims {
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
		t.Errorf("issued at %s, expires at %s", claims.IssuedAt, claims.ExpiresAt)
	}

	claims = verify(t, parlor(t.Context(), t, env, "token", "--admin").out, goodSecret)
	if claims.Subject != "" || claims.Scope != "admin" || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != time.Hour {
		t.Errorf("the admin's claims are %+v", claims)
	}
}

// TestTokenGrants checks what the server reads from the tokens that parlor token prints with
// grants.
func TestTokenGrants(t *testing.T) {
	t.Parallel()
	env := []string{"PARLOR_SECRET=" + string(goodSecret)}
	tokens := &auth.Tokens{Secret: []byte(goodSecret)}
	for _, c := range []struct {
		args []string
		want *room.Grants
	}{
		{nil, nil},
		{[]string{"--media"}, &room.Grants{Media: true}},
		{[]string{"--peer", "support-*", "--peer", "*"}, &room.Grants{Peers: []room.UserID{"support-*", "*"}}},
		{[]string{"--grant", "join,send:class:1", "--grant", "create, kick ,attributes,settings:class-*", "--grant", "join:*"}, &room.Grants{Rooms: []room.Grant{
			{RoomID: "class:1", Join: true, Send: true}, {RoomID: "class-*", Create: true, Kick: true, Attributes: true, Settings: true}, {RoomID: "*", Join: true},
		}}},
	} {
		args := append([]string{"token", "--user", "guest"}, c.args...)
		got := parlor(t.Context(), t, env, args...)
		claims, err := tokens.Verify(strings.TrimSpace(got.out))
		if diff := cmp.Diff(c.want, claims.Grants); err != nil || diff != "" {
			t.Errorf("%q: %v, grants (-want +got):\n%s%s", args, err, diff, got.err)
		}
		printed := parlor(t.Context(), t, env, append(args, "--print", "claims")...)
		var plain struct {
			Sub   string
			Rooms []room.Grant
			Peers []room.UserID
			Media bool
		}
		if err := json.Unmarshal([]byte(printed.out), &plain); err != nil || plain.Sub != "guest" {
			t.Errorf("%q prints the claims %s%s: %v", args, printed.out, printed.err, err)
		}
		if c.want != nil {
			if diff := cmp.Diff(*c.want, room.Grants{Rooms: plain.Rooms, Peers: plain.Peers, Media: plain.Media}); diff != "" {
				t.Errorf("%q, printed claims (-want +got):\n%s", args, diff)
			}
		}
	}
}

// TestTokenIsAcceptedByTheServer checks that a token is not printed if the server would refuse it.
func TestTokenIsAcceptedByTheServer(t *testing.T) {
	t.Parallel()
	args := []string{"token", "--user", "alice"}
	for i := range 400 {
		args = append(args, "--grant", fmt.Sprintf("join:class-%d", i))
	}
	got := parlor(t.Context(), t, []string{"PARLOR_SECRET=" + string(goodSecret)}, args...)
	if got.code != exitError || got.out != "" || !strings.Contains(got.err, "at most 8192 are allowed") {
		t.Errorf("with 400 grants: exit code %d, %d bytes of output, errors %q", got.code, len(got.out), got.err)
	}
}

// TestTokenHelp checks that the help text has examples that work.
func TestTokenHelp(t *testing.T) {
	t.Parallel()
	env := []string{"PARLOR_SECRET=" + string(goodSecret)}
	examples := 0
	for line := range strings.Lines((&TokenCmd{}).Help()) {
		args := strings.Fields(line)
		if len(args) < 2 || args[0] != "parlor" {
			continue
		}
		examples++
		if got := parlor(t.Context(), t, env, args[1:]...); got.code != exitOK {
			t.Errorf("%s: exit code %d, errors %q", line, got.code, got.err)
		}
	}
	if help := parlor(t.Context(), t, nil, "token", "--help").out; examples < 4 || !strings.Contains(help, "--grant join,send:class-*") {
		t.Errorf("%d examples in the help text:\n%s", examples, help)
	}
}

func TestTokenFromDataFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	got := parlor(t.Context(), t, []string{"PARLOR_DATA=" + folder}, "token", "--user", "alice")
	secret, err := os.ReadFile(filepath.Join(folder, auth.UserSecretFile))
	if err != nil {
		t.Fatal(err)
	}
	if claims := verify(t, got.out, auth.Secret(strings.TrimSpace(string(secret)))); claims.Subject != "alice" {
		t.Errorf("the claims are %+v", claims)
	}
}

func TestTokenFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--user", ""}, "set --user ID or --admin"},
		{[]string{"--user", "alice "}, `--user: "alice " is not a user ID: it must not begin or end with a space`},
		{[]string{"--user", strings.Repeat("a", 65)}, "it must be at most 64 bytes"},
		{[]string{"--user", "alice", "--name", strings.Repeat("n", 257)}, "--name: "},
		{[]string{"--user", "alice", "--ttl", "0s"}, "--ttl: "},
		{[]string{"--user", "alice", "--secret", "short"}, "PARLOR_SECRET: "},
		{[]string{"--user", "alice", "--grant", "lobby"}, "--grant: "},
		{[]string{"--user", "alice", "--grant", "join:"}, "--grant: "},
		{[]string{"--user", "alice", "--grant", ":lobby"}, "--grant: "},
		{[]string{"--user", "alice", "--grant", "jion:lobby"}, "--grant: "},
		{[]string{"--user", "alice", "--grant", "join:lobby "}, "--grant: "},
		{[]string{"--user", "alice", "--peer", "é*"}, "--peer: "},
		{[]string{"--user", "alice", "--print", "all"}, "--print"},
		{[]string{"--admin", "--grant", "join:lobby"}, "--admin: "},
	} {
		got := parlor(t.Context(), t, nil, append([]string{"token"}, c.args...)...)
		if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, c.want) {
			t.Errorf("%q: exit code %d, output %q, error %q", c.args, got.code, got.out, got.err)
		}
	}
}

// TestTokenFollowsServerSettings checks that parlor token, with the settings of a server in its
// environment, prints tokens that the server accepts, or fails.
func TestTokenFollowsServerSettings(t *testing.T) {
	t.Parallel()
	adminSecret := auth.Secret("the admins' secret has 32 bytes, too")
	env := []string{
		"PARLOR_SECRET=" + string(goodSecret), "PARLOR_ADMIN_SECRET=" + string(adminSecret),
		"PARLOR_TOKEN_AUDIENCE=parlor", "PARLOR_TOKEN_ISSUER=https://id.example.com", "PARLOR_ADMIN_TOKEN_LIFETIME=10m",
	}
	user := verify(t, parlor(t.Context(), t, env, "token", "--user", "alice").out, goodSecret)
	admin := verify(t, parlor(t.Context(), t, env, "token", "--admin", "--ttl", "10m").out, adminSecret)
	for _, claims := range []tokenClaims{user, admin} {
		if claims.Issuer != "https://id.example.com" || len(claims.Audience) != 1 || claims.Audience[0] != "parlor" {
			t.Errorf("the claims are %+v", claims)
		}
	}
	got := parlor(t.Context(), t, env, "token", "--admin", "--ttl", "11m")
	if got.code != exitUsage || !strings.Contains(got.err, "--ttl: 11m0s is longer than the 10m0s that the server accepts") {
		t.Errorf("a token that lasts too long: exit code %d, %s", got.code, got.err)
	}
}

// TestSecretsAreSeparate checks that a server with its own data folder accepts what parlor token
// --admin prints, and no admin token that is signed with the users' secret.
func TestSecretsAreSeparate(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t))
	userSecret, err := os.ReadFile(filepath.Join(p.data, auth.UserSecretFile))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PARLOR_DATA=" + p.data}
	printed := strings.TrimSpace(parlor(t.Context(), t, env, "token", "--admin").out)
	forged := strings.TrimSpace(parlor(t.Context(), t, []string{"PARLOR_SECRET=" + strings.TrimSpace(string(userSecret))}, "token", "--admin").out)
	for token, want := range map[string]int{printed: http.StatusOK, forged: http.StatusUnauthorized} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/admin/rooms", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		if reply.StatusCode != want {
			t.Errorf("status %d, want %d", reply.StatusCode, want)
		}
	}
}
