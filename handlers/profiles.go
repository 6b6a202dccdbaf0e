package handlers

import (
	"context"
	"net/http"
	"slices"

	"parlor/room"
)

// profileStore has the store methods for profiles.
type profileStore interface {
	Profiles(ctx context.Context, users []room.UserID) ([]room.Profile, error)
	UpdateProfile(ctx context.Context, by room.Actor, user room.UserID, u room.ProfileUpdate) (room.Profile, error)
}

type queryUsersReply struct {
	UserList      []room.Profile `json:"userList"`
	ErrorUserList []room.UserID  `json:"errorUserList"`
}

// queryUsers replies with the profiles of users. Anyone may read them who knows the IDs, as anyone
// may find out whether a user exists by writing to them.
func (a *api) queryUsers(w http.ResponseWriter, r *http.Request, _ room.Session) error {
	q := readQuery(r, "userID"+repeatable)
	users := q.userIDs("userID")
	if !q.has("userID") {
		q.fault("userID", "required", "is required")
	}
	if err := q.err(); err != nil {
		return err
	}
	users = distinct(users)
	found, err := a.Store.Profiles(r.Context(), users)
	if err != nil {
		return err
	}
	unknown := slices.DeleteFunc(users, func(id room.UserID) bool {
		return slices.ContainsFunc(found, func(p room.Profile) bool { return p.ID == id })
	})
	return a.answer(w, r, http.StatusOK, queryUsersReply{found, unknown})
}

// distinct returns the users, each once, in their order.
func distinct(users []room.UserID) (each []room.UserID) {
	for _, id := range users {
		if !slices.Contains(each, id) {
			each = append(each, id)
		}
	}
	return each
}

// updateProfileRequest has what changes. It is a merge patch (RFC 7396) without null: an empty text
// removes a value.
type updateProfileRequest struct {
	UserName     *string `json:"userName" validate:"omitnil,min=1,name=256"`
	AvatarURL    *string `json:"avatarURL" validate:"omitnil,maxBytes=500,avatarURL"`
	ExtendedData *string `json:"userExtendedData" validate:"omitnil,maxBytes=2048"`
}

type profileReply struct {
	Profile room.Profile `json:"profile"`
}

func (a *api) updateProfile(w http.ResponseWriter, r *http.Request, session room.Session) error {
	update, err := a.readProfileUpdate(w, r)
	if err != nil {
		return err
	}
	if err := session.Grants.CheckProfile(); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.profiles, session.User.ID, 1); err != nil {
		return err
	}
	update.NamesSigned = a.SignedNames
	return a.changeProfile(w, r, actor(r, session), session.User.ID, update)
}

func (a *api) readProfileUpdate(w http.ResponseWriter, r *http.Request) (room.ProfileUpdate, error) {
	var request updateProfileRequest
	if err := a.decode(w, r, &request); err != nil {
		return room.ProfileUpdate{}, err
	}
	if request == (updateProfileRequest{}) {
		return room.ProfileUpdate{}, invalid(fault{"", "empty", "must have a userName, an avatarURL or userExtendedData"})
	}
	return room.ProfileUpdate{Name: request.UserName, AvatarURL: request.AvatarURL, ExtendedData: request.ExtendedData}, nil
}

// changeProfile changes the profile of a user, and replies with it.
func (a *api) changeProfile(w http.ResponseWriter, r *http.Request, by room.Actor, user room.UserID, u room.ProfileUpdate) error {
	updated, err := a.Store.UpdateProfile(r.Context(), by, user, u)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, profileReply{updated})
}

func (a *api) adminGetProfile(w http.ResponseWriter, r *http.Request, _ room.Actor, user room.UserID) error {
	found, err := a.Store.Profiles(r.Context(), []room.UserID{user})
	if err == nil && len(found) == 0 {
		err = room.ErrUserNotFound
	}
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, profileReply{found[0]})
}

func (a *api) adminUpdateProfile(w http.ResponseWriter, r *http.Request, by room.Actor, user room.UserID) error {
	update, err := a.readProfileUpdate(w, r)
	if err != nil {
		return err
	}
	return a.changeProfile(w, r, by, user, update)
}
