package servicetest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// answer is the expected reply to a call.
type answer struct {
	status  int
	code    string
	changes bool
	// to is the expected state in the room after the call. Empty means unchanged.
	to room.RoomState
}

func reads(status int) answer    { return answer{status: status} }
func modifies(status int) answer { return answer{status: status, changes: true} }
func movesTo(status int, to room.RoomState) answer {
	return answer{status: status, changes: true, to: to}
}
func refuses(status int, code string) answer { return answer{status: status, code: code} }

// answers holds the expected reply of each operation for each relation of a session to the room.
// Sessions that have ended are not in it, because all their calls get 401.
var answers = func() map[string]map[relation]answer {
	notIn, notFound := refuses(http.StatusConflict, "not_in_room"), refuses(http.StatusNotFound, "room_not_found")
	exists, mayNot := refuses(http.StatusConflict, "room_exists"), refuses(http.StatusForbidden, "banned")
	always := func(a answer) map[relation]answer {
		return map[relation]answer{in: a, out: a, banned: a, noRoom: a}
	}
	forMembers := func(a answer) map[relation]answer {
		return map[relation]answer{in: a, out: notIn, banned: notIn, noRoom: notFound}
	}
	return map[string]map[relation]answer{
		"createSession":          always(modifies(http.StatusCreated)),
		"createDevelopmentToken": always(reads(http.StatusCreated)),
		"getSession":             always(reads(http.StatusOK)),
		"renewToken":             always(modifies(http.StatusOK)),
		"createStreamTicket":     always(modifies(http.StatusCreated)),
		"streamEvents":           always(modifies(http.StatusOK)),
		"listSessionRooms":       always(reads(http.StatusOK)),
		"endSession":             always(movesTo(http.StatusNoContent, room.RoomDisconnected)),
		"leaveAllRooms":          {in: movesTo(http.StatusOK, room.RoomDisconnected), out: reads(http.StatusOK), banned: reads(http.StatusOK), noRoom: reads(http.StatusOK)},

		"createRoom": {in: exists, out: exists, banned: exists, noRoom: movesTo(http.StatusCreated, room.RoomConnected)},
		"joinRoom":   {in: reads(http.StatusOK), out: movesTo(http.StatusOK, room.RoomConnected), banned: mayNot, noRoom: notFound},
		"enterRoom":  {in: reads(http.StatusOK), out: movesTo(http.StatusOK, room.RoomConnected), banned: mayNot, noRoom: movesTo(http.StatusCreated, room.RoomConnected)},
		"switchRoom": forMembers(movesTo(http.StatusOK, room.RoomDisconnected)),
		"leaveRoom":  forMembers(movesTo(http.StatusOK, room.RoomDisconnected)),

		"sendPeerMessage":   always(modifies(http.StatusCreated)),
		"listPeerMessages":  always(reads(http.StatusOK)),
		"recallPeerMessage": always(refuses(http.StatusNotFound, "message_not_found")),

		"listBlocks":              always(reads(http.StatusOK)),
		"blockUser":               always(modifies(http.StatusNoContent)),
		"unblockUser":             always(refuses(http.StatusNotFound, "block_not_found")),
		"listStatuses":            always(reads(http.StatusOK)),
		"updateStatus":            always(modifies(http.StatusNoContent)),
		"subscribeStatuses":       always(modifies(http.StatusOK)),
		"listStatusSubscriptions": always(reads(http.StatusOK)),
		"unsubscribeStatuses":     always(reads(http.StatusNoContent)), // there is no subscription
		"listConversations":       always(reads(http.StatusOK)),
		"getConversation":         always(refuses(http.StatusNotFound, "conversation_not_found")),
		"readConversation":        always(refuses(http.StatusNotFound, "conversation_not_found")),
		"readAllConversations":    always(reads(http.StatusNoContent)),
		"deleteConversation":      always(refuses(http.StatusNotFound, "conversation_not_found")),
		"queryUsers":              always(reads(http.StatusOK)),
		"updateProfile":           always(modifies(http.StatusOK)),

		"getRoom":                forMembers(reads(http.StatusOK)),
		"listMembers":            forMembers(reads(http.StatusOK)),
		"countMembers":           forMembers(reads(http.StatusOK)),
		"listRoomMessages":       forMembers(reads(http.StatusOK)),
		"sendRoomMessage":        forMembers(modifies(http.StatusCreated)),
		"recallMessage":          forMembers(refuses(http.StatusNotFound, "message_not_found")),
		"getRoomAttributes":      forMembers(reads(http.StatusOK)),
		"updateRoomAttributes":   forMembers(modifies(http.StatusOK)),
		"listMemberAttributes":   forMembers(reads(http.StatusOK)),
		"updateMemberAttributes": forMembers(modifies(http.StatusOK)),
		"uploadMedia":            always(modifies(http.StatusCreated)),
		"createUpload":           always(modifies(http.StatusCreated)),
		"continueUpload":         always(refuses(http.StatusNotFound, "media_not_found")),
		"endUpload":              always(refuses(http.StatusNotFound, "media_not_found")),
		"getMedia":               always(refuses(http.StatusNotFound, "media_not_found")),
		"downloadMedia":          always(refuses(http.StatusNotFound, "media_not_found")),
		"updateRoom":             always(refuses(http.StatusForbidden, "not_granted")),
		"kickMembers":            forMembers(refuses(http.StatusForbidden, "not_granted")),
	}
}()

