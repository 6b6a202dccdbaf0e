-- +goose Up

-- Text of the application about a member.
ALTER TABLE members ADD COLUMN user_data text NOT NULL DEFAULT '' CHECK (octet_length(user_data) <= 1024);

-- +goose Down
ALTER TABLE members DROP COLUMN user_data;
