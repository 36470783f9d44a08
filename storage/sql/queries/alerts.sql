-- name: put_groups
-- Keep groups as they now stand; of two states the one with more notices is the newer.
INSERT INTO alert_groups AS old (
    id, label, place, opened_at, members, told_severity, notices, told_at, told_severities,
    is_flapping, at_rest
)
SELECT
    id, label, place, opened_at, members, told_severity, notices, told_at, told_severities,
    is_flapping, at_rest
FROM jsonb_to_recordset(%(rows)s) AS one (
    id text, label text, place text, opened_at timestamptz, members text [], told_severity smallint,
    notices integer, told_at timestamptz [], told_severities smallint [], is_flapping boolean,
    at_rest boolean
)
ON CONFLICT (id) DO UPDATE SET
    members = excluded.members,
    told_severity = excluded.told_severity,
    notices = excluded.notices,
    told_at = excluded.told_at,
    told_severities = excluded.told_severities,
    is_flapping = excluded.is_flapping,
    at_rest = excluded.at_rest
WHERE old.notices <= excluded.notices;

-- name: put_alerts
-- Keep alerts as they now stand; of two states the one with more history is the newer.
INSERT INTO alerts AS old (
    id, rule, rule_version, subject, site, phase, severity, worst, started_at, fired_at, resolved_at,
    last_at, value, peak, unobserved_us, steps, acknowledged_by, acknowledged_at, acknowledged_note,
    assigned_to, shelved_by, shelved_until, shelved_reason, shelved_severity, closed_by, closed_at,
    closed_note, comments, replaces, group_id, is_pageable, entries
)
SELECT
    id, rule, rule_version, subject, site, phase, severity, worst, started_at, fired_at, resolved_at,
    last_at, value, peak, unobserved_us, steps, acknowledged_by, acknowledged_at, acknowledged_note,
    assigned_to, shelved_by, shelved_until, shelved_reason, shelved_severity, closed_by, closed_at,
    closed_note, comments, replaces, group_id, is_pageable, entries
FROM jsonb_to_recordset(%(rows)s) AS one (
    id text, rule text, rule_version integer, subject text, site text, phase text,
    severity smallint, worst smallint, started_at timestamptz, fired_at timestamptz,
    resolved_at timestamptz, last_at timestamptz, value double precision, peak double precision,
    unobserved_us bigint, steps jsonb, acknowledged_by text, acknowledged_at timestamptz,
    acknowledged_note text, assigned_to text, shelved_by text, shelved_until timestamptz,
    shelved_reason text, shelved_severity smallint, closed_by text, closed_at timestamptz,
    closed_note text, comments jsonb, replaces text, group_id text, is_pageable boolean,
    entries integer
)
ON CONFLICT (id) DO UPDATE SET
    rule_version = excluded.rule_version,
    phase = excluded.phase,
    severity = excluded.severity,
    worst = excluded.worst,
    fired_at = excluded.fired_at,
    resolved_at = excluded.resolved_at,
    last_at = excluded.last_at,
    value = excluded.value,
    peak = excluded.peak,
    unobserved_us = excluded.unobserved_us,
    steps = excluded.steps,
    acknowledged_by = excluded.acknowledged_by,
    acknowledged_at = excluded.acknowledged_at,
    acknowledged_note = excluded.acknowledged_note,
    assigned_to = excluded.assigned_to,
    shelved_by = excluded.shelved_by,
    shelved_until = excluded.shelved_until,
    shelved_reason = excluded.shelved_reason,
    shelved_severity = excluded.shelved_severity,
    closed_by = excluded.closed_by,
    closed_at = excluded.closed_at,
    closed_note = excluded.closed_note,
    comments = excluded.comments,
    replaces = excluded.replaces,
    group_id = CASE WHEN excluded.group_id = '' THEN old.group_id ELSE excluded.group_id END,
    is_pageable = excluded.is_pageable,
    entries = excluded.entries
WHERE old.entries <= excluded.entries;

-- name: put_entries
-- Add lines of history; a line that is there stays as it is.
INSERT INTO alert_entries (
    alert_id, number, kind, at, recorded_at, actor, note, severity, value, peak, duration_us,
    coverage, revised
)
SELECT
    alert_id, number, kind, at, recorded_at, actor, note, severity, value, peak, duration_us,
    coverage, revised
FROM jsonb_to_recordset(%(rows)s) AS one (
    alert_id text, number integer, kind text, at timestamptz, recorded_at timestamptz, actor text,
    note text, severity smallint, value double precision, peak double precision,
    duration_us bigint, coverage double precision, revised boolean
)
ON CONFLICT (alert_id, number) DO NOTHING;

-- name: put_notices
-- Add notices, in their order; a notice that is there stays as it is.
INSERT INTO notices (group_id, number, told, severity, at, alerts, open_count, tell)
SELECT group_id, number, told, severity, at, alerts, open_count, tell
FROM jsonb_to_recordset(%(rows)s) AS one (
    group_id text, number integer, told text, severity smallint, at timestamptz, alerts text [],
    open_count integer, tell text []
)
ORDER BY at, group_id, number
ON CONFLICT (group_id, number) DO NOTHING;

