-- name: copy
-- Readings straight into the table; fails whole on a key that is there already.
COPY readings (series_id, observed_at, received_at, value, quality) FROM STDIN (FORMAT binary);

-- name: create_incoming
-- Where a batch that may hold duplicates lies for the length of its transaction.
CREATE TEMPORARY TABLE incoming (
    series_id integer NOT NULL,
    observed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    value double precision,
    quality integer NOT NULL
) ON COMMIT DELETE ROWS;

-- name: copy_incoming
-- The batch into its temporary table.
COPY incoming (series_id, observed_at, received_at, value, quality) FROM STDIN (FORMAT binary);

-- name: insert_incoming
-- The batch's new keys. A temporary table is read in the order in which it was filled, so the first
-- of several rows with one key is taken.
INSERT INTO readings (series_id, observed_at, received_at, value, quality)
SELECT series_id, observed_at, received_at, value, quality
FROM incoming
ON CONFLICT DO NOTHING;

-- name: count_conflicts
-- Rows of the batch whose key holds another value. LIMIT keeps it a look-up a row: joined freely, the
-- planner, which knows nothing of the temporary table, might read all there is.
SELECT count(*) AS conflicts
FROM incoming AS i
CROSS JOIN LATERAL (
    SELECT r.value
    FROM readings AS r
    WHERE r.series_id = i.series_id AND r.observed_at = i.observed_at
    LIMIT 1
) AS stored
WHERE stored.value IS DISTINCT FROM i.value;

-- name: unpack_freely
-- Late readings may fall into the columnstore, however many it takes to unpack around them.
SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: note_changed
-- What was written of series from which others are derived, in the transaction that wrote it.
INSERT INTO changed_spans (series_ids, first_us, last_us)
VALUES (%(series_ids)s, %(first_us)s, %(last_us)s);

-- name: note_many_changed
-- The same for many series that were written in one span, as bits.
INSERT INTO changed_spans (members, first_us, last_us)
VALUES (%(members)b, ARRAY[%(first_us)s]::bigint [], ARRAY[%(last_us)s]::bigint []);
