package room

// Change is everything that one committed transaction made happen. The store
// hands it to the hub after the commit, never before. A session that arrives
// somewhere and departs elsewhere is told of its arrival first.
type Change struct {
	Events     []Event
	Arrivals   []Arrival
	Departures []Departure
	Ended      []Ending
}

// Ending is a session that is over.
type Ending struct {
	Session SessionID
	Reason  EndReason
	// Note is what an operator said of it.
	Note string
}

// And is both changes in this order.
func (c Change) And(d Change) Change {
	return Change{
		Events:     append(c.Events, d.Events...),
		Arrivals:   append(c.Arrivals, d.Arrivals...),
		Departures: append(c.Departures, d.Departures...),
		Ended:      append(c.Ended, d.Ended...),
	}
}
