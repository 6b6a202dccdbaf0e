-- The schema after all migrations, for readers: nothing applies this file. Written by
-- go test ./store -run TestSchemaFile -update

CREATE FUNCTION count_media() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION count_room() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO room_counts AS c (part, rooms) VALUES (pg_backend_pid() % 16, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END)
    ON CONFLICT (part) DO UPDATE SET rooms = c.rooms + EXCLUDED.rooms;
    RETURN NULL;
END $$;

CREATE TABLE attendances (
    session_id uuid NOT NULL,
    generation bigint NOT NULL,
    user_id text NOT NULL,
    from_seq bigint NOT NULL,
    stay bigint NOT NULL
);

ALTER TABLE attendances ALTER COLUMN stay ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME attendances_stay_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE bans (
    room_id text NOT NULL,
    user_id text NOT NULL,
    until timestamp with time zone NOT NULL,
    note text NOT NULL
);

CREATE TABLE blocks (
    log bigint NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    blocked_at timestamp with time zone NOT NULL
);

CREATE TABLE broadcasts (
    broadcast_id uuid NOT NULL,
    prefix text NOT NULL COLLATE pg_catalog."C",
    sender_id text NOT NULL,
    sender_name text NOT NULL,
    client_message_id text NOT NULL,
    draft text NOT NULL,
    actor_id text NOT NULL,
    request_id text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    newest bigint NOT NULL,
    after_room text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    room_count bigint,
    sent bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    node_id uuid,
    leased_until timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    state text DEFAULT 'running'::text NOT NULL,
    CONSTRAINT broadcasts_check CHECK (((ended_at IS NULL) = (state = 'running'::text))),
    CONSTRAINT broadcasts_state_check CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'stopped'::text])))
);

CREATE TABLE conversations (
    log bigint NOT NULL,
    peer_id text NOT NULL,
    last_seq bigint NOT NULL,
    read_seq bigint NOT NULL,
    deleted_seq bigint NOT NULL,
    unread bigint NOT NULL
);

CREATE TABLE departures (
    session_id uuid NOT NULL,
    generation bigint NOT NULL,
    room_id text NOT NULL,
    reason text NOT NULL,
    left_at timestamp with time zone NOT NULL,
    note text DEFAULT ''::text NOT NULL
);

CREATE TABLE epoch (
    one boolean DEFAULT true NOT NULL,
    id text NOT NULL,
    origin text NOT NULL,
    first boolean NOT NULL,
    CONSTRAINT epoch_id_check CHECK ((id ~ '^[0-9a-z]{4}$'::text)),
    CONSTRAINT epoch_one_check CHECK (one)
);

CREATE TABLE events (
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    type text NOT NULL,
    at timestamp with time zone NOT NULL,
    sender_id text,
    client_message_id text,
    body text NOT NULL,
    xact xid8,
    peer_id text,
    CONSTRAINT events_seq_check CHECK ((seq >= 1))
)
WITH (autovacuum_vacuum_scale_factor='0.02', vacuum_index_cleanup='on');

CREATE TABLE feed_trimmed (
    one boolean DEFAULT true NOT NULL,
    xact xid8 NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT feed_trimmed_one_check CHECK (one)
);

