-- +goose Up

-- The conversations of a user: what the events of the user's inbox up to inboxes.counted_seq say
-- about each other user. They are counted when the user asks for them, from the beginning of the
-- inbox on, so there is nothing to fill in here.
CREATE TABLE conversations (
    log         bigint NOT NULL REFERENCES inboxes ON DELETE CASCADE,
    peer_id     text   NOT NULL,
    last_seq    bigint NOT NULL, -- of the newest message that is not deleted; 0 if there is none
    read_seq    bigint NOT NULL,
    deleted_seq bigint NOT NULL,
    unread      bigint NOT NULL,
    PRIMARY KEY (log, peer_id)
);
CREATE INDEX conversations_in_order ON conversations (log, last_seq) WHERE last_seq > 0;

-- read_seq is that of all conversations, and unread the sum of their unread messages.
ALTER TABLE inboxes
    ADD COLUMN counted_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN read_seq    bigint NOT NULL DEFAULT 0,
    ADD COLUMN unread      bigint NOT NULL DEFAULT 0;

-- The conversation in which a file was sent or received last; NULL in rooms, and in inboxes until
-- this release.
ALTER TABLE media_uses ADD COLUMN peer_id text;

-- +goose Down
ALTER TABLE media_uses DROP COLUMN peer_id;
ALTER TABLE inboxes DROP COLUMN counted_seq, DROP COLUMN read_seq, DROP COLUMN unread;
DROP TABLE conversations;
