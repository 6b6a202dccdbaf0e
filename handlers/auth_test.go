package handlers

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"parlor/auth"
	"parlor/room"
)

// TestWithAdmin checks that a handler is called only for requests with an admin token.
func TestWithAdmin(t *testing.T) {
	t.Parallel()
	tokens := &auth.Tokens{Secret: []byte("a secret of at least thirty-two bytes")}
	a := &api{Options: Options{Tokens: tokens, Log: slog.New(slog.DiscardHandler)}}
	calls := 0
	h := a.withAdmin(func(_ http.ResponseWriter, _ *http.Request, by room.Actor) error {
		calls++
		if want := (room.Actor{Kind: room.ActorAdmin, ID: "backend"}); by != want {
			t.Errorf("the actor is %+v, want %+v", by, want)
		}
		return nil
	})
	admin, err := tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	user, err := tokens.Sign(room.User{ID: "alice"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for authorization, want := range map[string]int{
		"": http.StatusUnauthorized, "Bearer x": http.StatusUnauthorized, "Bearer " + user: http.StatusForbidden, "bearer " + admin: http.StatusOK,
	} {
		reply := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/v1/admin/anything", nil)
		r.Header.Set("Authorization", authorization)
		h(reply, r)
		if reply.Code != want {
			t.Errorf("with %.8q: status %d, want %d", authorization, reply.Code, want)
		}
	}
	if calls != 1 {
		t.Errorf("the handler was called %d times, want once", calls)
	}
}
