-- +goose Up

-- Since when a server has renewed its lease without a gap. Only one that has done so
-- for a whole lease may declare others dead: after an outage all leases have run out.
ALTER TABLE nodes
    ADD COLUMN steady_since timestamptz NOT NULL DEFAULT now(),
    -- It is stopping, and another server beside it is no mistake.
    ADD COLUMN leaving      boolean     NOT NULL DEFAULT false;

-- Which history of the database the cursors of clients belong to. A restored backup is
-- another one: its logs go on differently from where the backup ends. The row is made
-- by the first server that finds none.
CREATE TABLE epoch (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    id     text    NOT NULL CHECK (id ~ '^[0-9a-z]{4}$'),
    -- What tells a restored database from the one that was backed up. Set it to '' to
    -- begin a new epoch where nothing else would tell.
    origin text    NOT NULL,
    -- Cursors without an epoch, of servers that knew none, belong to this one.
    first  boolean NOT NULL
);

-- When the user last had a session: a user who has had none for long is forgotten.
ALTER TABLE inboxes ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- +goose Down
ALTER TABLE inboxes DROP COLUMN seen_at;
DROP TABLE epoch;
ALTER TABLE nodes DROP COLUMN steady_since, DROP COLUMN leaving;
