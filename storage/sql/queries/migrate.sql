-- name: version
-- The server's version, as a number: 150000 is 15.0.
SELECT current_setting('server_version_num')::integer AS version;

-- name: lock
-- Take the lock that lets one migration run at a time, or find it taken. Asking again and again is
-- gentler than waiting: a waiting statement holds a snapshot, which other migrations may wait for.
SELECT pg_try_advisory_lock(7402417, 1) AS taken;

-- name: unlock
-- Let the next one migrate.
SELECT pg_advisory_unlock(7402417, 1);

-- name: create
-- The record of what was applied here.
CREATE TABLE IF NOT EXISTS migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    edition text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE migrations IS 'Which changes of the schema were applied, for which edition';

-- name: exists
-- Whether this database was ever migrated.
SELECT to_regclass('migrations') IS NOT NULL AS found;

-- name: applied
-- What was applied, in order.
SELECT number, name, edition, checksum
FROM migrations
ORDER BY number;

-- name: record
-- Note that a migration was applied.
INSERT INTO migrations (number, name, edition, checksum)
VALUES (%(number)s, %(name)s, %(edition)s, %(checksum)s);
