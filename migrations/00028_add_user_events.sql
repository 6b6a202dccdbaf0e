-- +goose Up

-- What the feed tells about users besides the events of rooms. The events of a kind are ordered by
-- transaction, as those of rooms are, and then by n.
CREATE TABLE user_events (
    kind text NOT NULL CHECK (kind IN ('session', 'peer')),
    xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
    n    bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    type text NOT NULL,
    at   timestamptz NOT NULL,
    -- The position of a message between users in its sender's inbox.
    log  bigint,
    seq  bigint,
    body text NOT NULL,
    PRIMARY KEY (kind, xact, n),
    CHECK ((kind = 'peer') = (log IS NOT NULL AND seq IS NOT NULL))
);

-- Recalls find the message by its position.
CREATE INDEX user_events_by_position ON user_events (log, seq) WHERE log IS NOT NULL;

-- The last event of each kind that was deleted.
CREATE TABLE user_events_trimmed (
    kind text PRIMARY KEY,
    xact xid8 NOT NULL,
    n    bigint NOT NULL
);
INSERT INTO user_events_trimmed VALUES ('session', '0', 0), ('peer', '0', 0);

-- +goose Down
DROP TABLE user_events;
DROP TABLE user_events_trimmed;
