package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parlor/room"
)

const (
	// minRetry and maxRetry bound the delay before a failed connection of the carrier is tried
	// again.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
	// maxJoinAge is how late a join may be heard. After a longer time the session may have been
	// removed from the room, by a call that settleTimeout has ended: it must not even receive what
	// was sent before its leave is heard. Its stream is compared with the database instead.
	maxJoinAge = settleTimeout / 2
)

// listen keeps the carrier listening until the context ends.
func (n *Node) listen(ctx context.Context) {
	retry, failed := minRetry, false
	for {
		err := n.carrier.Listen(ctx, func() {
			if failed {
				n.log.Info("bus to other servers works again")
			}
			retry, failed = minRetry, false
			n.setListening(true)
		}, n.hear)
		n.setListening(false)
		if ctx.Err() != nil {
			return
		}
		if !failed {
			n.log.Warn("bus to other servers lost: reconnecting", "error", err)
		}
		failed = true
		if !sleep(ctx, retry) {
			return
		}
		retry = min(2*retry, maxRetry)
	}
}

// setListening records whether the carrier listens. At each change, packets of others may have been
// missed, and what was sent over a lost connection too. A node that is alone has missed nothing: if
// others have just started, they count as unheard when it finds them.
func (n *Node) setListening(listening bool) {
	n.mu.Lock()
	changed := n.listening != listening
	n.listening, n.missed = listening, n.missed || changed
	n.signal(n.wake) // what waits to be sent
	n.mu.Unlock()
	if changed && !n.alone.Load() {
		n.doubt()
	}
}

// hear handles a packet from the bus.
func (n *Node) hear(text []byte) {
	p, err := parsePacket(text)
	if err == nil && p.node == n.id {
		return
	}
	if err != nil {
		n.stats.ignored.Add(1)
		if errors.Is(err, errOtherVersion) {
			n.log.Debug("packet of another wire version ignored", "node", p.node)
		}
		return
	}
	n.stats.heard.Add(1)
	message, missed := n.hearFrom(p)
	if missed {
		n.doubt()
	}
	for len(message) > 0 {
		kind, content, rest, err := parseRecord(message)
		if err == nil {
			err = n.handle(p.node, kind, content)
		}
		if err != nil { // what the node meant is unknown
			n.stats.ignored.Add(1)
			n.log.Error("message of another server not understood", "node", p.node, "error", err)
			n.doubt()
			return
		}
		message = rest
	}
}

// hearFrom passes a packet to the node that it is from, and returns the message that it completes.
func (n *Node) hearFrom(p packet) (message []byte, missed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, known := n.peers[p.node]
	if !known {
		if from = n.peers.get(p.node); from == nil {
			return nil, true
		}
		n.updateAlone()
		n.postBeat() // the new node hears this one at once
	}
	message, missed = from.hear(p, time.Now())
	if missed && known {
		// The node may have said that it follows something. It has to look for what was withheld.
		from.interest = nil
		n.missed = true
		n.signal(n.wake)
	}
	return message, missed
}

// handle handles a record of another node.
func (n *Node) handle(node room.NodeID, kind string, content []byte) error {
	switch kind {
	case recordNotice:
		heard, err := parseNotice(content)
		if err != nil {
			return err
		}
		if len(heard.Joined) > 0 && n.database.Now().Sub(heard.At) > maxJoinAge {
			heard.Joined = nil
			n.doubt()
		}
		n.database.Heard(heard.Change)
		n.hub.Hear(heard.Change, nil)
	case recordFrames:
		frames, err := parseFrames(content)
		if err != nil {
			return err
		}
		n.database.Heard(room.Change{})
		n.hub.Hear(room.Change{}, frames)
		if n.router == nil {
			n.hub.ShowCommands(frames)
		}
	case recordCommands:
		frames, err := parseFrames(content)
		if err != nil {
			return err
		}
		n.hub.ShowCommands(frames)
	case recordBeat:
		return n.heardBeat(node, content)
	case recordMissed:
		n.doubt()
	case recordGone:
		n.mu.Lock()
		delete(n.peers, node)
		n.gone[node] = true
		n.updateAlone()
		n.pings.forget(node)
		n.mu.Unlock()
	case recordPing:
		n.mu.Lock()
		n.post(0, recordPong, slices.Concat([]byte(node), []byte{' '}, content))
		n.mu.Unlock()
	case recordPong:
		to, number, _ := strings.Cut(string(content), " ")
		if room.NodeID(to) != n.id {
			return nil
		}
		asked, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return fmt.Errorf("pong %.20q", number)
		}
		n.mu.Lock()
		n.pings.pong(asked, node)
		n.mu.Unlock()
	}
	return nil
}
