-- +goose Up

-- What users show to other users. A user who has not logged in since this migration has none: the
-- name is that of a session.
CREATE TABLE profiles (
    user_id text PRIMARY KEY REFERENCES inboxes (user_id) ON DELETE CASCADE,
    user_name text NOT NULL CHECK (octet_length(user_name) BETWEEN 1 AND 256),
    avatar_url text NOT NULL DEFAULT '' CHECK (octet_length(avatar_url) <= 500),
    extended_data text NOT NULL DEFAULT '' CHECK (octet_length(extended_data) <= 2048),
    -- The name in the newest token with a name.
    token_name text NOT NULL DEFAULT '' CHECK (octet_length(token_name) <= 256)
);

ALTER TABLE members ADD COLUMN avatar_url text NOT NULL DEFAULT '' CHECK (octet_length(avatar_url) <= 500);

-- Whether the session's token lets its user change the profile.
ALTER TABLE sessions ADD COLUMN profile boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE sessions DROP COLUMN profile;
ALTER TABLE members DROP COLUMN avatar_url;
DROP TABLE profiles;
