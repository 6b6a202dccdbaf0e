-- +goose Up

-- One row a life of a room. generation is the number of its log.
CREATE TABLE rooms (
    generation     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id        text        NOT NULL CHECK (octet_length(room_id) BETWEEN 1 AND 128),
    room_name      text        NOT NULL CHECK (octet_length(room_name) <= 64),
    member_timeout integer     NOT NULL CHECK (member_timeout BETWEEN 5 AND 300),
    max_members    integer     NOT NULL CHECK (max_members BETWEEN 1 AND 1000000),
    member_count   integer     NOT NULL CHECK (member_count BETWEEN 0 AND max_members),
    last_seq       bigint      NOT NULL CHECK (last_seq >= 0),
    oldest_seq     bigint      NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL,
    destroyed_at   timestamptz
) WITH (fillfactor = 50); -- every event updates its room's row: leave space for updates in place

-- A roomID names one living room. Its earlier lives stay until they are purged.
CREATE UNIQUE INDEX rooms_living ON rooms (room_id) WHERE destroyed_at IS NULL;
CREATE INDEX rooms_destroyed ON rooms (destroyed_at) WHERE destroyed_at IS NOT NULL;

-- The processes that hold streams. A node whose lease ran out is dead, and its
-- sessions are detached from that instant on.
CREATE TABLE nodes (
    node_id     uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL
);

CREATE TABLE sessions (
    session_id       uuid PRIMARY KEY,
    user_id          text        NOT NULL CHECK (octet_length(user_id) BETWEEN 1 AND 32),
    user_name        text        NOT NULL CHECK (octet_length(user_name) BETWEEN 1 AND 256),
    device           text        NOT NULL CHECK (octet_length(device) <= 64),
    grants           jsonb,
    key_hash         bytea       NOT NULL UNIQUE,
    stream_key_hash  bytea       NOT NULL UNIQUE,
    created_at       timestamptz NOT NULL,
    token_expires_at timestamptz NOT NULL,
    -- The open stream: which one of the session's, and where. Null and
    -- detached_at set where there is none.
    stream_no        bigint      NOT NULL DEFAULT 0,
    node_id          uuid,
    detached_at      timestamptz,
    ended_at         timestamptz,
    end_reason       text,
    CHECK ((node_id IS NULL) = (detached_at IS NOT NULL)),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_detached ON sessions (detached_at) WHERE ended_at IS NULL AND detached_at IS NOT NULL;
CREATE INDEX sessions_by_node ON sessions (node_id) WHERE node_id IS NOT NULL;
CREATE INDEX sessions_expiring ON sessions (token_expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- A user in a room, once.
CREATE TABLE members (
    generation bigint      NOT NULL REFERENCES rooms ON DELETE CASCADE,
    user_id    text        NOT NULL,
    user_name  text        NOT NULL,
    joined_seq bigint      NOT NULL,
    joined_at  timestamptz NOT NULL,
    PRIMARY KEY (generation, user_id)
);
CREATE INDEX members_in_order ON members (generation, joined_seq, user_id);
CREATE INDEX members_by_user ON members (user_id);

-- The sessions by which a member is in a room, and from where each follows the
-- room's log: the first event it sees is from_seq + 1.
CREATE TABLE attendances (
    session_id uuid   NOT NULL REFERENCES sessions ON DELETE CASCADE,
    generation bigint NOT NULL,
    user_id    text   NOT NULL,
    from_seq   bigint NOT NULL,
    -- Numbers the stays, so that their beginnings and ends can be told in any order.
    stay       bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (session_id, generation),
    FOREIGN KEY (generation, user_id) REFERENCES members ON DELETE CASCADE
);
CREATE INDEX attendances_by_member ON attendances (generation, user_id);

-- Why a session is no longer in a room: told to it when it comes back.
CREATE TABLE departures (
    session_id uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    generation bigint      NOT NULL,
    room_id    text        NOT NULL,
    reason     text        NOT NULL,
    left_at    timestamptz NOT NULL,
    PRIMARY KEY (session_id, generation)
);
CREATE INDEX departures_by_age ON departures (left_at);

-- The logs. No foreign key to rooms: rows are only written under the room's
-- locked row, and the check of each made appends a tenth to a quarter slower.
CREATE TABLE events (
    generation        bigint      NOT NULL,
    seq               bigint      NOT NULL CHECK (seq >= 1),
    type              text        NOT NULL,
    at                timestamptz NOT NULL,
    -- Messages only: who sent it and the sender's own ID for it.
    sender_id         text,
    client_message_id text,
    -- What the event says, as JSON. It is read whole and never searched.
    body              text        NOT NULL,
    PRIMARY KEY (generation, seq)
);
CREATE UNIQUE INDEX events_retries ON events (generation, sender_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- +goose Down
DROP TABLE events, departures, attendances, members, sessions, nodes, rooms;
