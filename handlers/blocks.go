package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// blockStore has the store methods for block lists.
type blockStore interface {
	Block(ctx context.Context, by room.Actor, owner, user room.UserID) error
	Unblock(ctx context.Context, by room.Actor, owner, user room.UserID) error
	Blocks(ctx context.Context, session room.Session, after room.UserID, limit int) (page []room.Block, more bool, err error)
	BlocksByID(ctx context.Context, session room.Session, users []room.UserID) ([]room.Block, error)
}

const (
	defaultBlockPage = 100
	maxBlockPage     = 500
)

type blockListReply struct {
	BlockList  []room.Block `json:"blockList"`
	NextCursor string       `json:"nextCursor,omitempty"`
}

func (a *api) listBlocks(w http.ResponseWriter, r *http.Request, session room.Session) error {
	q := readQuery(r, "limit", "cursor", "userID"+repeatable)
	after := idCursor[room.UserID](q, "cursor")
	limit := int(q.integer("limit", 1, maxBlockPage, defaultBlockPage))
	users := q.userIDs("userID")
	q.exclusive("userID", "limit", "cursor")
	if err := q.err(); err != nil {
		return err
	}
	if len(users) > 0 {
		blocks, err := a.Store.BlocksByID(r.Context(), session, users)
		if err != nil {
			return err
		}
		return a.answer(w, r, http.StatusOK, blockListReply{BlockList: blocks})
	}
	blocks, more, err := a.Store.Blocks(r.Context(), session, after, limit)
	if err != nil {
		return err
	}
	reply := blockListReply{BlockList: blocks}
	if more {
		reply.NextCursor = encodeIDCursor(blocks[len(blocks)-1].User)
	}
	return a.answer(w, r, http.StatusOK, reply)
}

func (a *api) blockUser(w http.ResponseWriter, r *http.Request, session room.Session, user room.UserID) error {
	if err := a.takeTokens(w, r, a.rates.inboxChanges, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.Block(r.Context(), actor(r, session), session.User.ID, user); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) unblockUser(w http.ResponseWriter, r *http.Request, session room.Session, user room.UserID) error {
	if err := a.takeTokens(w, r, a.rates.inboxChanges, session.User.ID, 1); err != nil {
		return err
	}
	if err := a.Store.Unblock(r.Context(), actor(r, session), session.User.ID, user); err != nil {
		return err
	}
	return noContent(w)
}
