-- +goose Up

-- By default, autovacuum waits until a fifth of a table was deleted, and until then new rows enlarge
-- the table. Of a large table of events, that is gigabytes.
ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
ALTER TABLE events RESET (autovacuum_vacuum_scale_factor);
