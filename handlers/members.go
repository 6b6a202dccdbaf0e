package handlers

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"parlor/room"
)

// memberStore has the store methods for members.
type memberStore interface {
	Members(ctx context.Context, log room.LogID, after room.MemberCursor, limit int) (room.MemberPage[room.Member], error)
	MembersByID(ctx context.Context, log room.LogID, users []room.UserID) (room.MemberPage[room.Member], error)
	KickMembers(ctx context.Context, by room.Actor, id room.RoomID, users []room.UserID, reason string, ban time.Duration) ([]room.UserID, error)
}

const (
	defaultMemberPage = 100
	maxMemberPage     = 500
	maxMemberLookup   = 100
)

type memberListReply struct {
	Generation room.LogID    `json:"generation"`
	Seq        room.Seq      `json:"seq"`
	MemberList []room.Member `json:"memberList"`
	NextCursor string        `json:"nextCursor,omitempty"`
}

type memberCountReply struct {
	Count int `json:"count"`
}

func (a *api) listMembers(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	return a.answerMembers(w, r, func() (room.Room, error) { return a.Store.SessionRoom(r.Context(), session.ID, id) })
}

// answerMembers replies with members of the room that find returns.
func (a *api) answerMembers(w http.ResponseWriter, r *http.Request, find func() (room.Room, error)) error {
	asked, err := readMemberQuery(r, maxMemberPage, defaultMemberPage)
	if err != nil {
		return err
	}
	found, err := find()
	if err != nil {
		return err
	}
	var page room.MemberPage[room.Member]
	if len(asked.users) > 0 {
		page, err = a.Store.MembersByID(r.Context(), found.Generation, asked.users)
	} else {
		page, err = a.Store.Members(r.Context(), found.Generation, asked.after, asked.limit)
	}
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, memberListReply{found.Generation, page.Seq, page.List, encodeMemberCursor(page.Next)})
}

// memberQuery selects members of a room: a page of them, or the given users.
type memberQuery struct {
	after room.MemberCursor
	limit int
	users []room.UserID
}

func readMemberQuery(r *http.Request, maxLimit, defaultLimit int64) (memberQuery, error) {
	q := readQuery(r, "limit", "cursor", "userID"+repeatable)
	asked := memberQuery{
		limit: int(q.integer("limit", 1, maxLimit, defaultLimit)),
		after: q.memberCursor("cursor"),
		users: q.userIDs("userID"),
	}
	q.exclusive("userID", "limit", "cursor")
	return asked, q.err()
}

type kickRequest struct {
	UserIDs    []room.UserID `json:"userIDs" validate:"required,min=1,max=50,unique,dive,userID"`
	Reason     string        `json:"reason" validate:"maxBytes=256"`
	BanSeconds room.Seconds  `json:"banSeconds" validate:"min=0,max=31536000"`
}

type kickReply struct {
	KickedList    []room.UserID `json:"kickedList"`
	ErrorUserList []room.UserID `json:"errorUserList"`
}

// kickMembers removes other users from a room that the session is in. Kicking always needs a grant.
func (a *api) kickMembers(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request kickRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if _, err := a.Store.SessionRoom(r.Context(), session.ID, id); err != nil {
		return err
	}
	if err := session.Grants.Check(room.ActionKick, id); err != nil {
		return err
	}
	return a.kick(w, r, actor(r, session), id, request)
}

// kick removes users from a room, for a member or an admin.
func (a *api) kick(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID, request kickRequest) error {
	kicked, err := a.Store.KickMembers(r.Context(), by, id, request.UserIDs, request.Reason, request.BanSeconds.Duration())
	if err != nil {
		return err
	}
	absent := slices.DeleteFunc(slices.Clone(request.UserIDs), func(id room.UserID) bool { return slices.Contains(kicked, id) })
	return a.answer(w, r, http.StatusOK, kickReply{KickedList: kicked, ErrorUserList: absent})
}

func (a *api) countMembers(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	found, err := a.Store.SessionRoom(r.Context(), session.ID, id)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, memberCountReply{found.MemberCount})
}

// encodeMemberCursor returns "seq.userID" in base64, so that clients treat it as opaque, or "" for
// the zero cursor.
func encodeMemberCursor(c room.MemberCursor) string {
	if c == (room.MemberCursor{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%s", c.JoinedSeq, c.User))
}

// parseMemberCursor accepts only what encodeMemberCursor returns.
func parseMemberCursor(s string) (room.MemberCursor, bool) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return room.MemberCursor{}, false
	}
	seq, user, _ := strings.Cut(string(text), ".")
	n, err := strconv.ParseInt(seq, 10, 64)
	c := room.MemberCursor{JoinedSeq: room.Seq(n), User: room.UserID(user)}
	return c, err == nil && n > 0 && c.User.Valid() && encodeMemberCursor(c) == s
}

func (q *query) memberCursor(name string) room.MemberCursor {
	if !q.has(name) {
		return room.MemberCursor{}
	}
	c, ok := parseMemberCursor(q.values.Get(name))
	if !ok {
		q.fault(name, "cursor", "must be a nextCursor of this list")
	}
	return c
}

func (q *query) userIDs(name string) []room.UserID {
	values := q.values[name]
	if len(values) > maxMemberLookup {
		q.fault(name, "max", fmt.Sprintf("may appear at most %d times", maxMemberLookup))
		return nil
	}
	users := make([]room.UserID, 0, len(values))
	for _, v := range values {
		id := room.UserID(v)
		if wrong := id.Fault(); wrong != "" {
			q.fault(name, "userID", wrong)
		}
		users = append(users, id)
	}
	return users
}
