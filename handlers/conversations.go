package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// conversationStore has the store methods for a user's conversations.
type conversationStore interface {
	Conversations(ctx context.Context, session room.Session, before room.Seq, n int) (room.ConversationPage, error)
	Conversation(ctx context.Context, session room.Session, peer room.UserID) (room.ConversationPage, error)
	ReadConversation(ctx context.Context, by room.Actor, user, peer room.UserID, upTo room.Seq) error
	ReadAllConversations(ctx context.Context, by room.Actor, user room.UserID) error
	DeleteConversation(ctx context.Context, by room.Actor, user, peer room.UserID) error
}

const (
	defaultConversationPage = 50
	maxConversationPage     = 100
)

type conversationListReply struct {
	Seq              room.Seq                  `json:"seq"`
	TotalUnreadCount int                       `json:"totalUnreadCount"`
	ConversationList []room.ListedConversation `json:"conversationList"`
	NextCursor       room.Seq                  `json:"nextCursor,omitempty"`
}

type conversationReply struct {
	Seq              room.Seq                `json:"seq"`
	TotalUnreadCount int                     `json:"totalUnreadCount"`
	Conversation     room.ListedConversation `json:"conversation"`
}

func (a *api) listConversations(w http.ResponseWriter, r *http.Request, session room.Session) error {
	q := readQuery(r, "before", "limit")
	before := room.Seq(q.integer("before", 1, maxSafeInteger, maxSafeInteger))
	limit := int(q.integer("limit", 1, maxConversationPage, defaultConversationPage))
	if err := q.err(); err != nil {
		return err
	}
	page, err := a.Store.Conversations(r.Context(), session, before, limit+1)
	if err != nil {
		return err
	}
	reply := conversationListReply{page.Seq, page.TotalUnreadCount, page.List, 0}
	if len(page.List) > limit {
		reply.ConversationList = page.List[:limit]
		reply.NextCursor = page.List[limit-1].LastMessage.Seq
	}
	return a.answer(w, r, http.StatusOK, reply)
}

func (a *api) getConversation(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	page, err := a.Store.Conversation(r.Context(), session, peer)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, conversationReply{page.Seq, page.TotalUnreadCount, page.List[0]})
}

type readConversationRequest struct {
	Seq *room.Seq `json:"seq" validate:"required,min=1,max=9007199254740991"`
}

func (a *api) readConversation(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	var request readConversationRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := a.takeTokens(w, r, a.rates.inboxChanges, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.ReadConversation(r.Context(), actor(r, session), session.User.ID, peer, *request.Seq); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) readAllConversations(w http.ResponseWriter, r *http.Request, session room.Session) error {
	if err := a.takeTokens(w, r, a.rates.inboxChanges, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.ReadAllConversations(r.Context(), actor(r, session), session.User.ID); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) deleteConversation(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	if err := a.takeTokens(w, r, a.rates.inboxChanges, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.DeleteConversation(r.Context(), actor(r, session), session.User.ID, peer); err != nil {
		return err
	}
	return noContent(w)
}
