-- name: state
-- How far the book has come, and how far stored readings follow it.
SELECT revision, applied FROM calibration_state;

-- name: one_moment
-- All of the book as it was at one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: raise_revision
-- The number of a new entry; who enters holds the row until it is there.
UPDATE calibration_state SET revision = revision + 1
RETURNING revision;

-- name: entered_calibration
-- Whether an entry has come before, under its token.
SELECT id, revision, entered_at FROM calibrations WHERE token = %(token)s;

-- name: add_calibration
-- A new line of a series, whose number is looked up; no row where there is no such series.
INSERT INTO calibrations (
    revision, token, series_id, valid_from, gain, shift, points, method, reference, note, actor,
    due_at, withdrawn
)
SELECT
    %(revision)s, %(token)s, series.id, %(valid_from)s, %(gain)s, %(shift)s, %(points)s,
    %(method)s, %(reference)s, %(note)s, %(actor)s, %(due_at)s, %(withdrawn)s
FROM series
WHERE series.code = %(series)s
RETURNING id, revision, entered_at;

-- name: entered_window
-- Whether an entry has come before, under its token.
SELECT id, revision, entered_at FROM quality_windows WHERE token = %(token)s;

-- name: add_window
-- A new window, or the end of an earlier one.
INSERT INTO quality_windows (
    revision, token, scope, code, kind, starting, ending, actor, reason, replaces, withdrawn
)
VALUES (
    %(revision)s, %(token)s, %(scope)s, %(code)s, %(kind)s, %(starting)s, %(ending)s, %(actor)s,
    %(reason)s, %(replaces)s, %(withdrawn)s
)
RETURNING id, revision, entered_at;

-- name: calibrations
-- All lines that were ever entered.
SELECT
    series.code AS series,
    calibrations.id,
    calibrations.revision,
    calibrations.valid_from,
    calibrations.gain,
    calibrations.shift,
    calibrations.points,
    calibrations.method,
    calibrations.reference,
    calibrations.note,
    calibrations.actor,
    calibrations.due_at,
    calibrations.withdrawn,
    calibrations.entered_at
FROM calibrations
INNER JOIN series ON calibrations.series_id = series.id
ORDER BY calibrations.id;

-- name: windows
-- All windows that were ever entered.
SELECT
    id, revision, scope, code, kind, starting, ending, actor, reason, replaces, withdrawn,
    entered_at
FROM quality_windows
ORDER BY id;

-- name: plan
-- Work that a revision of the book asks for; planning it twice is harmless.
INSERT INTO corrections (
    revision, series_id, starting, ending, old_gain, old_shift, new_gain, new_shift, added_bits,
    removed_bits, low, high, done_to
)
VALUES (
    %(revision)s, %(series_id)s, %(starting)s, %(ending)s, %(old_gain)s, %(old_shift)s,
    %(new_gain)s, %(new_shift)s, %(added_bits)s, %(removed_bits)s, %(low)s, %(high)s, %(starting)s
)
ON CONFLICT DO NOTHING;

-- name: planned
-- Whether any work is left.
SELECT exists(SELECT 1 FROM corrections WHERE finished_at IS NULL) AS planned;

-- name: be_patient
-- A week of readings may lie in the columnstore.
SET LOCAL statement_timeout = '120s';

-- name: unpack_freely
-- However many readings it takes to unpack around those to correct.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: next
-- The oldest work that is left; who takes it holds it.
SELECT
    id, revision, series_id, starting, ending, old_gain, old_shift, new_gain, new_shift, added_bits,
    removed_bits, low, high, done_to
FROM corrections
WHERE finished_at IS NULL
ORDER BY id
LIMIT 1
FOR UPDATE;

-- name: first_reading
-- Where the next readings to correct begin.
SELECT min(observed_at) AS observed_at
FROM readings
WHERE
    series_id = %(series_id)s
    AND observed_at >= %(done_to)s
    AND observed_at < %(ending)s;

-- name: last_reading
-- Where those that a piece has corrected end.
SELECT max(observed_at) AS observed_at
FROM readings
WHERE
    series_id = %(series_id)s
    AND observed_at >= %(start)s
    AND observed_at < %(end)s;

-- name: correct
-- Readings of one series in a span, from their old line to the new one. What a person entered was never on
-- a line. 2 is the bit of the physical range, 4194304 that of manual entry.
UPDATE readings SET
    value = on_line(value, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s),
    quality = CASE
        WHEN %(old_gain)s = %(new_gain)s AND %(old_shift)s = %(new_shift)s
            THEN (quality & ~%(removed_bits)s::integer) | %(added_bits)s::integer
        WHEN on_line(value, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s)
            BETWEEN %(low)s AND %(high)s
            THEN (quality & ~%(removed_bits)s::integer & ~2) | %(added_bits)s::integer
        WHEN value IS NULL
            THEN (quality & ~%(removed_bits)s::integer) | %(added_bits)s::integer
        ELSE (quality & ~%(removed_bits)s::integer) | %(added_bits)s::integer | 2
    END
WHERE
    series_id = %(series_id)s
    AND observed_at >= %(start)s
    AND observed_at < %(end)s
    AND quality & 4194304 = 0;

-- name: correct_kept
-- What deleted readings came to, whole buckets of the span: sums and means of a line lie on the line.
UPDATE {kept} SET
    sum = (sum - valid_count * %(old_shift)s) / %(old_gain)s * %(new_gain)s
    + valid_count * %(new_shift)s,
    min = on_line(min, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s),
    max = on_line(max, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s),
    first = on_line(first, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s),
    last = on_line(last, %(old_gain)s, %(old_shift)s, %(new_gain)s, %(new_shift)s)
WHERE
    series_id = %(series_id)s
    AND bucket >= %(starting)s
    AND bucket < %(ending)s::timestamptz - {step}::interval
    AND (%(old_gain)s <> %(new_gain)s OR %(old_shift)s <> %(new_shift)s);

-- name: note_done
-- How far a piece of work has come, in the transaction that did it.
UPDATE corrections SET done_to = %(done_to)s, readings = readings + %(readings)s
WHERE id = %(id)s;

-- name: note_finished
-- A piece of work is done.
UPDATE corrections SET done_to = ending, finished_at = now()
WHERE id = %(id)s;

-- name: note_changed
-- Tell whoever derives series from this one what was corrected, in the transaction that did it.
INSERT INTO changed_spans (series_ids, first_us, last_us)
VALUES (ARRAY[%(series_id)s]::integer [], ARRAY[%(first_us)s]::bigint [], ARRAY[%(last_us)s]::bigint []);

-- name: note_applied
-- Stored readings follow the book up to a revision, once nothing is left to do for it.
UPDATE calibration_state SET applied = %(revision)s
WHERE
    applied < %(revision)s
    AND NOT EXISTS (SELECT 1 FROM corrections WHERE finished_at IS NULL);

-- name: corrections
-- What was corrected, the newest first.
SELECT
    series.code AS series,
    corrections.id,
    corrections.revision,
    corrections.starting,
    corrections.ending,
    corrections.readings,
    corrections.finished_at
FROM corrections
INNER JOIN series ON corrections.series_id = series.id
WHERE %(series)s::text IS NULL OR series.code = %(series)s
ORDER BY corrections.id DESC
LIMIT %(limit)s;

-- name: wait_for_maintenance
-- Aggregates are refreshed by one at a time; the lock goes with the connection.
SELECT pg_advisory_lock(7402417, 3);

-- name: refresh
-- A stretch of a continuous aggregate anew.
CALL refresh_continuous_aggregate({aggregate}, %(start)s::timestamptz, %(end)s::timestamptz);
