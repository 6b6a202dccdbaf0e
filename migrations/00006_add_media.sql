-- +goose Up

-- What is known of uploaded files; their bytes are in the bucket, under the
-- media_id.
CREATE TABLE media (
    media_id     uuid        PRIMARY KEY,
    owner_id     text        NOT NULL,
    file_name    text        NOT NULL,
    created_at   timestamptz NOT NULL,
    -- NULL until all bytes are stored. The row is first, so that no bytes are
    -- ever without one.
    size         bigint      CHECK (size >= 0),
    content_type text        NOT NULL DEFAULT '',
    width        integer     NOT NULL DEFAULT 0,
    height       integer     NOT NULL DEFAULT 0,
    duration_ms  bigint      NOT NULL DEFAULT 0,
    video_codec  text        NOT NULL DEFAULT '',
    audio_codec  text        NOT NULL DEFAULT '',
    -- In how many rooms it was sent, and since when it was in none.
    uses         integer     NOT NULL DEFAULT 0 CHECK (uses >= 0),
    unused_since timestamptz,
    -- Nobody may have it any more, and its bytes may be gone.
    deleting     boolean     NOT NULL DEFAULT false,
    CHECK ((uses = 0) = (unused_since IS NOT NULL)),
    CHECK (NOT deleting OR uses = 0)
);
CREATE INDEX media_unused ON media (unused_since) WHERE unused_since IS NOT NULL;

-- Where files were sent: in these rooms their members may read them.
CREATE TABLE media_uses (
    generation bigint NOT NULL REFERENCES rooms,
    media_id   uuid   NOT NULL REFERENCES media,
    PRIMARY KEY (generation, media_id)
);
CREATE INDEX media_uses_by_media ON media_uses (media_id);

-- +goose Down
DROP TABLE media_uses, media;
