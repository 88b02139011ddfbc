-- Runs. `position` is the order of their creation over all scopes. Times end in nine digits and `Z`, so that their order is that of their
-- text; `*_tick` and `lease_until` are `<milliseconds since boot> <id of the boot>`. `slots` is `[{"resource": "...", "most": 1}]`.
CREATE TABLE runs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    number INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    plan TEXT,
    retry_of TEXT,
    key TEXT,
    exclusive TEXT,
    priority INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    first_delay_nanos INTEGER NOT NULL,
    max_delay_nanos INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_since TEXT NOT NULL,
    state_tick TEXT NOT NULL,
    wanted TEXT NOT NULL,
    wanted_since TEXT NOT NULL,
    wanted_tick TEXT NOT NULL,
    wanted_by TEXT NOT NULL,
    pause_reason TEXT,
    attempts INTEGER NOT NULL,
    progressed INTEGER NOT NULL,
    not_before TEXT,
    last_log INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    fence INTEGER NOT NULL,
    worker TEXT,
    lease_until TEXT,
    slots TEXT NOT NULL,
    title TEXT NOT NULL,
    cause_kind TEXT,
    cause_code TEXT,
    cause_message TEXT,
    progress TEXT,
    report TEXT,
    settings TEXT NOT NULL,
    UNIQUE (scope, number),
    UNIQUE (scope, key)
) STRICT;

CREATE UNIQUE INDEX runs_by_exclusive ON runs (scope, exclusive) WHERE ended_at IS NULL;
-- None of these grows with what is over.
CREATE INDEX runs_waiting ON runs (priority DESC, position) WHERE worker IS NULL AND ended_at IS NULL;
CREATE INDEX runs_active ON runs (state) WHERE ended_at IS NULL;
CREATE INDEX runs_leased ON runs (worker) WHERE worker IS NOT NULL;
-- Lists are newest first.
CREATE INDEX runs_by_state ON runs (scope, state, number);
CREATE INDEX runs_by_plan ON runs (scope, plan, number);
CREATE INDEX runs_ended ON runs (scope, ended_at) WHERE ended_at IS NOT NULL;

-- The last number given in each scope.
CREATE TABLE run_numbers (
    scope TEXT NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The slots of the runs that are leased.
CREATE TABLE held_slots (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    most INTEGER NOT NULL,
    PRIMARY KEY (run_id, resource)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_slots_by_resource ON held_slots (resource);

CREATE TABLE checkpoints (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    reach INTEGER NOT NULL,
    checkpoint BLOB NOT NULL,
    PRIMARY KEY (run_id, part)
) STRICT;

CREATE TABLE noted_packs (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    repository_id TEXT NOT NULL,
    pack BLOB NOT NULL,
    PRIMARY KEY (run_id, part, repository_id, pack)
) STRICT, WITHOUT ROWID;

-- `index_files` holds ids of 32 bytes each, one behind the other.
CREATE TABLE sealed_outputs (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    place INTEGER NOT NULL,
    repository_id TEXT NOT NULL,
    snapshot BLOB NOT NULL,
    tree BLOB NOT NULL,
    lock BLOB NOT NULL,
    problems INTEGER NOT NULL,
    index_files BLOB NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (run_id, part, place)
) STRICT;

-- `level` is 0 for info, 1 for a warning, 2 for an error.
CREATE TABLE log_lines (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    level INTEGER NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
