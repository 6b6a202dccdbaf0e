package handlers

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"parlor/room"
)

// Keys begin with what they are, so that one in the wrong place is recognised,
// by people and by secret scanners.
const (
	sessionKeyPrefix = "sk_"
	streamKeyPrefix  = "ek_"
	ticketPrefix     = "et_"
)

// newKey is a secret with 130 bits of randomness.
func newKey(prefix string) string { return prefix + rand.Text() }

func hashKey(key string) room.KeyHash { return sha256.Sum256([]byte(key)) }

// withSession serves only callers with a session key.
func (a *api) withSession(h func(http.ResponseWriter, *http.Request, room.Session) error) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		session, err := a.authenticate(r)
		if err != nil {
			return err
		}
		return h(w, r, session)
	})
}

// withRoom serves only callers with a session key, on the room that the path
// names.
func (a *api) withRoom(h func(http.ResponseWriter, *http.Request, room.Session, room.RoomID) error) http.HandlerFunc {
	return a.withSession(func(w http.ResponseWriter, r *http.Request, session room.Session) error {
		id, err := pathRoomID(r)
		if err != nil {
			return err
		}
		return h(w, r, session, id)
	})
}

// withPeer serves only callers with a session key, on the user that the path
// names.
func (a *api) withPeer(h func(http.ResponseWriter, *http.Request, room.Session, room.UserID) error) http.HandlerFunc {
	return a.withSession(func(w http.ResponseWriter, r *http.Request, session room.Session) error {
		id, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, session, id)
	})
}

// withAdmin serves only servers, which come with an admin token.
func (a *api) withAdmin(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		if _, err := a.authenticateAdmin(r); err != nil {
			return err
		}
		return h(w, r)
	})
}

// withAdminRoom serves only callers with an admin token, on the room that the
// path names.
func (a *api) withAdminRoom(h func(http.ResponseWriter, *http.Request, room.RoomID) error) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request) error {
		id, err := pathRoomID(r)
		if err != nil {
			return err
		}
		return h(w, r, id)
	})
}

// withAdminUser serves only callers with an admin token, on the user that the
// path names.
func (a *api) withAdminUser(h func(http.ResponseWriter, *http.Request, room.UserID) error) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request) error {
		id, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, id)
	})
}

// withAdminMember is both.
func (a *api) withAdminMember(h func(http.ResponseWriter, *http.Request, room.RoomID, room.UserID) error) http.HandlerFunc {
	return a.withAdminRoom(func(w http.ResponseWriter, r *http.Request, id room.RoomID) error {
		user, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, id, user)
	})
}

// authenticateAdmin is when the admin token in the Authorization header runs
// out. Errors: room.ErrUnauthenticated and those of Tokens.VerifyAdmin.
func (a *api) authenticateAdmin(r *http.Request) (expiresAt time.Time, err error) {
	token, ok := bearer(r)
	if !ok {
		return time.Time{}, room.ErrUnauthenticated
	}
	return a.Tokens.VerifyAdmin(token)
}

// authenticate is the session of the key in the Authorization header. Errors:
// room.ErrUnauthenticated, room.ErrStreamKeyRefused, and those of a session
// that is over.
func (a *api) authenticate(r *http.Request) (room.Session, error) {
	key, ok := bearer(r)
	if !ok {
		return room.Session{}, room.ErrUnauthenticated
	}
	session, err := a.Store.SessionByKey(r.Context(), hashKey(key))
	if err != nil {
		return room.Session{}, err
	}
	return session, session.Usable(time.Now())
}

// authenticateStream takes the key or the ticket of the stream's URL as well, which
// nothing else does. A ticket is used up even where the stream cannot be opened
// afterwards: its client asks for another one.
func (a *api) authenticateStream(r *http.Request, streamKey, ticket string) (session room.Session, err error) {
	_, hasKey := bearer(r)
	switch {
	case !hasKey && streamKey != "":
		session, err = a.Store.SessionByStreamKey(r.Context(), hashKey(streamKey))
	case !hasKey && ticket != "":
		session, err = a.Store.UseStreamTicket(r.Context(), hashKey(ticket))
	default:
		return a.authenticate(r)
	}
	if err != nil {
		return room.Session{}, err
	}
	return session, session.Usable(time.Now())
}

// bearer is the key of the Authorization header, whose scheme is written in any
// case (RFC 9110, section 11.1).
func bearer(r *http.Request) (string, bool) {
	scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", false
	}
	return key, true
}
