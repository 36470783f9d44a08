-- name: detect
-- Whether TimescaleDB is installed in this database, and under which licence it runs.
SELECT
    exists(SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') AS installed,
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
