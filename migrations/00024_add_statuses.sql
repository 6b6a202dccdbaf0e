-- +goose Up

-- custom_status is a text that users give themselves. online_until is when the user was last online
-- in a session that has ended; NULL if none has. logged_out says that this session was logged out
-- while it was online. Sessions that have not ended are later.
ALTER TABLE inboxes
    ADD COLUMN custom_status text NOT NULL DEFAULT '' CHECK (octet_length(custom_status) <= 128),
    ADD COLUMN online_until  timestamptz,
    ADD COLUMN logged_out    boolean NOT NULL DEFAULT false;

-- A user whose status somebody subscribes to, with the status that was published last.
CREATE TABLE watched_users (
    user_id       text        PRIMARY KEY,
    state         text        NOT NULL CHECK (state IN ('online', 'offline', 'loggedOut', 'unknown')),
    custom_status text        NOT NULL,
    last_seen_at  timestamptz,
    updated_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE status_subscriptions (
    subscriber_id text        NOT NULL,
    user_id       text        NOT NULL REFERENCES watched_users,
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (subscriber_id, user_id)
);
CREATE INDEX status_subscriptions_by_user ON status_subscriptions (user_id, subscriber_id);
CREATE INDEX status_subscriptions_by_end ON status_subscriptions (expires_at);

-- +goose Down
DROP TABLE status_subscriptions, watched_users;
ALTER TABLE inboxes DROP COLUMN custom_status, DROP COLUMN online_until, DROP COLUMN logged_out;
