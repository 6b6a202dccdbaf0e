package handlers

import (
	"net/netip"
	"sync"

	"parlor/room"
)

// slotLimit is the number of slots that may be in use at once, and the error if all are.
type slotLimit struct {
	max   int // 0 means no limit
	limit Limit
	fault *problem
}

// reached reports whether no slot is left.
func (l slotLimit) reached(taken int) bool { return l.max > 0 && taken >= l.max }

// slots limits how many of something are in use at once: in total, for each client address and for
// each user. A slot in use is never taken away.
type slots struct {
	all, perAddress, perUser slotLimit

	mu        sync.Mutex // guards all below
	taken     int
	byAddress map[netip.Prefix]int // addresses without a slot have no entry
	byUser    map[room.UserID]int  // users without a slot have no entry
}

func newSlots(all, perAddress, perUser slotLimit) *slots {
	return &slots{
		all: all, perAddress: perAddress, perUser: perUser,
		byAddress: make(map[netip.Prefix]int), byUser: make(map[room.UserID]int),
	}
}

// acquire acquires a slot, which must be released once. If a limit is reached, it acquires none and
// returns that limit. An invalid address and an empty user have no limit of their own. No limit
// applies if the slot replaces one that is about to be released.
func (s *slots) acquire(address netip.Prefix, user room.UserID, replaces bool) (release func(), reached *slotLimit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case replaces:
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
