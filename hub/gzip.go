package hub

import (
	"encoding/binary"
	"hash/crc32"

	"parlor/room"
)

const (
	// gzipHead begins a stream that is compressed. It has no name and no time.
	gzipHead = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
	// flushBlock is an empty stored block. Readers deliver what is before it, even those that wait
	// for the end of a block.
	flushBlock = "\x00\x00\x00\xff\xff"
	// flushLengths are the two lengths at the end of flushBlock. The bits of its type may be in the
	// byte in which the block before it ends.
	flushLengths = 4
	// finalBlock is an empty last block, with the fixed codes.
	finalBlock = "\x03\x00"
	// maxStored is the most that a stored block contains.
	maxStored = 1<<16 - 1
	// minCompressed is the size from which bytes that only one stream gets are compressed.
	minCompressed = 200
)

// gzipMember is what a stream is that is compressed: one gzip member, which lasts as long as the
// stream. It holds neither a window nor a compressor, because its blocks are pieces that are
// compressed once for many streams.
type gzipMember struct {
	// before is what the stream's client has received last, if those were events of log, for all of
	// the log's subscribers. Otherwise it is nil.
	before *history
	log    room.LogID
	// crc and size are those of all bytes so far, before compression.
	crc, size uint32
}

// span is a part of a write that is the same for many streams: events of a log.
type span struct {
	from, to int // positions in the write
	// log is 0 if the events may not be compressed together with those before them.
	log room.LogID
}

// appendSpan appends the next span of a write. Spans that follow each other are compressed as one.
func appendSpan(spans []span, next span) []span {
	if n := len(spans); n > 0 && next.log != 0 && spans[n-1].log == next.log && spans[n-1].to == next.from {
		spans[n-1].to = next.to
		return spans
	}
	return append(spans, next)
}

// appendTo appends a write as it is in the member. Every write ends with an empty stored block.
func (m *gzipMember) appendTo(b, write []byte, shared []span, c *compressor) []byte {
	if m.size == 0 {
		b = append(b, gzipHead...)
	}
	m.crc = crc32.Update(m.crc, crc32.IEEETable, write)
	m.size += uint32(len(write)) // modulo 2^32, as RFC 1952 defines it
	flushed := false             // b ends with an empty stored block
	at := 0
	for _, s := range shared {
		own := write[at:s.from]
		if len(own) > 0 {
			b, flushed = appendStored(b, own, flushed), false
		}
		at = s.to
		if m.log != s.log || s.log == 0 || len(own) > maxGap {
			m.before, m.log = nil, s.log
		}
		p := c.piece(m.before, len(own), write[s.from:s.to])
		if p == nil {
			b, flushed = appendStored(b, write[s.from:s.to], flushed), false
			m.before = nil
			continue
		}
		b, flushed = append(b, p.data...), true
		m.before = p.after
	}
	if own := write[at:]; len(own) > 0 {
		m.before = nil
		if data := c.deflateOwn(own); data != nil {
			return append(b, data...)
		}
		b, flushed = appendStored(b, own, flushed), false
	}
	if !flushed {
		b = append(b, flushBlock...)
	}
	return b
}

// appendEnd appends the end of the member.
func (m *gzipMember) appendEnd(b []byte) []byte {
	if m.size == 0 {
		b = append(b, gzipHead...)
	}
	b = append(b, finalBlock...)
	b = binary.LittleEndian.AppendUint32(b, m.crc)
	return binary.LittleEndian.AppendUint32(b, m.size)
}

// appendStored appends stored blocks. flushed reports that b ends with an empty one, which then gets
// the first bytes.
func appendStored(b, data []byte, flushed bool) []byte {
	if flushed {
		b = b[:len(b)-flushLengths]
	} else {
		b = append(b, 0)
	}
	for {
		n := min(len(data), maxStored)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b = append(b, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return b
		}
		b = append(b, 0)
	}
}
