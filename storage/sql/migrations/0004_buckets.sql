-- Buckets of the raw readings of one series. A plain function body is inlined into the query that uses
-- it, so its limits on observed_at reach the index.

-- Times are shifted as times without a zone: only that arithmetic is immutable, so that limits given in
-- a query are constants when it is planned, and whole chunks are left out.
CREATE FUNCTION first_bucket(step interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT
        (
            date_bin(step, at AT TIME ZONE 'UTC' - INTERVAL '1 microsecond', '2000-01-01 00:00:00')
            + step
        ) AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION first_bucket IS 'The start of the first bucket that does not start before `at`';

CREATE FUNCTION raw_buckets(
    step interval, one integer, starting timestamptz, ending timestamptz,
    since timestamptz, before timestamptz
) RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        b.series_id,
        b.bucket,
        b.count,
        b.valid_count,
        b.sum,
        b.min,
        b.max,
        b.ordered[1],
        b.first_at,
        b.ordered[b.valid_count],
        b.last_at
    FROM (
        SELECT
            r.series_id,
            date_bin(step, r.observed_at, '2000-01-01 00:00:00+00') AS bucket,
            count(*) AS count,
            count(r.valid) AS valid_count,
            sum(r.valid) AS sum,
            min(r.valid) AS min,
            max(r.valid) AS max,
            array_agg(r.valid ORDER BY r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS ordered,
            min(r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS first_at,
            max(r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS last_at
        FROM (
            SELECT
                raw.series_id,
                raw.observed_at,
                CASE WHEN raw.quality & 1023 = 0 THEN raw.value END AS valid
            FROM readings AS raw
            WHERE
                raw.series_id = one
                AND raw.observed_at >= first_bucket(step, starting)
                AND raw.observed_at < first_bucket(step, ending)
                AND raw.observed_at >= since
                AND raw.observed_at < before
        ) AS r
        GROUP BY r.series_id, date_bin(step, r.observed_at, '2000-01-01 00:00:00+00')
    ) AS b
$$;
COMMENT ON FUNCTION raw_buckets IS
'Buckets of step that start in [starting, ending), of one series'' raw readings in [since, before)';
