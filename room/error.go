package room

import (
	"errors"
	"fmt"
)

// Kind is the kind of an Error. Package handlers maps each kind to one HTTP status.
type Kind uint8

const (
	Invalid         Kind = iota + 1 // the request is wrong in itself
	Unauthenticated                 // the caller's key or token is missing or not valid any more
	Forbidden                       // the caller is not allowed to do this
	NotFound                        // something that the request names does not exist
	Conflict                        // the current state does not allow it
	Outdated                        // the caller acted on an old state
	Exhausted                       // a quota or a rate of the caller is exhausted
	Unavailable                     // try again later
	Internal                        // Parlor itself failed
)

// Error is a failure that callers receive. Code is stable and for programs; Message is for people
// and may change. Neither contains internal details: context is added by wrapping the Error with
// fmt.Errorf and %w, and only the Error inside reaches the client (see Public).
type Error struct {
	Kind    Kind
	Code    string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// Is reports whether target is an Error with the same code, whatever their messages.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// Because returns the error with a message about the case at hand.
func (e *Error) Because(message string) *Error {
	explained := *e
	explained.Message = message
	return &explained
}

// The errors of the rules. Compare them with errors.Is.
var (
	ErrMessageToSelf     = &Error{Invalid, "message_to_self", "A user cannot send messages to themselves: choose another receiver."}
	ErrBlockSelf         = &Error{Invalid, "block_self", "A user cannot block themselves: choose another user."}
	ErrUnauthenticated   = &Error{Unauthenticated, "unauthenticated", "The session key is missing or unknown: send it as Authorization: Bearer, or an admin token under /v1/admin."}
	ErrStreamKeyRefused  = &Error{Unauthenticated, "stream_key_refused", "A stream key opens only the stream of its session: send the session key instead."}
	ErrTicketRefused     = &Error{Unauthenticated, "stream_ticket_refused", "The stream ticket was used, has expired or was replaced by a newer one: create another one."}
	ErrSessionEnded      = &Error{Unauthenticated, "session_ended", "The session has ended: start a new one."}
	ErrTokenInvalid      = &Error{Unauthenticated, "token_invalid", "The token is not valid: get a new one from your backend."}
	ErrTokenExpired      = &Error{Unauthenticated, "token_expired", "The token has expired: get a new one from your backend."}
	ErrTokenVoid         = &Error{Unauthenticated, "token_void", "The token was declared void: get a new one from your backend."}
	ErrTokenUserMismatch = &Error{Forbidden, "token_user_mismatch", "The token belongs to another user: renew the session with a token of its own user."}
	ErrNotGranted        = &Error{Forbidden, "not_granted", "The token does not grant this: renew the session with a token that does."}
	ErrNotAdmin          = &Error{Forbidden, "not_admin", "The token is not an admin token: use one with the scope admin."}
	ErrForbiddenHost     = &Error{Forbidden, "forbidden_host", "Development tokens are issued to loopback hosts only: open the server as localhost or 127.0.0.1."}
	ErrForbiddenProxy    = &Error{Forbidden, "forbidden_proxy", "Development tokens are not issued through a proxy: connect to the server directly."}
	ErrBlocked           = &Error{Forbidden, "blocked", "The user does not accept your messages."}
	ErrBanned            = &Error{Forbidden, "banned", "The user is banned from this room: try again when the ban has ended."}
	ErrNotSender         = &Error{Forbidden, "not_sender", "The message was sent by another user: users can recall only their own messages."}
	ErrMediaURLRefused   = &Error{Forbidden, "media_url_refused", "The URL has expired, has a wrong signature, or belongs to a session that has ended: get a new one with getMedia."}
	ErrNameSigned        = &Error{Forbidden, "name_signed", "The name of the user is in the tokens that your backend signs, and can only be changed there."}
	ErrMemberNotFound    = &Error{NotFound, "member_not_found", "The user is not in this room."}
	ErrSessionNotFound   = &Error{NotFound, "session_not_found", "The user has no such session, or it has already ended."}
	ErrBanNotFound       = &Error{NotFound, "ban_not_found", "The user is not banned from this room, or the ban has already ended."}
	ErrBlockNotFound     = &Error{NotFound, "block_not_found", "The user is not blocked."}
	ErrNoConversation    = &Error{NotFound, "conversation_not_found", "There is no conversation with this user: the first message begins it."}
	ErrBroadcastNotFound = &Error{NotFound, "broadcast_not_found", "There is no such broadcast: they are kept for seven days after their end."}
	ErrMessageNotFound   = &Error{NotFound, "message_not_found", "The message does not exist, or is no longer stored."}
	ErrRoomNotFound      = &Error{NotFound, "room_not_found", "The room does not exist: create it, or use enterRoom."}
	ErrUserNotFound      = &Error{NotFound, "user_not_found", "The user does not exist: a user is created by the first login."}
	ErrMediaNotFound     = &Error{NotFound, "media_not_found", "The file does not exist, or this user cannot read it: upload it first."}
	ErrRoomExists        = &Error{Conflict, "room_exists", "The room already exists: join it, or choose another roomID."}
	ErrUserInRoom        = &Error{Conflict, "user_in_room", "Another session of the user is in the room, which allows only one: leave with that session first."}
	ErrRoomFull          = &Error{Conflict, "room_full", "The room is full: try again when a member has left."}
	ErrTooManyRooms      = &Error{Conflict, "too_many_rooms", "The user is in too many rooms: leave one first."}
	ErrTooManyBlocks     = &Error{Conflict, "too_many_blocks", "The user has blocked 1,000 users: unblock one first."}
	ErrTooManyBroadcasts = &Error{Conflict, "too_many_broadcasts", "Ten broadcasts are running: stop one, or try again when one has ended."}
	ErrRoomLimit         = &Error{Conflict, "room_limit", "The server has as many rooms as it allows: try again when a room has been destroyed."}
	ErrCreatorRoomLimit  = &Error{Conflict, "creator_room_limit", "The user has created as many rooms as one user may have: try again when one of them has been destroyed."}
	ErrNotInFeed         = &Error{Conflict, "not_in_feed", "Messages between users are not kept for the feed: the operator has to set PARLOR_FEED_PEERS."}
	ErrStatusLimit       = &Error{Conflict, "status_subscription_limit", "The user would subscribe to too many users: unsubscribe from some first."}
	ErrNoHistory         = &Error{Conflict, "no_history", "The room has no history: its messages are only delivered to its members."}
	ErrNotInRoom         = &Error{Conflict, "not_in_room", "The session is not in this room: join it first."}
	ErrMessageIDReused   = &Error{Conflict, "client_message_id_reused", "This clientMessageID was used for another message: choose a new one for each message."}
	ErrSeqAhead          = &Error{Conflict, "seq_ahead", "The inbox does not have this seq yet: send the seq of a message that was received."}
	ErrRecallTooLate     = &Error{Conflict, "recall_too_late", "The message was sent more than two minutes ago and can no longer be recalled."}
	ErrMediaType         = &Error{Conflict, "media_type", "The type of the file does not fit the kind of message: send it as a file."}
	ErrMediaSize         = &Error{Conflict, "media_size", "The file is too large for the kind of message: make it smaller, or send it as a file."}
	ErrMediaDuration     = &Error{Conflict, "media_duration", "The audio is too long for a message: shorten it, or send it as a file."}
	ErrMediaReaders      = &Error{Conflict, "media_readers", "The file was sent to 1,000 users by name in this room: upload it again, or send it to everybody."}
	ErrMediaSent         = &Error{Conflict, "media_sent", "The file was sent and cannot be deleted by itself: recall its messages instead."}
	ErrUploadOffset      = &Error{Conflict, "upload_offset", "This is not the offset of the upload: get it with getUploadOffset, and continue from there."}
	ErrAttributesFull    = &Error{Conflict, "attributes_full", "There would be too many attributes, or too many bytes of them: delete some first."}
	ErrVersionMismatch   = &Error{Outdated, "version_mismatch", "The version in If-Match is out of date: read the current one, and decide again."}
	ErrMediaQuota        = &Error{Exhausted, "media_quota", "Upload quota exceeded: send or delete some of your unsent files first, or try again later."}
	ErrUnavailable       = &Error{Unavailable, "unavailable", "The server is temporarily unavailable: try again after Retry-After seconds."}
	ErrInternal          = &Error{Internal, "internal", "Something went wrong on the server, whose log contains the cause under this requestID."}
)

// Public returns the Error inside err that may be shown to callers, or ErrInternal if there is
// none.
func Public(err error) *Error {
	var public *Error
	if errors.As(err, &public) {
		return public
	}
	return ErrInternal
}
