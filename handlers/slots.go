package handlers

import (
	"net/netip"
	"sync"

	"parlor/room"
)

// slots bounds how many of something there are at once: in all, from each address
// and of each user. Nobody's is taken away for another's.
type slots struct {
	most, mostPerAddress, mostPerUser int // 0: any number

	mu        sync.Mutex // guards all below
	taken     int
	byAddress map[netip.Prefix]int // only those that have some
	byUser    map[room.UserID]int  // likewise
}

// bound says which of its bounds slots have met.
type bound int

const (
	noBound bound = iota
	inAll
	perAddress
	perUser
)

func newSlots(most, mostPerAddress, mostPerUser int) *slots {
	return &slots{
		most: most, mostPerAddress: mostPerAddress, mostPerUser: mostPerUser,
		byAddress: make(map[netip.Prefix]int), byUser: make(map[room.UserID]int),
	}
}

// take takes a slot, which free gives back once; where a bound is met it takes
// none. An invalid address and an empty user have no bound of their own. Where
// instead is true the slot stands for one that is just being given back, and no
// bound holds.
func (s *slots) take(address netip.Prefix, user room.UserID, instead bool) (free func(), met bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case instead:
	case s.most > 0 && s.taken >= s.most:
		return nil, inAll
	case s.mostPerAddress > 0 && address.IsValid() && s.byAddress[address] >= s.mostPerAddress:
		return nil, perAddress
	case s.mostPerUser > 0 && user != "" && s.byUser[user] >= s.mostPerUser:
		return nil, perUser
	}
	s.taken++
	if address.IsValid() {
		s.byAddress[address]++
	}
	if user != "" {
		s.byUser[user]++
	}
	return func() { s.free(address, user) }, noBound
}

func (s *slots) free(address netip.Prefix, user room.UserID) {
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
