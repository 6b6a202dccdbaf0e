package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// attributePairs are the attributes of a room as they are stored. They contain more than clients
// can see.
type attributePairs map[string]attributePair

type attributePair struct {
	Value                string      `json:"value"`
	Owner                room.UserID `json:"owner,omitempty"`
	DeleteAfterOwnerLeft bool        `json:"deleteAfterOwnerLeft,omitempty"`
}

func storedAttributes(a room.Attributes) attributePairs {
	pairs := make(attributePairs, len(a))
	for key, attribute := range a {
		pairs[key] = attributePair(attribute)
	}
	return pairs
}

func (p attributePairs) attributes() room.Attributes {
	a := make(room.Attributes, len(p))
	for key, pair := range p {
		a[key] = room.Attribute(pair)
	}
	return a
}

// queueAttributes writes the attributes of a room that the transaction has locked.
func queueAttributes(b *pgx.Batch, r room.Room) {
	b.Queue(`INSERT INTO room_attributes (generation, version, pairs) VALUES ($1, $2, $3)
		ON CONFLICT (generation) DO UPDATE SET version = excluded.version, pairs = excluded.pairs`,
		r.Generation, r.AttributesVersion, storedAttributes(r.Attributes))
}

// UpdateAttributes changes the attributes of a room that the session is in, or of any room for an
// admin. It returns their version, and the keys that it did not change because other users own them. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom, room.ErrVersionMismatch, room.ErrAttributesFull.
func (s *Store) UpdateAttributes(
	ctx context.Context, by room.Actor, id room.RoomID, u room.AttributesUpdate,
) (version room.Seq, refused []string, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lockRoomFor(ctx, tx, by, id)
		if err != nil {
			return c, err
		}
		if r, c, refused, err = r.UpdateAttributes(u, now); err != nil {
			return c, err
		}
		version = r.AttributesVersion
		if len(c.Events) == 0 {
			return c, nil
		}
		var b pgx.Batch
		queueAttributes(&b, r)
		if err := queueRoom(&b, r, c.Events); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, roomKey(id))
	return version, refused, err
}
