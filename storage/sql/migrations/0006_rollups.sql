-- The roll-ups, the same on every edition: what the readings that are still there come to (live_*), put
-- together with what deleted ones came to (kept_*). Partial results are merged, so a late reading that
-- falls into a bucket of deleted ones is added to it and replaces nothing.
--
--   readings --(live_*)--+
--                        +--> partial_* --> rolled_*(wanted, starting, ending) --> view readings_*
--   kept_* --------------+
--
-- A program asks the functions, whose limits reach every index. The views are for people.

CREATE FUNCTION partial_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM live_1m(wanted, starting, ending)
    UNION ALL
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM kept_1m
    WHERE
        (wanted IS NULL OR series_id = ANY(wanted))
        AND bucket >= starting
        AND bucket < ending
$$;

CREATE FUNCTION rolled_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        p.series_id,
        p.bucket,
        sum(p.count)::bigint AS count,
        sum(p.valid_count)::bigint AS valid_count,
        min(p.min) AS min,
        max(p.max) AS max,
        sum(p.sum) / nullif(sum(p.valid_count), 0)::double precision AS mean,
        (array_agg(p.first ORDER BY p.first_at) FILTER (WHERE p.valid_count > 0))[1] AS first,
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last
    FROM partial_1m(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_1m IS
'Minutes that start in [starting, ending); all series when wanted is NULL';

CREATE FUNCTION partial_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM live_15m(wanted, starting, ending)
    UNION ALL
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM kept_15m
    WHERE
        (wanted IS NULL OR series_id = ANY(wanted))
        AND bucket >= starting
        AND bucket < ending
$$;

CREATE FUNCTION rolled_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        p.series_id,
        p.bucket,
        sum(p.count)::bigint AS count,
        sum(p.valid_count)::bigint AS valid_count,
        min(p.min) AS min,
        max(p.max) AS max,
        sum(p.sum) / nullif(sum(p.valid_count), 0)::double precision AS mean,
        (array_agg(p.first ORDER BY p.first_at) FILTER (WHERE p.valid_count > 0))[1] AS first,
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last
    FROM partial_15m(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_15m IS
'Quarters of an hour that start in [starting, ending); all series when wanted is NULL';

CREATE FUNCTION partial_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM live_1h(wanted, starting, ending)
    UNION ALL
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM kept_1h
    WHERE
        (wanted IS NULL OR series_id = ANY(wanted))
        AND bucket >= starting
        AND bucket < ending
$$;

CREATE FUNCTION rolled_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        p.series_id,
        p.bucket,
        sum(p.count)::bigint AS count,
        sum(p.valid_count)::bigint AS valid_count,
        min(p.min) AS min,
        max(p.max) AS max,
        sum(p.sum) / nullif(sum(p.valid_count), 0)::double precision AS mean,
        (array_agg(p.first ORDER BY p.first_at) FILTER (WHERE p.valid_count > 0))[1] AS first,
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last
    FROM partial_1h(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_1h IS
'Hours that start in [starting, ending); all series when wanted is NULL';

-- The instant at which the natural day of `at` begins. Where the clock is set back from 01:00 to 00:00
-- there are two midnights, and the server takes the later one: the day begins at the earlier.
CREATE FUNCTION day_start(at timestamptz, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        CASE
            WHEN
                (date_trunc('day', at, zone) - INTERVAL '1 hour') AT TIME ZONE zone
                = date_trunc('day', at, zone) AT TIME ZONE zone
                THEN date_trunc('day', at, zone) - INTERVAL '1 hour'
            ELSE date_trunc('day', at, zone)
        END
$$;

-- Offsets of time zones are multiples of 15 minutes, so natural days are made of whole quarters, those
-- of 23 and 25 hours too. A day that starts before `ending` ends within 27 hours of it.
CREATE FUNCTION rolled_1d(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        p.series_id,
        p.day AS bucket,
        sum(p.count)::bigint AS count,
        sum(p.valid_count)::bigint AS valid_count,
        min(p.min) AS min,
        max(p.max) AS max,
        sum(p.sum) / nullif(sum(p.valid_count), 0)::double precision AS mean,
        (array_agg(p.first ORDER BY p.first_at) FILTER (WHERE p.valid_count > 0))[1] AS first,
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last
    FROM (
        SELECT
            q.series_id, q.count, q.valid_count, q.sum, q.min, q.max,
            q.first, q.first_at, q.last, q.last_at,
            day_start(q.bucket, sites.timezone) AS day
        FROM partial_15m(
            wanted, starting, (ending AT TIME ZONE 'UTC' + INTERVAL '27 hours') AT TIME ZONE 'UTC'
        ) AS q
        INNER JOIN series ON q.series_id = series.id
        INNER JOIN sites ON series.site_id = sites.id
    ) AS p
    WHERE p.day >= starting AND p.day < ending
    GROUP BY p.series_id, p.day
$$;
COMMENT ON FUNCTION rolled_1d IS
'Natural days at the series'' sites that start in [starting, ending); all series when wanted is NULL';

CREATE VIEW readings_1m AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last
FROM rolled_1m(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1m IS
'Minutes: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_15m AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last
FROM rolled_15m(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_15m IS
'Quarters of an hour: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_1h AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last
FROM rolled_1h(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1h IS
'Hours: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_1d AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last
FROM rolled_1d(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1d IS
'Natural days at the series'' sites: bucket is the start; count is all readings, the rest is over the valid ones';
