-- The first schema. Times are microseconds since 1970 (UTC). Text compares bytewise (collation "C").
--
-- Row-level security is a second barrier beside the WHERE clauses: each transaction names its tenant in
-- chaperone.tenant and sees no other's rows, also when a statement forgets to ask. FORCE makes it bind
-- the owner of the tables as well. Two things look across tenants, and only where chaperone.worker is
-- `on`: claiming work (`work`) and listing tenants (`head`).

CREATE TABLE head (
    tenant   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    next_seq BIGINT NOT NULL CHECK (next_seq >= 0)
);

-- The leaf is what was hashed; the other columns only find it again.
CREATE TABLE event (
    tenant  TEXT COLLATE "C" NOT NULL,
    seq     BIGINT NOT NULL,
    stream  TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL,
    leaf    BYTEA NOT NULL,
    PRIMARY KEY (tenant, seq),
    UNIQUE (tenant, stream, version)
);

CREATE FUNCTION event_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only';
END
$$;
CREATE TRIGGER event_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_kept();

CREATE TABLE record (
    tenant     TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    idx        TEXT COLLATE "C",
    sort       TEXT COLLATE "C" NOT NULL,
    value      TEXT NOT NULL,
    expires    BIGINT,
    revision   BIGINT NOT NULL CHECK (revision >= 1)
);
CREATE INDEX record_sorted ON record (tenant, collection, sort, key);
CREATE INDEX record_grouped ON record (tenant, collection, idx, sort, key) WHERE idx IS NOT NULL;
CREATE INDEX record_expires ON record (tenant, expires) WHERE expires IS NOT NULL;
-- The keys of record and projection come after the other indexes: a table without statistics leaves the
-- planner a tie between them for finding one row, and then it takes the newest.
ALTER TABLE record ADD PRIMARY KEY (tenant, collection, key);

CREATE TABLE projection (
    tenant     TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    idx        TEXT COLLATE "C",
    sort       TEXT COLLATE "C" NOT NULL,
    value      TEXT NOT NULL
);
CREATE INDEX projection_sorted ON projection (tenant, collection, sort, key);
CREATE INDEX projection_grouped ON projection (tenant, collection, idx, sort, key) WHERE idx IS NOT NULL;
ALTER TABLE projection ADD PRIMARY KEY (tenant, collection, key);

CREATE TABLE payload (
    tenant  TEXT COLLATE "C" NOT NULL,
    address BYTEA NOT NULL CHECK (length(address) = 32),
    class   TEXT COLLATE "C" NOT NULL,
    key     TEXT COLLATE "C" NOT NULL,
    sealed  BYTEA NOT NULL,
    PRIMARY KEY (tenant, address)
);
-- Ciphertext does not compress, so trying costs time; and payloads of a few kilobytes, the most common,
-- stay in the row.
ALTER TABLE payload ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE payload SET (toast_tuple_target = 8160);

-- A finished item stays, so that its id is never used for other work.
CREATE TABLE work (
    position      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    subject       TEXT COLLATE "C" NOT NULL,
    order_key     TEXT COLLATE "C",
    due           BIGINT NOT NULL,
    state         TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'claimed', 'held', 'done')),
    claim         BIGINT NOT NULL DEFAULT 0,
    claimed_until BIGINT,
    worker        TEXT,
    UNIQUE (tenant, id),
    CHECK ((state = 'claimed') = (claimed_until IS NOT NULL))
);
CREATE INDEX work_due ON work (due, position) WHERE state <> 'done';
CREATE INDEX work_open ON work (tenant, position) WHERE state <> 'done';
CREATE INDEX work_ordered ON work (tenant, order_key, position) WHERE state <> 'done' AND order_key IS NOT NULL;

CREATE TABLE lease (
    tenant TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    holder TEXT NOT NULL,
    epoch  BIGINT NOT NULL CHECK (epoch >= 1),
    until  BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE tree_hash (
    tenant TEXT COLLATE "C" NOT NULL,
    idx    BIGINT NOT NULL,
    hash   BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant, idx)
);

CREATE TABLE checkpoint (
    tenant TEXT COLLATE "C" NOT NULL,
    size   BIGINT NOT NULL,
    root   BYTEA NOT NULL CHECK (length(root) = 32),
    note   TEXT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (tenant, size)
);

DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['head', 'event', 'record', 'projection', 'payload', 'work', 'lease', 'tree_hash', 'checkpoint']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant = current_setting(''chaperone.tenant'', true))
                WITH CHECK (tenant = current_setting(''chaperone.tenant'', true))',
            name
        );
    END LOOP;
END
$$;

CREATE POLICY worker_reads ON head FOR SELECT
    USING (current_setting('chaperone.worker', true) = 'on');
CREATE POLICY worker_reads ON work FOR SELECT
    USING (current_setting('chaperone.worker', true) = 'on');
CREATE POLICY worker_claims ON work FOR UPDATE
    USING (current_setting('chaperone.worker', true) = 'on')
    WITH CHECK (current_setting('chaperone.worker', true) = 'on');
