-- +goose Up

-- A user ID may have 64 bytes. NOT VALID spares reading all rows while the tables are locked:
-- they satisfy the narrower rule.
ALTER TABLE sessions
    DROP CONSTRAINT sessions_user_id_check,
    ADD CONSTRAINT sessions_user_id_check CHECK (octet_length(user_id) BETWEEN 1 AND 64) NOT VALID;
ALTER TABLE inboxes
    DROP CONSTRAINT inboxes_user_id_check,
    ADD CONSTRAINT inboxes_user_id_check CHECK (octet_length(user_id) BETWEEN 1 AND 64) NOT VALID;

-- +goose Down

-- The wider rule stays. Servers that know only shorter IDs can end the sessions of users with
-- longer ones, but under the narrow rule every change of those rows would fail.
