package handlers

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"parlor/room"
)

// broadcastStore has the store methods for messages to many rooms.
type broadcastStore interface {
	CreateBroadcast(ctx context.Context, by room.Actor, d room.BroadcastDraft) (room.Broadcast, error)
	Broadcast(ctx context.Context, id room.BroadcastID) (room.Broadcast, error)
	Broadcasts(ctx context.Context) ([]room.Broadcast, error)
	StopBroadcast(ctx context.Context, id room.BroadcastID) error
}

type createBroadcastRequest struct {
	Prefix  *string             `json:"prefix" validate:"omitnil,min=1,max=128"`
	Sender  *senderRequest      `json:"sender" validate:"required"`
	Message *sendMessageRequest `json:"message" validate:"required"`
}

type broadcastReply struct {
	Broadcast room.Broadcast `json:"broadcast"`
}

type broadcastListReply struct {
	Broadcasts []room.Broadcast `json:"broadcasts"`
}

func (a *api) mountBroadcasts(r chi.Router) {
	r.Get("/v1/admin/broadcasts", a.withAdmin(a.adminListBroadcasts))
	r.Post("/v1/admin/broadcasts", a.withAdmin(a.adminCreateBroadcast, inBody))
	r.Get("/v1/admin/broadcasts/{broadcastID}", a.withAdmin(a.adminGetBroadcast))
	r.Delete("/v1/admin/broadcasts/{broadcastID}", a.withAdmin(a.adminStopBroadcast))
}

func (a *api) adminCreateBroadcast(w http.ResponseWriter, r *http.Request, by room.Actor) error {
	var request createBroadcastRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if p := request.Prefix; p != nil && !room.ValidPrefix(room.RoomID(*p)) {
		return invalid(fault{"/prefix", "roomID", prefixRule})
	}
	draft, err := request.Message.draft()
	if err == nil && draft.To != nil {
		err = invalid(fault{"/to", "forbidden", "is for messages to one room only"})
	}
	if err == nil && !draft.Kind.Stored() {
		err = invalid(fault{"/kind", "forbidden", "cannot be sent again if a server fails: use a kind that is stored"})
	}
	if err != nil {
		return within("/message", err)
	}
	if err := a.resolveMedia(r.Context(), request.Sender.UserID, &draft); err != nil {
		return err
	}
	b, err := a.Store.CreateBroadcast(r.Context(), by, room.BroadcastDraft{
		Prefix: given(request.Prefix), Sender: request.Sender.user(), Draft: draft,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.links.path("/v1/admin/broadcasts/"+string(b.ID)))
	return a.answer(w, r, http.StatusAccepted, broadcastReply{b})
}

func (a *api) adminListBroadcasts(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	all, err := a.Store.Broadcasts(r.Context())
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, broadcastListReply{all})
}

func (a *api) adminGetBroadcast(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	id, err := pathUUID(r, "broadcastID")
	if err != nil {
		return err
	}
	b, err := a.Store.Broadcast(r.Context(), room.BroadcastID(id))
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, broadcastReply{b})
}

func (a *api) adminStopBroadcast(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	id, err := pathUUID(r, "broadcastID")
	if err != nil {
		return err
	}
	if err := a.Store.StopBroadcast(r.Context(), room.BroadcastID(id)); err != nil {
		return err
	}
	return noContent(w)
}
