package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// settingsStore has the store method for the name and the settings of rooms.
type settingsStore interface {
	UpdateRoom(ctx context.Context, by room.Actor, id room.RoomID, u room.RoomUpdate) (room.Room, error)
}

// updateRoomRequest has what changes. It is a merge patch (RFC 7396) without null, because nothing
// of it can be removed.
type updateRoomRequest struct {
	RoomName *string       `json:"roomName" validate:"omitnil,name=64"`
	Config   configRequest `json:"config"`
}

func (a *api) updateRoom(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	update, err := a.readRoomUpdate(w, r)
	if err != nil {
		return err
	}
	if err := a.withinCeilings(configRequest(update.Settings)); err != nil {
		return err
	}
	if err := session.Grants.Check(room.ActionSettings, id); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.attributes, session.User.ID, 1); err != nil {
		return err
	}
	update.By = session.User.ID
	updated, err := a.Store.UpdateRoom(r.Context(), actor(r, session), id, update)
	if err != nil {
		return err
	}
	a.expectEvents(updated)
	return a.answerRoom(w, r, updated, nil)
}

func (a *api) adminUpdateRoom(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	update, err := a.readRoomUpdate(w, r)
	if err != nil {
		return err
	}
	updated, err := a.Store.UpdateRoom(r.Context(), by, id, update)
	if err != nil {
		return err
	}
	return a.answerRoom(w, r, updated, nil)
}

func (a *api) readRoomUpdate(w http.ResponseWriter, r *http.Request) (room.RoomUpdate, error) {
	var request updateRoomRequest
	if err := a.decode(w, r, &request); err != nil {
		return room.RoomUpdate{}, err
	}
	if request == (updateRoomRequest{}) {
		return room.RoomUpdate{}, invalid(fault{"", "empty", "must have a roomName or a setting in config"})
	}
	base, err := ifMatch(r)
	return room.RoomUpdate{Name: request.RoomName, Settings: room.Settings(request.Config), Base: base}, err
}

// answerRoom replies with a room, whose ETag is the version of its name and settings: the part that
// updateRoom changes. Replies are never cached, so no one else compares it.
func (a *api) answerRoom(w http.ResponseWriter, r *http.Request, found room.Room, members *roomMembersReply) error {
	w.Header().Set("ETag", etag(found.SettingsVersion))
	return a.answer(w, r, http.StatusOK, roomReply{found, members})
}
