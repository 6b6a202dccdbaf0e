-- +goose Up
ALTER TABLE rooms
    ADD COLUMN destroy_delay  integer NOT NULL DEFAULT 0 CHECK (destroy_delay BETWEEN 0 AND 10800),
    ADD COLUMN unused_timeout integer NOT NULL DEFAULT 30 CHECK (unused_timeout BETWEEN 1 AND 86400),
    ADD COLUMN same_user      text    NOT NULL DEFAULT 'allow' CHECK (same_user IN ('allow', 'replace', 'reject')),
    -- When the room goes unless somebody enters before; null while it has members.
    ADD COLUMN destroy_at     timestamptz;
ALTER TABLE rooms
    ALTER COLUMN destroy_delay DROP DEFAULT,
    ALTER COLUMN unused_timeout DROP DEFAULT,
    ALTER COLUMN same_user DROP DEFAULT;
CREATE INDEX rooms_due ON rooms (destroy_at) WHERE destroy_at IS NOT NULL AND destroyed_at IS NULL;

-- To find the oldest of a user's sessions.
CREATE INDEX sessions_by_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;

-- +goose Down
DROP INDEX sessions_by_user;
DROP INDEX rooms_due;
ALTER TABLE rooms
    DROP COLUMN destroy_at,
    DROP COLUMN same_user,
    DROP COLUMN unused_timeout,
    DROP COLUMN destroy_delay;
