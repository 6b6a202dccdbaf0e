package room

import "time"

// RecallTime is how long after sending a message its sender may recall it.
const RecallTime = 2 * time.Minute

// Recall appends the event of a recall, and returns the message without its content, as it is
// stored from now on. by is the user who recalls it, or empty for an admin, who may recall any
// message at any time. Recalling again changes nothing. Errors: ErrMessageNotFound if the user may
// not see the message, ErrNotSender, ErrRecallTooLate.
func (r Room) Recall(m Message, by UserID, now time.Time) (Room, Message, Change, error) {
	if err := m.recallable(by, now); err != nil || m.Recalled {
		return r, m, Change{}, err
	}
	var c Change
	r, c.Events = r.append(c.Events, now, MessageRecalled{
		MessageID: m.ID, RecalledSeq: m.Seq, Audience: m.Audience(), OperatedInfo: operatedBy(by),
	})
	return r, m.withoutContent(), c, nil
}

// Recall is Room.Recall for a message in the inbox of one of two users. by is never empty. Errors:
// ErrNotSender, ErrRecallTooLate.
func (in Inbox) Recall(m Message, by UserID, now time.Time) (Inbox, Message, Change, error) {
	if err := m.recallable(by, now); err != nil || m.Recalled {
		return in, m, Change{}, err
	}
	in, c := in.append(now, PeerMessageRecalled{
		Peer: m.Peer, MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: operatedBy(by),
	})
	return in, m.withoutContent(), c, nil
}

// recallable returns an error if the message may not be recalled by a user, or by an admin if by is
// empty. Errors: ErrMessageNotFound, ErrNotSender, ErrRecallTooLate.
func (m Message) recallable(by UserID, now time.Time) error {
	switch {
	case by != "" && !m.VisibleTo(by):
		return ErrMessageNotFound
	case by != "" && by != m.Sender.ID:
		return ErrNotSender
	case by != "" && !m.Recalled && now.Sub(m.SentAt.Time()) > RecallTime:
		return ErrRecallTooLate
	}
	return nil
}

// withoutContent returns what is left of a recalled message: its ID, kind, sender, readers and
// time.
func (m Message) withoutContent() Message {
	m.Content, m.ExtendedData, m.Recalled = Content{Kind: m.Kind}, "", true
	return m
}