CREATE TABLE rooms (
    generation bigint NOT NULL,
    room_id text NOT NULL COLLATE pg_catalog."C",
    room_name text NOT NULL,
    member_timeout integer NOT NULL,
    max_members integer NOT NULL,
    member_count integer NOT NULL,
    oldest_seq bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    destroyed_at timestamp with time zone,
    destroy_delay integer NOT NULL,
    unused_timeout integer NOT NULL,
    same_user text NOT NULL,
    destroy_at timestamp with time zone,
    untold boolean DEFAULT false NOT NULL,
    created_xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    destroyed_xact xid8,
    destroy_reason text,
    history_visible text NOT NULL,
    updated_seq bigint DEFAULT 0 NOT NULL,
    empty_since timestamp with time zone,
    presence text DEFAULT 'full'::text NOT NULL,
    names_up_to integer DEFAULT 1000000 NOT NULL,
    member_events text DEFAULT 'names'::text NOT NULL,
    member_states boolean DEFAULT false NOT NULL,
    lifetime text DEFAULT 'untilEmpty'::text NOT NULL,
    history text DEFAULT 'stored'::text NOT NULL,
    retention_days integer DEFAULT 0 NOT NULL,
    retention_count integer DEFAULT 0 NOT NULL,
    creator_id text,
    CONSTRAINT rooms_destroy_delay_check CHECK (((destroy_delay >= 0) AND (destroy_delay <= 10800))),
    CONSTRAINT rooms_destroy_reason_check CHECK ((destroy_reason = ANY (ARRAY['empty'::text, 'unused'::text, 'operator'::text]))),
    CONSTRAINT rooms_end CHECK ((((destroyed_at IS NULL) = (destroyed_xact IS NULL)) AND ((destroyed_at IS NULL) = (destroy_reason IS NULL)))),
    CONSTRAINT rooms_history_check CHECK ((history = ANY (ARRAY['stored'::text, 'none'::text]))),
    CONSTRAINT rooms_history_visible_check CHECK ((history_visible = ANY (ARRAY['all'::text, 'sinceJoined'::text]))),
    CONSTRAINT rooms_lifetime_check CHECK ((lifetime = ANY (ARRAY['untilEmpty'::text, 'kept'::text]))),
    CONSTRAINT rooms_max_members_check CHECK (((max_members >= 1) AND (max_members <= 1000000))),
    CONSTRAINT rooms_member_count_check CHECK ((member_count >= 0)),
    CONSTRAINT rooms_member_events_check CHECK ((member_events = ANY (ARRAY['names'::text, 'counts'::text, 'none'::text]))),
    CONSTRAINT rooms_member_timeout_check CHECK (((member_timeout >= 5) AND (member_timeout <= 300))),
    CONSTRAINT rooms_names_up_to_check CHECK (((names_up_to >= 1) AND (names_up_to <= 1000000))),
    CONSTRAINT rooms_presence_check CHECK ((presence = ANY (ARRAY['full'::text, 'batched'::text, 'counts'::text, 'none'::text]))),
    CONSTRAINT rooms_retention_count_check CHECK (((retention_count >= 0) AND (retention_count <= 1000000))),
    CONSTRAINT rooms_retention_days_check CHECK (((retention_days >= 0) AND (retention_days <= 3650))),
    CONSTRAINT rooms_room_id_check CHECK (((octet_length(room_id) >= 1) AND (octet_length(room_id) <= 128))),
    CONSTRAINT rooms_room_name_check CHECK ((octet_length(room_name) <= 64)),
    CONSTRAINT rooms_same_user_check CHECK ((same_user = ANY (ARRAY['allow'::text, 'replace'::text, 'reject'::text]))),
    CONSTRAINT rooms_unused_timeout_check CHECK (((unused_timeout >= 1) AND (unused_timeout <= 86400)))
)
WITH (fillfactor='50');

ALTER TABLE rooms ALTER COLUMN generation ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rooms_generation_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE inboxes (
    log bigint DEFAULT nextval('rooms_generation_seq'::regclass) NOT NULL,
    user_id text NOT NULL,
    last_seq bigint DEFAULT 0 NOT NULL,
    oldest_seq bigint DEFAULT 1 NOT NULL,
    delivered_seq bigint DEFAULT 0 NOT NULL,
    oldest_at timestamp with time zone,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    custom_status text DEFAULT ''::text NOT NULL,
    online_until timestamp with time zone,
    logged_out boolean DEFAULT false NOT NULL,
    counted_seq bigint DEFAULT 0 NOT NULL,
    read_seq bigint DEFAULT 0 NOT NULL,
    unread bigint DEFAULT 0 NOT NULL,
    CONSTRAINT inboxes_check CHECK (((oldest_seq >= 1) AND (oldest_seq <= (last_seq + 1)))),
    CONSTRAINT inboxes_check1 CHECK (((delivered_seq >= 0) AND (delivered_seq <= last_seq))),
    CONSTRAINT inboxes_custom_status_check CHECK ((octet_length(custom_status) <= 128)),
    CONSTRAINT inboxes_last_seq_check CHECK ((last_seq >= 0))
)
WITH (fillfactor='50');

