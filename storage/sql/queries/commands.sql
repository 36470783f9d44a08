-- name: record
-- Add one stage of a command; the same stage again is the same row.
INSERT INTO commands (
    id, outcome, device, unit, key, quantity_unit, actor, reason, asked_at, ended_at, new, old,
    read_back, text
)
VALUES (
    %(id)s, %(outcome)s, %(device)s, %(unit)s, %(key)s, %(quantity_unit)s, %(actor)s, %(reason)s,
    %(asked_at)s, %(ended_at)s, %(new)s, %(old)s, %(read_back)s, %(text)s
)
ON CONFLICT (id, outcome) DO NOTHING;

-- name: list
-- A page of commands with how each ended, the newest first.
SELECT
    begun.id,
    begun.device,
    begun.unit,
    begun.key,
    begun.quantity_unit,
    begun.actor,
    begun.reason,
    begun.asked_at,
    coalesce(ended.outcome, begun.outcome) AS outcome,
    begun.new,
    ended.old,
    ended.read_back,
    ended.ended_at,
    coalesce(ended.text, begun.text) AS text
FROM commands AS begun
LEFT JOIN commands AS ended ON begun.id = ended.id AND ended.outcome <> 'begun'
WHERE
    begun.outcome = 'begun'
    AND (%(device)s::text IS NULL OR begun.device = %(device)s)
    AND (
        %(before)s::text IS NULL
        OR (begun.asked_at, begun.id) < (
            SELECT last.asked_at, last.id FROM commands AS last
            WHERE last.id = %(before)s AND last.outcome = 'begun'
        )
    )
ORDER BY begun.asked_at DESC, begun.id DESC
LIMIT %(limit)s;

-- name: stages
-- Every stage of one command, in the order in which they came.
SELECT
    id, device, unit, key, quantity_unit, actor, reason, asked_at, outcome, new, old, read_back,
    ended_at, text
FROM commands
WHERE id = %(id)s
ORDER BY ended_at NULLS FIRST;