// answerTo returns the expected reply to a call after a scenario.
func answerTo(call sample, at scenario) (answer, bool) {
	a, ok := answers[call.id][at.to]
	switch {
	case call.keyed && at.to == sessionEnded:
		return refuses(http.StatusUnauthorized, "session_ended"), true
	case call.keyed && at.to == tokenExpired:
		return refuses(http.StatusUnauthorized, "token_expired"), true
	case at.to == sessionEnded || at.to == tokenExpired:
		a, ok = answers[call.id][noRoom]
	case call.id == "leaveAllRooms" && at.inOtherRoom:
		a.changes = true
	}
	return a, ok
}

// TestEveryCallInEveryState brings a session through each transition of the state machines in
// room/state.go, and then makes every call of the contract. Each reply must be as in the table, and
// calls that are rejected or only read must not change anything.
func TestEveryCallInEveryState(t *testing.T) {
	t.Parallel()
	var (
		mu       sync.Mutex // guards both maps
		sessions = map[room.SessionTransition]bool{}
		rooms    = map[room.RoomTransition]bool{}
	)
	t.Run("ways", func(t *testing.T) {
		for _, at := range scenarios {
			t.Run(at.name, func(t *testing.T) {
				t.Parallel()
				s := newClockedService(t)
				w := s.newWalker()
				at.run(w)
				mu.Lock()
				for _, move := range w.sessionPath {
					sessions[move] = true
				}
				for _, move := range w.roomPath {
					rooms[move] = true
				}
				mu.Unlock()
				w.checkRelation(at)
				makeEveryCall(w, at)
			})
		}
	})
	// Each transition of the state machines must have occurred, and no other.
	for _, move := range room.SessionTransitions {
		if !sessions[move] {
			t.Errorf("no scenario has the session's transition %v", move)
		}
		delete(sessions, move)
	}
	for _, move := range room.RoomTransitions {
		if !rooms[move] {
			t.Errorf("no scenario has the room's transition %v", move)
		}
		delete(rooms, move)
	}
	for move := range sessions {
		t.Errorf("sessions made an unknown transition %v", move)
	}
	for move := range rooms {
		t.Errorf("sessions in a room made an unknown transition %v", move)
	}
}

// checkRelation compares the state that the scenario reached with the expected one.
func (w *walker) checkRelation(at scenario) {
	w.Helper()
	over := at.to == sessionEnded || at.to == tokenExpired
	// A session that never had a stream got no event about entering the room.
	inside := w.inRoom == room.RoomConnected || w.inRoom == room.RoomReconnecting || (at.to == in && w.roomPath == nil)
	if inside != (at.to == in) || over != (w.state == room.SessionEnded) {
		w.Fatalf("the scenario reached %s, %s", w.state, w.inRoom)
	}
	if !over && w.client.state() != string(w.state) {
		w.Errorf("the session is %s, want %s", w.client.state(), w.state)
	}
}

