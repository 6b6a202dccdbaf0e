package room

// SessionState is where a session stands.
type SessionState string

const (
	SessionDetached SessionState = "detached" // no stream is open; the clock runs
	SessionOnline   SessionState = "online"   // its stream is open
	SessionEnded    SessionState = "ended"    // over, for good
)

// SessionEvent is what moves a session from state to state.
type SessionEvent string

// ConnectionEvent is why a stream is ended by the server, as clients are told.
type ConnectionEvent string

const (
	ConnectionLoggedOut    ConnectionEvent = "loggedOut"
	ConnectionTokenExpired ConnectionEvent = "tokenExpired"
	ConnectionKickedOut    ConnectionEvent = "kickedOut"
	ConnectionSuperseded   ConnectionEvent = "superseded"
	ConnectionSlowConsumer ConnectionEvent = "slowConsumer"
)

// StateChange is the event that the session's own stream ends with.
func (e EndedSession) StateChange() ConnectionStateChanged {
	return ConnectionStateChanged{State: "disconnected", Event: ConnectionEvent(e.Reason), Reason: e.AdminReason}
}

// SessionTransition is one line of the session's machine.
type SessionTransition struct {
	From  SessionState
	Event SessionEvent
	To    SessionState
}

// SessionTransitions is the session's machine. A session begins detached: it
// exists before its first stream. docs/room-states.md shows this table.
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

// RoomState is where a session stands with a room.
type RoomState string

const (
	RoomDisconnected RoomState = "disconnected" // out of the room
	RoomConnecting   RoomState = "connecting"   // a call to get in is under way
	RoomConnected    RoomState = "connected"    // in the room
	RoomReconnecting RoomState = "reconnecting" // in the room, with the stream lost; only the client can see this one
)

// RoomEvent is what moves a session's relation to a room.
type RoomEvent string

const (
	RoomCreate             RoomEvent = "create"             // createRoom was called
	RoomEnter              RoomEvent = "enter"              // joinRoom or enterRoom was called
	RoomSwitch             RoomEvent = "switch"             // switchRoom was called, to this room
	RoomCreated            RoomEvent = "created"            // in; the room is new
	RoomSuccess            RoomEvent = "success"            // in; or out, by leaving or switching
	RoomCreateFailed       RoomEvent = "createFailed"       // createRoom was refused
	RoomEnterFailed        RoomEvent = "enterFailed"        // joinRoom or enterRoom was refused
	RoomSwitchFailed       RoomEvent = "switchFailed"       // switchRoom was refused
	RoomNetworkInterrupted RoomEvent = "networkInterrupted" // the stream is lost
	RoomNetworkTimeout     RoomEvent = "networkTimeout"     // it was lost for memberTimeout
	RoomLoggedOut          RoomEvent = "loggedOut"          // the session was ended
	RoomTokenExpired       RoomEvent = "tokenExpired"       // the token ran out
	RoomKickedOut          RoomEvent = "kickedOut"          // the session was taken out
	RoomReplaced           RoomEvent = "replaced"           // another session of the user took its place
	RoomNotGranted         RoomEvent = "notGranted"         // the session's newer token does not grant the room
	RoomNotExist           RoomEvent = "roomNotExist"       // the room is gone
)

// RoomTransition is one line of the machine of a session in a room.
type RoomTransition struct {
	From  RoomState
	Event RoomEvent
	To    RoomState
}

// RoomTransitions is the machine of a session in a room. docs/room-states.md
// shows this table.
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

// StateChanges is what the arriving session is told of its own entering.
func (a Joined) StateChanges() []RoomStateChanged {
	done := RoomSuccess
	if a.Created {
		done = RoomCreated
	}
	return []RoomStateChanged{
		{RoomID: a.Room, State: RoomConnecting, Event: a.Call},
		{RoomID: a.Room, Generation: a.Generation, State: RoomConnected, Event: done},
	}
}

// StateChange is what the departing session is told.
func (d Left) StateChange() RoomStateChanged {
	return RoomStateChanged{RoomID: d.Room, Generation: d.Generation, State: RoomDisconnected, Event: d.Reason.event(), Reason: d.AdminReason}
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

// StateChanges returns what the session is notified of.
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
