package handlers

import (
	"cmp"
	"math"
	"net/http"
	"slices"

	"parlor/room"
)

const (
	defaultMessagePage = 50
	maxMessagePage     = 100
	// maxSafeInteger is the largest number that JavaScript counts exactly to.
	maxSafeInteger = 1<<53 - 1
)

type sendMessageRequest struct {
	Kind            room.MessageKind `json:"kind" validate:"required,oneof=text"`
	Text            string           `json:"text" validate:"required,maxBytes=32768"`
	Priority        *room.Priority   `json:"priority" validate:"omitnil,oneof=low medium high"`
	ExtendedData    string           `json:"extendedData" validate:"maxBytes=1024"`
	ClientMessageID *string          `json:"clientMessageID" validate:"omitnil,min=1,maxBytes=64"`
}

func (m sendMessageRequest) draft() room.Draft {
	return room.Draft{
		Kind: m.Kind, Text: m.Text, Priority: cmp.Or(given(m.Priority), room.PriorityMedium),
		ExtendedData: m.ExtendedData, ClientMessageID: given(m.ClientMessageID),
	}
}

type messageReply struct {
	Message room.Message `json:"message"`
}

type messageListReply struct {
	MessageList []room.Message `json:"messageList"`
	NextCursor  room.Seq       `json:"nextCursor,omitempty"`
}

func (a *api) sendRoomMessage(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request sendMessageRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	if err := session.Grants.Check(room.ActionSend, id); err != nil {
		return err
	}
	m, err := a.Store.PostMessage(r.Context(), session, id, request.draft())
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusCreated, messageReply{m})
}

func (a *api) listRoomMessages(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	q := readQuery(r, "before", "after", "limit")
	before := room.Seq(q.integer("before", 1, maxSafeInteger, math.MaxInt64))
	after := room.Seq(q.integer("after", 0, maxSafeInteger, 0))
	limit := int(q.integer("limit", 1, maxMessagePage, defaultMessagePage))
	if q.has("before") && q.has("after") {
		q.fault("after", "exclusive", "cannot stand together with before")
	}
	if err := q.err(); err != nil {
		return err
	}
	in, err := a.Store.RoomByID(r.Context(), session.ID, id)
	if err != nil {
		return err
	}
	reply := messageListReply{}
	// One message more than asked for tells whether there is a next page.
	if q.has("after") {
		reply.MessageList, err = a.Store.MessagesAfter(r.Context(), in, after, limit+1)
		if len(reply.MessageList) > limit {
			reply.MessageList = reply.MessageList[:limit]
			reply.NextCursor = reply.MessageList[limit-1].Seq
		}
	} else {
		reply.MessageList, err = a.Store.MessagesBefore(r.Context(), in, before, limit+1)
		if len(reply.MessageList) > limit {
			reply.MessageList = slices.Delete(reply.MessageList, 0, 1)
			reply.NextCursor = reply.MessageList[0].Seq
		}
	}
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusOK, reply)
}
