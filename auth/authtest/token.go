// Package authtest signs tokens for tests.
package authtest

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Token returns a token of alice that lasts an hour, with changed claims and more headers, signed
// as an application's backend signs it. change may be nil.
func Token(
	t testing.TB, method jwt.SigningMethod, key any, change func(jwt.MapClaims), header map[string]any,
) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	if change != nil {
		change(claims)
	}
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
