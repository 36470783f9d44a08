-- What has not been deleted, of registered series, in three parts:
--
--     ---- late ones, raw ----|---- continuous aggregate ----|---- raw ---->
--                          raw_from                     refreshed_to
--
-- From raw_from on, a series' raw readings are all there and the aggregates tell the truth. Before it
-- retention has deleted them: the aggregates may hold anything from all to nothing there, depending on
-- when they were refreshed, and are not looked at. Late readings from before raw_from lie among the raw
-- ones until the next maintenance; there are few. Both limits are full hours.

CREATE TABLE rollup_state (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    refreshed_to timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE rollup_state IS 'One row: how far the continuous aggregates have come';
COMMENT ON COLUMN rollup_state.refreshed_to IS 'All of them hold everything before; a full hour';
INSERT INTO rollup_state DEFAULT VALUES;

CREATE OR REPLACE FUNCTION live_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        a.series_id, a.bucket, a.count, a.valid_count, a.sum, a.min, a.max,
        a.first, a.first_at, a.last, a.last_at
    FROM rollup_1m AS a
    INNER JOIN series ON a.series_id = series.id
    CROSS JOIN rollup_state
    WHERE
        (wanted IS NULL OR a.series_id = ANY(wanted))
        AND a.bucket >= starting
        AND a.bucket < ending
        AND a.bucket >= series.raw_from
        AND a.bucket < rollup_state.refreshed_to
    UNION ALL
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 minute', series.id, starting, ending, '-infinity', series.raw_from
    ) AS b
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND series.raw_from > starting
    UNION ALL
    SELECT
        c.series_id, c.bucket, c.count, c.valid_count, c.sum, c.min, c.max,
        c.first, c.first_at, c.last, c.last_at
    FROM series
    CROSS JOIN rollup_state
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 minute', series.id, starting, ending,
        greatest(series.raw_from, rollup_state.refreshed_to), 'infinity'
    ) AS c
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND rollup_state.refreshed_to < ending
$$;

CREATE OR REPLACE FUNCTION live_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        a.series_id, a.bucket, a.count, a.valid_count, a.sum, a.min, a.max,
        a.first, a.first_at, a.last, a.last_at
    FROM rollup_15m AS a
    INNER JOIN series ON a.series_id = series.id
    CROSS JOIN rollup_state
    WHERE
        (wanted IS NULL OR a.series_id = ANY(wanted))
        AND a.bucket >= starting
        AND a.bucket < ending
        AND a.bucket >= series.raw_from
        AND a.bucket < rollup_state.refreshed_to
    UNION ALL
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '15 minutes', series.id, starting, ending, '-infinity', series.raw_from
    ) AS b
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND series.raw_from > starting
    UNION ALL
    SELECT
        c.series_id, c.bucket, c.count, c.valid_count, c.sum, c.min, c.max,
        c.first, c.first_at, c.last, c.last_at
    FROM series
    CROSS JOIN rollup_state
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '15 minutes', series.id, starting, ending,
        greatest(series.raw_from, rollup_state.refreshed_to), 'infinity'
    ) AS c
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND rollup_state.refreshed_to < ending
$$;

CREATE OR REPLACE FUNCTION live_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    sum double precision, min double precision, max double precision,
    first double precision, first_at timestamptz, last double precision, last_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        a.series_id, a.bucket, a.count, a.valid_count, a.sum, a.min, a.max,
        a.first, a.first_at, a.last, a.last_at
    FROM rollup_1h AS a
    INNER JOIN series ON a.series_id = series.id
    CROSS JOIN rollup_state
    WHERE
        (wanted IS NULL OR a.series_id = ANY(wanted))
        AND a.bucket >= starting
        AND a.bucket < ending
        AND a.bucket >= series.raw_from
        AND a.bucket < rollup_state.refreshed_to
    UNION ALL
    SELECT
        b.series_id, b.bucket, b.count, b.valid_count, b.sum, b.min, b.max,
        b.first, b.first_at, b.last, b.last_at
    FROM series
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 hour', series.id, starting, ending, '-infinity', series.raw_from
    ) AS b
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND series.raw_from > starting
    UNION ALL
    SELECT
        c.series_id, c.bucket, c.count, c.valid_count, c.sum, c.min, c.max,
        c.first, c.first_at, c.last, c.last_at
    FROM series
    CROSS JOIN rollup_state
    CROSS JOIN LATERAL raw_buckets(
        INTERVAL '1 hour', series.id, starting, ending,
        greatest(series.raw_from, rollup_state.refreshed_to), 'infinity'
    ) AS c
    WHERE
        (wanted IS NULL OR series.id = ANY(wanted))
        AND rollup_state.refreshed_to < ending
$$;
