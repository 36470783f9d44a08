-- The roll-ups of what has not been deleted. Where the server keeps none itself, they are made of the raw
-- readings when asked for.

CREATE FUNCTION live_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM raw_buckets(INTERVAL '1 minute', wanted, starting, ending)
$$;

CREATE FUNCTION live_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM raw_buckets(INTERVAL '15 minutes', wanted, starting, ending)
$$;

CREATE FUNCTION live_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        series_id, bucket, count, valid_count, sum, min, max, first, first_at, last, last_at
    FROM raw_buckets(INTERVAL '1 hour', wanted, starting, ending)
$$;
