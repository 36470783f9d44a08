-- name: lock
-- What follows reads inputs and writes what is derived from them: one at a time, or an older answer
-- could overwrite a newer one. Ends with the transaction.
SELECT pg_advisory_xact_lock(7402417, 12);

-- name: unpack_freely
-- Corrections may reach into the columnstore, however many readings it takes to unpack around them.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: pending
-- The oldest changes that nothing derived has followed yet, some of them at a time.
SELECT id, redo, series_ids, first_us, last_us, members
FROM changed_spans
WHERE redo = %(redo)s
ORDER BY id
LIMIT %(limit)s;

-- name: waiting
-- How many changes nothing derived has followed yet, and how many spans are to be made anew.
SELECT count(*) FILTER (WHERE NOT redo) AS changes, count(*) FILTER (WHERE redo) AS redo
FROM changed_spans;

-- name: note
-- Remember what has changed.
INSERT INTO changed_spans (series_ids, first_us, last_us)
VALUES (%(series_ids)s, %(first_us)s, %(last_us)s);

-- name: order_redo
-- Remember what is to be made anew. Worked off a piece at a time, so each series has a row of its own.
INSERT INTO changed_spans (redo, series_ids, first_us, last_us)
SELECT true, ARRAY[one.series_id], ARRAY[one.first_us], ARRAY[one.last_us]
FROM unnest(
    %(series_ids)s::integer [], %(first_us)s::bigint [], %(last_us)s::bigint []
) AS one (series_id, first_us, last_us);

-- name: forget
-- Changes that everything derived has followed.
DELETE FROM changed_spans WHERE id = ANY(%(ids)s::bigint []);

-- name: read
-- Readings of each of some series, each in a span of its own (microseconds since 1970 UTC), as arrays in
-- no order; before and after add the nearest one on that side that has a value and is not bad.
SELECT
    coalesce(array_agg(wanted.n::integer), '{}') AS n,
    coalesce(array_agg(one.observed_at), '{}') AS at,
    coalesce(array_agg(coalesce(one.value, 'NaN')), '{}') AS value,
    coalesce(array_agg(one.quality), '{}') AS quality
FROM (
    SELECT
        told.n,
        told.series_id,
        told.before,
        told.after,
        'epoch'::timestamptz + told.starting * interval '1 microsecond' AS starting,
        'epoch'::timestamptz + told.ending * interval '1 microsecond' AS ending
    FROM unnest(
        %(series_ids)s::integer [], %(start)s::bigint [], %(end)s::bigint [],
        %(before)s::boolean [], %(after)s::boolean []
    ) WITH ORDINALITY AS told (series_id, starting, ending, before, after, n)
) AS wanted
CROSS JOIN LATERAL (
    (
        SELECT b.observed_at, b.value, b.quality
        FROM readings AS b
        WHERE
            wanted.before
            AND b.series_id = wanted.series_id
            AND b.observed_at < wanted.starting
            AND b.value IS NOT NULL
            AND b.quality & 1023 = 0
        ORDER BY b.observed_at DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT r.observed_at, r.value, r.quality
        FROM readings AS r
        WHERE
            r.series_id = wanted.series_id
            AND r.observed_at >= wanted.starting
            AND r.observed_at < wanted.ending
    )
    UNION ALL
    (
        SELECT a.observed_at, a.value, a.quality
        FROM readings AS a
        WHERE
            wanted.after
            AND a.series_id = wanted.series_id
            AND a.observed_at >= wanted.ending
            AND a.value IS NOT NULL
            AND a.quality & 1023 = 0
        ORDER BY a.observed_at
        LIMIT 1
    )
) AS one;

-- name: whole_from
-- Since when the raw readings of some series are all there, microseconds since 1970 UTC; NULL always.
SELECT
    id,
    CASE WHEN isfinite(raw_from) THEN (extract(epoch FROM raw_from) * 1000000)::bigint END AS us
FROM series
WHERE id = ANY(%(series_ids)s::integer []);

-- name: remove
-- Derived readings that are no more, or are about to be written otherwise.
DELETE FROM readings AS r
USING unnest(%(series_ids)s::integer [], %(at)s::bigint []) AS gone (series_id, at_us)
WHERE
    r.series_id = gone.series_id
    AND r.observed_at = 'epoch'::timestamptz + gone.at_us * interval '1 microsecond'
    AND r.observed_at >= %(first)s
    AND r.observed_at <= %(last)s;

-- name: newest
-- When the newest reading of each of some series was observed, microseconds since 1970 UTC.
SELECT wanted.series_id, (extract(epoch FROM newest.observed_at) * 1000000)::bigint AS us
FROM unnest(%(series_ids)s::integer []) AS wanted (series_id)
CROSS JOIN LATERAL (
    SELECT r.observed_at
    FROM readings AS r
    WHERE r.series_id = wanted.series_id
    ORDER BY r.observed_at DESC
    LIMIT 1
) AS newest;

-- name: recorded
-- How each derived series is made, as last recorded.
SELECT DISTINCT ON (series_id) series_id, formula, version, definition
FROM derivations
ORDER BY series_id ASC, recorded_at DESC;

-- name: record
-- How derived series are made from now on, and from when on their values are made so.
INSERT INTO derivations (series_id, recorded_at, formula, version, definition, made_from)
SELECT made.series_id, clock_timestamp(), made.formula, made.version, made.definition, %(made_from)s
FROM jsonb_to_recordset(%(rows)s) AS made (
    series_id integer, formula text, version integer, definition jsonb
);
