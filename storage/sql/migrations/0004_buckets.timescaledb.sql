-- The same with what TimescaleDB knows: first and last need no sorting, and the order of time_bucket is
-- the order of the index.

CREATE OR REPLACE FUNCTION raw_buckets(
    step interval, one integer, starting timestamptz, ending timestamptz,
    since timestamptz, before timestamptz
) RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        r.series_id,
        time_bucket(step, r.observed_at) AS bucket,
        count(*) AS count,
        count(r.valid) AS valid_count,
        sum(r.valid) AS sum,
        min(r.valid) AS min,
        max(r.valid) AS max,
        first(r.valid, r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS first,
        min(r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS first_at,
        last(r.valid, r.observed_at) FILTER (WHERE r.valid IS NOT NULL) AS last,
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
    GROUP BY r.series_id, time_bucket(step, r.observed_at)
$$;
