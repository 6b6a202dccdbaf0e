package room

import "time"

// RecallTime is how long after sending it a sender may recall a message.
const RecallTime = 2 * time.Minute

// Recall takes back what a message says. By is who wants it: the message's
// sender, or empty where it is the operator, who may at any time. The message
// that is returned stands in the log in the place of the first. Recalling again
// changes nothing. Errors: ErrNotSender, ErrRecallTooLate.
func (r Room) Recall(m Message, by UserID, now time.Time) (Room, Message, Change, error) {
	if err := m.recallable(by, now); err != nil || m.Recalled {
		return r, m, Change{}, err
	}
	var c Change
	r, c.Events = r.append(c.Events, now, MessageRecalled{MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: operatedBy(by)})
	return r, m.withoutContent(), c, nil
}

// Recall takes back what a message says, as it stands in the inbox of one side; by
// is its sender, or it is refused. The message that is returned stands in the place
// of the first, and the event comes at the inbox's end. Where it was recalled before
// nothing changes, and the inbox is as it was. Errors: ErrNotSender,
// ErrRecallTooLate.
func (in Inbox) Recall(m Message, by UserID, now time.Time) (Inbox, Message, Change, error) {
	if err := m.recallable(by, now); err != nil || m.Recalled {
		return in, m, Change{}, err
	}
	in.LastSeq++
	return in, m.withoutContent(), Change{Events: []Event{{Log: in.Log, Seq: in.LastSeq, At: now, Body: PeerMessageRecalled{
		Peer: m.Peer, MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: operatedBy(by),
	}}}}, nil
}

// recallable says whether a user, or the operator where by is empty, may recall a
// message. Errors: ErrNotSender, ErrRecallTooLate.
func (m Message) recallable(by UserID, now time.Time) error {
	switch {
	case by != "" && by != m.Sender.ID:
		return ErrNotSender
	case by != "" && !m.Recalled && now.Sub(m.SentAt) > RecallTime:
		return ErrRecallTooLate
	}
	return nil
}

// withoutContent is what stays of a message that was recalled: that there was
// one, of which kind, whose and when.
func (m Message) withoutContent() Message {
	m.Content, m.ExtendedData, m.Recalled = Content{Kind: m.Kind}, "", true
	return m
}
