-- +goose Up

-- The users whose messages a user refuses, by the user's inbox. A row stays when the blocked user is
-- deleted, because the same ID may log in again.
CREATE TABLE blocks (
    log        bigint      NOT NULL REFERENCES inboxes ON DELETE CASCADE,
    user_id    text        NOT NULL COLLATE "C",
    blocked_at timestamptz NOT NULL,
    PRIMARY KEY (log, user_id)
);

-- +goose Down
DROP TABLE blocks;
