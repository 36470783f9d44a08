-- Devices that nobody has described yet, as far as their messages tell, and who described which.

CREATE TABLE unclaimed (
    id text PRIMARY KEY,
    pattern text NOT NULL,
    site text NOT NULL,
    device text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    messages bigint NOT NULL,
    bytes bigint NOT NULL,
    samples jsonb NOT NULL
);
COMMENT ON TABLE unclaimed IS
'Who sends to topics that belong to no device; bounded, the messages themselves are dead letters';
COMMENT ON COLUMN unclaimed.id IS 'Made from the pattern';
COMMENT ON COLUMN unclaimed.pattern IS 'Template of all its topics, as a device would have it';
COMMENT ON COLUMN unclaimed.site IS 'What its topics say of the site; empty where they do not';
COMMENT ON COLUMN unclaimed.device IS 'What its topics call it; empty where they do not';
COMMENT ON COLUMN unclaimed.messages IS 'How many came since first_at; one sent in again counts again';
COMMENT ON COLUMN unclaimed.samples IS
'Newest message by topic: at_us, size, and payload in base64, which is cut where size is more';

CREATE TABLE claims (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unclaimed_id text NOT NULL,
    pattern text NOT NULL,
    device text NOT NULL,
    actor text NOT NULL,
    claimed_at timestamptz NOT NULL,
    files jsonb NOT NULL,
    revision bigint
);
COMMENT ON TABLE claims IS 'Who made a device of which unclaimed one; rows are added';
COMMENT ON COLUMN claims.device IS 'Code of the device';
COMMENT ON COLUMN claims.actor IS 'Who claimed, as the client said';
COMMENT ON COLUMN claims.files IS 'What was written: text by the name of the file';
COMMENT ON COLUMN claims.revision IS
'Revision of the registry that has the device; NULL where it did not come so far';

CREATE INDEX dead_letters_topic ON dead_letters (left(topic, 100) text_pattern_ops)
WHERE replayed_at IS NULL;
COMMENT ON INDEX dead_letters_topic IS 'Finds what a device sent before somebody described it';
