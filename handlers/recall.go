package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// recallStore has the store methods for recalls.
type recallStore interface {
	Recall(ctx context.Context, by room.Actor, user room.UserID, id room.RoomID, message room.MessageID) error
	RecallAny(ctx context.Context, by room.Actor, id room.RoomID, message room.MessageID) error
	RecallPeer(ctx context.Context, by room.Actor, user, peer room.UserID, message room.MessageID) error
}

func (a *api) recallMessage(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.Recall(r.Context(), actor(r, session), session.User.ID, id, message); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) recallPeerMessage(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.RecallPeer(r.Context(), actor(r, session), session.User.ID, peer, message); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) adminRecallMessage(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.RecallAny(r.Context(), by, id, message); err != nil {
		return err
	}
	return noContent(w)
}
