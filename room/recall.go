package room

import "time"

// RecallTime is how long after sending it a sender may recall a message.
const RecallTime = 2 * time.Minute

// Recall takes back what a message says. By is who wants it: the message's
// sender, or empty where it is the operator, who may at any time. The message
// that is returned stands in the log in the place of the first. Recalling again
// changes nothing. Errors: ErrNotSender, ErrRecallTooLate.
func (r Room) Recall(m Message, by UserID, now time.Time) (Room, Message, Change, error) {
	switch {
	case by != "" && by != m.Sender.ID:
		return r, m, Change{}, ErrNotSender
	case m.Recalled:
		return r, m, Change{}, nil
	case by != "" && now.Sub(m.SentAt) > RecallTime:
		return r, m, Change{}, ErrRecallTooLate
	}
	var c Change
	r, c.Events = r.tell(c.Events, now, MessageRecalled{MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: operatedBy(by)})
	return r, m.withoutContent(), c, nil
}

// withoutContent is what stays of a message that was recalled: that there was
// one, of which kind, whose and when.
func (m Message) withoutContent() Message {
	m.Content, m.ExtendedData, m.Recalled = Content{Kind: m.Kind}, "", true
	return m
}
