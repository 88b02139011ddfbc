-- What the adapter of a part of a run keeps until the run has ended.
CREATE TABLE adapter_values (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (run_id, part, key)
) STRICT;
