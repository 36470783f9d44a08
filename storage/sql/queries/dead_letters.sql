-- name: put
-- Keep letters; one that is kept already and was replayed has failed again, so it waits again.
INSERT INTO dead_letters AS old (
    id, source, topic, topic_bytes, payload, received_at, code, text, flags
)
SELECT id, source, topic, topic_bytes, payload, received_at, code, text, flags
FROM unnest(
    %(id)s::text [], %(source)s::text [], %(topic)s::text [], %(topic_bytes)s::bytea [],
    %(payload)s::bytea [], %(received_at)s::timestamptz [], %(code)s::text [], %(text)s::text [],
    %(flags)s::integer []
) AS letter (id, source, topic, topic_bytes, payload, received_at, code, text, flags)
ON CONFLICT (id) DO UPDATE SET replayed_at = NULL
WHERE old.replayed_at IS NOT NULL
RETURNING (xmax = 0) AS inserted;

-- name: list
-- A page of letters, the newest first.
SELECT id, source, topic, topic_bytes, payload, received_at, code, text, flags, replayed_at
FROM dead_letters
WHERE
    (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (
        %(before)s::text IS NULL
        OR (received_at, id) < (
            SELECT received_at, id FROM dead_letters WHERE id = %(before)s
        )
    )
ORDER BY received_at DESC, id DESC
LIMIT %(limit)s;

-- name: get
-- One letter.
SELECT id, source, topic, topic_bytes, payload, received_at, code, text, flags, replayed_at
FROM dead_letters
WHERE id = %(id)s;

-- name: page
-- A page of letters to replay, the oldest first.
SELECT id, source, topic, topic_bytes, payload, received_at, code, text, flags, replayed_at
FROM dead_letters
WHERE
    (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(replayed)s OR replayed_at IS NULL)
    AND (
        %(after_id)s::text IS NULL
        OR (received_at, id) > (%(after_at)s::timestamptz, %(after_id)s)
    )
ORDER BY received_at, id
LIMIT %(limit)s;

-- name: mark_replayed
-- Note when letters were handed in again.
UPDATE dead_letters SET replayed_at = %(at)s, replay_wanted = (%(at)s::timestamptz IS NULL)
WHERE id = ANY(%(ids)s::text []);

-- name: want
-- Ask for the waiting letters of a reason, a source or some ids to be handed in again.
UPDATE dead_letters SET replay_wanted = true
WHERE
    replayed_at IS NULL
    AND (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(ids)s::text [] IS NULL OR id = ANY(%(ids)s::text []));

-- name: want_topic
-- Ask for letters of some topics to be handed in again, a few thousand at a time; newer devices of
-- the same topics are told by the pattern, the rest by the beginning that all of them share.
UPDATE dead_letters SET replay_wanted = true
WHERE id IN (
    SELECT id FROM dead_letters
    WHERE
        left(topic, 100) LIKE %(beginning)s
        AND topic ~ %(pattern)s
        AND source = 'mqtt'
        AND replayed_at IS NULL
        AND NOT replay_wanted
    LIMIT %(limit)s
);

-- name: want_on
-- Ask for the waiting letters on a topic, and on those below another, to be handed in again.
UPDATE dead_letters SET replay_wanted = true
WHERE
    replayed_at IS NULL
    AND code = %(code)s
    AND received_at <= %(until)s
    AND (topic = %(topic)s OR starts_with(topic, %(below)s));

-- name: wanted
-- What is to be handed in again, the oldest first.
SELECT id, source, topic, topic_bytes, payload, received_at, code, text, flags, replayed_at
FROM dead_letters
WHERE replay_wanted
ORDER BY received_at
LIMIT %(limit)s;

-- name: still_wanted
-- How many letters somebody asked for that were not handed in yet.
SELECT count(*) FROM dead_letters
WHERE replay_wanted;

-- name: counts
-- How many letters wait, by reason.
SELECT code, count(*) AS letters
FROM dead_letters
WHERE replayed_at IS NULL
GROUP BY code
ORDER BY code;
