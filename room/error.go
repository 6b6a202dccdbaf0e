package room

import "fmt"

// Kind says what sort of failure an Error is. The set is closed: handlers map
// each kind to one HTTP status.
type Kind uint8

const (
	Invalid         Kind = iota + 1 // the request itself is wrong
	Unauthenticated                 // who calls is not known, or no longer
	Forbidden                       // who calls is known and may not
	NotFound                        // what is named does not exist
	Conflict                        // the state of things does not allow it
	Outdated                        // the caller decided by a state that is no more
	Exhausted                       // who calls has as much as is allowed for now
	Unavailable                     // try again later
)

// Error is a failure that callers are told about. Code is stable and made for
// programs; Message is for people and may change. Neither ever holds internal
// text: context is added around an Error with fmt.Errorf and %w, and only the
// Error inside reaches the client.
type Error struct {
	Kind    Kind
	Code    string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// The failures of the rules. Compare with errors.Is.
var (
	ErrMessageToSelf     = &Error{Invalid, "message_to_self", "A user cannot send messages to themselves."}
	ErrUnauthenticated   = &Error{Unauthenticated, "unauthenticated", "A valid session key is needed, or an admin token under /v1/admin."}
	ErrStreamKeyRefused  = &Error{Unauthenticated, "stream_key_refused", "A stream key opens its session's stream and nothing else."}
	ErrTicketRefused     = &Error{Unauthenticated, "stream_ticket_refused", "The ticket was used, has expired, or a newer one took its place."}
	ErrSessionEnded      = &Error{Unauthenticated, "session_ended", "The session has ended."}
	ErrTokenInvalid      = &Error{Unauthenticated, "token_invalid", "The token is not valid."}
	ErrTokenExpired      = &Error{Unauthenticated, "token_expired", "The token has expired."}
	ErrTokenVoid         = &Error{Unauthenticated, "token_void", "The token was issued before all tokens of its time were declared void."}
	ErrTokenUserMismatch = &Error{Forbidden, "token_user_mismatch", "The token is for another user than the session."}
	ErrNotGranted        = &Error{Forbidden, "not_granted", "The token does not allow this."}
	ErrNotAdmin          = &Error{Forbidden, "not_admin", "The token is not an admin token."}
	ErrForbiddenHost     = &Error{Forbidden, "forbidden_host", "Development tokens are given to loopback hosts only."}
	ErrForbiddenProxy    = &Error{Forbidden, "forbidden_proxy", "Development tokens are not given through a proxy."}
	ErrBanned            = &Error{Forbidden, "banned", "The user may not enter this room for now."}
	ErrNotSender         = &Error{Forbidden, "not_sender", "The message is another user's."}
	ErrMediaURLRefused   = &Error{Forbidden, "media_url_refused", "The signature of the URL is wrong or has expired, or its session is over."}
	ErrMemberNotFound    = &Error{NotFound, "member_not_found", "The user is not in this room."}
	ErrSessionNotFound   = &Error{NotFound, "session_not_found", "The user has no such session."}
	ErrBanNotFound       = &Error{NotFound, "ban_not_found", "The user is not banned from this room."}
	ErrMessageNotFound   = &Error{NotFound, "message_not_found", "There is no such message."}
	ErrRoomNotFound      = &Error{NotFound, "room_not_found", "There is no room with this roomID."}
	ErrUserNotFound      = &Error{NotFound, "user_not_found", "There is no user with this userID: the user never logged in."}
	ErrMediaNotFound     = &Error{NotFound, "media_not_found", "There is no such file, or it is not for this user."}
	ErrRoomExists        = &Error{Conflict, "room_exists", "A room with this roomID exists."}
	ErrUserInRoom        = &Error{Conflict, "user_in_room", "Another session of the user is in the room."}
	ErrRoomFull          = &Error{Conflict, "room_full", "The room is full."}
	ErrTooManyRooms      = &Error{Conflict, "too_many_rooms", "The user is in as many rooms as allowed."}
	ErrNotInRoom         = &Error{Conflict, "not_in_room", "The session is not in this room."}
	ErrMessageIDReused   = &Error{Conflict, "client_message_id_reused", "This clientMessageID was used for another message."}
	ErrRecallTooLate     = &Error{Conflict, "recall_too_late", "The message is too old to be recalled."}
	ErrMediaType         = &Error{Conflict, "media_type", "The file is not of a type that this kind of message carries."}
	ErrMediaSize         = &Error{Conflict, "media_size", "The file is larger than this kind of message may carry."}
	ErrMediaDuration     = &Error{Conflict, "media_duration", "The sound is longer than a message may carry."}
	ErrMediaSent         = &Error{Conflict, "media_sent", "The file was sent, and goes with its messages."}
	ErrUploadOffset      = &Error{Conflict, "upload_offset", "The upload is at another offset."}
	ErrAttributesFull    = &Error{Conflict, "attributes_full", "There are as many attributes as allowed, or as many bytes of them."}
	ErrVersionMismatch   = &Error{Outdated, "version_mismatch", "The attributes have changed since the version of If-Match."}
	ErrMediaQuota        = &Error{Exhausted, "media_quota", "The user has as many files as allowed, or as many bytes or pieces of them, or all users have."}
	ErrUnavailable       = &Error{Unavailable, "unavailable", "The service is unavailable for the moment."}
)