CREATE TABLE logs (
    generation bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    closed boolean DEFAULT false NOT NULL,
    CONSTRAINT logs_last_seq_check CHECK ((last_seq >= 0))
)
WITH (fillfactor='25');

CREATE TABLE media (
    media_id uuid NOT NULL,
    owner_id text NOT NULL,
    file_name text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    size bigint,
    content_type text DEFAULT ''::text NOT NULL,
    width integer DEFAULT 0 NOT NULL,
    height integer DEFAULT 0 NOT NULL,
    duration_ms bigint DEFAULT 0 NOT NULL,
    video_codec text DEFAULT ''::text NOT NULL,
    audio_codec text DEFAULT ''::text NOT NULL,
    uses integer DEFAULT 0 NOT NULL,
    unused_since timestamp with time zone,
    deleting boolean DEFAULT false NOT NULL,
    length bigint,
    uploaded bigint,
    pieces integer DEFAULT 0 NOT NULL,
    CONSTRAINT media_check CHECK (((uses = 0) = (unused_since IS NOT NULL))),
    CONSTRAINT media_check1 CHECK (((NOT deleting) OR (uses = 0))),
    CONSTRAINT media_check2 CHECK (((uploaded >= 0) AND (uploaded <= length))),
    CONSTRAINT media_length_check CHECK ((length >= 0)),
    CONSTRAINT media_size_check CHECK ((size >= 0)),
    CONSTRAINT media_uses_check CHECK ((uses >= 0))
);

CREATE TABLE media_bytes (
    owner_id text NOT NULL,
    bytes bigint NOT NULL
);

