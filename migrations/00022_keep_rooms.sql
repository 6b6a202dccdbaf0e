-- +goose Up

-- untilEmpty rooms are destroyed when their last member has left, and kept rooms only by an admin.
-- history 'none' keeps messages only as long as members who reconnect need them. A retention of 0 is
-- that of the server.
ALTER TABLE rooms
    ADD COLUMN lifetime        text    NOT NULL DEFAULT 'untilEmpty' CHECK (lifetime IN ('untilEmpty', 'kept')),
    ADD COLUMN history         text    NOT NULL DEFAULT 'stored' CHECK (history IN ('stored', 'none')),
    ADD COLUMN retention_days  integer NOT NULL DEFAULT 0 CHECK (retention_days BETWEEN 0 AND 3650),
    ADD COLUMN retention_count integer NOT NULL DEFAULT 0 CHECK (retention_count BETWEEN 0 AND 1000000),
    -- The user who created the room; NULL if an admin did, or a server of an earlier release.
    ADD COLUMN creator_id      text;

CREATE INDEX rooms_with_retention ON rooms (generation)
    WHERE destroyed_at IS NULL AND (history = 'none' OR retention_days > 0 OR retention_count > 0);
CREATE INDEX rooms_by_creator ON rooms (creator_id) WHERE destroyed_at IS NULL AND creator_id IS NOT NULL;

-- The number of existing rooms is the sum of the parts. There are several, so that transactions that
-- create or destroy rooms seldom wait for each other.
CREATE TABLE room_counts (
    part  integer PRIMARY KEY,
    rooms bigint  NOT NULL
) WITH (fillfactor = 50);

INSERT INTO room_counts SELECT 0, count(*) FROM rooms WHERE destroyed_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION count_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO room_counts AS c (part, rooms) VALUES (pg_backend_pid() % 16, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END)
    ON CONFLICT (part) DO UPDATE SET rooms = c.rooms + EXCLUDED.rooms;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER count_created_room AFTER INSERT ON rooms FOR EACH ROW
    WHEN (NEW.destroyed_at IS NULL) EXECUTE FUNCTION count_room();
CREATE TRIGGER count_destroyed_room AFTER UPDATE OF destroyed_at ON rooms FOR EACH ROW
    WHEN (OLD.destroyed_at IS NULL AND NEW.destroyed_at IS NOT NULL) EXECUTE FUNCTION count_room();
CREATE TRIGGER count_deleted_room AFTER DELETE ON rooms FOR EACH ROW
    WHEN (OLD.destroyed_at IS NULL) EXECUTE FUNCTION count_room();

-- +goose Down
DROP TRIGGER count_deleted_room ON rooms;
DROP TRIGGER count_destroyed_room ON rooms;
DROP TRIGGER count_created_room ON rooms;
DROP FUNCTION count_room;
DROP TABLE room_counts;
-- A room without members ends, as all do for the previous release.
UPDATE rooms SET destroy_at = now() + make_interval(secs => destroy_delay)
    WHERE lifetime = 'kept' AND member_count = 0 AND destroyed_at IS NULL;
DROP INDEX rooms_with_retention, rooms_by_creator;
ALTER TABLE rooms
    DROP COLUMN lifetime, DROP COLUMN history, DROP COLUMN retention_days, DROP COLUMN retention_count, DROP COLUMN creator_id;
