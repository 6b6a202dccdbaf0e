package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"parlor/room"
)

// roomStore has the store methods for rooms, and for the presence of sessions in them.
type roomStore interface {
	CreateRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (room.Room, error)
	JoinRoom(ctx context.Context, by room.Actor, id room.RoomID, userData string) (room.Room, error)
	EnterRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (entered room.Room, created bool, err error)
	SwitchRoom(ctx context.Context, by room.Actor, from, to room.RoomID, create bool, opts room.RoomOptions) (entered room.Room, created bool, err error)
	LeaveRoom(ctx context.Context, by room.Actor, id room.RoomID) error
	RoomWithMembers(ctx context.Context, session room.SessionID, id room.RoomID, limit int) (r room.Room, page room.MemberPage[room.Member], attributes []room.MemberAttributesInfo, err error)
	SessionRoom(ctx context.Context, session room.SessionID, id room.RoomID) (room.Room, error)
}

// configRequest has settings of a room. An absent setting has the server's default in a new room, and
// stays as it is in an existing one.
type configRequest struct {
	DestroyDelay  *room.Seconds  `json:"destroyDelay" validate:"omitnil,min=0,max=10800"`
	UnusedTimeout *room.Seconds  `json:"unusedTimeout" validate:"omitnil,min=1,max=86400"`
	MemberTimeout *room.Seconds  `json:"memberTimeout" validate:"omitnil,min=5,max=300"`
	MaxMembers    *int           `json:"maxMembers" validate:"omitnil,min=1,max=1000000"`
	SameUser      *room.SameUser `json:"sameUser" validate:"omitnil,oneof=allow replace reject"`

	HistoryVisible *room.HistoryVisible `json:"historyVisible" validate:"omitnil,oneof=all sinceJoined"`
	Lifetime       *room.Lifetime       `json:"lifetime" validate:"omitnil,oneof=untilEmpty kept"`
	History        *room.History        `json:"history" validate:"omitnil,oneof=stored none"`
	RetentionDays  *int                 `json:"retentionDays" validate:"omitnil,min=0,max=3650"`
	RetentionCount *int                 `json:"retentionCount" validate:"omitnil,min=0,max=1000000"`
	Presence       *room.PresenceMode   `json:"presence" validate:"omitnil,oneof=full batched counts none"`
	NamesUpTo      *int                 `json:"namesUpTo" validate:"omitnil,min=1,max=1000000"`
	MemberStates   *bool                `json:"memberStates"`
}

// withinCeilings returns invalid_request if a client asks for more than the operator allows
// clients.
func (a *api) withinCeilings(c configRequest) error {
	var faults []fault
	for _, f := range a.Ceilings.Check(room.Settings(c)) {
		faults = append(faults, fault{"/config" + f.Field, f.Rule, fmt.Sprintf("must be at most %d on this server", f.Limit)})
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}

// roomOptions returns the options of a room that a call may create.
func roomOptions(name string, c configRequest, attributes map[string]string, userData string) room.RoomOptions {
	return room.RoomOptions{Name: name, Settings: room.Settings(c), Attributes: attributes, UserData: userData}
}

type createRoomRequest struct {
	RoomID         room.RoomID       `json:"roomID" validate:"required,roomID"`
	RoomName       string            `json:"roomName" validate:"omitempty,name=64"`
	Config         configRequest     `json:"config"`
	RoomAttributes map[string]string `json:"roomAttributes" validate:"max=20,pairBytes=16 1024,totalBytes=5120"`
	UserData       string            `json:"userData" validate:"maxBytes=1024"`
}

type enterRoomRequest struct {
	RoomName       string            `json:"roomName" validate:"omitempty,name=64"`
	Config         configRequest     `json:"config"`
	RoomAttributes map[string]string `json:"roomAttributes" validate:"max=20,pairBytes=16 1024,totalBytes=5120"`
	UserData       string            `json:"userData" validate:"maxBytes=1024"`
	MemberLimit    *int              `json:"memberLimit" validate:"omitnil,min=1,max=500"`
}

type joinRoomRequest struct {
	UserData    string `json:"userData" validate:"maxBytes=1024"`
	MemberLimit *int   `json:"memberLimit" validate:"omitnil,min=1,max=500"`
}

type roomReply struct {
	Room    room.Room         `json:"room"`
	Members *roomMembersReply `json:"members,omitempty"`
}

type enterRoomReply struct {
	Room    room.Room         `json:"room"`
	Created bool              `json:"created"`
	Members *roomMembersReply `json:"members,omitempty"`
}

// roomMembersReply has the first members of a room, which were read together with it.
type roomMembersReply struct {
	Seq        room.Seq                    `json:"seq"`
	MemberList []room.Member               `json:"memberList"`
	Infos      []room.MemberAttributesInfo `json:"infos"`
	NextCursor string                      `json:"nextCursor,omitempty"`
}

// withMembers reads a room that the session has just joined again, together with its first members,
// if the client asked for some of them.
func (a *api) withMembers(
	ctx context.Context, session room.Session, joined room.Room, limit *int,
) (room.Room, *roomMembersReply, error) {
	if limit == nil {
		return joined, nil, nil
	}
	r, page, attributes, err := a.Store.RoomWithMembers(ctx, session.ID, joined.ID, *limit)
	if err != nil {
		return room.Room{}, nil, err
	}
	return r, &roomMembersReply{page.Seq, page.List, attributes, encodeMemberCursor(page.Next)}, nil
}

type leaveRoomReply struct {
	RoomID room.RoomID `json:"roomID"`
}

func (a *api) createRoom(w http.ResponseWriter, r *http.Request, session room.Session) error {
	var request createRoomRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := a.withinCeilings(request.Config); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.roomsCreated, session.User.ID, 1); err != nil {
		return err
	}
	opts := roomOptions(request.RoomName, request.Config, request.RoomAttributes, request.UserData)
	created, err := a.Store.CreateRoom(r.Context(), actor(r, session), request.RoomID, opts)
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.links.path(roomPath(created.ID)))
	return a.answer(w, r, http.StatusCreated, roomReply{Room: created})
}