-- name: put_silences
-- Keep silences as they now stand; one that was ended stays ended.
INSERT INTO silences AS old (
    id, author, reason, from_at, until_at, rules, sites, subjects, worst, ended_by, ended_note
)
SELECT id, author, reason, from_at, until_at, rules, sites, subjects, worst, ended_by, ended_note
FROM jsonb_to_recordset(%(rows)s) AS one (
    id text, author text, reason text, from_at timestamptz, until_at timestamptz, rules text [],
    sites text [], subjects text [], worst smallint, ended_by text, ended_note text
)
ON CONFLICT (id) DO UPDATE SET
    until_at = excluded.until_at,
    ended_by = excluded.ended_by,
    ended_note = excluded.ended_note
WHERE old.ended_by = '';

-- name: put_pack_changes
-- Add who changed which pack; a change that is there stays as it is.
INSERT INTO pack_changes (id, pack, actor, reason, changed_at, before, after)
SELECT id, pack, actor, reason, changed_at, before, after
FROM jsonb_to_recordset(%(rows)s) AS one (
    id text, pack text, actor text, reason text, changed_at timestamptz, before text, after text
)
ON CONFLICT (id) DO NOTHING;

-- name: list
-- A page of alerts, the newest start first.
SELECT
    id, rule, rule_version, subject, site, phase, started_at, steps, acknowledged_by,
    acknowledged_at, acknowledged_note, assigned_to, shelved_by, shelved_until, shelved_reason,
    shelved_severity, closed_by, closed_at, closed_note, comments, replaces, group_id, is_pageable,
    entries
FROM alerts
WHERE
    (%(phases)s::text [] IS NULL OR phase = ANY(%(phases)s::text []))
    AND (%(severities)s::smallint [] IS NULL OR severity = ANY(%(severities)s::smallint []))
    AND (%(rules)s::text [] IS NULL OR rule LIKE ANY(%(rules)s::text []))
    AND (%(sites)s::text [] IS NULL OR site = ANY(%(sites)s::text []))
    AND (%(subjects)s::text [] IS NULL OR subject = ANY(%(subjects)s::text []))
    AND (%(group)s::text IS NULL OR group_id = %(group)s)
    AND (%(until)s::timestamptz IS NULL OR started_at < %(until)s)
    AND (
        %(since)s::timestamptz IS NULL
        OR phase IN ('firing', 'held')
        OR last_at >= %(since)s
    )
    AND (%(is_open)s::boolean IS NULL OR (phase IN ('firing', 'held')) = %(is_open)s)
    AND (
        %(needs_attention)s::boolean IS NULL
        OR (
            phase IN ('firing', 'held') OR (phase = 'resolved' AND acknowledged_by IS NULL)
        ) = %(needs_attention)s
    )
    AND (
        %(after_at)s::timestamptz IS NULL OR (started_at, id) < (%(after_at)s, %(after_id)s::text)
    )
ORDER BY started_at DESC, id DESC
LIMIT %(limit)s;

-- name: some
-- Alerts by their ids.
SELECT
    id, rule, rule_version, subject, site, phase, started_at, steps, acknowledged_by,
    acknowledged_at, acknowledged_note, assigned_to, shelved_by, shelved_until, shelved_reason,
    shelved_severity, closed_by, closed_at, closed_note, comments, replaces, group_id, is_pageable,
    entries
FROM alerts
WHERE id = ANY(%(ids)s::text [])
ORDER BY started_at, id;

-- name: awake
-- Alerts that stand, those in groups that are not at rest, and those that changed lately.
SELECT
    id, rule, rule_version, subject, site, phase, started_at, steps, acknowledged_by,
    acknowledged_at, acknowledged_note, assigned_to, shelved_by, shelved_until, shelved_reason,
    shelved_severity, closed_by, closed_at, closed_note, comments, replaces, group_id, is_pageable,
    entries
FROM alerts
WHERE
    phase IN ('firing', 'held')
    OR group_id IN (SELECT id FROM alert_groups WHERE NOT at_rest)
    OR last_at >= %(since)s
ORDER BY started_at, id;

-- name: known
-- Alerts of rules on subjects that were not over by a moment: what old data may change.
SELECT
    a.id, a.rule, a.rule_version, a.subject, a.site, a.phase, a.started_at, a.steps,
    a.acknowledged_by, a.acknowledged_at, a.acknowledged_note, a.assigned_to, a.shelved_by,
    a.shelved_until, a.shelved_reason, a.shelved_severity, a.closed_by, a.closed_at, a.closed_note,
    a.comments, a.replaces, a.group_id, a.is_pageable, a.entries
