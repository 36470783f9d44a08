-- Sums in the roll-ups, and what derived series need to follow their inputs.
--
-- A roll-up of what a meter added (litres, millimetres) is read by its sum. A function's columns cannot be
-- changed in place, so the four functions and the views on them are made anew, with one column more.

DROP VIEW readings_1m;
DROP VIEW readings_15m;
DROP VIEW readings_1h;
DROP VIEW readings_1d;
DROP FUNCTION rolled_1m;
DROP FUNCTION rolled_15m;
DROP FUNCTION rolled_1h;
DROP FUNCTION rolled_1d;

CREATE FUNCTION rolled_1m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision, sum double precision
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
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last,
        sum(p.sum) AS sum
    FROM partial_1m(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_1m IS
'Minutes that start in [starting, ending); all series when wanted is NULL';

CREATE FUNCTION rolled_15m(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision, sum double precision
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
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last,
        sum(p.sum) AS sum
    FROM partial_15m(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_15m IS
'Quarters of an hour that start in [starting, ending); all series when wanted is NULL';

CREATE FUNCTION rolled_1h(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision, sum double precision
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
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last,
        sum(p.sum) AS sum
    FROM partial_1h(wanted, starting, ending) AS p
    GROUP BY p.series_id, p.bucket
$$;
COMMENT ON FUNCTION rolled_1h IS
'Hours that start in [starting, ending); all series when wanted is NULL';

CREATE FUNCTION rolled_1d(wanted integer [], starting timestamptz, ending timestamptz)
RETURNS TABLE (
    series_id integer, bucket timestamptz, count bigint, valid_count bigint,
    min double precision, max double precision, mean double precision,
    first double precision, last double precision, sum double precision
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
        (array_agg(p.last ORDER BY p.last_at DESC) FILTER (WHERE p.valid_count > 0))[1] AS last,
        sum(p.sum) AS sum
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
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
FROM rolled_1m(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1m IS
'Minutes: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_15m AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
FROM rolled_15m(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_15m IS
'Quarters of an hour: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_1h AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
FROM rolled_1h(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1h IS
'Hours: bucket is the start; count is all readings, the rest is over the valid ones';

CREATE VIEW readings_1d AS
SELECT series_id, bucket, count, valid_count, min, max, mean, first, last, sum
FROM rolled_1d(NULL, '-infinity', 'infinity');
COMMENT ON VIEW readings_1d IS
'Natural days at the series'' sites: bucket is the start; count is all readings, the rest is over the valid ones';

-- What derived series have still to follow. A row is written in the transaction that wrote the readings,
-- so neither a crash nor an outage can part them, and deleted in the one that wrote what was derived.
CREATE TABLE changed_spans (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    redo boolean NOT NULL DEFAULT false,
    series_ids integer [] NOT NULL DEFAULT '{}',
    first_us bigint [] NOT NULL,
    last_us bigint [] NOT NULL,
    members bytea,
    CHECK ((members IS NULL) = (cardinality(series_ids) = cardinality(first_us)))
);
COMMENT ON TABLE changed_spans IS
'One row a transaction that wrote readings from which others are derived; empty when all is followed';
COMMENT ON COLUMN changed_spans.redo IS
'False: these series were written to. True: these derived series are to be made anew themselves';
COMMENT ON COLUMN changed_spans.first_us IS
'For each series the observed_at of its first changed reading, microseconds since 1970 UTC';
COMMENT ON COLUMN changed_spans.last_us IS 'And of its last';
COMMENT ON COLUMN changed_spans.members IS
'In place of series_ids, for many that were written in one span: a bit for each number of a series, the '
'first bit of the first byte is that of number 0';

CREATE TABLE derivations (
    series_id integer NOT NULL REFERENCES series (id),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    formula text NOT NULL,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    made_from timestamptz NOT NULL,
    PRIMARY KEY (series_id, recorded_at)
);
COMMENT ON TABLE derivations IS 'How each derived series was made, a row a change of it; never changed';
COMMENT ON COLUMN derivations.version IS 'Of the formula';
COMMENT ON COLUMN derivations.definition IS 'Inputs and parameters as they were';
COMMENT ON COLUMN derivations.made_from IS
'Values observed from here on are made this way; earlier ones as the row before says';
