-- +goose Up

-- Servers of one database describe themselves to each other, for logs and operators.
ALTER TABLE nodes
    ADD COLUMN name       text        NOT NULL DEFAULT '',
    ADD COLUMN version    text        NOT NULL DEFAULT '',
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now(),
    -- Since when the node counts as dead. It is set before the first of its sessions is
    -- detached. A node that was only frozen finds it, and registers again.
    ADD COLUMN dead_since timestamptz;

-- +goose Down
ALTER TABLE nodes
    DROP COLUMN name,
    DROP COLUMN version,
    DROP COLUMN started_at,
    DROP COLUMN dead_since;
