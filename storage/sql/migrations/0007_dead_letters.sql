-- What was received and could not be read, whole, until it is replayed or too old.

CREATE TABLE dead_letters (
    id text PRIMARY KEY,
    source text NOT NULL,
    topic text NOT NULL,
    topic_bytes bytea,
    payload bytea NOT NULL,
    received_at timestamptz NOT NULL,
    code text NOT NULL,
    text text NOT NULL,
    flags integer NOT NULL,
    replayed_at timestamptz,
    replay_wanted boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE dead_letters IS 'Received and not understood; kept whole, with the reason';
COMMENT ON COLUMN dead_letters.id IS 'Made from what was received, so the same arrival is one row';
COMMENT ON COLUMN dead_letters.topic IS 'For people: what the server''s text cannot hold is replaced';
COMMENT ON COLUMN dead_letters.topic_bytes IS 'The topic as received, where the text cannot hold it';
COMMENT ON COLUMN dead_letters.flags IS 'The collector''s own marks, so that a replay is the same arrival';
COMMENT ON COLUMN dead_letters.replayed_at IS
'When it was last handed in again; NULL while it waits, and again when that failed too';
COMMENT ON COLUMN dead_letters.replay_wanted IS
'Somebody asked for it to be handed in again; a running service takes it from here';

CREATE INDEX dead_letters_wanted ON dead_letters (received_at) WHERE replay_wanted;
COMMENT ON INDEX dead_letters_wanted IS 'Finds what is to be handed in again, among many that are not';

CREATE INDEX dead_letters_newest ON dead_letters (received_at, id);
COMMENT ON INDEX dead_letters_newest IS 'Lists by time, in pages; replays; deletion of the oldest';
