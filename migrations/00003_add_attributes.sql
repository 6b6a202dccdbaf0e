-- +goose Up

-- What members keep in a room. A table of its own, because every event updates
-- its room's row, and would write all of this anew.
CREATE TABLE room_attributes (
    generation bigint PRIMARY KEY REFERENCES rooms ON DELETE CASCADE,
    -- The seq of the event that changed them last; 0 until one does.
    version    bigint NOT NULL CHECK (version >= 0),
    pairs      jsonb  NOT NULL
);

-- What is noted of members, and of users who left and may come back.
CREATE TABLE member_attributes (
    generation bigint NOT NULL REFERENCES rooms ON DELETE CASCADE,
    user_id    text   NOT NULL,
    pairs      jsonb  NOT NULL CHECK (pairs <> '{}'),
    PRIMARY KEY (generation, user_id)
);

-- +goose Down
DROP TABLE member_attributes, room_attributes;
