-- name: chunks
-- Chunks of readings that end before a time, oldest first.
SELECT chunk_schema, chunk_name, range_start, range_end
FROM timescaledb_information.chunks
WHERE
    hypertable_name = 'readings'
    AND hypertable_schema = current_schema()
    AND range_end <= %(before)s
ORDER BY range_end;

-- name: lock_chunk
-- Nobody writes to a chunk that is about to go; who tries waits, and then finds a new one.
LOCK TABLE {chunk} IN SHARE ROW EXCLUSIVE MODE;

-- name: drop_chunk
-- A whole chunk at once.
SELECT drop_chunks(
    'readings', older_than => %(end)s::timestamptz, newer_than => %(start)s::timestamptz
);

-- name: count_chunk
-- How many readings a chunk holds.
SELECT count(*) AS readings FROM {chunk};

-- name: refresh
-- Bring a continuous aggregate up to what was written since, late readings included.
CALL refresh_continuous_aggregate(
    {aggregate}, NULL, %(until)s::timestamptz,
    options => jsonb_build_object('buckets_per_batch', {buckets})
);

-- name: note_refreshed_to
-- All continuous aggregates hold everything before this time.
UPDATE rollup_state SET refreshed_to = %(until)s
WHERE refreshed_to < %(until)s;
