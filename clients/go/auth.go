package parlor

import (
	"context"
	"net/http"
)

// Bearer returns an option that authenticates a call with a session key or an admin token. Pass it
// to a single call, or to WithRequestEditorFn for all calls of a client.
func Bearer(key string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	}
}
