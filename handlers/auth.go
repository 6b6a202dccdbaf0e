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

// keyStore has the store methods for authentication.
type keyStore interface {
	SessionByKey(ctx context.Context, key room.KeyHash) (room.Session, error)
	SessionByStreamKey(ctx context.Context, key room.KeyHash) (room.Session, error)
	UseStreamTicket(ctx context.Context, ticket room.KeyHash) (room.Session, error)
	// Now returns the database's time, by which sessions expire on all servers.
	Now() time.Time
}

// Keys have prefixes so that people and secret scanners recognise a key in the wrong place.
const (
	sessionKeyPrefix = "sk_"
	streamKeyPrefix  = "ek_"
	ticketPrefix     = "et_"
)

// newKey returns a new secret with 130 bits of randomness.
func newKey(prefix string) string { return prefix + rand.Text() }

func hashKey(key string) room.KeyHash { return sha256.Sum256([]byte(key)) }

// withSession returns a handler that requires a session key, and passes the session to h. A query
// or a body is refused unless h reads it.
func (a *api) withSession(h func(http.ResponseWriter, *http.Request, room.Session) error, read ...input) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		session, err := a.authenticate(r)
		if err != nil {
			return err
		}
		if err := refuseUnread(r, read...); err != nil {
			return err
		}
		return h(w, r, session)
	})
}

// withRoom is withSession for a path with a roomID.
func (a *api) withRoom(h func(http.ResponseWriter, *http.Request, room.Session, room.RoomID) error, read ...input) http.HandlerFunc {
	return a.withSession(func(w http.ResponseWriter, r *http.Request, session room.Session) error {
		id, err := pathRoomID(r)
		if err != nil {
			return err
		}
		return h(w, r, session, id)
	}, read...)
}

// withPeer is withSession for a path with a userID.
func (a *api) withPeer(h func(http.ResponseWriter, *http.Request, room.Session, room.UserID) error, read ...input) http.HandlerFunc {
	return a.withSession(func(w http.ResponseWriter, r *http.Request, session room.Session) error {
		id, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, session, id)
	}, read...)
}

// withAdmin returns a handler that requires an admin token, and passes the admin to h. A query or a
// body is refused unless h reads it.
func (a *api) withAdmin(h func(http.ResponseWriter, *http.Request, room.Actor) error, read ...input) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		by, _, err := a.authenticateAdmin(r)
		if err != nil {
			return err
		}
		if err := refuseUnread(r, read...); err != nil {
			return err
		}
		return h(w, r, by)
	})
}

// withAdminRoom is withAdmin for a path with a roomID.
func (a *api) withAdminRoom(h func(http.ResponseWriter, *http.Request, room.Actor, room.RoomID) error, read ...input) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request, by room.Actor) error {
		id, err := pathRoomID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id)
	}, read...)
}

// withAdminUser is withAdmin for a path with a userID.
func (a *api) withAdminUser(h func(http.ResponseWriter, *http.Request, room.Actor, room.UserID) error, read ...input) http.HandlerFunc {
	return a.withAdmin(func(w http.ResponseWriter, r *http.Request, by room.Actor) error {
		id, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id)
	}, read...)
}

// withAdminMember is withAdmin for a path with a roomID and a userID.
func (a *api) withAdminMember(h func(http.ResponseWriter, *http.Request, room.Actor, room.RoomID, room.UserID) error, read ...input) http.HandlerFunc {
	return a.withAdminRoom(func(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
		user, err := pathUserID(r)
		if err != nil {
			return err
		}
		return h(w, r, by, id, user)
	}, read...)
}

// actor returns the session as the actor of a request.
func actor(r *http.Request, session room.Session) room.Actor {
	return room.Actor{Kind: room.ActorSession, ID: string(session.ID), RequestID: requestID(r.Context())}
}

// maxSubjectBytes bounds how much of an admin token's subject an actor contains. A subject may have
// 8 KiB, and actors are logged and sent to other nodes.
const maxSubjectBytes = 128

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
		Kind: room.ActorAdmin, ID: shorten(subject, maxSubjectBytes), RequestID: requestID(r.Context()),
	}, expiresAt, nil
}

// authenticate returns the session whose key is in the Authorization header. Errors:
// room.ErrUnauthenticated, room.ErrStreamKeyRefused and those of room.Session.Usable.
func (a *api) authenticate(r *http.Request) (room.Session, error) {
	key, ok := bearer(r)
	if !ok {
		return room.Session{}, room.ErrUnauthenticated
	}
	session, err := a.Store.SessionByKey(r.Context(), hashKey(key))
	if err != nil {
		return room.Session{}, err
	}
	return session, session.Usable(a.Store.Now())
}

// authenticateStream is authenticate that also accepts the stream key or the stream ticket in the
// stream's URL. A ticket can be used once, even if the stream cannot be opened afterwards.
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
	return session, session.Usable(a.Store.Now())
}

// bearer returns the key in the Authorization header. The scheme is case-insensitive (RFC 9110,
// section 11.1).
func bearer(r *http.Request) (string, bool) {
	scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", false
	}
	return key, true
}
