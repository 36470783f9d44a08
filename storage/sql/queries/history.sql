-- name: raw
-- Readings of each series in a span, oldest first, as arrays; one row a series, also when empty.
SELECT
    wanted.series_id,
    coalesce(found.at, '{}') AS at,
    coalesce(found.value, '{}') AS value,
    coalesce(found.quality, '{}') AS quality
FROM unnest(%(series_ids)s::integer []) AS wanted (series_id)
CROSS JOIN LATERAL (
    SELECT
        array_agg(one.observed_at) AS at,
        array_agg(one.value) AS value,
        array_agg(one.quality) AS quality
    FROM (
        SELECT
            r.observed_at,
            coalesce(r.value, 'NaN') AS value,
            r.quality
        FROM readings AS r
        WHERE
            r.series_id = wanted.series_id
            AND r.observed_at >= %(start)s
            AND r.observed_at < %(end)s
        ORDER BY r.observed_at
        LIMIT %(limit)s
    ) AS one
) AS found;

-- name: count
-- How many readings there are in a span, up to a cap: decides between raw readings and roll-ups.
SELECT count(*)
FROM (
    SELECT 1
    FROM readings
    WHERE
        series_id = ANY(%(series_ids)s::integer [])
        AND observed_at >= %(start)s
        AND observed_at < %(end)s
    LIMIT %(cap)s
) AS counted;

-- name: rolled_1m
-- Minutes of each series that start in a span, as arrays; one row a series that has any.
SELECT
    series_id,
    array_agg(bucket) AS bucket,
    array_agg(count) AS count,
    array_agg(valid_count) AS valid_count,
    array_agg(coalesce(min, 'NaN')) AS min,
    array_agg(coalesce(max, 'NaN')) AS max,
    array_agg(coalesce(mean, 'NaN')) AS mean,
    array_agg(coalesce(first, 'NaN')) AS first,
    array_agg(coalesce(last, 'NaN')) AS last,
    array_agg(coalesce(sum, 'NaN')) AS sum
FROM (
    SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
    FROM rolled_1m(%(series_ids)s::integer [], %(start)s, %(end)s)
    ORDER BY series_id, bucket
) AS ordered
GROUP BY series_id;

-- name: rolled_15m
-- Quarters of an hour of each series that start in a span, as arrays; one row a series that has any.
SELECT
    series_id,
    array_agg(bucket) AS bucket,
    array_agg(count) AS count,
    array_agg(valid_count) AS valid_count,
    array_agg(coalesce(min, 'NaN')) AS min,
    array_agg(coalesce(max, 'NaN')) AS max,
    array_agg(coalesce(mean, 'NaN')) AS mean,
    array_agg(coalesce(first, 'NaN')) AS first,
    array_agg(coalesce(last, 'NaN')) AS last,
    array_agg(coalesce(sum, 'NaN')) AS sum
FROM (
    SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
    FROM rolled_15m(%(series_ids)s::integer [], %(start)s, %(end)s)
    ORDER BY series_id, bucket
) AS ordered
GROUP BY series_id;

-- name: rolled_1h
-- Hours of each series that start in a span, as arrays; one row a series that has any.
SELECT
    series_id,
    array_agg(bucket) AS bucket,
    array_agg(count) AS count,
    array_agg(valid_count) AS valid_count,
    array_agg(coalesce(min, 'NaN')) AS min,
    array_agg(coalesce(max, 'NaN')) AS max,
    array_agg(coalesce(mean, 'NaN')) AS mean,
    array_agg(coalesce(first, 'NaN')) AS first,
    array_agg(coalesce(last, 'NaN')) AS last,
    array_agg(coalesce(sum, 'NaN')) AS sum
FROM (
    SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
    FROM rolled_1h(%(series_ids)s::integer [], %(start)s, %(end)s)
    ORDER BY series_id, bucket
) AS ordered
GROUP BY series_id;

-- name: rolled_1d
-- Natural days of each series that start in a span, as arrays; one row a series that has any.
SELECT
    series_id,
    array_agg(bucket) AS bucket,
    array_agg(count) AS count,
    array_agg(valid_count) AS valid_count,
    array_agg(coalesce(min, 'NaN')) AS min,
    array_agg(coalesce(max, 'NaN')) AS max,
    array_agg(coalesce(mean, 'NaN')) AS mean,
    array_agg(coalesce(first, 'NaN')) AS first,
    array_agg(coalesce(last, 'NaN')) AS last,
    array_agg(coalesce(sum, 'NaN')) AS sum
FROM (
    SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
    FROM rolled_1d(%(series_ids)s::integer [], %(start)s, %(end)s)
    ORDER BY series_id, bucket
) AS ordered
GROUP BY series_id;

-- name: latest
-- The newest reading of each of some series, as arrays.
SELECT
    coalesce(array_agg(series_id), '{}') AS series_id,
    coalesce(array_agg(observed_at), '{}') AS observed_at,
    coalesce(array_agg(received_at), '{}') AS received_at,
    coalesce(array_agg(value), '{}') AS value,
    coalesce(array_agg(quality), '{}') AS quality
FROM (
    SELECT
        wanted.series_id,
        newest.observed_at,
        newest.received_at,
        coalesce(newest.value, 'NaN') AS value,
        newest.quality
    FROM unnest(%(series_ids)s::integer []) AS wanted (series_id)
    CROSS JOIN LATERAL (
        SELECT r.observed_at, r.received_at, r.value, r.quality
        FROM readings AS r
        WHERE r.series_id = wanted.series_id
        ORDER BY r.observed_at DESC
        LIMIT 1
    ) AS newest
    ORDER BY wanted.series_id
) AS ordered;

-- name: latest_of_all
-- The newest reading of every series that is not retired, as arrays.
SELECT
    coalesce(array_agg(series_id), '{}') AS series_id,
    coalesce(array_agg(observed_at), '{}') AS observed_at,
    coalesce(array_agg(received_at), '{}') AS received_at,
    coalesce(array_agg(value), '{}') AS value,
    coalesce(array_agg(quality), '{}') AS quality
FROM (
    SELECT
        wanted.series_id,
        newest.observed_at,
        newest.received_at,
        coalesce(newest.value, 'NaN') AS value,
        newest.quality
    FROM (SELECT id AS series_id FROM series WHERE retired_at IS NULL) AS wanted
    CROSS JOIN LATERAL (
        SELECT r.observed_at, r.received_at, r.value, r.quality
        FROM readings AS r
        WHERE r.series_id = wanted.series_id
        ORDER BY r.observed_at DESC
        LIMIT 1
    ) AS newest
    ORDER BY wanted.series_id
) AS ordered;
