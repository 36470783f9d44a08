-- name: lock
-- One file of results at a time: whoever adds a version must know the one before.
SELECT pg_advisory_xact_lock(hashtext('sample_results'));

-- name: known
-- Every version of some results.
SELECT
    r.series_id, r.sampled_at, r.version, r.value, r.detection_limit, r.given, r.method,
    r.laboratory, r.sampler, r.reviewer, r.report, r.note
FROM sample_results AS r
INNER JOIN unnest(%(series_id)s::integer [], %(sampled_at)s::timestamptz []) AS w (
    series_id, sampled_at
) ON r.series_id = w.series_id AND r.sampled_at = w.sampled_at
ORDER BY r.series_id, r.sampled_at, r.version;

-- name: add
-- New results and new versions.
INSERT INTO sample_results (
    series_id, sampled_at, version, value, detection_limit, given, method, laboratory, sampler,
    reviewer, report, note, recorded_at, recorded_by
)
SELECT
    series_id, sampled_at, version, value, detection_limit, given, method, laboratory, sampler,
    reviewer, report, note, %(recorded_at)s, %(recorded_by)s
FROM unnest(
    %(series_id)s::integer [], %(sampled_at)s::timestamptz [], %(version)s::integer [],
    %(value)s::double precision [], %(detection_limit)s::double precision [], %(given)s::text [],
    %(method)s::text [], %(laboratory)s::text [], %(sampler)s::text [], %(reviewer)s::text [],
    %(report)s::text [], %(note)s::text []
) AS one (
    series_id, sampled_at, version, value, detection_limit, given, method, laboratory, sampler,
    reviewer, report, note
);

-- name: put_readings
-- Reviewed results as the readings of their moments.
SELECT put_sampled_readings(
    %(series_id)s::integer [], %(sampled_at)s::timestamptz [], %(recorded_at)s::timestamptz,
    %(reading)s::double precision [], %(quality)s::integer []
);

-- name: note_changed
-- What was written, for whatever is derived from it, in the transaction that wrote it.
INSERT INTO changed_spans (series_ids, first_us, last_us)
VALUES (%(series_ids)s, %(first_us)s, %(last_us)s);

-- name: untold
-- Reviewed versions that the rules are to be told of, the oldest first; of a result the newest alone.
SELECT DISTINCT ON (r.series_id, r.sampled_at)
    r.id, r.series_id, r.sampled_at, r.recorded_at, r.value, r.detection_limit
FROM sample_results AS r
WHERE r.told_at IS NULL AND r.reviewer <> ''
ORDER BY r.series_id, r.sampled_at, r.version DESC
LIMIT %(limit)s;

-- name: mark_told
-- Note that the rules know a version, and with it those of the same result before it.
UPDATE sample_results AS r SET told_at = %(at)s
FROM sample_results AS t
WHERE
    t.id = ANY(%(ids)s::bigint []) AND r.series_id = t.series_id AND r.sampled_at = t.sampled_at
    AND r.version <= t.version AND r.told_at IS NULL;

-- name: list
-- A page of results, the newest sample first; the newest version of each, or all.
SELECT
    r.id, s.code AS series, r.sampled_at, r.version, r.value, r.detection_limit, r.given, r.method,
    r.laboratory, r.sampler, r.reviewer, r.report, r.note, r.recorded_at, r.recorded_by,
    NOT EXISTS (
        SELECT FROM sample_results AS later
        WHERE
            later.series_id = r.series_id AND later.sampled_at = r.sampled_at
            AND later.version > r.version
    ) AS is_newest
FROM sample_results AS r
INNER JOIN series AS s ON r.series_id = s.id
WHERE
    r.sampled_at >= %(since)s AND r.sampled_at < %(until)s
    AND (%(series_ids)s::integer [] IS NULL OR r.series_id = ANY(%(series_ids)s::integer []))
    AND (
        %(versions)s
        OR NOT EXISTS (
            SELECT FROM sample_results AS later
            WHERE
                later.series_id = r.series_id AND later.sampled_at = r.sampled_at
                AND later.version > r.version
        )
    )
    AND (
        %(before)s::bigint IS NULL
        OR (r.sampled_at, r.id) < (
            SELECT b.sampled_at, b.id FROM sample_results AS b WHERE b.id = %(before)s
        )
    )
ORDER BY r.sampled_at DESC, r.id DESC
LIMIT %(limit)s;
