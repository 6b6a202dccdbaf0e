package hub

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"

	"parlor/room"
)

// CommandsLog is followed while the commands of all rooms and users are watched on this node. It is
// not the ID of a log.
const CommandsLog room.LogID = -1

// maxPendingCommands bounds the commands that wait for a watcher. Further ones are dropped.
const maxPendingCommands = 256

// commands passes command messages to watchers, which are the feeds of this node.
type commands struct {
	watched atomic.Int32 // the number of watchers

	mu       sync.Mutex // guards watchers; held while CommandsLog is followed or not any more
	watchers map[chan []byte]bool
}

// WatchCommands returns a channel that receives the command messages of all rooms and users, each
// encoded as an event without an id. A watcher that is too slow misses some. stop ends that.
func (h *Hub) WatchCommands() (events <-chan []byte, stop func()) {
	c := &h.commands
	watcher := make(chan []byte, maxPendingCommands)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = make(map[chan []byte]bool)
	}
	c.watchers[watcher] = true
	if c.watched.Add(1) == 1 {
		h.opts.Follow(CommandsLog)
	}
	return watcher, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, watcher)
		if c.watched.Add(-1) == 0 {
			h.opts.Unfollow(CommandsLog)
		}
	}
}

// ShowCommands passes those of the frames that are commands to the watchers. It does not block.
func (h *Hub) ShowCommands(frames []*Frame) {
	if h.commands.watched.Load() == 0 {
		return
	}
	for _, f := range frames {
		if f.IsCommand() {
			h.commands.show(bytes.Clone(f.data), &h.stats.shed)
		}
	}
}

func (c *commands) show(data []byte, shed *atomic.Uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for watcher := range c.watchers {
		select {
		case watcher <- data:
		default:
			shed.Add(1)
		}
	}
}

// IsCommand reports whether the frame is a command message. Of the two frames of a command between
// users it is that of the sender.
func (f *Frame) IsCommand() bool {
	if f.seq > 0 || !bytes.Contains(f.data, []byte(`"kind":"command"`)) { // in a string, the quotes are escaped
		return false
	}
	if bytes.HasPrefix(f.data, frameHead(room.TypeMessagesReceived)) {
		return true
	}
	text, isPeer := bytes.CutPrefix(f.data, frameHead(room.TypePeerMessagesReceived))
	var received room.PeerMessagesReceived
	if !isPeer || json.Unmarshal(text, &received) != nil || len(received.MessageList) == 0 {
		return false
	}
	m := received.MessageList[0]
	return m.Peer != m.Sender.ID
}
