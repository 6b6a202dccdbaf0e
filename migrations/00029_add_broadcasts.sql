-- +goose Up

-- Messages to many rooms, which servers send room by room.
CREATE TABLE broadcasts (
    broadcast_id      uuid PRIMARY KEY,
    prefix            text NOT NULL COLLATE "C",
    sender_id         text NOT NULL,
    sender_name       text NOT NULL,
    client_message_id text NOT NULL,
    draft             text NOT NULL,
    -- The admin who asked for it.
    actor_id          text NOT NULL,
    request_id        text NOT NULL,
    created_at        timestamptz NOT NULL,
    -- The newest generation that can get the message, and the last room that was looked at.
    newest            bigint NOT NULL,
    after_room        text NOT NULL DEFAULT '' COLLATE "C",
    room_count        bigint,
    sent              bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    -- The server that is at work, for as long as its lease lasts.
    node_id           uuid,
    leased_until      timestamptz NOT NULL,
    ended_at          timestamptz,
    state             text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'stopped')),
    CHECK ((ended_at IS NULL) = (state = 'running')),
    UNIQUE (sender_id, client_message_id)
);
CREATE INDEX broadcasts_running ON broadcasts (created_at) WHERE ended_at IS NULL;
CREATE INDEX broadcasts_ended ON broadcasts (ended_at) WHERE ended_at IS NOT NULL;

-- +goose Down
DROP TABLE broadcasts;
