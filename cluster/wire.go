package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parlor/hub"
	"parlor/room"
)

// The wire format. Nodes exchange packets of text, because a PostgreSQL notification is text:
//
//	parlor/1 <node ID> <number> <previous> <part> <parts>\n<part of a message>
//
// The number counts the packets of a node from 1. Previous is the number of the last packet before
// it that was for all nodes, so that a lost one is noticed; 0 if there was none. A message that does
// not fit into one packet is split into parts, which are counted from 1. A message is a sequence of
// records, each a kind, a space, the length of its content, a line break, and the content. A node
// skips kinds that it does not know.
const (
	// WireVersion changes if nodes of the previous version would misunderstand a message. A node
	// ignores packets of other versions, and reports the nodes that send them.
	WireVersion = 1
	wireName    = "parlor/"
)

// The kinds of records.
const (
	recordFrames   = "frames"   // frames, see hub.Frame.AppendTo
	recordNotice   = "notice"   // a notice in JSON
	recordBeat     = "beat"     // the node is alive, and follows some logs, or all if it is empty
	recordGone     = "gone"     // the node has ended its streams and sends nothing more; no content
	recordCommands = "commands" // frames of commands, for nodes that watch them
	recordMissed   = "missed"   // the node may have lost what it published; no content
	recordPing     = "ping"     // a number, to be answered by a pong
	recordPong     = "pong"     // the ID of the node that sent the ping, a space, and its number
)

// errOtherVersion is returned for packets of another wire version.
var errOtherVersion = errors.New("another wire version")

// packet is a packet as it is received.
type packet struct {
	node             room.NodeID
	number, previous uint64
	part, parts      uint64
	content          []byte
}

// notice is the part of a change that concerns sessions.
type notice struct {
	// At is when the change was applied at its node, by the database's clock.
	At time.Time
	room.Change
}

// appendRecord appends a record to a message. content appends its content.
func appendRecord(message []byte, kind string, content func([]byte) []byte) []byte {
	// The length is not known yet, so that the content is not copied: it always has ten digits.
	const unknown = "0000000000"
	message = append(append(append(message, kind...), ' '), unknown...)
	message = append(message, '\n')
	start := len(message)
	message = content(message)
	length := strconv.Itoa(len(message) - start)
	copy(message[start-1-len(length):], length)
	return message
}

// encodeNotice returns the notice of a change, or nil if it concerns no sessions.
func encodeNotice(c room.Change, at time.Time) ([]byte, error) {
	if len(c.Joined)+len(c.Left)+len(c.Renewed)+len(c.Renamed)+len(c.Refused)+len(c.Ended)+len(c.Opened) == 0 {
		return nil, nil
	}
	c.By, c.Events = room.Actor{}, nil
	encoded, err := json.Marshal(notice{at, c})
	if err != nil {
		return nil, fmt.Errorf("encode a notice: %w", err)
	}
	return encoded, nil
}

// framesContent returns the content of a record of frames.
func framesContent(frames []*hub.Frame) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, f := range frames {
			b = f.AppendTo(b)
		}
		return b
	}
}

// numbering numbers the packets of a node.
type numbering struct {
	last      uint64
	lastToAll uint64 // the last that was for all nodes
}

// packets returns the packets of a message, each of at most size bytes. Text is split between
// characters, because each packet must be valid text.
func (ns *numbering) packets(node room.NodeID, m message, size int) (packets []Packet) {
	const longestNumbers = 4 * 20
	size -= len(wireName) + len("1     \n") + len(node) + longestNumbers
	var parts [][]byte
	records := m.records
	for len(records) > size {
		n := size
		for !utf8.RuneStart(records[n]) && n > size-utf8.UTFMax {
			n--
		}
		parts = append(parts, records[:n])
		records = records[n:]
	}
	parts = append(parts, records)
	for i, part := range parts {
		ns.last++
		packet := fmt.Appendf(make([]byte, 0, size+longestNumbers), "%s%d %s %d %d %d %d\n", wireName, WireVersion, node, ns.last, ns.lastToAll, i+1, len(parts))
		packets = append(packets, Packet{Log: m.log, Text: append(packet, part...)})
		if m.log == 0 {
			ns.lastToAll = ns.last
		}
	}
	return packets
}

// parsePacket parses a packet. Errors: errOtherVersion, with the node set, or another error for
// text that no node sends.
func parsePacket(text []byte) (p packet, err error) {
	head, content, found := bytes.Cut(text, []byte{'\n'})
	fields := strings.Split(string(head), " ")
	version, isOurs := strings.CutPrefix(fields[0], wireName)
	if !found || !isOurs || len(fields) < 2 || fields[1] == "" || len(fields[1]) > maxNodeID {
		return packet{}, notAPacket(text)
	}
	p = packet{node: room.NodeID(fields[1]), content: content}
	if version != strconv.Itoa(WireVersion) {
		return p, errOtherVersion
	}
	numbers := []*uint64{&p.number, &p.previous, &p.part, &p.parts}
	if len(fields) != 2+len(numbers) {
		return packet{}, notAPacket(text)
	}
	for i, n := range numbers {
		if *n, err = strconv.ParseUint(fields[2+i], 10, 64); err != nil {
			return packet{}, notAPacket(text)
		}
	}
	if p.previous >= p.number || p.part == 0 || p.part > p.parts || p.part > p.number {
		return packet{}, notAPacket(text)
	}
	return p, nil
}

func notAPacket(text []byte) error { return fmt.Errorf("not a packet: %.60q", text) }

// maxNodeID bounds the ID of a node, which is a UUID.
const maxNodeID = 64

// parseRecord returns the first record of a message, and what follows it.
func parseRecord(message []byte) (kind string, content, rest []byte, err error) {
	const longestHead = 64
	end := bytes.IndexByte(message[:min(len(message), longestHead)], '\n')
	if end < 0 {
		return "", nil, nil, fmt.Errorf("not a record: %.40q", message)
	}
	kind, length, _ := strings.Cut(string(message[:end]), " ")
	n, err := strconv.Atoi(length)
	message = message[end+1:]
	if err != nil || n < 0 || n > len(message) {
		return "", nil, nil, fmt.Errorf("a record %.20q of %.20q bytes", kind, length)
	}
	return kind, message[:n], message[n:], nil
}

// parseFrames returns the frames of a record. They refer to its content.
func parseFrames(content []byte) (frames []*hub.Frame, err error) {
	for len(content) > 0 {
		var f *hub.Frame
		if f, content, err = hub.ParseFrame(content); err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// parseNotice returns the notice of a record.
func parseNotice(content []byte) (n notice, err error) {
	if err := json.Unmarshal(content, &n); err != nil {
		return notice{}, fmt.Errorf("decode a notice: %w", err)
	}
	return n, nil
}
