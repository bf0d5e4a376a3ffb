-- The first schema. Times are microseconds since 1970 (UTC). Text compares bytewise.

CREATE TABLE head (
    tenant   TEXT    NOT NULL PRIMARY KEY,
    next_seq INTEGER NOT NULL CHECK (next_seq >= 0)
) STRICT, WITHOUT ROWID;

-- The leaf is what was hashed; the other columns only find it again.
CREATE TABLE event (
    tenant  TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    stream  TEXT    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    leaf    BLOB    NOT NULL,
    PRIMARY KEY (tenant, seq),
    UNIQUE (tenant, stream, version)
) STRICT;

CREATE TRIGGER event_kept BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

CREATE TRIGGER event_not_deleted BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

CREATE TABLE record (
    tenant     TEXT    NOT NULL,
    collection TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    idx        TEXT,
    sort       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    expires    INTEGER,
    revision   INTEGER NOT NULL CHECK (revision >= 1),
    PRIMARY KEY (tenant, collection, key)
) STRICT;
CREATE INDEX record_sorted ON record (tenant, collection, sort, key);
CREATE INDEX record_grouped ON record (tenant, collection, idx, sort, key) WHERE idx IS NOT NULL;
CREATE INDEX record_expires ON record (tenant, expires) WHERE expires IS NOT NULL;

CREATE TABLE projection (
    tenant     TEXT NOT NULL,
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    idx        TEXT,
    sort       TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (tenant, collection, key)
) STRICT;
CREATE INDEX projection_sorted ON projection (tenant, collection, sort, key);
CREATE INDEX projection_grouped ON projection (tenant, collection, idx, sort, key) WHERE idx IS NOT NULL;

CREATE TABLE payload (
    tenant  TEXT NOT NULL,
    address BLOB NOT NULL CHECK (length(address) = 32),
    class   TEXT NOT NULL,
    key     TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (tenant, address)
) STRICT;

-- A finished item stays, so that its id is never used for other work.
CREATE TABLE work (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    order_key     TEXT,
    due           INTEGER NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('waiting', 'claimed', 'held', 'done')),
    claim         INTEGER NOT NULL DEFAULT 0,
    claimed_until INTEGER,
    worker        TEXT,
    UNIQUE (tenant, id),
    CHECK ((state = 'claimed') = (claimed_until IS NOT NULL))
) STRICT;
CREATE INDEX work_due ON work (due, position) WHERE state <> 'done';
CREATE INDEX work_open ON work (tenant, position) WHERE state <> 'done';
CREATE INDEX work_ordered ON work (tenant, order_key, position) WHERE state <> 'done' AND order_key IS NOT NULL;

CREATE TABLE lease (
    tenant TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    holder TEXT    NOT NULL,
    epoch  INTEGER NOT NULL CHECK (epoch >= 1),
    until  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE tree_hash (
    tenant TEXT    NOT NULL,
    idx    INTEGER NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint (
    tenant TEXT    NOT NULL,
    size   INTEGER NOT NULL,
    root   BLOB    NOT NULL CHECK (length(root) = 32),
    note   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, size)
) STRICT;
