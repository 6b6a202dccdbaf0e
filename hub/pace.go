package hub

import (
	"slices"
	"time"
)

const (
	// DefaultWindow is Options.Window if it is not set. A person does not notice it in a room that
	// says hundreds of things a second.
	DefaultWindow = 50 * time.Millisecond
	// storedWindow is the part of the window that stored events wait for at most: 10 ms by default.
	storedWindow = 5
	// defaultPacedStreams is how many streams a shard has at least to be paced. A round of fewer
	// takes less than a millisecond.
	defaultPacedStreams = 64
	// paceShare is the part of its worker's time that a shard may take without being paced: a
	// quarter.
	paceShare = 4
	// paceBurst is how much time a shard may take at once, for example for one event to thousands
	// of streams.
	paceBurst = 25 * time.Millisecond
)

// pace makes a shard with many streams and many events deliver several events at once: a write of
// ten events to a socket takes hardly longer than a write of one. It measures how much of its
// worker's time the shard takes. While that is more than its share, the next events are gathered for
// a while, at most for a window, before they are delivered. topic.mu guards it.
type pace struct {
	window time.Duration
	// debt is how much time the shard had taken beyond its share at the time of at.
	debt time.Duration
	at   time.Time
	// due is when the timer schedules the shard; zero if the shard is not gathering.
	due   time.Time
	timer *time.Timer
}

// add records that the shard took its worker's time.
func (p *pace) add(began, ended time.Time) {
	most := paceBurst + p.window/paceShare // more would make no difference
	p.debt = min(p.debtAt(ended)+ended.Sub(began), most)
	p.at = ended
}

func (p *pace) debtAt(now time.Time) time.Duration {
	return max(0, p.debt-now.Sub(p.at)/paceShare)
}

// wait returns how long an event should wait for others.
func (p *pace) wait(now time.Time, stored bool) time.Duration {
	window := p.window
	if stored {
		window /= storedWindow
	}
	return min(max(0, p.debtAt(now)-paceBurst)*paceShare, window)
}

// endRound records how long a round of the shard took, and lets the next one begin.
func (s *shard) endRound(began, ended time.Time) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	if s.pace == nil {
		s.pace = &pace{window: s.topic.hub.opts.Window, at: ended}
	}
	s.pace.add(began, ended)
	s.scheduled = false
	if len(s.pending) > 0 {
		s.schedule(slices.ContainsFunc(s.pending, func(f *Frame) bool { return f.seq > 0 }))
	}
}

// schedule makes the worker deliver the pending frames, at once or when more were gathered. stored
// reports that the newest of them is a stored event. The caller holds topic.mu.
func (s *shard) schedule(stored bool) {
	p := s.pace
	gathering := p != nil && !p.due.IsZero()
	if s.scheduled && !(gathering && stored) {
		return
	}
	s.scheduled = true
	if p == nil {
		s.topic.hub.workers[s.worker].schedule(s)
		return
	}
	now := time.Now()
	wait := p.wait(now, stored)
	switch {
	case gathering && !now.Add(wait).Before(p.due):
	case wait == 0 && !gathering:
		s.topic.hub.workers[s.worker].schedule(s)
	case p.timer == nil:
		p.timer = time.AfterFunc(wait, s.gathered)
		p.due = now.Add(wait)
	default:
		p.timer.Reset(wait)
		p.due = now.Add(wait)
	}
}

// gathered schedules the shard when its wait is over. A timer that fires just before it is set again
// calls gathered once more than needed. That call does nothing, or ends the wait early.
func (s *shard) gathered() {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	if p := s.pace; !p.due.IsZero() {
		p.due = time.Time{}
		s.topic.hub.workers[s.worker].schedule(s)
	}
}
