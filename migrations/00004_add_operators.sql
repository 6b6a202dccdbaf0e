-- +goose Up

-- In a large room comings and goings are told together: untold marks the rooms
-- that have some to tell, announced the members that the log knows of, partings
-- the users that it does not yet know to be gone.
ALTER TABLE rooms ADD COLUMN untold boolean NOT NULL DEFAULT false;
CREATE INDEX rooms_untold ON rooms (generation) WHERE untold AND destroyed_at IS NULL;
ALTER TABLE members ADD COLUMN announced boolean NOT NULL DEFAULT true;
CREATE INDEX members_unannounced ON members (generation) WHERE NOT announced;
CREATE TABLE partings (
    generation bigint NOT NULL REFERENCES rooms ON DELETE CASCADE,
    user_id    text   NOT NULL,
    user_name  text   NOT NULL,
    reason     text   NOT NULL,
    PRIMARY KEY (generation, user_id)
);

-- Who may not enter which room, and until when. A ban outlives the room's life:
-- it is on the name.
CREATE TABLE bans (
    room_id text        NOT NULL,
    user_id text        NOT NULL,
    until   timestamptz NOT NULL,
    note    text        NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
CREATE INDEX bans_by_end ON bans (until);

-- What the operator said, for a session that comes back.
ALTER TABLE departures ADD COLUMN note text NOT NULL DEFAULT '';

-- To list rooms by name and by its beginning, in one order whatever the
-- database's locale.
CREATE INDEX rooms_by_name ON rooms (room_id COLLATE "C") WHERE destroyed_at IS NULL;

-- +goose Down
DROP INDEX rooms_by_name;
ALTER TABLE departures DROP COLUMN note;
DROP TABLE bans;
DROP TABLE partings;
DROP INDEX members_unannounced;
ALTER TABLE members DROP COLUMN announced;
DROP INDEX rooms_untold;
ALTER TABLE rooms DROP COLUMN untold;