func (a *api) joinRoom(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request joinRoomRequest
	if err := a.decodeOptional(w, r, &request); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	joined, err := a.Store.JoinRoom(r.Context(), actor(r, session), id, request.UserData)
	if err != nil {
		return err
	}
	joined, members, err := a.withMembers(r.Context(), session, joined, request.MemberLimit)
	if err != nil {
		return err
	}
	a.expectEvents(joined)
	return a.answer(w, r, http.StatusOK, roomReply{joined, members})
}

func (a *api) enterRoom(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request enterRoomRequest
	if err := a.decodeOptional(w, r, &request); err != nil {
		return err
	}
	if err := a.withinCeilings(request.Config); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	done, err := a.checkRoomCreationRate(w, r, session.User.ID, id)
	if err != nil {
		return err
	}
	opts := roomOptions(request.RoomName, request.Config, request.RoomAttributes, request.UserData)
	entered, created, err := a.Store.EnterRoom(r.Context(), actor(r, session), id, opts)
	done(created)
	if err != nil {
		return err
	}
	entered, members, err := a.withMembers(r.Context(), session, entered, request.MemberLimit)
	if err != nil {
		return err
	}
	a.expectEvents(entered)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		w.Header().Set("Location", a.links.path(roomPath(id)))
	}
	return a.answer(w, r, status, enterRoomReply{entered, created, members})
}

type switchRoomRequest struct {
	ToRoom            *toRoom           `json:"toRoom" validate:"required"`
	CreateIfNotExists bool              `json:"createIfNotExists"`
	Config            configRequest     `json:"config"`
	RoomAttributes    map[string]string `json:"roomAttributes" validate:"max=20,pairBytes=16 1024,totalBytes=5120"`
	UserData          string            `json:"userData" validate:"maxBytes=1024"`
	MemberLimit       *int              `json:"memberLimit" validate:"omitnil,min=1,max=500"`
}

type toRoom struct {
	RoomID   room.RoomID `json:"roomID" validate:"required,roomID"`
	RoomName string      `json:"roomName" validate:"omitempty,name=64"`
}

func (a *api) switchRoom(w http.ResponseWriter, r *http.Request, session room.Session, from room.RoomID) error {
	var request switchRoomRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	to := request.ToRoom
	if to.RoomID == from {
		return invalid(fault{"/toRoom/roomID", "different", "must be another room than the one in the path"})
	}
	if err := a.withinCeilings(request.Config); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	done := func(created bool) {}
	if request.CreateIfNotExists {
		var err error
		if done, err = a.checkRoomCreationRate(w, r, session.User.ID, to.RoomID); err != nil {
			return err
		}
	}
	opts := roomOptions(to.RoomName, request.Config, request.RoomAttributes, request.UserData)
	entered, created, err := a.Store.SwitchRoom(r.Context(), actor(r, session), from, to.RoomID, request.CreateIfNotExists, opts)
	done(created)
	if err != nil {
		return err
	}
	entered, members, err := a.withMembers(r.Context(), session, entered, request.MemberLimit)
	if err != nil {
		return err
	}
	a.expectEvents(entered)
	return a.answer(w, r, http.StatusOK, enterRoomReply{entered, created, members})
}

func (a *api) leaveRoom(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	if err := a.takeTokens(w, r, a.rates.joins, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.LeaveRoom(r.Context(), actor(r, session), id); err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, leaveRoomReply{id})
}

func (a *api) getRoom(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	q := readQuery(r, "memberLimit")
	var limit *int
	if q.has("memberLimit") {
		limit = new(int(q.integer("memberLimit", 1, maxMemberPage, 1)))
	}
	if err := q.err(); err != nil {
		return err
	}
	found, err := a.Store.SessionRoom(r.Context(), session.ID, id)
	if err != nil {
		return err
	}
	found, members, err := a.withMembers(r.Context(), session, found, limit)
	if err != nil {
		return err
	}
	a.expectEvents(found)
	return a.answerRoom(w, r, found, members)
}

// expectEvents makes sure that the streams of this server get the events up to the lastSeq of rooms
// that a session is about to be told of. Other servers may have committed some of them.
func (a *api) expectEvents(rooms ...room.Room) {
	for _, r := range rooms {
		a.Hub.Expect(room.Position{Log: r.Generation, Seq: r.LastSeq})
	}
}

func roomPath(id room.RoomID) string { return "/v1/rooms/" + url.PathEscape(string(id)) }
