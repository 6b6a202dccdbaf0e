package handlers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"parlor/room"
)

// keyStore finds the session that a caller authenticates as.
type keyStore interface {
	SessionByKey(ctx context.Context, key room.KeyHash) (room.Session, error)
	SessionByStreamKey(ctx context.Context, key room.KeyHash) (room.Session, error)
	UseStreamTicket(ctx context.Context, ticket room.KeyHash) (room.Session, error)
}

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

// withAdmin serves only callers with an admin token.
func (a *api) withAdmin(h func(http.ResponseWriter, *http.Request, room.Actor) error) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		by, _, err := a.authenticateAdmin(r)
		if err != nil {
			return err
		}
		return h(w, r, by)
	})
}

// withAdminRoom serves only callers with an admin token, on the room that the path names.
func (a *api) withAdminRoom(h func(http.ResponseWriter, *http.Request, room.Actor, room.RoomID) error) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request, by room.Actor) error {
		id, err := pathRoomID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id)
	})
}

// withAdminUser serves only callers with an admin token, on the user that the path names.
func (a *api) withAdminUser(h func(http.ResponseWriter, *http.Request, room.Actor, room.UserID) error) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request, by room.Actor) error {
		id, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id)
	})
}

// withAdminMember serves only callers with an admin token, on the room and the user that the path names.
func (a *api) withAdminMember(h func(http.ResponseWriter, *http.Request, room.Actor, room.RoomID, room.UserID) error) http.HandlerFunc {
	return a.withAdminRoom(func(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
		user, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id, user)
	})
}

// actor returns the session as the actor of a request.
func actor(r *http.Request, session room.Session) room.Actor {
	return room.Actor{Kind: room.ActorSession, ID: string(session.ID), RequestID: requestID(r.Context())}
}

// maxAdminBytes bounds how much of an admin token's subject an actor carries: the token's signer may
// have put up to 8 KiB there, and the actor goes to logs and to other nodes.
const maxAdminBytes = 128

// authenticateAdmin returns the actor that the admin token in the Authorization header names, and
// when the token expires. Errors: room.ErrUnauthenticated and those of auth.Tokens.VerifyAdmin.
func (a *api) authenticateAdmin(r *http.Request) (by room.Actor, expiresAt time.Time, err error) {
	token, ok := bearer(r)
	if !ok {
		return room.Actor{}, time.Time{}, room.ErrUnauthenticated
	}
	subject, expiresAt, err := a.Tokens.VerifyAdmin(token)
	if err != nil {
		return room.Actor{}, time.Time{}, err
	}
	return room.Actor{
		Kind: room.ActorAdmin, ID: shorten(subject, maxAdminBytes), RequestID: requestID(r.Context()),
	}, expiresAt, nil
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
