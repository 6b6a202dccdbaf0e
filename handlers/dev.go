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

// developmentTokenTime is the lifetime of a development token.
const developmentTokenTime = time.Hour

type developmentTokenRequest struct {
	UserID   room.UserID `json:"userID" validate:"required,userID"`
	UserName *string     `json:"userName" validate:"omitnil,min=1,name=256"`
}

type developmentTokenReply struct {
	Token string `json:"token"`
}

// proxyHeaders are the request headers that only proxies send.
var proxyHeaders = []string{"Forwarded", "Via", "X-Real-Ip"}

// createDevelopmentToken issues a token to any caller. The route exists only in development mode,
// which requires a loopback address. The Host header must be loopback too, because a web page may
// rebind its own name to loopback and call from the browser. Requests through a proxy are rejected,
// because they may come from anywhere.
func (a *api) createDevelopmentToken(w http.ResponseWriter, r *http.Request) error {
	if !loopbackHost(r.Host) {
		return room.ErrForbiddenHost
	}
	if proxied(r.Header) {
		return room.ErrForbiddenProxy
	}
	if err := refuseUnread(r, inBody); err != nil {
		return err
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

// proxied reports whether a request has headers of a proxy. Some proxies send none.
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
