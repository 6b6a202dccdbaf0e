package room_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

var reasons = []room.LeaveReason{
	room.ReasonLeft, room.ReasonLoggedOut, room.ReasonTimedOut, room.ReasonTokenExpired,
	room.ReasonSwitched, room.ReasonReplaced, room.ReasonKicked, room.ReasonNotGranted, room.ReasonRoomDestroyed,
}

// TestDocumentShowsTheTables compares the tables of docs/room-states.md with the code.
func TestDocumentShowsTheTables(t *testing.T) {
	t.Parallel()
	var session, inRoom, why []string
	for _, tr := range room.SessionTransitions {
		session = append(session, fmt.Sprint(tr.From, " ", tr.Event, " ", tr.To))
	}
	for _, tr := range room.RoomTransitions {
		inRoom = append(inRoom, fmt.Sprint(tr.From, " ", tr.Event, " ", tr.To))
	}
	for _, r := range reasons {
		why = append(why, string(r))
	}
	for heading, want := range map[string][]string{
		"## A session\n":           session,
		"## A session in a room\n": inRoom,
		"## Why a member left\n":   why,
	} {
		if diff := cmp.Diff(want, documented(t, heading)); diff != "" {
			t.Errorf("%s(-code +document):\n%s", heading, diff)
		}
	}
}

// documented returns the first table below a heading: its first three columns, or the first of two.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	_, section, found := strings.Cut(read(t, "../docs/room-states.md"), heading)
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells[0] = strings.TrimPrefix(cells[0], "| ")
		rows = append(rows, strings.Join(cells[:len(cells)-1], " "))
	}
	return rows[1:] // the head of the table
}

// TestChangesFollowTheTable checks that the events with which sessions are notified are transitions
// in the table.
func TestChangesFollowTheTable(t *testing.T) {
	t.Parallel()
	transitions := map[string]bool{}
	for _, tr := range room.RoomTransitions {
		transitions[fmt.Sprint(tr.From, tr.Event, tr.To)] = true
	}
	notified := map[string][]room.RoomStateChanged{
		"created":        room.Joined{Call: room.RoomCreate, Created: true}.StateChanges(),
		"entered":        room.Joined{Call: room.RoomEnter}.StateChanges(),
		"entered new":    room.Joined{Call: room.RoomEnter, Created: true}.StateChanges(),
		"create refused": room.RefusedJoin{Call: room.RoomCreate}.StateChanges(),
		"switched":       room.Joined{Call: room.RoomSwitch}.StateChanges(),
		"switch refused": room.RefusedJoin{Call: room.RoomSwitch}.StateChanges(),
		"enter refused":  room.RefusedJoin{Call: room.RoomEnter}.StateChanges(),
	}
	for name, changes := range notified {
		state := room.RoomDisconnected
		for _, c := range changes {
			if !transitions[fmt.Sprint(state, c.Event, c.State)] {
				t.Errorf("%s: no transition from %s by %s to %s", name, state, c.Event, c.State)
			}
			state = c.State
		}
	}
	for _, r := range reasons {
		c := room.Left{Reason: r}.StateChange()
		if !transitions[fmt.Sprint(room.RoomConnected, c.Event, c.State)] && !transitions[fmt.Sprint(room.RoomReconnecting, c.Event, c.State)] {
			t.Errorf("%s: no transition by %s to %s", r, c.Event, c.State)
		}
	}
}
