-- +goose Up

ALTER TABLE media
    -- How many bytes it has or may come to have, as was announced; null of what
    -- was there before.
    ADD COLUMN length bigint CHECK (length >= 0),
    -- Of a file that comes in pieces: how many bytes are stored, and in how many
    -- pieces. Null of one that comes in a single request.
    ADD COLUMN uploaded bigint CHECK (uploaded BETWEEN 0 AND length),
    ADD COLUMN pieces integer NOT NULL DEFAULT 0;
-- What a user has that was not sent is bounded.
CREATE INDEX media_unsent ON media (owner_id) WHERE unused_since IS NOT NULL;

-- The bytes of files that are not yet put together, each under its piece_id in the
-- bucket. A row is first, so that no bytes are ever without one; it outlives its
-- file where nobody knows whether the bytes are still to come.
CREATE TABLE media_pieces (
    piece_id   uuid        PRIMARY KEY,
    media_id   uuid        NOT NULL,
    starts     bigint      NOT NULL CHECK (starts >= 0),
    -- NULL until the bytes are stored, and the file has grown by them.
    length     bigint      CHECK (length > 0),
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX media_pieces_in_order ON media_pieces (media_id, starts) WHERE length IS NOT NULL;

-- +goose Down
DROP TABLE media_pieces;
DELETE FROM media WHERE uploaded IS NOT NULL AND size IS NULL;
DROP INDEX media_unsent;
ALTER TABLE media DROP COLUMN length, DROP COLUMN uploaded, DROP COLUMN pieces;
