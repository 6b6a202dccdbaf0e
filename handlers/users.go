package handlers

import (
	"context"
	"net/http"
	"strconv"

	"parlor/room"
)

// userStore has the store methods with which admins look at users.
type userStore interface {
	Users(ctx context.Context, after room.LogID, limit int) (users []room.ListedUser, next room.LogID, err error)
	UserMessages(ctx context.Context, user, peer room.UserID, span room.Span, oldest bool, n int) ([]room.Message, error)
}

const (
	defaultUserPage = 100
	maxUserPage     = 500
)

type userListReply struct {
	Users      []room.ListedUser `json:"users"`
	NextCursor string            `json:"nextCursor,omitempty"`
}

func (a *api) adminListUsers(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	q := readQuery(r, "cursor", "limit")
	after := q.inboxCursor("cursor")
	limit := int(q.integer("limit", 1, maxUserPage, defaultUserPage))
	if err := q.err(); err != nil {
		return err
	}
	users, next, err := a.Store.Users(r.Context(), after, limit)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, userListReply{users, encodeInboxCursor(next)})
}

// adminListUserMessages lists the messages between a user and others, as they are in the user's
// inbox.
func (a *api) adminListUserMessages(w http.ResponseWriter, r *http.Request, _ room.Actor, user room.UserID) error {
	q := readQuery(r, "before", "after", "from", "until", "limit", "peerID")
	page, peer := q.messagePage(), q.userID("peerID")
	q.timeSpan(&page.Span)
	if err := q.err(); err != nil {
		return err
	}
	return a.answerMessages(w, r, page, allMessages, func(n int) ([]room.Message, error) {
		return a.Store.UserMessages(r.Context(), user, peer, page.Span, page.oldest, n)
	})
}

// adminSendPeerMessage sends a message to a user on behalf of any other user.
func (a *api) adminSendPeerMessage(w http.ResponseWriter, r *http.Request, by room.Actor, to room.UserID) error {
	var request adminSendMessageRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	draft, err := request.Message.peerDraft()
	if err != nil {
		return within("/message", err)
	}
	send := room.PeerSend{Sender: room.Sender{Actor: by, User: request.Sender.user()}, Peer: to, Draft: draft}
	if err := send.Check(); err != nil {
		return err
	}
	if err := a.resolveMedia(r.Context(), request.Sender.UserID, &send.Draft); err != nil {
		return err
	}
	m, _, err := a.Store.PostPeerMessage(r.Context(), send)
	if err != nil {
		return err
	}
	return a.answerMessage(w, r, m)
}

// encodeInboxCursor returns a log ID as an opaque cursor, or "" for 0.
func encodeInboxCursor(log room.LogID) string {
	if log == 0 {
		return ""
	}
	return strconv.FormatInt(int64(log), 36)
}

func (q *query) inboxCursor(name string) room.LogID {
	if !q.has(name) {
		return 0
	}
	n, err := strconv.ParseInt(q.values.Get(name), 36, 64)
	log := room.LogID(n)
	if err != nil || n < 1 || encodeInboxCursor(log) != q.values.Get(name) {
		q.fault(name, "cursor", "must be a nextCursor of this list")
	}
	return log
}

// userID returns the userID in a parameter, or "" if there is none.
func (q *query) userID(name string) room.UserID {
	if !q.has(name) {
		return ""
	}
	id := room.UserID(q.values.Get(name))
	if wrong := id.Fault(); wrong != "" {
		q.fault(name, "userID", wrong)
	}
	return id
}
