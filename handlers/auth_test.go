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

// TestWithAdmin: what is behind it is reached with an admin token alone.
func TestWithAdmin(t *testing.T) {
	t.Parallel()
	tokens := &auth.Tokens{Secret: []byte("a secret of at least thirty-two bytes")}
	a := &api{Options: Options{Tokens: tokens, Log: slog.New(slog.DiscardHandler)}}
	reached := 0
	h := a.withAdmin(func(_ http.ResponseWriter, _ *http.Request, by room.Actor) error {
		reached++
		if want := (room.Actor{Kind: room.ActorAdmin, ID: "backend"}); by != want {
			t.Errorf("the actor is %+v, not %+v", by, want)
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
			t.Errorf("with %.8q: %d, and not %d", authorization, reply.Code, want)
		}
	}
	if reached != 1 {
		t.Errorf("reached %d times", reached)
	}
}
