-- Readings, and the roll-ups of readings that have been deleted.

CREATE TABLE readings (
    series_id integer NOT NULL,
    observed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    value double precision CHECK (value > '-infinity' AND value < 'infinity'),
    quality integer NOT NULL,
    -- In this order it serves every question there is: a span of one series, its newest reading, and
    -- whether a reading has come before.
    PRIMARY KEY (series_id, observed_at)
);
COMMENT ON TABLE readings IS
'One row a reading. No foreign key: it would cost a look-up a row, and nothing in series is deleted';
COMMENT ON COLUMN readings.series_id IS 'series.id';
COMMENT ON COLUMN readings.observed_at IS 'When the device measured';
COMMENT ON COLUMN readings.received_at IS 'When we first saw it';
COMMENT ON COLUMN readings.value IS
'In the quantity''s unit; NULL where the device said that it has none. Never NaN or infinite';
COMMENT ON COLUMN readings.quality IS
'Bits with reasons: 0-9 bad (left out of means), 10-19 suspect, 20-29 for information';

-- The three tables below are alike; a row is what the deleted readings of one bucket came to.
CREATE TABLE kept_1m (
    series_id integer NOT NULL,
    bucket timestamptz NOT NULL,
    count bigint NOT NULL,
    valid_count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    first double precision,
    first_at timestamptz,
    last double precision,
    last_at timestamptz,
    PRIMARY KEY (series_id, bucket)
);
CREATE TABLE kept_15m (LIKE kept_1m INCLUDING ALL);
CREATE TABLE kept_1h (LIKE kept_1m INCLUDING ALL);

COMMENT ON TABLE kept_1m IS 'Minutes of readings that retention has deleted';
COMMENT ON TABLE kept_15m IS 'Quarters of an hour of readings that retention has deleted';
COMMENT ON TABLE kept_1h IS 'Hours of readings that retention has deleted';
COMMENT ON COLUMN kept_1m.bucket IS 'Start of the minute';
COMMENT ON COLUMN kept_1m.count IS 'Deleted readings';
COMMENT ON COLUMN kept_1m.valid_count IS 'Those with a value that was not bad; all that follows is over them';
COMMENT ON COLUMN kept_1m.first_at IS 'When the first of them was measured: late data may come before';
COMMENT ON COLUMN kept_1m.last_at IS 'When the last of them was measured: late data may come after';
