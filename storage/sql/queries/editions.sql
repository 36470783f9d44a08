-- name: detect
-- The version of TimescaleDB in this database, if it is installed, and under which licence it runs.
SELECT
    (
        SELECT (regexp_match(extversion, '^(\d+)\.(\d+)'))::integer []
        FROM pg_extension WHERE extname = 'timescaledb'
    ) AS version,
    current_setting('timescaledb.license', true) AS licence;

-- name: preloaded
-- Whether the server was started with TimescaleDB and could install it here. The setting is one of
-- its loader's, which everyone may read (shared_preload_libraries is for superusers).
SELECT
    current_setting('timescaledb.max_background_workers', true) IS NOT NULL
    AND exists(SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb') AS preloaded;

-- name: install
-- Install TimescaleDB in this database.
CREATE EXTENSION IF NOT EXISTS timescaledb;
