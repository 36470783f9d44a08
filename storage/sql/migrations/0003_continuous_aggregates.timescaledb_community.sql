-- outside a transaction
-- Roll-ups that the server keeps, each made of the finer one. Nothing else reads them but live_*, which
-- adds what is not rolled up yet. The server could add that itself ("real time"), but it reads how far it
-- has come apart from the query's snapshot: a query that meets a refresh then misses what that has just
-- done. So how far they have come stands in a table of ours (rollup_state), seen by the same snapshot.

CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT
    series_id,
    time_bucket(INTERVAL '1 minute', observed_at) AS bucket,
    count(*) AS count,
    count(value) FILTER (WHERE quality & 1023 = 0) AS valid_count,
    sum(value) FILTER (WHERE quality & 1023 = 0) AS sum,
    min(value) FILTER (WHERE quality & 1023 = 0) AS min,
    max(value) FILTER (WHERE quality & 1023 = 0) AS max,
    first(value, observed_at) FILTER (WHERE quality & 1023 = 0 AND value IS NOT NULL) AS first,
    min(observed_at) FILTER (WHERE quality & 1023 = 0 AND value IS NOT NULL) AS first_at,
    last(value, observed_at) FILTER (WHERE quality & 1023 = 0 AND value IS NOT NULL) AS last,
    max(observed_at) FILTER (WHERE quality & 1023 = 0 AND value IS NOT NULL) AS last_at
FROM readings
GROUP BY series_id, time_bucket(INTERVAL '1 minute', observed_at)
WITH NO DATA;

CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_15m
WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT
    series_id,
    time_bucket(INTERVAL '15 minutes', bucket) AS bucket,
    sum(count)::bigint AS count,
    sum(valid_count)::bigint AS valid_count,
    sum(sum) AS sum,
    min(min) AS min,
    max(max) AS max,
    first(first, first_at) FILTER (WHERE valid_count > 0) AS first,
    min(first_at) AS first_at,
    last(last, last_at) FILTER (WHERE valid_count > 0) AS last,
    max(last_at) AS last_at
FROM rollup_1m
GROUP BY series_id, time_bucket(INTERVAL '15 minutes', bucket)
WITH NO DATA;

CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT
    series_id,
    time_bucket(INTERVAL '1 hour', bucket) AS bucket,
    sum(count)::bigint AS count,
    sum(valid_count)::bigint AS valid_count,
    sum(sum) AS sum,
    min(min) AS min,
    max(max) AS max,
    first(first, first_at) FILTER (WHERE valid_count > 0) AS first,
    min(first_at) AS first_at,
    last(last, last_at) FILTER (WHERE valid_count > 0) AS last,
    max(last_at) AS last_at
FROM rollup_15m
GROUP BY series_id, time_bucket(INTERVAL '1 hour', bucket)
WITH NO DATA;
