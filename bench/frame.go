package bench

import (
	"bytes"
	"errors"
	"strconv"
)

// frame is an event of a stream. Its fields are slices of the read buffer, valid until the next
// read. If it has several data lines, data is the last one: frames of a run have only one.
type frame struct {
	id, event, data []byte
}

// scan calls take with each complete frame in b, and returns the length of these frames. It skips
// frames without fields, which are comments.
func scan(b []byte, take func(frame) error) (int, error) {
	var f frame
	done := 0
	for at := 0; ; {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return done, nil
		}
		line := b[at : at+end]
		at += end + 1
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			f.set(line)
			continue
		}
		done = at
		if f.data == nil && f.event == nil && f.id == nil {
			continue
		}
		if err := take(f); err != nil {
			return done, err
		}
		f = frame{}
	}
}

// set adds a line to the frame.
func (f *frame) set(line []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return
	}
	value := line[colon+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(line[:colon]) {
	case "id":
		f.id = value
	case "event":
		f.event = value
	case "data":
		f.data = value
	}
}

// A stamp in a message contains the number of the message in its room, and the time at which it was
// sent: "~bench:0000000042:0000001234567890123". JSON encoders do not change it, so a reader finds
// it in a frame without decoding the frame.
const (
	stampMark   = "~bench:"
	stampNumber = 10
	stampTime   = 19
	stampBytes  = len(stampMark) + stampNumber + 1 + stampTime
)

// appendStamp appends the stamp of message n of a room, sent at a time of the run's clock.
func appendStamp(b []byte, n, at int64) []byte {
	b = append(b, stampMark...)
	b = appendPadded(b, n, stampNumber)
	b = append(b, ':')
	return appendPadded(b, at, stampTime)
}

func appendPadded(b []byte, n int64, digits int) []byte {
	var number [20]byte
	text := strconv.AppendInt(number[:0], n, 10)
	for range digits - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}

// readStamp returns the stamp in a frame's data.
func readStamp(data []byte) (n, at int64, found bool) {
	start := bytes.Index(data, []byte(stampMark))
	if start < 0 || len(data)-start < stampBytes {
		return 0, 0, false
	}
	text := data[start+len(stampMark) : start+stampBytes]
	n, ok := leadingNumber(text[:stampNumber])
	at, ok2 := leadingNumber(text[stampNumber+1:])
	return n, at, ok && ok2 && text[stampNumber] == ':'
}

// leadingNumber parses digits up to the first other byte or the end. It fails if there are none or
// too many.
func leadingNumber(b []byte) (n int64, ok bool) {
	for i, c := range b {
		if c < '0' || c > '9' {
			return n, i > 0
		}
		if i == stampTime {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}

var errChunk = errors.New("invalid chunked encoding")

// chunks decodes a reply with chunked encoding (RFC 9112, section 7.1), which proxies may add.
type chunks struct {
	left  int64 // bytes left in the current chunk
	phase chunkPhase
}

type chunkPhase uint8

const (
	chunkSize      chunkPhase = iota // the digits
	chunkExtension                   // the rest of their line
	chunkData
	chunkDataEnd // the line end after the data
	chunkTrailer // what follows the last chunk
)

// unwrap moves the data to the beginning of b and returns its length.
func (c *chunks) unwrap(b []byte) (int, error) {
	n := 0
	for i := 0; i < len(b); {
		switch c.phase {
		case chunkData:
			part := min(c.left, int64(len(b)-i))
			n += copy(b[n:], b[i:i+int(part)])
			i += int(part)
			if c.left -= part; c.left == 0 {
				c.phase = chunkDataEnd
			}
			continue
		case chunkSize:
			if digit, ok := hexDigit(b[i]); ok {
				if c.left > 1<<40 {
					return n, errChunk
				}
				c.left = c.left<<4 | digit
				break
			}
			c.phase = chunkExtension
			continue
		case chunkExtension:
			if b[i] != '\n' {
				break
			}
			c.phase = chunkData
			if c.left == 0 {
				c.phase = chunkTrailer
			}
		case chunkDataEnd:
			switch b[i] {
			case '\r':
			case '\n':
				c.phase = chunkSize
			default:
				return n, errChunk
			}
		case chunkTrailer:
			return n, nil
		}
		i++
	}
	return n, nil
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10, true
	}
	return 0, false
}
