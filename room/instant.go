package room

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Instant is a time as clients see it: in UTC and to the millisecond. It counts the milliseconds
// since 1970; zero stands for no time.
type Instant int64

// InstantOf returns the instant of a time. It is the only place that reduces the precision.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMilli()) }

// InstantFrom returns the first instant that is not before a time. An instant is before the time if
// and only if it is before the result.
func InstantFrom(t time.Time) Instant { return InstantOf(t.Add(time.Millisecond - 1)) }

// Time returns the instant as the standard type, in UTC.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// AppendText appends the instant as clients receive it, such as 2026-11-21T15:00:00.250Z. All
// instants have the same length, so they sort as text.
func (i Instant) AppendText(b []byte) ([]byte, error) {
	t := i.Time()
	b = t.AppendFormat(b, time.RFC3339) // ends with Z; a layout with milliseconds would be slower
	ms := t.Nanosecond() / 1e6
	return append(b[:len(b)-1], '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), 'Z'), nil
}

// MarshalText returns the result of AppendText.
func (i Instant) MarshalText() ([]byte, error) { return i.AppendText(nil) }

func (i Instant) String() string {
	text, _ := i.AppendText(nil) // never fails
	return string(text)
}

// UnmarshalText reads the result of MarshalText, and the instants in rows that earlier releases
// wrote, which have no trailing zeros.
func (i *Instant) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("decode an instant: %w", err)
	}
	*i = InstantOf(t)
	return nil
}

// rfc3339 is the date-time of RFC 3339, section 5.6. Package time accepts other forms too.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseInstant parses a time that a client sent, with its full precision. It reports whether the
// text is a time in RFC 3339 and, in UTC, in the years 1 to 9999: the date types of several
// languages have no other years. A leap second is the same time as the second after it.
func ParseInstant(text string) (t time.Time, ok bool) {
	if !rfc3339.MatchString(text) {
		return time.Time{}, false
	}
	text = strings.ToUpper(text)
	const second = len("2006-01-02T15:04:")
	leap := text[second:second+2] == "60"
	if leap {
		text = text[:second] + "59" + text[second+2:]
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, false
	}
	t = t.UTC()
	if leap {
		t = t.Add(time.Second)
		if t.Hour() != 0 || t.Minute() != 0 { // leap seconds are the last ones of a day
			return time.Time{}, false
		}
	}
	return t, t.Year() >= 1 && t.Year() <= 9999
}
