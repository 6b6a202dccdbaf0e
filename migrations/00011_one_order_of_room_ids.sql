-- +goose Up
-- Room IDs have one order, that of their bytes, so that one index finds a room and
-- lists rooms. There were two, and for a while after a start, without statistics,
-- PostgreSQL looked rooms up in the one that could only be read from end to end.
ALTER TABLE rooms ALTER COLUMN room_id TYPE text COLLATE "C";
DROP INDEX rooms_by_name;

-- +goose Down
CREATE INDEX rooms_by_name ON rooms (room_id COLLATE "C") WHERE destroyed_at IS NULL;
ALTER TABLE rooms ALTER COLUMN room_id TYPE text COLLATE "default";
