-- +goose Up

-- To find what was said at an instant: a page of the history by time, and a
-- message by its ID, whose first 48 bits are the instant (docs/adr/0014).
CREATE INDEX events_by_time ON events (generation, at);

ALTER TABLE rooms ADD COLUMN history_visible text NOT NULL DEFAULT 'all' CHECK (history_visible IN ('all', 'sinceJoined'));
ALTER TABLE rooms ALTER COLUMN history_visible DROP DEFAULT;

-- +goose Down
ALTER TABLE rooms DROP COLUMN history_visible;
DROP INDEX events_by_time;
