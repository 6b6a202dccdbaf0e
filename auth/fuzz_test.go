package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parlor/room"
)

// FuzzVerifyToken checks that only tokens that were signed with the secret are accepted, and that
// the claims of accepted tokens can be stored and sent.
func FuzzVerifyToken(f *testing.F) {
	for _, claims := range []string{
		`{"sub":"alice","exp":4000000000}`, `{"sub":"alice","exp":4000000000.5,"name":"é","rooms":[{"roomID":"a*","join":true}]}`, `{"sub":"alice","exp":1}`,
		`{"sub":"alice","exp":1e300}`, `{"sub":"alice","exp":-1e300}`, `{"sub":"alice","exp":1e12}`, `{"sub":"alice","exp":null}`, `{"exp":4000000000}`,
		`{"sub":"a","exp":4000000000,"rooms":null}`, `{"sub":"a","exp":4000000000,"rooms":[{"roomID":"\u0000"}]}`, `{"sub":"a","exp":4000000000,"scope":"admin"}`,
		`{"sub":"a","exp":4000000000,"name":"\ud800"}`, `{"sub":"a","exp":4000000000,"aud":[1]}`, `null`, `[]`, ``,
	} {
		f.Add(`{"alg":"HS256","typ":"JWT"}`, claims, true)
		f.Add(`{"alg":"HS256","kid":"2026"}`, claims, true)
		f.Add(`{"alg":"none"}`, claims, false)
	}
	f.Add(`{"alg":"RS256"}`, `{}`, true)
	f.Add(`{"alg":"HS256","crit":["b64"],"b64":false}`, `{}`, true)
	f.Add(`{"alg":"HS256","crit":null}`, `{"sub":"alice","exp":4000000000}`, true)
	f.Add(`{"alg":"HS256","alg":"HS256"}`, `{"sub":"alice","exp":4000000000}`, true)
	f.Add(`{"alg":"HS256","typ":"logout+jwt"}`, `{"sub":"alice","exp":4000000000}`, true)
	f.Add(`{"alg":"HS256"}`, `{"sub":"alice","SUB":"ceo","exp":4000000000,"iat":4000000000}`, true)
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	tokens := &Tokens{Secret: secret, Secrets: map[string][]byte{"2026": []byte("another one of thirty-two bytes..")}, Now: func() time.Time { return now }}
	f.Fuzz(func(t *testing.T, header, claims string, sign bool) {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signature := []byte("forged")
		if sign {
			var err error
			if signature, err = jwt.SigningMethodHS256.Sign(text, secret); err != nil {
				t.Fatal(err)
			}
		}
		token := text + "." + base64.RawURLEncoding.EncodeToString(signature)
		if _, _, err := tokens.VerifyAdmin(token); err == nil && !sign {
			t.Error("a forged token is accepted as an admin token")
		}
		c, err := tokens.Verify(token)
		switch {
		case err == nil && !sign:
			t.Errorf("a forged token is accepted: %+v", c)
		case errors.Is(err, room.ErrTokenExpired) && !sign:
			t.Error("a forged token is reported as expired")
		case err != nil && !sign && strings.Contains(err.Error(), "claims") && !strings.Contains(err.Error(), "cannot be decoded"):
			t.Errorf("the claims of a forged token are checked: %v", err)
		case err == nil:
			if _, _, err := tokens.VerifyAdmin(token); !errors.Is(err, room.ErrNotAdmin) {
				t.Errorf("a user token is accepted as an admin token: %v", err)
			}
			usable(t, c, now)
		case !errors.Is(err, room.ErrTokenInvalid) && !errors.Is(err, room.ErrTokenExpired):
			t.Errorf("the token is rejected with %v", err)
		}
	})
}

// usable fails the test if claims contain what the database or a reply cannot contain.
func usable(t *testing.T, c room.Claims, now time.Time) {
	t.Helper()
	if !c.User.ID.Valid() || !c.ExpiresAt.After(now) {
		t.Errorf("the claims are %+v", c)
	}
	if name, bad := room.CleanName(c.User.Name, room.MaxUserNameBytes); c.User.Name != "" && (bad != nil || name != c.User.Name) {
		t.Errorf("the name is %+q: %v", c.User.Name, bad)
	}
	if _, err := c.ExpiresAt.MarshalJSON(); err != nil {
		t.Error(err)
	}
	stored, err := json.Marshal(c.Grants)
	if err != nil || bytes.Contains(stored, []byte(`\u0000`)) {
		t.Errorf("the grants are stored as %s: %v", stored, err)
	}
}
