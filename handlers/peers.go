package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// peerStore has the store methods for messages between two users.
type peerStore interface {
	PostPeerMessage(ctx context.Context, send room.PeerSend) (m room.Message, retry bool, err error)
	EarlierPeerMessage(ctx context.Context, send room.PeerSend) (m room.Message, found bool, err error)
	PeerMessagesBefore(ctx context.Context, session room.Session, peer room.UserID, before room.Seq, n int) ([]room.Message, error)
	PeerMessagesAfter(ctx context.Context, session room.Session, peer room.UserID, after room.Seq, n int) ([]room.Message, error)
}

func (a *api) sendPeerMessage(w http.ResponseWriter, r *http.Request, session room.Session, to room.UserID) error {
	var request sendMessageRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	draft, err := request.peerDraft()
	if err != nil {
		return err
	}
	send := room.PeerSend{Sender: session.Sender(actor(r, session)), Peer: to, Draft: draft}
	if err := send.CheckGrants(); err != nil {
		return err
	}
	return a.post(w, r, session.User.ID, &send.Draft, posting{
		post:    func() (room.Message, bool, error) { return a.Store.PostPeerMessage(r.Context(), send) },
		earlier: func() (room.Message, bool, error) { return a.Store.EarlierPeerMessage(r.Context(), send) },
	})
}

// peerDraft returns a message between users as a draft. Errors: invalid_request.
func (m sendMessageRequest) peerDraft() (room.Draft, error) {
	draft, err := m.draft()
	switch {
	case err != nil:
		return room.Draft{}, err
	case draft.To != nil:
		return room.Draft{}, invalid(fault{"/to", "forbidden", "is for messages to rooms only"})
	case draft.Kind == room.KindBarrage:
		return room.Draft{}, invalid(fault{"/kind", "forbidden", "can be sent to rooms only"})
	}
	return draft, nil
}

func (a *api) listPeerMessages(w http.ResponseWriter, r *http.Request, session room.Session, peer room.UserID) error {
	q := readQuery(r, "before", "after", "limit")
	page := q.messagePage()
	if err := q.err(); err != nil {
		return err
	}
	return a.answerMessages(w, r, page, allMessages, func(n int) ([]room.Message, error) {
		if page.oldest {
			return a.Store.PeerMessagesAfter(r.Context(), session, peer, page.After, n)
		}
		return a.Store.PeerMessagesBefore(r.Context(), session, peer, page.Before, n)
	})
}
