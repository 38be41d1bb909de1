-- The durable log of the store. Memory is the truth while the server runs; these tables are what a
-- start reads, so there is no secondary index: nothing is ever looked up here by key.

-- The objects as they are now. `id` is the revision that created the object: ascending, so that a
-- create appends to the tree, and unique, so that an update finds its row without an index.
CREATE TABLE objects (
    id        INTEGER PRIMARY KEY,
    resource  TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    object    TEXT NOT NULL
) STRICT;

-- The kept changes as an undo log: a row carries only the version before the change. The version
-- after it is the `previous` of the key's next change, or the row in `objects`.
-- kind: 0 created, 1 updated, 2 deleted.
CREATE TABLE changes (
    revision          INTEGER PRIMARY KEY,
    kind              INTEGER NOT NULL CHECK (kind IN (0, 1, 2)),
    resource          TEXT NOT NULL,
    namespace         TEXT NOT NULL,
    name              TEXT NOT NULL,
    previous_revision INTEGER,
    previous          TEXT
) STRICT;

-- One row. No revision above `reserved` was ever given out; no change up to `compacted` is kept.
CREATE TABLE marks (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    reserved  INTEGER NOT NULL,
    compacted INTEGER NOT NULL
) STRICT;

INSERT INTO marks (id, reserved, compacted) VALUES (1, 1, 0);
