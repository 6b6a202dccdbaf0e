package main

import (
	"fmt"
	"strings"
	"testing"

	"parlor/store/storetest"
)

// TestServersWithOtherSettings starts servers beside one whose settings differ.
func TestServersWithOtherSettings(t *testing.T) {
	t.Parallel()
	const (
		otherSecret = "another-secret-that-is-long-enough-1"
		jwks        = "PARLOR_JWKS_URL=http://127.0.0.1:9/keys"
	)
	oidc := []string{"PARLOR_TOKEN_AUDIENCE=parlor", "PARLOR_TOKEN_ISSUER=https://id.example.com"}
	env := append(sharedEnv(t, ownDatabase(t)), "PARLOR_ADMIN_SECRET=admin-secret-that-is-long-enough-abcd", "PARLOR_SECRETS=a=first-secret-that-is-long-enough-abc", "PARLOR_LOG_LEVEL=error")
	env = append(env, oidc...)
	startParlorWith(t, storetest.Folder(t), env)
	folder := storetest.Folder(t)
	for _, tt := range []struct {
		setting string // that the error names; empty if the server starts
		env     []string
	}{
		{"PARLOR_SECRET", []string{"PARLOR_SECRET=" + otherSecret}},
		{"PARLOR_ADMIN_SECRET", []string{"PARLOR_ADMIN_SECRET=" + otherSecret}},
		{"PARLOR_ADMIN_SECRET", []string{"PARLOR_ADMIN_SECRET="}},
		{"PARLOR_SECRETS (kid a)", []string{"PARLOR_SECRETS=a=" + otherSecret}},
		{"PARLOR_JWKS_URL", []string{jwks}},
		{"PARLOR_JWKS_ADMIN", []string{jwks, "PARLOR_JWKS_ADMIN=true"}},
		{"PARLOR_TOKEN_AUDIENCE", []string{"PARLOR_TOKEN_AUDIENCE=other"}},
		{"PARLOR_TOKEN_ISSUER", []string{"PARLOR_TOKEN_ISSUER=https://other.example.com"}},
		{"the place of the files (PARLOR_MEDIA_URL)", []string{"PARLOR_MEDIA_URL=file://" + folder}},
		{"the place of the files (PARLOR_MEDIA_URL)", []string{"PARLOR_MEDIA_URL="}},
		{"PARLOR_NATS_URL", []string{"PARLOR_NATS_URL=nats://" + natsUser + ":" + natsPassword + "@127.0.0.1:9"}},
		{"", []string{"PARLOR_SECRETS=b=" + otherSecret}},
		{"", []string{"PARLOR_ADMIN_TOKENS_VOID_BEFORE=2026-11-01T00:00:00Z"}},
	} {
		t.Run(fmt.Sprint(tt.setting, tt.env), func(t *testing.T) {
			t.Parallel()
			env := append(append([]string{}, env...), tt.env...)
			if tt.setting == "" {
				startParlorWith(t, storetest.Folder(t), env)
				return
			}
			got := parlor(t.Context(), t, env, "serve", "--data", storetest.Folder(t), "--listen", freeAddress(t), "--ops-listen", "")
			want := "parlor: " + tt.setting + " differs from that of server " + hostName() + " ("
			if got.code != exitUsage || strings.Count("\n"+got.err, "\nparlor: ") != 1 || strings.Contains(got.err, natsPassword) || !strings.Contains("\n"+got.err, "\n"+want) {
				t.Errorf("exit code %d, %s", got.code, got.err)
			}
		})
	}
}
