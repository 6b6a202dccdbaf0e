package room

// SessionState is the state of a session.
type SessionState string

const (
	SessionDetached SessionState = "detached" // no stream is open, and the timeouts run
	SessionOnline   SessionState = "online"   // a stream is open
	SessionEnded    SessionState = "ended"    // final
)

// SessionEvent changes the state of a session.
type SessionEvent string

// ConnectionEvent says why the server ended a stream.
type ConnectionEvent string

const (
	ConnectionLoggedOut    ConnectionEvent = "loggedOut"
	ConnectionTokenExpired ConnectionEvent = "tokenExpired"
	ConnectionKickedOut    ConnectionEvent = "kickedOut"
	ConnectionSuperseded   ConnectionEvent = "superseded"
	ConnectionSlowConsumer ConnectionEvent = "slowConsumer"
)

// StateChange returns the last event of the session's stream.
func (e EndedSession) StateChange() ConnectionStateChanged {
	return ConnectionStateChanged{State: "disconnected", Event: ConnectionEvent(e.Reason), Reason: e.AdminReason}
}

// SessionTransition is a transition of the state machine of a session.
type SessionTransition struct {
	From  SessionState
	Event SessionEvent
	To    SessionState
}

// SessionTransitions is the state machine of a session. A session is detached until it opens its
// first stream. docs/room-states.md shows this table.
var SessionTransitions = []SessionTransition{
	{SessionDetached, "streamOpened", SessionOnline},
	{SessionOnline, "superseded", SessionOnline},
	{SessionOnline, "streamLost", SessionDetached},
	{SessionOnline, "slowConsumer", SessionDetached},
	{SessionOnline, "nodeLost", SessionDetached},
	{SessionOnline, "loggedOut", SessionEnded},
	{SessionDetached, "loggedOut", SessionEnded},
	{SessionOnline, "tokenExpired", SessionEnded},
	{SessionDetached, "tokenExpired", SessionEnded},
	{SessionOnline, "kickedOut", SessionEnded},
	{SessionDetached, "kickedOut", SessionEnded},
}

// RoomState is the state of a session in a room.
type RoomState string

const (
	RoomDisconnected RoomState = "disconnected" // not in the room
	RoomConnecting   RoomState = "connecting"   // a call to join is in flight
	RoomConnected    RoomState = "connected"    // in the room
	RoomReconnecting RoomState = "reconnecting" // in the room, but the stream is lost; only the client knows this state
)

// RoomEvent changes the state of a session in a room.
type RoomEvent string

const (
	RoomCreate             RoomEvent = "create"             // createRoom was called
	RoomEnter              RoomEvent = "enter"              // joinRoom or enterRoom was called
	RoomSwitch             RoomEvent = "switch"             // switchRoom was called, to this room
	RoomCreated            RoomEvent = "created"            // joined; the call created the room
	RoomSuccess            RoomEvent = "success"            // joined; or left, by leaveRoom or switchRoom
	RoomCreateFailed       RoomEvent = "createFailed"       // createRoom failed
	RoomEnterFailed        RoomEvent = "enterFailed"        // joinRoom or enterRoom failed
	RoomSwitchFailed       RoomEvent = "switchFailed"       // switchRoom failed
	RoomNetworkInterrupted RoomEvent = "networkInterrupted" // the stream was lost
	RoomNetworkTimeout     RoomEvent = "networkTimeout"     // the stream was lost for MemberTimeout
	RoomLoggedOut          RoomEvent = "loggedOut"          // the client ended the session
	RoomTokenExpired       RoomEvent = "tokenExpired"       // the token expired
	RoomKickedOut          RoomEvent = "kickedOut"          // an admin or the limit of sessions per user removed the session
	RoomReplaced           RoomEvent = "replaced"           // another session of the user replaced it
	RoomNotGranted         RoomEvent = "notGranted"         // a newer token of the session does not grant the room
	RoomNotExist           RoomEvent = "roomNotExist"       // the room was destroyed
)

