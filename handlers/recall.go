package handlers

import (
	"net/http"

	"parlor/room"
)

func (a *api) recallMessage(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.Recall(r.Context(), session, id, message); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) recallPeerMessage(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.RecallPeer(r.Context(), session, peer, message); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) adminRecallMessage(w http.ResponseWriter, r *http.Request, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.RecallAny(r.Context(), id, message); err != nil {
		return err
	}
	return noContent(w)
}
