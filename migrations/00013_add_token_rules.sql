-- +goose Up

ALTER TABLE sessions
    -- When the session's token was issued (iat), as far as it said.
    ADD COLUMN token_issued_at timestamptz,
    -- What the token grants beside rooms; where grants is NULL nothing is fenced.
    ADD COLUMN peers jsonb,
    ADD COLUMN media boolean NOT NULL DEFAULT false,
    -- A ticket opens the session's stream once. There is one at a time.
    ADD COLUMN ticket_hash bytea,
    ADD COLUMN ticket_expires_at timestamptz;
CREATE UNIQUE INDEX sessions_by_ticket ON sessions (ticket_hash) WHERE ticket_hash IS NOT NULL;

-- Tokens of a user that were issued before an instant are void. A row stays: nobody knows how long the tokens last
-- that somebody may have kept.
CREATE TABLE token_voids (
    user_id text        PRIMARY KEY,
    before  timestamptz NOT NULL
);

-- +goose Down
DROP TABLE token_voids;
DROP INDEX sessions_by_ticket;
ALTER TABLE sessions
    DROP COLUMN ticket_expires_at,
    DROP COLUMN ticket_hash,
    DROP COLUMN media,
    DROP COLUMN peers,
    DROP COLUMN token_issued_at;
