-- +goose Up

-- One row a user who ever logged in. An inbox is a log like that of a room's
-- life, and log is a number of the same sequence, so that one number names one
-- log wherever it stands: in events, in cursors, in the hub.
CREATE TABLE inboxes (
    log           bigint PRIMARY KEY DEFAULT nextval('rooms_generation_seq'),
    user_id       text   NOT NULL UNIQUE CHECK (octet_length(user_id) BETWEEN 1 AND 32),
    last_seq      bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    oldest_seq    bigint NOT NULL DEFAULT 1 CHECK (oldest_seq BETWEEN 1 AND last_seq + 1),
    -- The newest event that a session of the user has shown to have.
    delivered_seq bigint NOT NULL DEFAULT 0 CHECK (delivered_seq BETWEEN 0 AND last_seq),
    -- When the oldest event happened that is kept; null where none is.
    oldest_at     timestamptz
) WITH (fillfactor = 50); -- as rooms: every event updates its inbox's row in place
CREATE INDEX inboxes_by_age ON inboxes (oldest_at) WHERE oldest_at IS NOT NULL;

INSERT INTO inboxes (user_id) SELECT DISTINCT user_id FROM sessions;
ALTER TABLE sessions ADD COLUMN inbox bigint;
UPDATE sessions s SET inbox = i.log FROM inboxes i WHERE i.user_id = s.user_id;
ALTER TABLE sessions ALTER COLUMN inbox SET NOT NULL;

-- The events of inboxes have a peer, the other side, and no place in the feed,
-- which is of rooms. Only the sender's own row has the client_message_id, and
-- neither has a sender_id: the sender's IDs count for each peer by itself.
ALTER TABLE events
    ADD COLUMN peer_id text,
    ALTER COLUMN xact DROP NOT NULL,
    -- What is there already has a place and no peer: it need not be looked through.
    ADD CONSTRAINT events_place CHECK ((xact IS NULL) = (peer_id IS NOT NULL)) NOT VALID;
-- Both are empty of rooms' events, which pay nothing for them.
CREATE INDEX events_conversations ON events (generation, peer_id, seq) WHERE peer_id IS NOT NULL;
CREATE UNIQUE INDEX events_peer_retries ON events (generation, peer_id, client_message_id)
    WHERE peer_id IS NOT NULL AND client_message_id IS NOT NULL;

-- +goose Down
DELETE FROM events WHERE peer_id IS NOT NULL;
DROP INDEX events_peer_retries, events_conversations;
ALTER TABLE events
    DROP CONSTRAINT events_place,
    ALTER COLUMN xact SET NOT NULL,
    DROP COLUMN peer_id;
ALTER TABLE sessions DROP COLUMN inbox;
DROP TABLE inboxes;
