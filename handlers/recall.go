package handlers

import (
	"net/http"

	"github.com/google/uuid"

	"parlor/room"
)

func (a *api) recallMessage(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.Recall(r.Context(), session, id, message); err != nil {
		return err
	}
	return noContent(w)
}

func (a *api) adminRecallMessage(w http.ResponseWriter, r *http.Request, id room.RoomID) error {
	message, err := pathMessageID(r)
	if err != nil {
		return err
	}
	if err := a.Store.RecallAny(r.Context(), id, message); err != nil {
		return err
	}
	return noContent(w)
}

// pathMessageID is the message that the path names.
func pathMessageID(r *http.Request) (room.MessageID, error) {
	id := pathParam(r, "messageID")
	// Parse takes other forms as well; one message has one name.
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return "", invalid(fault{"path/messageID", "uuid", "must be a UUID in lower case"})
	}
	return room.MessageID(id), nil
}
