package room

// Change is everything that one committed transaction made happen. The store
// hands it to the hub after the commit, never before. A session that arrives
// somewhere and departs elsewhere is told of its arrival first.
type Change struct {
	Events []Event
	Joined []Joined
	Left   []Left
	Ended  []EndedSession
}

// Ending is a session that is over.
type EndedSession struct {
	Session SessionID
	Reason  EndReason
	// Note is what an operator said of it.
	AdminReason string
}

// And is both changes in this order.
func (c Change) And(d Change) Change {
	return Change{
		Events: append(c.Events, d.Events...),
		Joined: append(c.Joined, d.Joined...),
		Left:   append(c.Left, d.Left...),
		Ended:  append(c.Ended, d.Ended...),
	}
}
