-- name: put
-- Keep gaps; one that is kept already may have become longer.
INSERT INTO gaps AS old (started_at, source, reason, ended_at, text)
SELECT started_at, source, reason, ended_at, text
FROM unnest(
    %(started_at)s::timestamptz [], %(source)s::text [], %(reason)s::text [],
    %(ended_at)s::timestamptz [], %(text)s::text []
) AS gap (started_at, source, reason, ended_at, text)
ON CONFLICT (started_at, source, reason) DO UPDATE SET ended_at = excluded.ended_at
WHERE old.ended_at < excluded.ended_at
RETURNING (xmax = 0) AS inserted;

-- name: list
-- Gaps that touch a span.
SELECT source, started_at, ended_at, reason, text
FROM gaps
WHERE started_at < %(until)s AND ended_at >= %(since)s
ORDER BY started_at, source, reason;
