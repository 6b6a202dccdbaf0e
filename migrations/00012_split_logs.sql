-- +goose Up

-- Where a room's log ends, in a small row of its own: it changes with every message,
-- and nothing else is checked or written anew with it. This row is what whoever
-- writes to a room or its log locks. There is one for each life of a room.
CREATE TABLE logs (
    generation bigint  PRIMARY KEY REFERENCES rooms ON DELETE CASCADE,
    last_seq   bigint  NOT NULL CHECK (last_seq >= 0),
    -- The place of the newest event in the feed. It stands in no index.
    last_xact  xid8    NOT NULL DEFAULT pg_current_xact_id(),
    -- Nothing more comes: the room was destroyed.
    closed     boolean NOT NULL DEFAULT false
) WITH (fillfactor = 25); -- leave space for updates in place
INSERT INTO logs SELECT generation, last_seq, last_xact, destroyed_at IS NOT NULL FROM rooms;
ALTER TABLE rooms DROP COLUMN last_seq, DROP COLUMN last_xact;

-- Appends count the stays of their senders: one lookup by a number for each.
CREATE UNIQUE INDEX attendances_by_stay ON attendances (stay);

-- +goose Down
DROP INDEX attendances_by_stay;
ALTER TABLE rooms
    ADD COLUMN last_seq  bigint CHECK (last_seq >= 0),
    ADD COLUMN last_xact xid8 DEFAULT pg_current_xact_id();
UPDATE rooms r SET last_seq = l.last_seq, last_xact = l.last_xact FROM logs l WHERE l.generation = r.generation;
ALTER TABLE rooms
    ALTER COLUMN last_seq SET NOT NULL,
    ALTER COLUMN last_xact SET NOT NULL;
DROP TABLE logs;
