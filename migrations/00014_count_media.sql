-- +goose Up

-- Nobody writes between the counting and the triggers.
LOCK TABLE media IN SHARE ROW EXCLUSIVE MODE;

-- How many bytes of files there are of each user: sent or not, until they are
-- deleted. A file counts with its size, or with what was announced of it until that
-- is known, and as 4 KiB at least, which is what the smallest takes on a disk. Users
-- without files have no row.
CREATE TABLE media_bytes (
    owner_id text   PRIMARY KEY,
    bytes    bigint NOT NULL
);

-- The same of all users, as the sum of some rows: whoever updates one holds it until
-- the commit, and a single one would let uploads begin one after the other. Which
-- row it is says nothing, and one by itself may be below zero.
CREATE TABLE media_bytes_of_all (
    part  integer PRIMARY KEY,
    bytes bigint  NOT NULL
) WITH (fillfactor = 50); -- updated in place

INSERT INTO media_bytes (owner_id, bytes) SELECT owner_id, sum(greatest(coalesce(size, length, 0), 4096)) FROM media GROUP BY owner_id;
INSERT INTO media_bytes_of_all (part, bytes) SELECT 0, coalesce(sum(bytes), 0) FROM media_bytes;

-- The counts follow the rows, whoever writes these: a server of the previous release
-- as well, which may still run. Users come in one order, and the part of all last, so
-- that no two transactions wait for each other.
-- +goose StatementBegin
CREATE FUNCTION count_media() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owners  text[];
    amounts bigint[];
BEGIN
    -- Each kind of statement has the rows that it has: an INSERT none that are gone.
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(owner_id), array_agg(greatest(coalesce(size, length, 0), 4096)) INTO owners, amounts FROM added;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(owner_id), array_agg(-greatest(coalesce(size, length, 0), 4096)) INTO owners, amounts FROM gone;
    ELSE
        SELECT array_agg(owner_id), array_agg(amount) INTO owners, amounts FROM (
            SELECT owner_id, greatest(coalesce(size, length, 0), 4096) AS amount FROM added
            UNION ALL SELECT owner_id, -greatest(coalesce(size, length, 0), 4096) FROM gone
        ) moved;
    END IF;
    WITH changes AS (
        SELECT o, sum(a) AS a FROM unnest(owners, amounts) u(o, a) GROUP BY o HAVING sum(a) <> 0
    ), counted AS (
        INSERT INTO media_bytes AS b (owner_id, bytes) SELECT o, a FROM changes ORDER BY o COLLATE "C"
        ON CONFLICT (owner_id) DO UPDATE SET bytes = b.bytes + EXCLUDED.bytes
        RETURNING b.owner_id, b.bytes
    )
    SELECT array_agg(owner_id) INTO owners FROM counted WHERE bytes = 0;
    IF owners IS NOT NULL THEN
        DELETE FROM media_bytes WHERE owner_id = ANY (owners) AND bytes = 0;
    END IF;
    INSERT INTO media_bytes_of_all AS b (part, bytes)
    SELECT pg_backend_pid() % 16, sum(a) FROM unnest(amounts) a HAVING sum(a) <> 0
    ON CONFLICT (part) DO UPDATE SET bytes = b.bytes + EXCLUDED.bytes;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER count_added_media AFTER INSERT ON media REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();
CREATE TRIGGER count_changed_media AFTER UPDATE ON media REFERENCING OLD TABLE AS gone NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();
CREATE TRIGGER count_deleted_media AFTER DELETE ON media REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION count_media();

-- +goose Down
DROP TRIGGER count_added_media ON media;
DROP TRIGGER count_changed_media ON media;
DROP TRIGGER count_deleted_media ON media;
DROP FUNCTION count_media;
DROP TABLE media_bytes, media_bytes_of_all;