FROM unnest(%(rules)s::text [], %(subjects)s::text [], %(lates)s::timestamptz [])
AS wanted (rule, subject, late_at)
INNER JOIN alerts AS a ON wanted.rule = a.rule AND wanted.subject = a.subject
WHERE
    a.phase NOT IN ('retracted', 'withdrawn')
    AND (a.resolved_at IS NULL OR a.resolved_at >= wanted.late_at)
ORDER BY a.started_at, a.id;

-- name: awake_groups
-- Groups that are not at rest.
SELECT
    id, label, place, opened_at, members, told_severity, notices, told_at, told_severities,
    is_flapping
FROM alert_groups
WHERE NOT at_rest
ORDER BY opened_at, id;

-- name: some_groups
-- Groups by their ids.
SELECT
    id, label, place, opened_at, members, told_severity, notices, told_at, told_severities,
    is_flapping
FROM alert_groups
WHERE id = ANY(%(ids)s::text [])
ORDER BY opened_at, id;

-- name: groups
-- A page of groups with how many of their alerts are open, the newest first.
SELECT
    g.id, g.label, g.place, g.opened_at, g.members, g.told_severity, g.notices, g.told_at,
    g.told_severities, g.is_flapping, counted.open
FROM alert_groups AS g
CROSS JOIN LATERAL (
    SELECT count(*) AS open FROM alerts AS a
    WHERE a.group_id = g.id AND a.phase IN ('firing', 'held')
) AS counted
WHERE
    (%(places)s::text [] IS NULL OR g.place = ANY(%(places)s::text []))
    AND (%(is_open)s::boolean IS NULL OR (counted.open > 0) = %(is_open)s)
    AND (
        %(after_at)s::timestamptz IS NULL
        OR (g.opened_at, g.id) < (%(after_at)s, %(after_id)s::text)
    )
ORDER BY g.opened_at DESC, g.id DESC
LIMIT %(limit)s;

-- name: entries
-- The history of one alert, the first line first.
SELECT
    alert_id, number, kind, at, recorded_at, actor, note, severity, value, peak, duration_us,
    coverage, revised
FROM alert_entries
WHERE alert_id = %(id)s
ORDER BY number;

-- name: notices
-- Notices after a position, in order: what a delivery reads.
SELECT position, group_id, number, told, severity, at, alerts, open_count, tell
FROM notices
WHERE position > %(after)s
ORDER BY position
LIMIT %(limit)s;

-- name: silences
-- Silences that are not over at a moment, or all, the latest beginning first.
SELECT id, author, reason, from_at, until_at, rules, sites, subjects, worst, ended_by, ended_note
FROM silences
WHERE %(with_past)s OR until_at > %(now)s
ORDER BY from_at DESC, id DESC
LIMIT %(limit)s;

-- name: silence
-- One silence.
SELECT id, author, reason, from_at, until_at, rules, sites, subjects, worst, ended_by, ended_note
FROM silences
WHERE id = %(id)s;

-- name: pack_changes
-- The changes of one pack, the newest first.
SELECT pack, actor, reason, changed_at, before, after
FROM pack_changes
WHERE pack = %(pack)s
ORDER BY changed_at DESC, id DESC
LIMIT %(limit)s;

-- name: heard_since
-- Readings of series that were received after a moment, as arrays: what an engine did not hear.
SELECT
    coalesce(array_agg(r.series_id), '{}') AS series_id,
    coalesce(array_agg(r.observed_at), '{}') AS observed_at,
    coalesce(array_agg(r.received_at), '{}') AS received_at,
    coalesce(array_agg(coalesce(r.value, 'NaN')), '{}') AS value,
    coalesce(array_agg(r.quality), '{}') AS quality
FROM readings AS r
WHERE
    r.series_id = ANY(%(series_ids)s::integer [])
    AND r.observed_at >= %(observed_since)s
    AND r.received_at >= %(received_since)s
    AND r.quality & %(passed_over)s = 0;

-- name: span
-- All readings of series in a span, as arrays: what a rule is judged on again.
SELECT
    coalesce(array_agg(r.series_id), '{}') AS series_id,
    coalesce(array_agg(r.observed_at), '{}') AS observed_at,
    coalesce(array_agg(r.received_at), '{}') AS received_at,
    coalesce(array_agg(coalesce(r.value, 'NaN')), '{}') AS value,
    coalesce(array_agg(r.quality), '{}') AS quality
FROM readings AS r
WHERE
    r.series_id = ANY(%(series_ids)s::integer [])
    AND r.observed_at >= %(start)s
    AND r.observed_at < %(end)s
    AND r.quality & %(passed_over)s = 0;

-- name: is_any
-- Whether any of the series has a reading in a span.
SELECT exists(
    SELECT 1
    FROM readings AS r
    WHERE
        r.series_id = ANY(%(series_ids)s::integer [])
        AND r.observed_at >= %(start)s
        AND r.observed_at < %(end)s
        AND r.quality & %(passed_over)s = 0
) AS found;
