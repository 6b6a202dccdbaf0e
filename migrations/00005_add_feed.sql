-- +goose Up

-- The feed is all rooms' events in one order. The transaction that wrote an
-- event is its place: what is older than every transaction that still runs is
-- complete. A transaction may get its number long before the room's lock, so
-- an event takes the place of the one before it in its log where that is higher;
-- last_xact is the place of the newest. (docs/adr/0010)
--
-- What exists takes the place of this migration. No default afterwards: whoever
-- writes an event must say where it goes.
ALTER TABLE events ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE events ALTER COLUMN xact DROP DEFAULT;
CREATE INDEX events_feed ON events (xact, generation, seq);

ALTER TABLE rooms
    ADD COLUMN created_xact   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN last_xact      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN destroyed_xact xid8,
    ADD COLUMN destroy_reason text CHECK (destroy_reason IN ('empty', 'unused', 'operator'));
UPDATE rooms SET destroyed_xact = last_xact, destroy_reason = CASE WHEN last_seq = 0 THEN 'unused' ELSE 'empty' END
    WHERE destroyed_at IS NOT NULL;
ALTER TABLE rooms ADD CONSTRAINT rooms_end CHECK (
    (destroyed_at IS NULL) = (destroyed_xact IS NULL) AND (destroyed_at IS NULL) = (destroy_reason IS NULL));
CREATE INDEX rooms_feed_created ON rooms (created_xact, generation);
-- last_xact stands in no index: it changes with every event, in place.
CREATE INDEX rooms_feed_destroyed ON rooms (destroyed_xact, generation) WHERE destroyed_xact IS NOT NULL;

-- The last place of the feed that was purged, in one row.
CREATE TABLE feed_trimmed (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    xact       xid8   NOT NULL,
    generation bigint NOT NULL,
    seq        bigint NOT NULL
);
INSERT INTO feed_trimmed (xact, generation, seq) VALUES ('0', 0, 0);

-- +goose Down
DROP TABLE feed_trimmed;
DROP INDEX rooms_feed_destroyed, rooms_feed_created, events_feed;
ALTER TABLE rooms
    DROP CONSTRAINT rooms_end,
    DROP COLUMN destroy_reason,
    DROP COLUMN destroyed_xact,
    DROP COLUMN last_xact,
    DROP COLUMN created_xact;
ALTER TABLE events DROP COLUMN xact;
