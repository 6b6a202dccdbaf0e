-- +goose Up

-- Digests of the settings that all servers of one database must share, by the setting's name. NULL
-- for a server of an older release, which is not compared.
ALTER TABLE nodes ADD COLUMN settings jsonb;

-- +goose Down
ALTER TABLE nodes DROP COLUMN settings;
