package main

import (
	"errors"
	"fmt"
	"time"

	"parlor/auth"
)

// Signing is the token settings of the server and of the commands that sign tokens for it.
type Signing struct {
	Secret             auth.Secret   `env:"PARLOR_SECRET" placeholder:"SECRET" help:"Key of HS256 user tokens, at least 32 bytes. Required with DATABASE_URL. Empty: the file secret in the data folder, created at the first start."`
	AdminSecret        auth.Secret   `env:"PARLOR_ADMIN_SECRET" placeholder:"SECRET" help:"Key of admin tokens (HS256), at least 32 bytes. If it is set, keys of user tokens cannot sign admin tokens. Empty: PARLOR_SECRET if that is set, so that anyone who signs user tokens can also sign admin tokens; otherwise the file admin-secret in the data folder."`
	TokenAudience      string        `env:"PARLOR_TOKEN_AUDIENCE" placeholder:"AUDIENCE" help:"Value that the aud claim of every token, including admin tokens, must contain. Required with PARLOR_JWKS_URL. Empty: not checked."`
	TokenIssuer        string        `env:"PARLOR_TOKEN_ISSUER" placeholder:"ISSUER" help:"Value that the iss claim of every token, including admin tokens, must have. Required with PARLOR_JWKS_URL. Empty: not checked."`
	TokenLifetime      time.Duration `env:"PARLOR_TOKEN_LIFETIME" default:"0s" help:"Maximum lifetime of a user token: from iat to exp, or from now to exp if it has no iat. 1m to 87600h; 0s means no limit."`
	AdminTokenLifetime time.Duration `env:"PARLOR_ADMIN_TOKEN_LIFETIME" default:"24h" help:"Maximum lifetime of an admin token, counted the same way. 1m to 87600h; 0s means no limit."`
}

// check reports each error in the settings.
func (s *Signing) check(fault func(setting, format string, args ...any)) {
	if s.Secret != "" && len(s.Secret) < auth.MinSecretBytes {
		fault("PARLOR_SECRET", "has %d bytes; at least %d are required", len(s.Secret), auth.MinSecretBytes)
	}
	switch {
	case s.AdminSecret == "":
	case len(s.AdminSecret) < auth.MinSecretBytes:
		fault("PARLOR_ADMIN_SECRET", "has %d bytes; at least %d are required", len(s.AdminSecret), auth.MinSecretBytes)
	case s.AdminSecret == s.Secret:
		fault("PARLOR_ADMIN_SECRET", "is the same as PARLOR_SECRET: anyone who signs user tokens could sign admin tokens")
	}
	if s.TokenLifetime != 0 && (s.TokenLifetime < minTokenLifetime || s.TokenLifetime > maxTokenLifetime) {
		fault("PARLOR_TOKEN_LIFETIME", "%s is neither 0s nor %s to %s", s.TokenLifetime, minTokenLifetime, maxTokenLifetime)
	}
	if s.AdminTokenLifetime != 0 && (s.AdminTokenLifetime < minTokenLifetime || s.AdminTokenLifetime > maxTokenLifetime) {
		fault("PARLOR_ADMIN_TOKEN_LIFETIME", "%s is neither 0s nor %s to %s", s.AdminTokenLifetime, minTokenLifetime, maxTokenLifetime)
	}
}

// tokens returns the Tokens for these settings. Secrets that are not set come from the data folder,
// and are created if they do not exist.
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
		return nil, fmt.Errorf("the secrets for user tokens and admin tokens are the same: remove %s in %s to create a new one", auth.AdminSecretFile, folder)
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
