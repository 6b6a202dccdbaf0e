package handlers

import (
	"context"
	"fmt"
	"net/http"

	"parlor/room"
)

// attributeStore has the store methods for room attributes.
type attributeStore interface {
	UpdateAttributes(ctx context.Context, by room.Actor, id room.RoomID, u room.AttributesUpdate) (version room.Seq, refused []string, err error)
}

type roomAttributesReply struct {
	RoomAttributes room.Attributes `json:"roomAttributes"`
	Version        room.Seq        `json:"version"`
}

type updateRoomAttributesRequest struct {
	Set                  map[string]string `json:"set" validate:"pairBytes=16 1024"`
	Delete               []string          `json:"delete" validate:"max=20,unique,dive,min=1,maxBytes=16"`
	Force                bool              `json:"force"`
	DeleteAfterOwnerLeft *bool             `json:"deleteAfterOwnerLeft"`
	UpdateOwner          bool              `json:"updateOwner"`
}

type updateRoomAttributesReply struct {
	Version   room.Seq `json:"version"`
	ErrorKeys []string `json:"errorKeys"`
}

func (a *api) getRoomAttributes(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	found, err := a.Store.SessionRoom(r.Context(), session.ID, id)
	if err != nil {
		return err
	}
	return a.answerAttributes(w, r, found)
}

func (a *api) adminGetRoomAttributes(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	found, err := a.Store.Room(r.Context(), id)
	if err != nil {
		return err
	}
	return a.answerAttributes(w, r, found)
}

func (a *api) answerAttributes(w http.ResponseWriter, r *http.Request, found room.Room) error {
	w.Header().Set("ETag", etag(found.AttributesVersion))
	return a.answer(w, r, http.StatusOK, roomAttributesReply{found.Attributes, found.AttributesVersion})
}

func (a *api) updateRoomAttributes(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	update, err := a.readAttributesUpdate(w, r)
	if err != nil {
		return err
	}
	if err := session.Grants.Check(room.ActionAttributes, id); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.attributes, session.User.ID, 1); err != nil {
		return err
	}
	update.By = session.User.ID
	return a.updateAttributes(w, r, actor(r, session), id, update)
}

func (a *api) adminUpdateRoomAttributes(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	update, err := a.readAttributesUpdate(w, r)
	if err != nil {
		return err
	}
	return a.updateAttributes(w, r, by, id, update)
}

func (a *api) readAttributesUpdate(w http.ResponseWriter, r *http.Request) (room.AttributesUpdate, error) {
	var request updateRoomAttributesRequest
	if err := a.decode(w, r, &request); err != nil {
		return room.AttributesUpdate{}, err
	}
	if err := checkKeys(request.Set, request.Delete); err != nil {
		return room.AttributesUpdate{}, err
	}
	base, err := ifMatch(r)
	return room.AttributesUpdate{
		Set: request.Set, Delete: request.Delete, Force: request.Force,
		UpdateOwner: request.UpdateOwner, DeleteAfterOwnerLeft: request.DeleteAfterOwnerLeft, Base: base,
	}, err
}

func (a *api) updateAttributes(
	w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID, update room.AttributesUpdate,
) error {
	version, refused, err := a.Store.UpdateAttributes(r.Context(), by, id, update)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(version))
	return a.answer(w, r, http.StatusOK, updateRoomAttributesReply{version, refused})
}

// checkKeys rejects an update of attributes that changes nothing, or that sets and deletes the same
// key.
func checkKeys(set map[string]string, deleted []string) error {
	if len(set)+len(deleted) == 0 {
		return invalid(fault{"", "empty", "must set or delete at least one attribute"})
	}
	var faults []fault
	for i, key := range deleted {
		if _, both := set[key]; both {
			faults = append(faults, fault{fmt.Sprintf("/delete/%d", i), "different", "is in set as well"})
		}
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}
