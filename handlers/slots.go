package handlers

import (
	"net/netip"
	"sync"

	"parlor/room"
)

// slotLimit is how many of something there may be at once, and what a caller is told
// who meets it.
type slotLimit struct {
	max   int // 0: any number
	limit Limit
	fault *problem
}

// reached reports whether there are as many as there may be.
func (b slotLimit) reached(taken int) bool { return b.max > 0 && taken >= b.max }

// slots bounds how many of something there are at once: in all, from each address
// and of each user. Nobody's is taken away for another's.
type slots struct {
	all, perAddress, perUser slotLimit

	mu        sync.Mutex // guards all below
	taken     int
	byAddress map[netip.Prefix]int // only those that have some
	byUser    map[room.UserID]int  // likewise
}

func newSlots(all, perAddress, perUser slotLimit) *slots {
	return &slots{
		all: all, perAddress: perAddress, perUser: perUser,
		byAddress: make(map[netip.Prefix]int), byUser: make(map[room.UserID]int),
	}
}

// acquire takes a slot, which free gives back once; where a bound is met it takes none
// and returns that bound. An invalid address and an empty user have no bound of
// their own. Where instead is true the slot stands for one that is just being given
// back, and no bound holds.
func (s *slots) acquire(address netip.Prefix, user room.UserID, instead bool) (free func(), met *slotLimit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case instead:
	case s.all.reached(s.taken):
		return nil, &s.all
	case address.IsValid() && s.perAddress.reached(s.byAddress[address]):
		return nil, &s.perAddress
	case user != "" && s.perUser.reached(s.byUser[user]):
		return nil, &s.perUser
	}
	s.taken++
	if address.IsValid() {
		s.byAddress[address]++
	}
	if user != "" {
		s.byUser[user]++
	}
	return func() { s.release(address, user) }, nil
}

func (s *slots) release(address netip.Prefix, user room.UserID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.byAddress[address]--; s.byAddress[address] <= 0 {
		delete(s.byAddress, address)
	}
	if s.byUser[user]--; s.byUser[user] <= 0 {
		delete(s.byUser, user)
	}
}
