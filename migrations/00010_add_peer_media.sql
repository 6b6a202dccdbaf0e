-- +goose Up

-- A use may be in an inbox as well: generation is the number of any log, as in
-- events. No foreign key any more, as a number has one of two tables. Those of
-- rooms are taken away before their rooms, and inboxes stay.
ALTER TABLE media_uses
    DROP CONSTRAINT media_uses_generation_fkey,
    -- When the newest message was sent that brings the file. When the log has
    -- nothing left of that instant or before, the use goes.
    ADD COLUMN used_at timestamptz;
UPDATE media_uses u SET used_at = coalesce((SELECT max(at) FROM events e WHERE e.generation = u.generation), now());
ALTER TABLE media_uses ALTER COLUMN used_at SET NOT NULL;
CREATE INDEX media_uses_by_age ON media_uses (generation, used_at);

-- +goose Down
WITH gone AS (
    DELETE FROM media_uses WHERE generation IN (SELECT log FROM inboxes) RETURNING media_id
), counted AS (
    SELECT media_id, count(*) AS n FROM gone GROUP BY media_id
)
UPDATE media m SET uses = uses - n, unused_since = CASE WHEN uses = n THEN now() END FROM counted c WHERE c.media_id = m.media_id;
DROP INDEX media_uses_by_age;
ALTER TABLE media_uses
    DROP COLUMN used_at,
    ADD CONSTRAINT media_uses_generation_fkey FOREIGN KEY (generation) REFERENCES rooms;
