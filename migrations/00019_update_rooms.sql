-- +goose Up

-- The seq of the event that last changed the room's name or settings; 0 if none did.
ALTER TABLE rooms ADD COLUMN updated_seq bigint NOT NULL DEFAULT 0;

-- When the last member left; NULL if no session ever joined, or if a server of the previous release
-- removed the last member. It has no meaning while the room has members.
ALTER TABLE rooms ADD COLUMN empty_since timestamptz;

-- max_members can be set below the number of members, who stay.
ALTER TABLE rooms DROP CONSTRAINT rooms_check;
ALTER TABLE rooms ADD CONSTRAINT rooms_member_count_check CHECK (member_count >= 0);

-- +goose Down
UPDATE rooms SET max_members = member_count WHERE member_count > max_members;
ALTER TABLE rooms DROP CONSTRAINT rooms_member_count_check;
ALTER TABLE rooms ADD CONSTRAINT rooms_check CHECK (member_count BETWEEN 0 AND max_members);
ALTER TABLE rooms DROP COLUMN updated_seq, DROP COLUMN empty_since;
