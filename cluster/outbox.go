package cluster

import (
	"iter"
	"time"

	"parlor/hub"
	"parlor/room"
)

// message is what a node sends to the nodes that follow a log, or to all nodes if the log is 0.
type message struct {
	log     room.LogID
	records []byte
}

// outbox holds the messages that wait to be sent, in order.
type outbox struct {
	messages []message
	bytes    int
}

// post adds a record to what waits to be sent. The caller holds mu.
func (n *Node) post(log room.LogID, kind string, content []byte) {
	n.postRecord(log, kind, func(b []byte) []byte { return append(b, content...) })
}

// postRecord is post for a record whose content is appended. Records for the same nodes that follow
// each other become one message. A record that does not fit is dropped, and false is returned. The
// caller holds mu.
func (n *Node) postRecord(log room.LogID, kind string, content func([]byte) []byte) bool {
	n.signal(n.wake)
	out := &n.out
	var before []byte
	last := len(out.messages) - 1
	follows := last >= 0 && out.messages[last].log == log
	if follows {
		before = out.messages[last].records
	}
	records := appendRecord(before, kind, content)
	bytes := out.bytes + len(records) - len(before)
	switch {
	case bytes > maxOutBytes:
		n.missed = true
		return false
	case follows:
		out.messages[last].records = records
	default:
		out.messages = append(out.messages, message{log, records})
	}
	out.bytes = bytes
	return true
}

// publish posts the frames that other nodes follow, and withholds the others. The caller holds mu.
func (n *Node) publish(at time.Time, frames []*hub.Frame) {
	feeds := n.peers.follow(hub.CommandsLog)
	followed := make([]*hub.Frame, 0, len(frames))
	var commands []*hub.Frame
	for _, f := range frames {
		isCommand := feeds && f.IsCommand()
		if isCommand && n.router != nil {
			commands = append(commands, f)
		}
		// Without routes, feeds find commands among the frames.
		if log := f.RoomLog(); n.peers.follow(log) || n.entered.has(log) || isCommand && n.router == nil {
			followed = append(followed, f)
		} else {
			n.withheld.add(at, f)
		}
	}
	n.postFrames(followed)
	if len(commands) > 0 {
		n.postRecord(hub.CommandsLog, recordCommands, framesContent(commands))
	}
	if feeds && (n.router != nil || len(followed) < len(frames)) {
		n.feedsBehind = true
		n.signal(n.wake)
	}
}

// postFrames posts frames to the nodes that follow their logs. The caller holds mu.
func (n *Node) postFrames(frames []*hub.Frame) {
	for log, run := range n.routes(frames) {
		n.postRecord(log, recordFrames, framesContent(run))
	}
}

// routes yields runs of frames, each with the log whose followers they are for.
func (n *Node) routes(frames []*hub.Frame) iter.Seq2[room.LogID, []*hub.Frame] {
	return func(yield func(room.LogID, []*hub.Frame) bool) {
		for len(frames) > 0 {
			log, run := n.route(frames[0].RoomLog()), 1
			for run < len(frames) && n.route(frames[run].RoomLog()) == log {
				run++
			}
			if !yield(log, frames[:run]) {
				return
			}
			frames = frames[run:]
		}
	}
}

// route returns the log whose followers a packet about a log is for, or 0 if it is for all nodes. Inboxes
// have no followers, because every user has one and few messages concern them.
func (n *Node) route(log room.LogID) room.LogID {
	if n.router == nil {
		return 0
	}
	return log
}
