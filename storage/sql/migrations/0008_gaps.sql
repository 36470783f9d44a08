-- Stretches of time in which something that was sent may not have reached us.

CREATE TABLE gaps (
    started_at timestamptz NOT NULL,
    source text NOT NULL,
    reason text NOT NULL,
    ended_at timestamptz NOT NULL,
    text text NOT NULL,
    -- Also serves the question which gaps touch a span: they are few, and it is by time.
    PRIMARY KEY (started_at, source, reason)
);
COMMENT ON TABLE gaps IS 'Where readings may be missing through no fault of the devices';
COMMENT ON COLUMN gaps.source IS 'The collector and its peer, such as mqtt:broker';
COMMENT ON COLUMN gaps.reason IS 'A stable word, such as session_lost';
