-- name: note
-- Add what was heard since the last time; the samples of topics that were heard again are replaced.
INSERT INTO unclaimed AS old (
    id, pattern, site, device, first_at, last_at, messages, bytes, samples
)
SELECT id, pattern, site, device, first_at, last_at, messages, bytes, samples
FROM jsonb_to_recordset(%(rows)s) AS heard (
    id text, pattern text, site text, device text, first_at timestamptz, last_at timestamptz,
    messages bigint, bytes bigint, samples jsonb
)
ON CONFLICT (id) DO UPDATE SET
    first_at = least(old.first_at, excluded.first_at),
    last_at = greatest(old.last_at, excluded.last_at),
    messages = old.messages + excluded.messages,
    bytes = old.bytes + excluded.bytes,
    samples = CASE
        WHEN
            (SELECT count(*) FROM jsonb_object_keys(old.samples || excluded.samples))
            > %(max_topics)s
            OR pg_column_size(old.samples || excluded.samples) > %(max_bytes)s
            THEN excluded.samples
        ELSE old.samples || excluded.samples
    END;

-- name: trim
-- Delete what is beyond the limit: who spoke once and long ago first; and who has been silent.
DELETE FROM unclaimed
WHERE
    last_at < %(silent_since)s
    OR id IN (
        SELECT id FROM unclaimed
        ORDER BY messages > 1 DESC, last_at DESC, id
        OFFSET %(keep)s
    );

-- name: list
-- Unclaimed devices, those heard last first.
SELECT id, pattern, site, device, first_at, last_at, messages, bytes, samples
FROM unclaimed
ORDER BY last_at DESC, id
LIMIT %(limit)s OFFSET %(offset)s;

-- name: count
-- How many there are.
SELECT count(*) FROM unclaimed;

-- name: get
-- One of them.
SELECT id, pattern, site, device, first_at, last_at, messages, bytes, samples
FROM unclaimed
WHERE id = %(id)s;

-- name: topics
-- What is needed to tell which of them have been described meanwhile.
SELECT
    id,
    pattern,
    ARRAY(SELECT key FROM jsonb_object_keys(samples) AS keys (key)) AS topics
FROM unclaimed;

-- name: forget
-- Delete those that are described now.
DELETE FROM unclaimed WHERE id = ANY(%(ids)s::text []);

-- name: begin_claim
-- Note who claims what, before anything is written.
INSERT INTO claims (unclaimed_id, pattern, device, actor, claimed_at, files)
VALUES (
    %(unclaimed_id)s, %(pattern)s, %(device)s, %(actor)s, %(claimed_at)s, %(files)s
)
RETURNING id;

-- name: end_claim
-- Note the registry that has the device.
UPDATE claims SET revision = %(revision)s WHERE id = %(id)s;

-- name: claims
-- Claims, the newest first.
SELECT id, unclaimed_id, pattern, device, actor, claimed_at, files, revision
FROM claims
WHERE %(device)s::text IS NULL OR device = %(device)s
ORDER BY id DESC
LIMIT %(limit)s;
