package handlers

import (
	"context"
	"net/http"
	"slices"

	"parlor/room"
)

// memberAttributeStore has the store methods for member attributes.
type memberAttributeStore interface {
	UpdateMemberAttributes(ctx context.Context, by room.Actor, id room.RoomID, users []room.UserID, u room.MemberAttributesUpdate) (infos []room.MemberAttributesInfo, absent []room.UserID, err error)
	MemberAttributes(ctx context.Context, log room.LogID, after room.MemberCursor, limit int) (room.MemberPage[room.MemberAttributesInfo], error)
	MemberAttributesByID(ctx context.Context, log room.LogID, users []room.UserID) (room.MemberPage[room.MemberAttributesInfo], error)
}

const (
	defaultMemberAttributesPage = 100
	maxMemberAttributesPage     = 100
)

type memberAttributesReply struct {
	Generation room.LogID                  `json:"generation"`
	Seq        room.Seq                    `json:"seq"`
	Infos      []room.MemberAttributesInfo `json:"infos"`
	NextCursor string                      `json:"nextCursor,omitempty"`
}

type updateMemberAttributesRequest struct {
	UserIDs              []room.UserID     `json:"userIDs" validate:"required,min=1,max=100,unique,dive,userID"`
	Set                  map[string]string `json:"set" validate:"pairBytes=8 64"`
	Delete               []string          `json:"delete" validate:"max=30,unique,dive,min=1,maxBytes=8"`
	DeleteAfterOwnerLeft *bool             `json:"deleteAfterOwnerLeft"`
	UserData             *string           `json:"userData" validate:"omitnil,maxBytes=1024"`
}

type updateMemberAttributesReply struct {
	Infos         []room.MemberAttributesInfo `json:"infos"`
	ErrorUserList []room.UserID               `json:"errorUserList"`
}

func (a *api) listMemberAttributes(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	return a.answerMemberAttributes(w, r, func() (room.Room, error) { return a.Store.SessionRoom(r.Context(), session.ID, id) })
}

func (a *api) adminListMemberAttributes(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	return a.answerMemberAttributes(w, r, func() (room.Room, error) { return a.Store.Room(r.Context(), id) })
}

// answerMemberAttributes replies with the attributes of members of the room that find returns.
func (a *api) answerMemberAttributes(w http.ResponseWriter, r *http.Request, find func() (room.Room, error)) error {
	asked, err := readMemberQuery(r, maxMemberAttributesPage, defaultMemberAttributesPage)
	if err != nil {
		return err
	}
	found, err := find()
	if err != nil {
		return err
	}
	var page room.MemberPage[room.MemberAttributesInfo]
	if len(asked.users) > 0 {
		page, err = a.Store.MemberAttributesByID(r.Context(), found.Generation, asked.users)
	} else {
		page, err = a.Store.MemberAttributes(r.Context(), found.Generation, asked.after, asked.limit)
	}
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, memberAttributesReply{found.Generation, page.Seq, page.List, encodeMemberCursor(page.Next)})
}

func (a *api) updateMemberAttributes(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request updateMemberAttributesRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	own := slices.Equal(request.UserIDs, []room.UserID{session.User.ID})
	if request.UserData == nil || len(request.Set)+len(request.Delete) > 0 {
		if err := checkKeys(request.Set, request.Delete); err != nil {
			return err
		}
	}
	if request.UserData != nil && !own {
		return invalid(fault{"/userData", "own", "can only be changed by its user: userIDs must contain you alone"})
	}
	if !own { // a user's own attributes need no grant
		if err := session.Grants.Check(room.ActionAttributes, id); err != nil {
			return err
		}
	}
	if err := a.takeTokens(w, r, a.rates.attributes, session.User.ID, 1); err != nil {
		return err
	}
	return a.changeMemberAttributes(w, r, actor(r, session), id, request.UserIDs, room.MemberAttributesUpdate{
		By: session.User.ID, Set: request.Set, Delete: request.Delete, DeleteAfterOwnerLeft: request.DeleteAfterOwnerLeft, UserData: request.UserData,
	})
}

// adminUpdateMemberAttributesRequest has no user data, which belongs to its user alone.
type adminUpdateMemberAttributesRequest struct {
	UserIDs              []room.UserID     `json:"userIDs" validate:"required,min=1,max=100,unique,dive,userID"`
	Set                  map[string]string `json:"set" validate:"pairBytes=8 64"`
	Delete               []string          `json:"delete" validate:"max=30,unique,dive,min=1,maxBytes=8"`
	DeleteAfterOwnerLeft *bool             `json:"deleteAfterOwnerLeft"`
}

func (a *api) adminUpdateMemberAttributes(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	var request adminUpdateMemberAttributesRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := checkKeys(request.Set, request.Delete); err != nil {
		return err
	}
	return a.changeMemberAttributes(w, r, by, id, request.UserIDs, room.MemberAttributesUpdate{
		Set: request.Set, Delete: request.Delete, DeleteAfterOwnerLeft: request.DeleteAfterOwnerLeft,
	})
}

func (a *api) changeMemberAttributes(
	w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID, users []room.UserID, u room.MemberAttributesUpdate,
) error {
	infos, absent, err := a.Store.UpdateMemberAttributes(r.Context(), by, id, users, u)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, updateMemberAttributesReply{infos, absent})
}
