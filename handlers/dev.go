package handlers

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"parlor/room"
)

// developmentTokenTime is how long a token for trying things out lasts.
const developmentTokenTime = time.Hour

type developmentTokenRequest struct {
	UserID   room.UserID `json:"userID" validate:"required,userID"`
	UserName *string     `json:"userName" validate:"omitnil,min=1,maxBytes=256"`
}

type developmentTokenReply struct {
	Token string `json:"token"`
}

// proxyHeaders are the request headers that only proxies send.
var proxyHeaders = []string{"Forwarded", "Via", "X-Real-Ip"}

// createDevelopmentToken gives a token to anybody who asks. It is mounted only in
// development mode, which needs a loopback address. The Host header is checked
// as well, because a page of the web may rebind its own name to loopback and ask
// from the browser, and a request that came through a proxy may be anybody's.
func (a *api) createDevelopmentToken(w http.ResponseWriter, r *http.Request) error {
	if !loopbackHost(r.Host) {
		return room.ErrForbiddenHost
	}
	if proxied(r.Header) {
		return room.ErrForbiddenProxy
	}
	var request developmentTokenRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	user := room.User{ID: request.UserID, Name: cmp.Or(given(request.UserName), string(request.UserID))}
	token, err := a.Tokens.Sign(user, developmentTokenTime)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusCreated, developmentTokenReply{token})
}

// proxied reports whether a request came through a proxy. Not every proxy says so.
func proxied(h http.Header) bool {
	for name := range h {
		if slices.Contains(proxyHeaders, name) || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

func loopbackHost(hostport string) bool {
	host := (&url.URL{Host: hostport}).Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
