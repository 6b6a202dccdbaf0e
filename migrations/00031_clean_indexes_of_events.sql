-- +goose Up

-- By default, a vacuum that finds deleted rows in less than 2 % of the pages does not clean the indexes,
-- and then the space of these rows is not used again either. Old events are next to each other, so
-- most vacuums of this table would be such.
ALTER TABLE events SET (vacuum_index_cleanup = on);

-- +goose Down
ALTER TABLE events RESET (vacuum_index_cleanup);
