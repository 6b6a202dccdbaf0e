package handlers

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"time"

	"parlor/auth"
	"parlor/room"
)

// adminStore has the store methods of the admin API, which the customer's servers call with an
// admin token. The calls act on any room and any user.
type adminStore interface {
	Rooms(ctx context.Context, prefix string, after room.RoomID, limit int) (page []room.Room, more bool, err error)
	Room(ctx context.Context, id room.RoomID) (room.Room, error)
	CreateEmptyRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (room.Room, error)
	DestroyRoom(ctx context.Context, by room.Actor, id room.RoomID, reason string) error
	UserRooms(ctx context.Context, user room.UserID) ([]room.Room, error)
	UserSessions(ctx context.Context, user room.UserID) ([]room.Session, error)
	KickSession(ctx context.Context, by room.Actor, user room.UserID, id room.SessionID, reason string) error
	KickUser(ctx context.Context, by room.Actor, user room.UserID, reason string) ([]room.SessionID, error)
	VoidTokens(ctx context.Context, by room.Actor, user room.UserID, before time.Time, reason string) ([]room.SessionID, error)
	Bans(ctx context.Context, id room.RoomID) ([]room.Ban, error)
	Unban(ctx context.Context, by room.Actor, id room.RoomID, user room.UserID) error
}

const (
	defaultRoomPage = 100
	maxRoomPage     = 500
)

type roomPageReply struct {
	Rooms      []room.Room `json:"rooms"`
	NextCursor string      `json:"nextCursor,omitempty"`
}

func (a *api) adminListRooms(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	q := readQuery(r, "prefix", "cursor", "limit")
	prefix := q.roomPrefix("prefix")
	after := idCursor[room.RoomID](q, "cursor")
	limit := int(q.integer("limit", 1, maxRoomPage, defaultRoomPage))
	if err := q.err(); err != nil {
		return err
	}
	rooms, more, err := a.Store.Rooms(r.Context(), prefix, after, limit)
	if err != nil {
		return err
	}
	reply := roomPageReply{Rooms: rooms}
	if more {
		reply.NextCursor = encodeIDCursor(rooms[len(rooms)-1].ID)
	}
	return a.answer(w, r, http.StatusOK, reply)
}

type adminCreateRoomRequest struct {
	RoomID         room.RoomID       `json:"roomID" validate:"required,roomID"`
	RoomName       string            `json:"roomName" validate:"omitempty,name=64"`
	Config         configRequest     `json:"config"`
	RoomAttributes map[string]string `json:"roomAttributes" validate:"max=20,pairBytes=16 1024,totalBytes=5120"`
}

func (a *api) adminCreateRoom(w http.ResponseWriter, r *http.Request, by room.Actor) error {
	var request adminCreateRoomRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	opts := roomOptions(request.RoomName, request.Config, request.RoomAttributes, "")
	created, err := a.Store.CreateEmptyRoom(r.Context(), by, request.RoomID, opts)
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.links.path(adminRoomPath(created.ID)))
	return a.answer(w, r, http.StatusCreated, roomReply{Room: created})
}

func adminRoomPath(id room.RoomID) string { return "/v1/admin/rooms/" + url.PathEscape(string(id)) }

func (a *api) adminGetRoom(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	found, err := a.Store.Room(r.Context(), id)
	if err != nil {
		return err
	}
	return a.answerRoom(w, r, found, nil)
}

func (a *api) adminDestroyRoom(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	q := readQuery(r, "reason")
	reason := q.reason()
	if err := q.err(); err != nil {
		return err
	}
	if err := a.Store.DestroyRoom(r.Context(), by, id, reason); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) adminListMembers(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	return a.answerMembers(w, r, func() (room.Room, error) { return a.Store.Room(r.Context(), id) })
}

func (a *api) adminKickMember(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID, user room.UserID) error {
	q := readQuery(r, "reason", "banSeconds")
	reason := q.reason()
	ban := room.Seconds(q.integer("banSeconds", 0, int64(room.MaxBan/time.Second), 0)).Duration()
	if err := q.err(); err != nil {
		return err
	}
	kicked, err := a.Store.KickMembers(r.Context(), by, id, []room.UserID{user}, reason, ban)
	if err != nil {
		return err
	}
	if len(kicked) == 0 && ban == 0 {
		return room.ErrMemberNotFound
	}
	return noContent(w)
}

func (a *api) adminKickMembers(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	var request kickRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	return a.kick(w, r, by, id, request)
}

type banListReply struct {
	Bans []room.Ban `json:"bans"`
}

func (a *api) adminListBans(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	bans, err := a.Store.Bans(r.Context(), id)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, banListReply{bans})
}

func (a *api) adminUnban(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID, user room.UserID) error {
	if err := a.Store.Unban(r.Context(), by, id, user); err != nil {
		return err
	}
	return noContent(w)
}

type adminSendMessageRequest struct {
	Sender  *senderRequest      `json:"sender" validate:"required"`
	Message *sendMessageRequest `json:"message" validate:"required"`
}

