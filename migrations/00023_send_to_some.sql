-- +goose Up

-- A file that was sent to some members of a room can be read by these users only. If it was also
-- sent to everybody there, for_all is true.
ALTER TABLE media_uses ADD COLUMN for_all boolean NOT NULL DEFAULT true;

CREATE TABLE media_readers (
    generation bigint NOT NULL,
    media_id   uuid   NOT NULL,
    user_id    text   NOT NULL,
    PRIMARY KEY (generation, media_id, user_id),
    FOREIGN KEY (generation, media_id) REFERENCES media_uses ON DELETE CASCADE
);

-- +goose Down
-- The previous release would show the files to everybody in the room.
WITH gone AS (
    DELETE FROM media_uses WHERE NOT for_all RETURNING media_id
), counted AS (
    SELECT media_id, count(*) AS n FROM gone GROUP BY media_id
)
UPDATE media m SET uses = uses - n, unused_since = CASE WHEN uses = n THEN now() END, deleting = uses = n
FROM counted c WHERE m.media_id = c.media_id;
DROP TABLE media_readers;
ALTER TABLE media_uses DROP COLUMN for_all;
