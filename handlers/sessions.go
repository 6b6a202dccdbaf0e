package handlers

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/google/uuid"

	"parlor/room"
)

// sessionStore has the store methods for sessions.
type sessionStore interface {
	CreateSession(ctx context.Context, by room.Actor, session room.Session, naming room.Naming, key, streamKey room.KeyHash) (room.Profile, error)
	SessionByID(ctx context.Context, id room.SessionID) (room.Session, error)
	RenewSession(ctx context.Context, by room.Actor, c room.Claims) (room.Session, error)
	EndSession(ctx context.Context, by room.Actor) error
	SessionRooms(ctx context.Context, session room.SessionID) ([]room.Room, error)
	LeaveAllRooms(ctx context.Context, by room.Actor) ([]room.RoomID, error)
}

type createSessionRequest struct {
	Token    string  `json:"token" validate:"required,max=8192"`
	UserName *string `json:"userName" validate:"omitnil,min=1,name=256"`
	Device   string  `json:"device" validate:"omitempty,name=64"`
}

type createSessionReply struct {
	SessionID      room.SessionID `json:"sessionID"`
	SessionKey     string         `json:"sessionKey"`
	UserID         room.UserID    `json:"userID"`
	UserName       string         `json:"userName"`
	StreamURL      string         `json:"streamURL"`
	TokenExpiresAt room.Instant   `json:"tokenExpiresAt"`
	Limits         limits         `json:"limits"`
}

type limits struct {
	TextBytes         int `json:"textBytes"`
	ExtendedDataBytes int `json:"extendedDataBytes"`
	Rooms             int `json:"rooms"`
	HeartbeatSeconds  int `json:"heartbeatSeconds"`
}

func (a *api) createSession(w http.ResponseWriter, r *http.Request) error {
	if err := a.checkLoginRate(w, r); err != nil {
		return err
	}
	if err := refuseUnread(r, inBody); err != nil {
		return err
	}
	var request createSessionRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	c, err := a.Tokens.Verify(request.Token)
	if err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.logins, c.User.ID, 1); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("session ID: %w", err)
	}
	session := room.Session{
		ID: room.SessionID(id.String()), User: room.User{ID: c.User.ID}, Device: request.Device, Grants: c.Grants,
		TokenExpiresAt: c.ExpiresAt, TokenIssuedAt: c.IssuedAt,
	}
	key, streamKey := newKey(sessionKeyPrefix), newKey(streamKeyPrefix)
	naming := room.Naming{Asked: given(request.UserName), Token: c.User.Name, Signed: a.SignedNames}
	profile, err := a.Store.CreateSession(r.Context(), actor(r, session), session, naming, hashKey(key), hashKey(streamKey))
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusCreated, createSessionReply{
		SessionID: session.ID, SessionKey: key, UserID: profile.ID, UserName: profile.Name,
		StreamURL:      a.baseURL(r) + "/v1/events?stream_key=" + streamKey,
		TokenExpiresAt: room.InstantOf(session.TokenExpiresAt),
		Limits: limits{
			TextBytes: room.MaxTextBytes, ExtendedDataBytes: room.MaxExtendedDataBytes, Rooms: a.RoomsPerUser,
			HeartbeatSeconds: int(math.Ceil(a.Heartbeat.Seconds())),
		},
	})
}

type sessionReply struct {
	Session sessionState `json:"session"`
}

type sessionState struct {
	SessionID      room.SessionID    `json:"sessionID"`
	UserID         room.UserID       `json:"userID"`
	UserName       string            `json:"userName"`
	Device         string            `json:"device,omitempty"`
	State          room.SessionState `json:"state"`
	CreatedAt      room.Instant      `json:"createdAt"`
	TokenExpiresAt room.Instant      `json:"tokenExpiresAt"`
}

func (a *api) getSession(w http.ResponseWriter, r *http.Request, session room.Session) error {
	// The cached session may have an old state, which is what the call asks for.
	session, err := a.Store.SessionByID(r.Context(), session.ID)
	if err != nil {
		return err
	}
	now := a.Store.Now()
	if err := session.Usable(now); err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, sessionReply{stateOf(session, now)})
}

func stateOf(session room.Session, now time.Time) sessionState {
	return sessionState{
		SessionID: session.ID, UserID: session.User.ID, UserName: session.User.Name, Device: session.Device,
		State: session.State(now), CreatedAt: room.InstantOf(session.CreatedAt), TokenExpiresAt: room.InstantOf(session.TokenExpiresAt),
	}
}

func (a *api) endSession(w http.ResponseWriter, r *http.Request, session room.Session) error {
	if err := a.Store.EndSession(r.Context(), actor(r, session)); err != nil {
		return err
	}
	return noContent(w)
}

type roomListReply struct {
	Rooms []room.Room `json:"rooms"`
}

func (a *api) listSessionRooms(w http.ResponseWriter, r *http.Request, session room.Session) error {
	rooms, err := a.Store.SessionRooms(r.Context(), session.ID)
	if err != nil {
		return err
	}
	a.expectEvents(rooms...)
	return a.answer(w, r, http.StatusOK, roomListReply{rooms})
}

type leaveAllRoomsReply struct {
	RoomIDs []room.RoomID `json:"roomIDs"`
}

func (a *api) leaveAllRooms(w http.ResponseWriter, r *http.Request, session room.Session) error {
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	left, err := a.Store.LeaveAllRooms(r.Context(), actor(r, session))
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, leaveAllRoomsReply{left})
}

type renewTokenRequest struct {
	Token string `json:"token" validate:"required,max=8192"`
}

type renewTokenReply struct {
	TokenExpiresAt room.Instant `json:"tokenExpiresAt"`
}

func (a *api) renewToken(w http.ResponseWriter, r *http.Request, session room.Session) error {
	var request renewTokenRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	c, err := a.Tokens.Verify(request.Token)
	if err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.logins, session.User.ID, 1); err != nil {
		return err
	}
	session, err = a.Store.RenewSession(r.Context(), actor(r, session), c)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, renewTokenReply{room.InstantOf(session.TokenExpiresAt)})
}
