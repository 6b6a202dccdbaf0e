package room

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
)

// Messages are encoded by hand: each is encoded up to three times, for its row, its readers and its
// sender, and encoding/json takes five times as long. The result is that of the struct tags, which
// decoding uses.

// MarshalJSON encodes the message as its struct tags say.
func (m Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil) }

// AppendJSON appends the result of MarshalJSON to a buffer.
func (m Message) AppendJSON(b []byte) (_ []byte, err error) {
	b = slices.Grow(b, m.sizeJSON())
	b = appendString(append(b, `{"messageID":`...), string(m.ID))
	b = appendOptional(b, `,"roomID":`, string(m.Room))
	b = appendOptional(b, `,"userID":`, string(m.Peer))
	if m.Seq != 0 {
		b = strconv.AppendInt(append(b, `,"seq":`...), int64(m.Seq), 10)
	}
	if b, err = m.Content.appendFields(append(b, ',')); err != nil {
		return nil, err
	}
	b = appendString(append(b, `,"sender":{"userID":`...), string(m.Sender.ID))
	b = appendString(append(b, `,"userName":`...), m.Sender.Name)
	b = append(b, '}')
	for i, user := range m.To {
		b = appendString(append(b, [2]string{`,"to":[`, `,`}[min(i, 1)]...), string(user))
	}
	if len(m.To) > 0 {
		b = append(b, ']')
	}
	b = appendString(append(b, `,"priority":`...), string(m.Priority))
	b = appendOptional(b, `,"extendedData":`, m.ExtendedData)
	b = appendOptional(b, `,"clientMessageID":`, m.ClientMessageID)
	if b, err = m.SentAt.AppendText(append(b, `,"sentAt":"`...)); err != nil {
		return nil, err
	}
	b = append(b, '"')
	if m.Recalled {
		b = append(b, `,"recalled":true`...)
	}
	return append(b, '}'), nil
}

// sizeJSON estimates the encoded size of a message without a list and media, in bytes.
func (m Message) sizeJSON() int {
	const names = 176
	return names + len(m.ID) + len(m.Room) + len(m.Peer) + len(m.Text) + 2*len(m.Data) + len(m.Title) + len(m.Summary) +
		len(m.Sender.ID) + len(m.Sender.Name) + len(m.ExtendedData) + len(m.ClientMessageID)
}

// appendFields appends the fields of a content, without the braces. Rare fields are left to
// encoding/json.
func (c Content) appendFields(b []byte) ([]byte, error) {
	b = appendString(append(b, `"kind":`...), string(c.Kind))
	b = appendOptional(b, `,"text":`, c.Text)
	if len(c.Data) > 0 {
		b = base64.StdEncoding.AppendEncode(append(b, `,"data":"`...), c.Data)
		b = append(b, '"')
	}
	if c.SubType != nil {
		b = strconv.AppendInt(append(b, `,"subType":`...), int64(*c.SubType), 10)
	}
	b = appendOptional(b, `,"title":`, c.Title)
	b = appendOptional(b, `,"summary":`, c.Summary)
	if len(c.MessageList) > 0 {
		list, err := json.Marshal(c.MessageList)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"messageList":`...), list...)
	}
	if c.Media != nil {
		media, err := json.Marshal(c.Media)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"media":`...), media...)
	}
	return b, nil
}

// AppendJSON appends the body, encoded as its struct tags say.
func (r MessagesReceived) AppendJSON(b []byte) ([]byte, error) {
	return appendMessages(b, r.MessageList)
}

// AppendJSON appends the body, encoded as its struct tags say.
func (r PeerMessagesReceived) AppendJSON(b []byte) ([]byte, error) {
	return appendMessages(b, r.MessageList)
}

func appendMessages(b []byte, messages []Message) (_ []byte, err error) {
	b = append(b, `{"messageList":[`...)
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = m.AppendJSON(b); err != nil {
			return nil, err
		}
	}
	return append(b, "]}"...), nil
}

// AppendBody appends the body of an event, encoded as in its row.
func AppendBody(b []byte, body Body) ([]byte, error) {
	if body, ok := body.(interface{ AppendJSON([]byte) ([]byte, error) }); ok {
		return body.AppendJSON(b)
	}
	encoded, err := json.Marshal(body)
	return append(b, encoded...), err
}

func appendOptional(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, name...), s)
}

// sizeString returns the length of a string in JSON.
func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return len(appendString(nil, s))
}

// appendString appends a string as encoding/json encodes it. Strings that need more than quotes are
// left to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			encoded, _ := json.Marshal(s) // a string always has a JSON form
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
