package cluster

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parlor/hub"
	"parlor/room"
)

// interestBits is the number of bits of an interest. A node that has streams in 1,000 rooms hears an
// eighth of the other rooms too, and one with streams in 10,000 rooms seven tenths.
const interestBits = 8192

// interest is a set of logs, of which a node tells the others that it follows them. Each bit stands for
// many logs, so that the set has a fixed size. The first bit is that of hub.CommandsLog.
type interest [interestBits / 8]byte

func bitOf(log room.LogID) uint64 {
	if log == hub.CommandsLog {
		return 0
	}
	return 1 + uint64(log)%(interestBits-1) //nolint:gosec // any number will do
}

func (i *interest) has(log room.LogID) bool {
	bit := bitOf(log)
	return i[bit/8]&(1<<(bit%8)) != 0
}

// add adds a log, and reports whether it was not in the set.
func (i *interest) add(log room.LogID) bool {
	if i.has(log) {
		return false
	}
	bit := bitOf(log)
	i[bit/8] |= 1 << (bit % 8)
	return true
}

// without returns what is in this set and not in another one.
func (i *interest) without(other *interest) (rest interest, empty bool) {
	for n := range i {
		rest[n] = i[n] &^ other[n]
	}
	return rest, rest == interest{}
}

// following is what a node follows.
type following struct {
	logs map[room.LogID]bool
	// told is what the other nodes are told: the logs, and those that were followed since the last
	// beat.
	told interest
	// since is when the first log was followed of which the other nodes have not been told; zero if
	// they know all.
	since time.Time
}

// add adds logs that are followed since a time. It reports whether the other nodes have to be told.
func (f *following) add(logs []room.LogID, since time.Time) (news bool) {
	for _, log := range logs {
		f.logs[log] = true
		news = f.told.add(log) || news
	}
	if news && f.since.IsZero() {
		f.since = since
	}
	return news
}

// refresh forgets the logs that are not followed any more.
func (f *following) refresh() {
	f.told = interest{}
	for log := range f.logs {
		f.told.add(log)
	}
}

// entered are the logs of rooms that sessions have entered through this node lately: at least in the
// last beatInterval, and at most twice that. Their streams may be at other nodes, which follow these
// logs but do not know it yet.
type entered struct {
	now, before interest
}

// age forgets the older ones.
func (e *entered) age() { e.now, e.before = interest{}, e.now }

func (e *entered) has(log room.LogID) bool { return e.now.has(log) || e.before.has(log) }

// appendTo appends the content of a beat: the time since when the node follows all of the set, in
// microseconds, and the set in base64. A beat without a content follows everything.
func (f *following) appendTo(b []byte) []byte {
	var since int64
	if !f.since.IsZero() {
		since = f.since.UnixMicro()
	}
	b = append(strconv.AppendInt(b, since, 10), ' ')
	return base64.RawStdEncoding.AppendEncode(b, f.told[:])
}

// parseInterest parses the content of a beat. An interest of nil means everything.
func parseInterest(content []byte) (since time.Time, i *interest, err error) {
	if len(content) == 0 {
		return since, nil, nil
	}
	micros, set, _ := strings.Cut(string(content), " ")
	at, err := strconv.ParseInt(micros, 10, 64)
	if err != nil || at < 0 || base64.RawStdEncoding.DecodedLen(len(set)) != len(i) {
		return since, nil, fmt.Errorf("a beat that follows %.40q", content)
	}
	i = new(interest)
	if _, err := base64.RawStdEncoding.Decode(i[:], []byte(set)); err != nil {
		return since, nil, fmt.Errorf("a beat that follows: %w", err)
	}
	return time.UnixMicro(at), i, nil
}
