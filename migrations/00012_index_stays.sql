-- +goose Up

-- Appends count the stays of their senders: one lookup by a number for each.
CREATE UNIQUE INDEX attendances_by_stay ON attendances (stay);

-- +goose Down
DROP INDEX attendances_by_stay;
