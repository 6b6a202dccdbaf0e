package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// ledger records what a server acknowledged and what each of its readers received. Both must be
// equal in the end.
type ledger struct {
	mu sync.Mutex // guards all below
	// acknowledged maps rooms and seqs to messages.
	acknowledged map[string]map[int64]acknowledged
	readers      []*readerRecord
	// mayLeave is the beginning of the IDs of the users that leave rooms. All others stay.
	mayLeave string
}

// acknowledged is a message, and the users who may see it; nil means all.
type acknowledged struct {
	text     string
	audience []string
}

func (a acknowledged) visibleTo(user string) bool {
	return a.audience == nil || slices.Contains(a.audience, user)
}

// readerRecord records what one reader received, from a stream or from the history.
type readerRecord struct {
	reader, user string
	// whole means that the reader must receive every event of a room's log, and not only the
	// messages.
	whole bool
	rooms map[string]*roomRecord
	// left lists the users who left although they were connected, and unpaired the joins of members
	// and the leaves of others.
	left, unpaired []string
	mayLeave       string
}

// roomRecord records the events of one room that a reader received.
type roomRecord struct {
	begun      bool // the first event has been received
	last       int64
	texts      map[int64]string // by seq
	members    map[string]bool  // by user, whether the last event about it was a join
	missing    int
	duplicated int
	outOfOrder int
}

// verdict describes how the records of readers differ from what was acknowledged.
type verdict struct {
	lost, duplicated, outOfOrder int
	leaked                       int // messages to others
	left, unpaired               int
	acknowledged, seen           int
	examples                     []string // the first few differences
}

func (v verdict) clean() bool {
	return v.lost == 0 && v.duplicated == 0 && v.outOfOrder == 0 && v.leaked == 0 && v.left == 0 && v.unpaired == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("%d messages acknowledged, %d seen: %d lost, %d duplicated, %d out of order, %d leaked, %d members left, %d joins and leaves unpaired",
		v.acknowledged, v.seen, v.lost, v.duplicated, v.outOfOrder, v.leaked, v.left, v.unpaired)
}

// acknowledge records a message that the server acknowledged. audience holds the users who may see
// it; nil means all.
func (l *ledger) acknowledge(room string, seq int64, text string, audience []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acknowledged == nil {
		l.acknowledged = map[string]map[int64]acknowledged{}
	}
	if l.acknowledged[room] == nil {
		l.acknowledged[room] = map[int64]acknowledged{}
	}
	l.acknowledged[room][seq] = acknowledged{text, audience}
}

// addReader adds a record for a reader of a user. Its method add must be called from one goroutine.
func (l *ledger) addReader(reader, user string, whole bool) *readerRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &readerRecord{reader: reader, user: user, whole: whole, rooms: map[string]*roomRecord{}, mayLeave: l.mayLeave}
	l.readers = append(l.readers, p)
	return p
}

// add records an event of a room's log. The text is empty if it is not a message.
func (p *readerRecord) add(room string, seq int64, text string) {
	c := p.rooms[room]
	if c == nil {
		c = &roomRecord{texts: map[int64]string{}, members: map[string]bool{}}
		p.rooms[room] = c
	}
	switch {
	case c.begun && seq <= c.last && text != "" && c.texts[seq] == text:
		c.duplicated++
	case c.begun && seq <= c.last:
		c.outOfOrder++
	case c.begun && p.whole:
		c.missing += int(seq - c.last - 1)
	}
	c.begun, c.last = true, max(c.last, seq)
	if text != "" {
		c.texts[seq] = text
	}
}

// addMember records that a user joined or left a room.
func (p *readerRecord) addMember(room, user string, joined bool) {
	members := p.rooms[room].members
	if was, known := members[user]; known && was == joined {
		p.unpaired = append(p.unpaired, fmt.Sprintf("%s in %s (joined: %t)", user, room, joined))
	}
	members[user] = joined
	if !joined && !strings.HasPrefix(user, p.mayLeave) {
		p.left = append(p.left, user+" left "+room)
	}
}

// endsWith reports whether a text was the last message in a room.
func (p *readerRecord) endsWith(room, text string) bool {
	c := p.rooms[room]
	if c == nil {
		return false
	}
	return c.texts[c.last] == text
}

// check compares all records with what was acknowledged. Nothing may be recorded meanwhile.
func (l *ledger) check() (v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	example := func(format string, args ...any) {
		if len(v.examples) < 10 {
			v.examples = append(v.examples, fmt.Sprintf(format, args...))
		}
	}
	for _, p := range l.readers {
		v.left += len(p.left)
		v.unpaired += len(p.unpaired)
		if len(p.left)+len(p.unpaired) > 0 {
			example("%s saw that members left: %q, and joins and leaves that do not alternate: %q", p.reader, p.left, p.unpaired)
		}
	}
	for room, messages := range l.acknowledged {
		v.acknowledged += len(messages)
		seqs := map[string]int64{}
		for seq, m := range messages {
			if other, twice := seqs[m.text]; twice {
				v.duplicated++
				example("%q was acknowledged at %d and at %d in %s", m.text, other, seq, room)
			}
			seqs[m.text] = seq
		}
		for _, p := range l.readers {
			c := p.rooms[room]
			if c == nil {
				c = &roomRecord{}
			}
			v.seen += len(c.texts)
			v.duplicated += c.duplicated
			v.outOfOrder += c.outOfOrder
			v.lost += c.missing
			if c.missing+c.duplicated+c.outOfOrder > 0 {
				example("%s missed %d events of %s, saw %d twice and %d out of order", p.reader, c.missing, room, c.duplicated, c.outOfOrder)
			}
			for seq, m := range messages {
				switch got := c.texts[seq]; {
				case !m.visibleTo(p.user) && got != "":
					v.leaked++
					example("%s saw %q at %d in %s, which was to %v", p.reader, got, seq, room, m.audience)
				case m.visibleTo(p.user) && got != m.text:
					v.lost++
					example("%s saw %q at %d in %s, and %q was acknowledged there", p.reader, got, seq, room, m.text)
				}
			}
			for seq, text := range c.texts {
				if messages[seq].text == "" { // every message is retried until it is acknowledged
					v.duplicated++
					example("%s saw %q at %d in %s, where nothing was acknowledged", p.reader, text, seq, room)
				}
			}
		}
	}
	slices.Sort(v.examples)
	return v
}

// readHistory records the rooms' history.
func (l *ledger) readHistory(ctx context.Context, c *client, rooms []string) error {
	p := l.addReader("the history", c.user, false)
	for _, room := range rooms {
		for after := int64(0); ; {
			var reply struct {
				MessageList []struct {
					Seq  int64
					Text string
				}
				NextCursor int64
			}
			if err := c.succeed(ctx, "GET", fmt.Sprintf("/v1/rooms/%s/messages?limit=100&after=%d", room, after), nil, &reply); err != nil {
				return err
			}
			for _, m := range reply.MessageList {
				p.add(room, m.Seq, m.Text)
			}
			if reply.NextCursor == 0 {
				break
			}
			after = reply.NextCursor
		}
	}
	return nil
}
