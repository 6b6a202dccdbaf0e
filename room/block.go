package room

import "time"

// MaxBlocks is how many users a user can block.
const MaxBlocks = 1000

// A Block says that a user refuses the messages of another user. It concerns only messages between
// the two, and an admin's messages are not stopped.
type Block struct {
	User      UserID  `json:"userID"` // who is blocked
	BlockedAt Instant `json:"blockedAt"`
}

// BlockFacts is what decides about blocking and unblocking a user.
type BlockFacts struct {
	Exists  bool // the user has logged in, and was not deleted
	Blocked bool // the user is blocked already
	Blocks  int  // the number of blocked users
}

// Block blocks a user for the owner of the inbox. Blocking again changes nothing. A user who was
// deleted stays blocked. Errors: ErrBlockSelf, ErrUserNotFound, ErrTooManyBlocks.
func (in Inbox) Block(owner, user UserID, f BlockFacts, now time.Time) (Inbox, Change, error) {
	switch {
	case user == owner:
		return in, Change{}, ErrBlockSelf
	case f.Blocked:
		return in, Change{}, nil
	case !f.Exists:
		return in, Change{}, ErrUserNotFound
	case f.Blocks >= MaxBlocks:
		return in, Change{}, ErrTooManyBlocks
	}
	in, c := in.append(now, BlockListChanged{User: user, Blocked: true})
	return in, c, nil
}

// Unblock accepts the messages of a blocked user again. Errors: ErrBlockNotFound.
func (in Inbox) Unblock(user UserID, f BlockFacts, now time.Time) (Inbox, Change, error) {
	if !f.Blocked {
		return in, Change{}, ErrBlockNotFound
	}
	in, c := in.append(now, BlockListChanged{User: user})
	return in, c, nil
}
