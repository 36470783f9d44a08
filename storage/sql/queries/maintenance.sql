-- name: lock
-- One maintenance at a time; the lock goes with the connection.
SELECT pg_try_advisory_lock(7402417, 3) AS taken;

-- name: unpack_freely
-- Readings to delete may lie in the columnstore, however many it takes to unpack around them.
SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: kept_for
-- How long the raw readings of each series are kept, in seconds; NULL for ever.
SELECT
    coalesce(own.keep_s, others.keep_s) AS keep_s,
    array_agg(series.id ORDER BY series.id) AS series_ids
FROM series
LEFT JOIN retention AS own ON series.quantity = own.quantity
LEFT JOIN retention AS others ON others.quantity = 'default'
GROUP BY coalesce(own.keep_s, others.keep_s);

-- name: oldest
-- When the oldest raw reading of some series was measured, of those before a time.
SELECT min(oldest.observed_at) AS observed_at
FROM unnest(%(series_ids)s::integer []) AS wanted (series_id)
CROSS JOIN LATERAL (
    SELECT r.observed_at
    FROM readings AS r
    WHERE r.series_id = wanted.series_id AND r.observed_at < %(before)s
    ORDER BY r.observed_at
    LIMIT 1
) AS oldest;

-- name: create_expired
-- Where deleted readings lie until they are rolled up, in the same transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS expired (
    series_id integer NOT NULL,
    observed_at timestamptz NOT NULL,
    value double precision,
    quality integer NOT NULL
) ON COMMIT DELETE ROWS;

-- name: delete_expired
-- Take readings out. What is rolled up is exactly what was deleted, whoever inserts meanwhile.
WITH gone AS (
    DELETE FROM readings
    WHERE
        series_id = ANY(%(series_ids)s::integer [])
        AND observed_at >= %(start)s
        AND observed_at < %(end)s
    RETURNING series_id, observed_at, value, quality
)
INSERT INTO expired (series_id, observed_at, value, quality)
SELECT series_id, observed_at, value, quality FROM gone;

-- name: keep
-- Roll expired readings up and merge that with what earlier ones came to.
INSERT INTO {kept} AS old (
    series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
)
SELECT
    e.series_id,
    date_bin({step}, e.observed_at, '2000-01-01 00:00:00+00') AS bucket,
    count(*),
    count(e.valid),
    sum(e.valid),
    min(e.valid),
    max(e.valid),
    (array_agg(e.valid ORDER BY e.observed_at) FILTER (WHERE e.valid IS NOT NULL))[1],
    min(e.observed_at) FILTER (WHERE e.valid IS NOT NULL),
    (array_agg(e.valid ORDER BY e.observed_at) FILTER (WHERE e.valid IS NOT NULL))[count(e.valid)],
    max(e.observed_at) FILTER (WHERE e.valid IS NOT NULL)
FROM (
    SELECT series_id, observed_at, CASE WHEN quality & 1023 = 0 THEN value END AS valid
    FROM {expired}
) AS e
GROUP BY e.series_id, date_bin({step}, e.observed_at, '2000-01-01 00:00:00+00')
ON CONFLICT (series_id, bucket) DO UPDATE SET
    count = old.count + excluded.count,
    valid_count = old.valid_count + excluded.valid_count,
    sum = coalesce(old.sum + excluded.sum, old.sum, excluded.sum),
    min = least(old.min, excluded.min),
    max = greatest(old.max, excluded.max),
    first = CASE WHEN old.first_at <= excluded.first_at OR excluded.first_at IS NULL
        THEN old.first ELSE excluded.first END,
    first_at = least(old.first_at, excluded.first_at),
    last = CASE WHEN old.last_at >= excluded.last_at OR excluded.last_at IS NULL
        THEN old.last ELSE excluded.last END,
    last_at = greatest(old.last_at, excluded.last_at);

-- name: note_raw_from
-- Raw readings of these series are complete from here on only.
UPDATE series SET raw_from = %(raw_from)s
WHERE id = ANY(%(series_ids)s::integer []) AND raw_from < %(raw_from)s;

-- name: note_raw_from_of_all
-- Raw readings of all series are complete from here on only.
UPDATE series SET raw_from = %(raw_from)s
WHERE raw_from < %(raw_from)s;

-- name: delete_old_letters
-- Dead letters nobody will replay any more.
DELETE FROM dead_letters WHERE received_at < %(before)s;

-- name: delete_spare_letters
-- The oldest dead letters beyond how many are kept, some of them at a time.
DELETE FROM dead_letters
WHERE id IN (
    SELECT id
    FROM dead_letters
    ORDER BY received_at DESC, id DESC
    OFFSET %(keep)s
    LIMIT %(at_a_time)s
);
