-- What people set up. `secrets` holds sealed ones. `needs` repeats what the table of that name says, in the order in which it was given.
CREATE TABLE records (
    id TEXT NOT NULL PRIMARY KEY,
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    secrets TEXT NOT NULL,
    needs TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (scope, kind, name)
) STRICT;

CREATE TABLE needs (
    record_id TEXT NOT NULL REFERENCES records (id) ON DELETE CASCADE,
    needed_id TEXT NOT NULL REFERENCES records (id),
    PRIMARY KEY (record_id, needed_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX needs_by_needed ON needs (needed_id);

CREATE TABLE changes (
    scope TEXT NOT NULL,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    record_kind TEXT NOT NULL,
    record_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (scope, number)
) STRICT, WITHOUT ROWID;
