package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// ledger records what a server acknowledged and what each of its readers received. Both must be
// equal in the end.
type ledger struct {
	mu sync.Mutex // guards all below
	// acknowledged maps rooms and seqs to texts.
	acknowledged map[string]map[int64]string
	readers      []*readerRecord
}

// readerRecord records what one reader received, from a stream or from the history.
type readerRecord struct {
	reader string
	// whole means that the reader must receive every event of a room's log, and not only the
	// messages.
	whole bool
	rooms map[string]*roomRecord
}

// roomRecord records the events of one room that a reader received.
type roomRecord struct {
	begun      bool // the first event has been received
	last       int64
	texts      map[int64]string // by seq
	missing    int
	duplicated int
	outOfOrder int
}

// verdict describes how the records of readers differ from what was acknowledged.
type verdict struct {
	lost, duplicated, outOfOrder int
	acknowledged, seen           int
	examples                     []string // the first few differences
}

func (v verdict) clean() bool { return v.lost == 0 && v.duplicated == 0 && v.outOfOrder == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("%d messages acknowledged, %d seen: %d lost, %d duplicated, %d out of order",
		v.acknowledged, v.seen, v.lost, v.duplicated, v.outOfOrder)
}

// acknowledge records a message that the server acknowledged.
func (l *ledger) acknowledge(room string, seq int64, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acknowledged == nil {
		l.acknowledged = map[string]map[int64]string{}
	}
	if l.acknowledged[room] == nil {
		l.acknowledged[room] = map[int64]string{}
	}
	l.acknowledged[room][seq] = text
}

// addReader adds a record for a reader. Its method add must be called from one goroutine.
func (l *ledger) addReader(reader string, whole bool) *readerRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &readerRecord{reader: reader, whole: whole, rooms: map[string]*roomRecord{}}
	l.readers = append(l.readers, p)
	return p
}

// add records an event of a room's log. The text is empty if it is not a message.
func (p *readerRecord) add(room string, seq int64, text string) {
	c := p.rooms[room]
	if c == nil {
		c = &roomRecord{texts: map[int64]string{}}
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
	for room, texts := range l.acknowledged {
		v.acknowledged += len(texts)
		seqs := map[string]int64{}
		for seq, text := range texts {
			if other, twice := seqs[text]; twice {
				v.duplicated++
				example("%q was acknowledged at %d and at %d in %s", text, other, seq, room)
			}
			seqs[text] = seq
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
			for seq, text := range texts {
				if got := c.texts[seq]; got != text {
					v.lost++
					example("%s saw %q at %d in %s, and %q was acknowledged there", p.reader, got, seq, room, text)
				}
			}
			for seq, text := range c.texts {
				if texts[seq] == "" { // every message is retried until it is acknowledged
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
	p := l.addReader("the history", false)
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
