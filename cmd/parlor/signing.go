package main

import (
	"errors"
	"fmt"
	"time"

	"parlor/auth"
)

// Signing is the settings of tokens that the server and the commands that sign for it share.
type Signing struct {
	Secret             auth.Secret   `env:"PARLOR_SECRET" placeholder:"SECRET" help:"Key of HS256 tokens, 32 bytes or more. Needed with DATABASE_URL; else the file secret in the data folder, made at the first start."`
	AdminSecret        auth.Secret   `env:"PARLOR_ADMIN_SECRET" placeholder:"SECRET" help:"Key of admin tokens (HS256), 32 bytes or more; the keys of user tokens then sign none. Empty: PARLOR_SECRET where that is set, which lets whoever signs users sign admins; else the file admin-secret in the data folder."`
	TokenAudience      string        `env:"PARLOR_TOKEN_AUDIENCE" placeholder:"AUDIENCE" help:"What the claim aud of every token must name, admin tokens too. Needed with PARLOR_JWKS_URL. Empty: not looked at."`
	TokenIssuer        string        `env:"PARLOR_TOKEN_ISSUER" placeholder:"ISSUER" help:"What the claim iss of every token must be, admin tokens too. Needed with PARLOR_JWKS_URL. Empty: not looked at."`
	TokenLifetime      time.Duration `env:"PARLOR_TOKEN_LIFETIME" default:"0s" help:"Longest time from iat to exp of a user token, or from now where it has no iat. 1m to 87600h; 0s means any."`
	AdminTokenLifetime time.Duration `env:"PARLOR_ADMIN_TOKEN_LIFETIME" default:"24h" help:"The same for admin tokens. 1m to 87600h; 0s means any."`
}

// check tells of each fault.
func (s *Signing) check(fault func(setting, format string, args ...any)) {
	if s.Secret != "" && len(s.Secret) < auth.MinSecretBytes {
		fault("PARLOR_SECRET", "has %d bytes, fewer than %d", len(s.Secret), auth.MinSecretBytes)
	}
	switch {
	case s.AdminSecret == "":
	case len(s.AdminSecret) < auth.MinSecretBytes:
		fault("PARLOR_ADMIN_SECRET", "has %d bytes, fewer than %d", len(s.AdminSecret), auth.MinSecretBytes)
	case s.AdminSecret == s.Secret:
		fault("PARLOR_ADMIN_SECRET", "is the same as PARLOR_SECRET: whoever signs users would sign admins")
	}
	if s.TokenLifetime != 0 && (s.TokenLifetime < minTokenLifetime || s.TokenLifetime > maxTokenLifetime) {
		fault("PARLOR_TOKEN_LIFETIME", "%s is neither 0s nor %s to %s", s.TokenLifetime, minTokenLifetime, maxTokenLifetime)
	}
	if s.AdminTokenLifetime != 0 && (s.AdminTokenLifetime < minTokenLifetime || s.AdminTokenLifetime > maxTokenLifetime) {
		fault("PARLOR_ADMIN_TOKEN_LIFETIME", "%s is neither 0s nor %s to %s", s.AdminTokenLifetime, minTokenLifetime, maxTokenLifetime)
	}
}

// tokens returns what signs tokens, and verifies those that it signed. Secrets that are not set come from the data folder,
// where they are made if they are not there.
func (s *Signing) tokens(folder string) (*auth.Tokens, error) {
	secret, adminSecret := s.Secret, s.AdminSecret
	var errs [2]error
	if secret == "" {
		secret, errs[0] = auth.FolderSecret(folder, auth.UserSecretFile)
		if adminSecret == "" {
			adminSecret, errs[1] = auth.FolderSecret(folder, auth.AdminSecretFile)
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if adminSecret == secret {
		return nil, fmt.Errorf("the secrets of users and of admins are the same: remove %s in %s for a new one", auth.AdminSecretFile, folder)
	}
	tokens := &auth.Tokens{
		Secret: []byte(secret), Audience: s.TokenAudience, Issuer: s.TokenIssuer,
		Lifetime: s.TokenLifetime, AdminLifetime: s.AdminTokenLifetime,
	}
	if adminSecret != "" {
		tokens.AdminSecret = []byte(adminSecret)
	}
	return tokens, nil
}
