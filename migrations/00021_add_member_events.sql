-- +goose Up

-- How joins and leaves are published, up to how many members by name, and what the room's log says
-- about members at the moment.
ALTER TABLE rooms
    ADD COLUMN presence text NOT NULL DEFAULT 'full' CHECK (presence IN ('full', 'batched', 'counts', 'none')),
    ADD COLUMN names_up_to integer NOT NULL DEFAULT 1000000 CHECK (names_up_to BETWEEN 1 AND 1000000),
    ADD COLUMN member_events text NOT NULL DEFAULT 'names' CHECK (member_events IN ('names', 'counts', 'none'));

-- Whether the room publishes which members are reconnecting, and which members it has published to
-- be so.
ALTER TABLE rooms ADD COLUMN member_states boolean NOT NULL DEFAULT false;
ALTER TABLE members ADD COLUMN reconnecting boolean NOT NULL DEFAULT false;
CREATE INDEX rooms_with_states ON rooms (generation) WHERE member_states AND destroyed_at IS NULL;
CREATE INDEX members_reconnecting ON members (generation) WHERE reconnecting;

-- +goose Down
DROP INDEX members_reconnecting;
DROP INDEX rooms_with_states;
ALTER TABLE members DROP COLUMN reconnecting;
ALTER TABLE rooms DROP COLUMN member_states, DROP COLUMN presence, DROP COLUMN names_up_to, DROP COLUMN member_events;
