-- The roll-ups of what has not been deleted, of registered series (retired ones too). Where the server
-- keeps none itself, they are made of the raw readings when asked for, series by series.

CREATE FUNCTION live_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 minute', series.id, starting, ending, '-infinity', 'infinity'
    ) AS b
    WHERE wanted IS NULL OR series.id = ANY(wanted)
$$;

CREATE FUNCTION live_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '15 minutes', series.id, starting, ending, '-infinity', 'infinity'
    ) AS b
    WHERE wanted IS NULL OR series.id = ANY(wanted)
$$;

CREATE FUNCTION live_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 hour', series.id, starting, ending, '-infinity', 'infinity'
    ) AS b
    WHERE wanted IS NULL OR series.id = ANY(wanted)
$$;
