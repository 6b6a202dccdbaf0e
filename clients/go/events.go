package parlor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"iter"
	"strconv"
	"time"
)

// maxLine is the maximum length of a line of a stream, in bytes. The longest are those of
// sessionReady for a user in many rooms.
const maxLine = 16 << 20

// Events returns the events of a stream as they arrive: pass the body of the response of
// StreamEvents for events of type StreamEvent, or that of StreamAdminEvents for FeedEvent. The
// caller closes the body.
//
// The iteration ends when the stream does. It yields an error if reading failed or an event could
// not be decoded, and ends. An event that was cut off is not yielded.
func Events[E StreamEvent | FeedEvent](stream io.Reader) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		for received, err := range frames(stream) {
			if err == nil && received.Data == nil { // a comment or a retry field
				continue
			}
			var e E
			if err == nil {
				err = received.decode(&e)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// frames returns the frames of a stream, also those without data. A frame that was cut off is not
// yielded. An error ends the iteration.
func frames(stream io.Reader) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		lines := bufio.NewScanner(stream)
		lines.Buffer(nil, maxLine)
		lines.Split(completeLines)
		var next frame
		for lines.Scan() {
			if line := lines.Bytes(); len(line) > 0 {
				next.add(line)
				continue
			}
			if !yield(next, nil) {
				return
			}
			next = frame{retry: next.retry}
		}
		if err := lines.Err(); err != nil {
			yield(frame{}, err)
		}
	}
}

// completeLines is bufio.ScanLines without the last line if that has no end, because it was cut off.
func completeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if bytes.IndexByte(data, '\n') < 0 {
		return 0, nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}

// frame is an event as it arrives; its JSON is that of StreamEvent and FeedEvent.
type frame struct {
	Event string          `json:"event"`
	ID    string          `json:"id,omitempty"`
	Data  json.RawMessage `json:"data"`
	// retry is the time to wait before a reconnect, as the stream last said.
	retry time.Duration
}

// add reads a line of the frame.
func (f *frame) add(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		f.Event = string(value)
	case "id":
		f.ID = string(value)
	case "data":
		if f.Data != nil {
			f.Data = append(f.Data, '\n')
		}
		f.Data = append(f.Data, value...)
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			f.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

func (f frame) decode(e any) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, e)
}