CREATE TABLE media_bytes_of_all (
    part integer NOT NULL,
    bytes bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE media_pieces (
    piece_id uuid NOT NULL,
    media_id uuid NOT NULL,
    starts bigint NOT NULL,
    length bigint,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT media_pieces_length_check CHECK ((length > 0)),
    CONSTRAINT media_pieces_starts_check CHECK ((starts >= 0))
);

CREATE TABLE media_readers (
    generation bigint NOT NULL,
    media_id uuid NOT NULL,
    user_id text NOT NULL
);

CREATE TABLE media_uses (
    generation bigint NOT NULL,
    media_id uuid NOT NULL,
    used_at timestamp with time zone NOT NULL,
    for_all boolean DEFAULT true NOT NULL,
    peer_id text
);

CREATE TABLE member_attributes (
    generation bigint NOT NULL,
    user_id text NOT NULL,
    pairs jsonb NOT NULL,
    CONSTRAINT member_attributes_pairs_check CHECK ((pairs <> '{}'::jsonb))
);

CREATE TABLE members (
    generation bigint NOT NULL,
    user_id text NOT NULL,
    user_name text NOT NULL,
    joined_seq bigint NOT NULL,
    joined_at timestamp with time zone NOT NULL,
    announced boolean DEFAULT true NOT NULL,
    user_data text DEFAULT ''::text NOT NULL,
    reconnecting boolean DEFAULT false NOT NULL,
    avatar_url text DEFAULT ''::text NOT NULL,
    CONSTRAINT members_avatar_url_check CHECK ((octet_length(avatar_url) <= 500)),
    CONSTRAINT members_user_data_check CHECK ((octet_length(user_data) <= 1024))
);

CREATE TABLE nodes (
    node_id uuid NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    steady_since timestamp with time zone DEFAULT now() NOT NULL,
    leaving boolean DEFAULT false NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    version text DEFAULT ''::text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    dead_since timestamp with time zone,
    settings jsonb
);

CREATE TABLE partings (
    generation bigint NOT NULL,
    user_id text NOT NULL,
    user_name text NOT NULL,
    reason text NOT NULL
);

CREATE TABLE profiles (
    user_id text NOT NULL,
    user_name text NOT NULL,
    avatar_url text DEFAULT ''::text NOT NULL,
    extended_data text DEFAULT ''::text NOT NULL,
    token_name text DEFAULT ''::text NOT NULL,
    CONSTRAINT profiles_avatar_url_check CHECK ((octet_length(avatar_url) <= 500)),
    CONSTRAINT profiles_extended_data_check CHECK ((octet_length(extended_data) <= 2048)),
    CONSTRAINT profiles_token_name_check CHECK ((octet_length(token_name) <= 256)),
    CONSTRAINT profiles_user_name_check CHECK (((octet_length(user_name) >= 1) AND (octet_length(user_name) <= 256)))
);

CREATE TABLE room_attributes (
    generation bigint NOT NULL,
    version bigint NOT NULL,
    pairs jsonb NOT NULL,
    CONSTRAINT room_attributes_version_check CHECK ((version >= 0))
);

CREATE TABLE room_counts (
    part integer NOT NULL,
    rooms bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE sessions (
    session_id uuid NOT NULL,
    user_id text NOT NULL,
    user_name text NOT NULL,
    device text NOT NULL,
    grants jsonb,
    key_hash bytea NOT NULL,
    stream_key_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    token_expires_at timestamp with time zone NOT NULL,
    stream_no bigint DEFAULT 0 NOT NULL,
    node_id uuid,
    detached_at timestamp with time zone,
    ended_at timestamp with time zone,
    end_reason text,
    inbox bigint NOT NULL,
    token_issued_at timestamp with time zone,
    peers jsonb,
    media boolean DEFAULT false NOT NULL,
    ticket_hash bytea,
    ticket_expires_at timestamp with time zone,
    profile boolean DEFAULT false NOT NULL,
    CONSTRAINT sessions_check CHECK (((node_id IS NULL) = (detached_at IS NOT NULL))),
    CONSTRAINT sessions_check1 CHECK (((ended_at IS NULL) = (end_reason IS NULL))),
    CONSTRAINT sessions_device_check CHECK ((octet_length(device) <= 64)),
    CONSTRAINT sessions_user_name_check CHECK (((octet_length(user_name) >= 1) AND (octet_length(user_name) <= 256)))
);

CREATE TABLE status_subscriptions (
    subscriber_id text NOT NULL,
    user_id text NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE token_voids (
    user_id text NOT NULL,
    before timestamp with time zone NOT NULL
);

CREATE TABLE user_events (
    kind text NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    n bigint NOT NULL,
    type text NOT NULL,
    at timestamp with time zone NOT NULL,
    log bigint,
    seq bigint,
    body text NOT NULL,
    CONSTRAINT user_events_check CHECK (((kind = 'peer'::text) = ((log IS NOT NULL) AND (seq IS NOT NULL)))),
    CONSTRAINT user_events_kind_check CHECK ((kind = ANY (ARRAY['session'::text, 'peer'::text])))
);

ALTER TABLE user_events ALTER COLUMN n ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME user_events_n_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE user_events_trimmed (
    kind text NOT NULL,
    xact xid8 NOT NULL,
    n bigint NOT NULL
);

CREATE TABLE watched_users (
    user_id text NOT NULL,
    state text NOT NULL,
    custom_status text NOT NULL,
    last_seen_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT watched_users_state_check CHECK ((state = ANY (ARRAY['online'::text, 'offline'::text, 'loggedOut'::text, 'unknown'::text])))
)
WITH (fillfactor='50');

ALTER TABLE ONLY attendances
    ADD CONSTRAINT attendances_pkey PRIMARY KEY (session_id, generation);

ALTER TABLE ONLY bans
    ADD CONSTRAINT bans_pkey PRIMARY KEY (room_id, user_id);

ALTER TABLE ONLY blocks
    ADD CONSTRAINT blocks_pkey PRIMARY KEY (log, user_id);

ALTER TABLE ONLY broadcasts
    ADD CONSTRAINT broadcasts_pkey PRIMARY KEY (broadcast_id);

ALTER TABLE ONLY broadcasts
    ADD CONSTRAINT broadcasts_sender_id_client_message_id_key UNIQUE (sender_id, client_message_id);

ALTER TABLE ONLY conversations
    ADD CONSTRAINT conversations_pkey PRIMARY KEY (log, peer_id);

ALTER TABLE ONLY departures
    ADD CONSTRAINT departures_pkey PRIMARY KEY (session_id, generation);

ALTER TABLE ONLY epoch
    ADD CONSTRAINT epoch_pkey PRIMARY KEY (one);

ALTER TABLE ONLY events
    ADD CONSTRAINT events_pkey PRIMARY KEY (generation, seq);

ALTER TABLE events
    ADD CONSTRAINT events_place CHECK (((xact IS NULL) = (peer_id IS NOT NULL))) NOT VALID;

ALTER TABLE ONLY feed_trimmed
    ADD CONSTRAINT feed_trimmed_pkey PRIMARY KEY (one);

ALTER TABLE ONLY inboxes
    ADD CONSTRAINT inboxes_pkey PRIMARY KEY (log);

ALTER TABLE inboxes
    ADD CONSTRAINT inboxes_user_id_check CHECK (((octet_length(user_id) >= 1) AND (octet_length(user_id) <= 64))) NOT VALID;

ALTER TABLE ONLY inboxes
    ADD CONSTRAINT inboxes_user_id_key UNIQUE (user_id);

ALTER TABLE ONLY logs
    ADD CONSTRAINT logs_pkey PRIMARY KEY (generation);

ALTER TABLE ONLY media_bytes_of_all
    ADD CONSTRAINT media_bytes_of_all_pkey PRIMARY KEY (part);

ALTER TABLE ONLY media_bytes
    ADD CONSTRAINT media_bytes_pkey PRIMARY KEY (owner_id);

ALTER TABLE ONLY media_pieces
    ADD CONSTRAINT media_pieces_pkey PRIMARY KEY (piece_id);

ALTER TABLE ONLY media
    ADD CONSTRAINT media_pkey PRIMARY KEY (media_id);

ALTER TABLE ONLY media_readers
    ADD CONSTRAINT media_readers_pkey PRIMARY KEY (generation, media_id, user_id);

ALTER TABLE ONLY media_uses
    ADD CONSTRAINT media_uses_pkey PRIMARY KEY (generation, media_id);

ALTER TABLE ONLY member_attributes
    ADD CONSTRAINT member_attributes_pkey PRIMARY KEY (generation, user_id);

ALTER TABLE ONLY members
    ADD CONSTRAINT members_pkey PRIMARY KEY (generation, user_id);

ALTER TABLE ONLY nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY partings
    ADD CONSTRAINT partings_pkey PRIMARY KEY (generation, user_id);

ALTER TABLE ONLY profiles
    ADD CONSTRAINT profiles_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY room_attributes
    ADD CONSTRAINT room_attributes_pkey PRIMARY KEY (generation);

ALTER TABLE ONLY room_counts
    ADD CONSTRAINT room_counts_pkey PRIMARY KEY (part);

ALTER TABLE ONLY rooms
    ADD CONSTRAINT rooms_pkey PRIMARY KEY (generation);

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_key_hash_key UNIQUE (key_hash);

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (session_id);

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_stream_key_hash_key UNIQUE (stream_key_hash);

ALTER TABLE sessions
    ADD CONSTRAINT sessions_user_id_check CHECK (((octet_length(user_id) >= 1) AND (octet_length(user_id) <= 64))) NOT VALID;

ALTER TABLE ONLY status_subscriptions
    ADD CONSTRAINT status_subscriptions_pkey PRIMARY KEY (subscriber_id, user_id);

ALTER TABLE ONLY token_voids
    ADD CONSTRAINT token_voids_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY user_events
    ADD CONSTRAINT user_events_pkey PRIMARY KEY (kind, xact, n);

ALTER TABLE ONLY user_events_trimmed
    ADD CONSTRAINT user_events_trimmed_pkey PRIMARY KEY (kind);

ALTER TABLE ONLY watched_users
    ADD CONSTRAINT watched_users_pkey PRIMARY KEY (user_id);

CREATE INDEX attendances_by_member ON attendances USING btree (generation, user_id);

CREATE UNIQUE INDEX attendances_by_stay ON attendances USING btree (stay);

CREATE INDEX bans_by_end ON bans USING btree (until);

CREATE INDEX broadcasts_ended ON broadcasts USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX broadcasts_running ON broadcasts USING btree (created_at) WHERE (ended_at IS NULL);

CREATE INDEX conversations_in_order ON conversations USING btree (log, last_seq) WHERE (last_seq > 0);

CREATE INDEX departures_by_age ON departures USING btree (left_at);

CREATE INDEX events_by_time ON events USING btree (generation, at);

CREATE INDEX events_conversations ON events USING btree (generation, peer_id, seq) WHERE (peer_id IS NOT NULL);

CREATE INDEX events_feed ON events USING btree (xact, generation, seq);

CREATE UNIQUE INDEX events_peer_retries ON events USING btree (generation, peer_id, client_message_id) WHERE ((peer_id IS NOT NULL) AND (client_message_id IS NOT NULL));

CREATE UNIQUE INDEX events_retries ON events USING btree (generation, sender_id, client_message_id) WHERE (client_message_id IS NOT NULL);

CREATE INDEX inboxes_by_age ON inboxes USING btree (oldest_at) WHERE (oldest_at IS NOT NULL);

CREATE UNIQUE INDEX media_pieces_in_order ON media_pieces USING btree (media_id, starts) WHERE (length IS NOT NULL);

CREATE INDEX media_unsent ON media USING btree (owner_id) WHERE (unused_since IS NOT NULL);

CREATE INDEX media_unused ON media USING btree (unused_since) WHERE (unused_since IS NOT NULL);

CREATE INDEX media_uses_by_age ON media_uses USING btree (generation, used_at);

CREATE INDEX media_uses_by_media ON media_uses USING btree (media_id);

CREATE INDEX members_by_user ON members USING btree (user_id);

CREATE INDEX members_in_order ON members USING btree (generation, joined_seq, user_id);

CREATE INDEX members_reconnecting ON members USING btree (generation) WHERE reconnecting;

CREATE INDEX members_unannounced ON members USING btree (generation) WHERE (NOT announced);

CREATE INDEX rooms_by_creator ON rooms USING btree (creator_id) WHERE ((destroyed_at IS NULL) AND (creator_id IS NOT NULL));

CREATE INDEX rooms_destroyed ON rooms USING btree (destroyed_at) WHERE (destroyed_at IS NOT NULL);

CREATE INDEX rooms_due ON rooms USING btree (destroy_at) WHERE ((destroy_at IS NOT NULL) AND (destroyed_at IS NULL));

CREATE INDEX rooms_feed_created ON rooms USING btree (created_xact, generation);

CREATE INDEX rooms_feed_destroyed ON rooms USING btree (destroyed_xact, generation) WHERE (destroyed_xact IS NOT NULL);

CREATE UNIQUE INDEX rooms_living ON rooms USING btree (room_id) WHERE (destroyed_at IS NULL);

CREATE INDEX rooms_untold ON rooms USING btree (generation) WHERE (untold AND (destroyed_at IS NULL));

CREATE INDEX rooms_with_retention ON rooms USING btree (generation) WHERE ((destroyed_at IS NULL) AND ((history = 'none'::text) OR (retention_days > 0) OR (retention_count > 0)));

CREATE INDEX rooms_with_states ON rooms USING btree (generation) WHERE (member_states AND (destroyed_at IS NULL));

CREATE INDEX sessions_by_node ON sessions USING btree (node_id) WHERE (node_id IS NOT NULL);

CREATE UNIQUE INDEX sessions_by_ticket ON sessions USING btree (ticket_hash) WHERE (ticket_hash IS NOT NULL);

CREATE INDEX sessions_by_user ON sessions USING btree (user_id, created_at) WHERE (ended_at IS NULL);

CREATE INDEX sessions_detached ON sessions USING btree (detached_at) WHERE ((ended_at IS NULL) AND (detached_at IS NOT NULL));

CREATE INDEX sessions_ended ON sessions USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX sessions_expiring ON sessions USING btree (token_expires_at) WHERE (ended_at IS NULL);

CREATE INDEX status_subscriptions_by_end ON status_subscriptions USING btree (expires_at);

CREATE INDEX status_subscriptions_by_user ON status_subscriptions USING btree (user_id, subscriber_id);

CREATE INDEX user_events_by_position ON user_events USING btree (log, seq) WHERE (log IS NOT NULL);

CREATE TRIGGER count_added_media AFTER INSERT ON media REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_media();

CREATE TRIGGER count_changed_media AFTER UPDATE ON media REFERENCING OLD TABLE AS gone NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_media();

CREATE TRIGGER count_created_room AFTER INSERT ON rooms FOR EACH ROW WHEN ((new.destroyed_at IS NULL)) EXECUTE FUNCTION count_room();

CREATE TRIGGER count_deleted_media AFTER DELETE ON media REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_media();

CREATE TRIGGER count_deleted_room AFTER DELETE ON rooms FOR EACH ROW WHEN ((old.destroyed_at IS NULL)) EXECUTE FUNCTION count_room();

CREATE TRIGGER count_destroyed_room AFTER UPDATE OF destroyed_at ON rooms FOR EACH ROW WHEN (((old.destroyed_at IS NULL) AND (new.destroyed_at IS NOT NULL))) EXECUTE FUNCTION count_room();

ALTER TABLE ONLY attendances
    ADD CONSTRAINT attendances_generation_user_id_fkey FOREIGN KEY (generation, user_id) REFERENCES members(generation, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY attendances
    ADD CONSTRAINT attendances_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(session_id) ON DELETE CASCADE;

ALTER TABLE ONLY blocks
    ADD CONSTRAINT blocks_log_fkey FOREIGN KEY (log) REFERENCES inboxes(log) ON DELETE CASCADE;

ALTER TABLE ONLY conversations
    ADD CONSTRAINT conversations_log_fkey FOREIGN KEY (log) REFERENCES inboxes(log) ON DELETE CASCADE;

ALTER TABLE ONLY departures
    ADD CONSTRAINT departures_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(session_id) ON DELETE CASCADE;

ALTER TABLE ONLY logs
    ADD CONSTRAINT logs_generation_fkey FOREIGN KEY (generation) REFERENCES rooms(generation) ON DELETE CASCADE;

ALTER TABLE ONLY media_readers
    ADD CONSTRAINT media_readers_generation_media_id_fkey FOREIGN KEY (generation, media_id) REFERENCES media_uses(generation, media_id) ON DELETE CASCADE;

ALTER TABLE ONLY media_uses
    ADD CONSTRAINT media_uses_media_id_fkey FOREIGN KEY (media_id) REFERENCES media(media_id);

ALTER TABLE ONLY member_attributes
    ADD CONSTRAINT member_attributes_generation_fkey FOREIGN KEY (generation) REFERENCES rooms(generation) ON DELETE CASCADE;

ALTER TABLE ONLY members
    ADD CONSTRAINT members_generation_fkey FOREIGN KEY (generation) REFERENCES rooms(generation) ON DELETE CASCADE;

ALTER TABLE ONLY partings
    ADD CONSTRAINT partings_generation_fkey FOREIGN KEY (generation) REFERENCES rooms(generation) ON DELETE CASCADE;

ALTER TABLE ONLY profiles
    ADD CONSTRAINT profiles_user_id_fkey FOREIGN KEY (user_id) REFERENCES inboxes(user_id) ON DELETE CASCADE;

ALTER TABLE ONLY room_attributes
    ADD CONSTRAINT room_attributes_generation_fkey FOREIGN KEY (generation) REFERENCES rooms(generation) ON DELETE CASCADE;

ALTER TABLE ONLY status_subscriptions
    ADD CONSTRAINT status_subscriptions_user_id_fkey FOREIGN KEY (user_id) REFERENCES watched_users(user_id);