// RoomTransition is a transition of the state machine of a session in a room.
type RoomTransition struct {
	From  RoomState
	Event RoomEvent
	To    RoomState
}

// RoomTransitions is the state machine of a session in a room. docs/room-states.md shows this
// table.
var RoomTransitions = []RoomTransition{
	{RoomDisconnected, RoomCreate, RoomConnecting},
	{RoomDisconnected, RoomEnter, RoomConnecting},
	{RoomDisconnected, RoomSwitch, RoomConnecting},
	{RoomConnecting, RoomCreated, RoomConnected},
	{RoomConnecting, RoomSuccess, RoomConnected},
	{RoomConnecting, RoomCreateFailed, RoomDisconnected},
	{RoomConnecting, RoomEnterFailed, RoomDisconnected},
	{RoomConnecting, RoomSwitchFailed, RoomDisconnected},
	{RoomConnected, RoomSuccess, RoomDisconnected},
	{RoomConnected, RoomLoggedOut, RoomDisconnected},
	{RoomConnected, RoomTokenExpired, RoomDisconnected},
	{RoomConnected, RoomKickedOut, RoomDisconnected},
	{RoomConnected, RoomReplaced, RoomDisconnected},
	{RoomConnected, RoomNotGranted, RoomDisconnected},
	{RoomConnected, RoomNotExist, RoomDisconnected},
	{RoomConnected, RoomNetworkInterrupted, RoomReconnecting},
	{RoomReconnecting, RoomSuccess, RoomConnected},
	{RoomReconnecting, RoomNetworkTimeout, RoomDisconnected},
	{RoomReconnecting, RoomSuccess, RoomDisconnected},
	{RoomReconnecting, RoomLoggedOut, RoomDisconnected},
	{RoomReconnecting, RoomTokenExpired, RoomDisconnected},
	{RoomReconnecting, RoomKickedOut, RoomDisconnected},
	{RoomReconnecting, RoomReplaced, RoomDisconnected},
	{RoomReconnecting, RoomNotGranted, RoomDisconnected},
	{RoomReconnecting, RoomNotExist, RoomDisconnected},
}

// StateChanges returns the events with which the session itself is notified.
func (j Joined) StateChanges() []RoomStateChanged {
	done := RoomSuccess
	if j.Created {
		done = RoomCreated
	}
	return []RoomStateChanged{
		{RoomID: j.Room, State: RoomConnecting, Event: j.Call},
		{RoomID: j.Room, Generation: j.Generation, State: RoomConnected, Event: done},
	}
}

// StateChange returns the event with which the session itself is notified.
func (l Left) StateChange() RoomStateChanged {
	return RoomStateChanged{
		RoomID: l.Room, Generation: l.Generation, State: RoomDisconnected, Event: l.Reason.event(), Reason: l.AdminReason,
	}
}

func (r LeaveReason) event() RoomEvent {
	switch r {
	case ReasonLeft, ReasonSwitched:
		return RoomSuccess
	case ReasonLoggedOut:
		return RoomLoggedOut
	case ReasonTimedOut:
		return RoomNetworkTimeout
	case ReasonTokenExpired:
		return RoomTokenExpired
	case ReasonKicked:
		return RoomKickedOut
	case ReasonReplaced:
		return RoomReplaced
	case ReasonNotGranted:
		return RoomNotGranted
	case ReasonRoomDestroyed:
		return RoomNotExist
	}
	return RoomNotExist
}

// StateChanges returns the events with which the session is notified.
func (r RefusedJoin) StateChanges() []RoomStateChanged {
	failed := RoomEnterFailed
	switch r.Call {
	case RoomCreate:
		failed = RoomCreateFailed
	case RoomSwitch:
		failed = RoomSwitchFailed
	default:
	}
	return []RoomStateChanged{
		{RoomID: r.Room, State: RoomConnecting, Event: r.Call},
		{RoomID: r.Room, State: RoomDisconnected, Event: failed, Error: &r.Problem},
	}
}