// makeEveryCall makes all calls that change nothing, one after the other, and then each of the
// others after a run of the scenario of its own.
func makeEveryCall(w *walker, at scenario) {
	w.Helper()
	var changing []string
	before := w.scene.tables()
	for _, call := range callsFor(w) {
		want, ok := answerTo(call, at)
		if !ok {
			w.Errorf("%s: no expected reply: add it to answers", call)
			continue
		}
		if want.changes {
			changing = append(changing, call.id)
			continue
		}
		w.check(call, want, before)
	}
	if at.slow {
		return
	}
	for _, id := range changing {
		w := w.scene.newWalker()
		at.run(w)
		calls := callsFor(w)
		call := calls[slices.IndexFunc(calls, func(c sample) bool { return c.id == id })]
		want, _ := answerTo(call, at)
		w.check(call, want, w.scene.tables())
	}
}

// callsFor returns a valid call of each operation except those for admins, for the walker's room
// and user.
func callsFor(w *walker) []sample {
	w.Helper()
	var calls []sample
	for _, call := range samples(w.service) {
		if strings.HasPrefix(call.path, "/v1/admin/") {
			continue
		}
		call.path = strings.Replace(call.path, "/v1/rooms/lobby", roomPath(w.id, ""), 1)
		call.path = strings.NewReplacer("/v1/users/peer", "/v1/users/host", "/v1/blocks/peer", "/v1/blocks/host", "/v1/conversations/peer", "/v1/conversations/host").Replace(call.path)
		call.body = maps.Clone(call.body)
		if call.body["token"] != nil {
			call.body["token"] = w.token(w.UserID, time.Duration(w.scene.clockOffset.Load())+2*time.Hour)
		}
		if call.body["roomID"] != nil {
			call.body["roomID"] = w.id
		}
		if call.body["userIDs"] != nil {
			call.body["userIDs"] = []room.UserID{w.UserID}
		}
		if call.body["toRoom"] != nil {
			call.body["toRoom"] = object{"roomID": w.id + "-else"}
		}
		calls = append(calls, call)
	}
	return calls
}

// check makes a call and checks its reply, what it changed, and the events that the session
// received.
func (w *walker) check(call sample, want answer, before []string) {
	w.Helper()
	if call.id == "streamEvents" && want.status == http.StatusOK {
		w.listen()
	} else {
		got := call.by(w.client, nil)
		code := ""
		if want.code != "" && got.StatusCode >= http.StatusBadRequest {
			code = as[problem](got).Code
		}
		if got.StatusCode != want.status || code != want.code {
			w.Errorf("%s: got status %d %s, want %d %s: %s", call, got.StatusCode, code, want.status, want.code, got.body)
			if got.StatusCode >= http.StatusInternalServerError {
				w.Log(w.log.failures())
			}
		}
	}
	after := w.scene.tables()
	if diff := cmp.Diff(before, after); (diff != "") != want.changes {
		w.Errorf("%s: status %d, expected changes: %t (-before +after):\n%s", call, want.status, want.changes, diff)
	}
	if w.stream == nil {
		return
	}
	if want.to == "" {
		want.to = w.inRoom
	}
	for _, changed := range w.receivedStates() {
		move := room.RoomTransition{From: w.inRoom, Event: changed.Event, To: changed.State}
		if !slices.Contains(room.RoomTransitions, move) {
			w.Errorf("%s: the session received %v, which is not a valid transition", call, move)
		}
		w.inRoom = changed.State
	}
	if w.inRoom != want.to {
		w.Errorf("%s: the session's state in the room is %s, want %s", call, w.inRoom, want.to)
	}
}

// receivedStates returns the room's state events that the session has received until now, or until
// its stream ended.
func (w *walker) receivedStates() []room.RoomStateChanged {
	w.Helper()
	w.fence()
	var all []room.RoomStateChanged
	for {
		select {
		case e, open := <-w.stream.events:
			if !open || fenceEnds(*e) {
				return all
			}
			if changed, ok := w.change(*e); ok {
				all = append(all, changed)
			}
		case <-time.After(waitTimeout):
			w.Fatal("the fence did not arrive")
		}
	}
}