type senderRequest struct {
	UserID   room.UserID `json:"userID" validate:"required,userID"`
	UserName *string     `json:"userName" validate:"omitnil,min=1,name=256"`
}

func (s senderRequest) user() room.User {
	return room.User{ID: s.UserID, Name: cmp.Or(given(s.UserName), string(s.UserID))}
}

func (a *api) adminSendMessage(w http.ResponseWriter, r *http.Request, by room.Actor, id room.RoomID) error {
	var request adminSendMessageRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	draft, err := request.Message.draft()
	if err != nil {
		return within("/message", err)
	}
	if err := a.resolveMedia(r.Context(), request.Sender.UserID, &draft); err != nil {
		return err
	}
	m, _, err := a.Store.PostMessage(r.Context(), room.RoomSend{Sender: room.Sender{Actor: by, User: request.Sender.user()}, Room: id, Draft: draft})
	if err != nil {
		return err
	}
	return a.answerMessage(w, r, m)
}

func (a *api) adminListUserRooms(w http.ResponseWriter, r *http.Request, _ room.Actor, user room.UserID) error {
	rooms, err := a.Store.UserRooms(r.Context(), user)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, roomListReply{rooms})
}

type sessionListReply struct {
	Sessions []sessionState `json:"sessions"`
}

func (a *api) adminListUserSessions(w http.ResponseWriter, r *http.Request, _ room.Actor, user room.UserID) error {
	sessions, err := a.Store.UserSessions(r.Context(), user)
	if err != nil {
		return err
	}
	reply := sessionListReply{Sessions: make([]sessionState, 0, len(sessions))}
	for _, session := range sessions {
		reply.Sessions = append(reply.Sessions, stateOf(session, a.Store.Now()))
	}
	return a.answer(w, r, http.StatusOK, reply)
}

type endSessionsReply struct {
	SessionIDs []room.SessionID `json:"sessionIDs"`
}

func (a *api) adminEndUserSessions(w http.ResponseWriter, r *http.Request, by room.Actor, user room.UserID) error {
	q := readQuery(r, "reason")
	reason := q.reason()
	if err := q.err(); err != nil {
		return err
	}
	ended, err := a.Store.KickUser(r.Context(), by, user, reason)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, endSessionsReply{ended})
}

type voidTokensRequest struct {
	Before *string `json:"before" validate:"omitnil,instant"`
	Reason string  `json:"reason" validate:"maxBytes=256"`
}

type voidTokensReply struct {
	Before     room.Instant     `json:"before"`
	SessionIDs []room.SessionID `json:"sessionIDs"`
}

// adminVoidTokens declares a user's tokens void, for example because one was stolen. Without a time
// in the request it uses the server's clock, because callers' clocks differ.
func (a *api) adminVoidTokens(w http.ResponseWriter, r *http.Request, by room.Actor, user room.UserID) error {
	var request voidTokensRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	now := time.Now()
	before := now
	if request.Before != nil {
		before, _ = room.ParseInstant(*request.Before) // the request was validated
	}
	// A later time would void every new token of the user until then.
	if before.After(now.Add(auth.ClockSkew)) {
		return invalid(fault{"/before", "past", "must not be in the future"})
	}
	instant := room.InstantFrom(before)
	ended, err := a.Store.VoidTokens(r.Context(), by, user, instant.Time(), request.Reason)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, voidTokensReply{instant, ended})
}

func (a *api) adminEndSession(w http.ResponseWriter, r *http.Request, by room.Actor, user room.UserID) error {
	session, err := pathSessionID(r)
	if err != nil {
		return err
	}
	q := readQuery(r, "reason")
	reason := q.reason()
	if err := q.err(); err != nil {
		return err
	}
	if err := a.Store.KickSession(r.Context(), by, user, session, reason); err != nil {
		return err
	}
	return noContent(w)
}

// reason returns the text that an admin gives for a kick, a ban or the destruction of a room.
func (q *query) reason() string { return q.text("reason", room.MaxReasonBytes) }

// encodeIDCursor returns the cursor after a room or a user: its ID in base64, so that clients treat it
// as opaque.
func encodeIDCursor[ID ~string](id ID) string {
	return base64.RawURLEncoding.EncodeToString([]byte(id))
}

// idCursor returns the ID in a cursor, or "".
func idCursor[ID interface {
	~string
	Valid() bool
}](q *query, name string,
) ID {
	if !q.has(name) {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(q.values.Get(name))
	id := ID(text)
	if err != nil || !id.Valid() || encodeIDCursor(id) != q.values.Get(name) {
		q.fault(name, "cursor", "must be a nextCursor of this list")
		return ""
	}
	return id
}

// prefixRule is the message for a text with which no roomID begins.
const prefixRule = "must be the beginning of a valid ID: see RoomID in openapi.yaml"

// roomPrefix returns the beginning of the roomIDs to list, or "".
func (q *query) roomPrefix(name string) string {
	if !q.has(name) {
		return ""
	}
	prefix := q.values.Get(name)
	if prefix == "" || !room.ValidPrefix(room.RoomID(prefix)) {
		q.fault(name, "roomID", prefixRule)
		return ""
	}
	return prefix
}
