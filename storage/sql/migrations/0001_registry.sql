-- What is measured where: the registry that a site file describes. Nothing here is ever deleted; what
-- a file no longer names is retired, so that its readings keep their place and their name.

CREATE TABLE registry_state (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    revision bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE registry_state IS 'One row: how often the registry has changed';
COMMENT ON COLUMN registry_state.revision IS 'Rises by one with every change; readers poll it';
INSERT INTO registry_state DEFAULT VALUES;

CREATE TABLE sites (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    kind text NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    parent_id integer REFERENCES sites (id),
    timezone text NOT NULL,
    latitude double precision,
    longitude double precision,
    altitude_m double precision,
    area_m2 double precision,
    crop text,
    position integer NOT NULL,
    retired_at timestamptz
);
COMMENT ON TABLE sites IS 'The tree city, county, township, village, base, greenhouse, zone';
COMMENT ON COLUMN sites.parent_id IS 'The site above; NULL at the root';
COMMENT ON COLUMN sites.timezone IS 'IANA name; natural days of everything at the site follow it';
COMMENT ON COLUMN sites.area_m2 IS 'Growing area';
COMMENT ON COLUMN sites.position IS 'Place in the site file';
COMMENT ON COLUMN sites.retired_at IS 'When the site file stopped naming it; NULL while it is in use';

CREATE TABLE devices (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    site_id integer NOT NULL REFERENCES sites (id),
    transport text NOT NULL,
    payload text NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    max_age_s double precision NOT NULL,
    max_ahead_s double precision NOT NULL,
    settings jsonb NOT NULL,
    position integer NOT NULL,
    retired_at timestamptz
);
COMMENT ON TABLE devices IS 'Physical things, each with one transport';
COMMENT ON COLUMN devices.payload IS 'The codec of its messages';
COMMENT ON COLUMN devices.max_age_s IS 'How far a reading''s own time may lie before its receipt';
COMMENT ON COLUMN devices.max_ahead_s IS 'How far a reading''s own time may lie after its receipt';
COMMENT ON COLUMN devices.settings IS 'What only its codec or transport understands';
COMMENT ON COLUMN devices.position IS 'Place in the site file';
COMMENT ON COLUMN devices.retired_at IS 'When the site file stopped naming it; NULL while it is in use';

CREATE TABLE series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    device_id integer NOT NULL REFERENCES devices (id),
    quantity text NOT NULL,
    channel text NOT NULL,
    key text NOT NULL,
    site_id integer NOT NULL REFERENCES sites (id),
    placement text NOT NULL,
    medium text NOT NULL,
    unit text NOT NULL,
    scale double precision NOT NULL,
    shift double precision NOT NULL,
    interval_s double precision NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    position integer NOT NULL,
    raw_from timestamptz NOT NULL DEFAULT '-infinity',
    retired_at timestamptz
);
COMMENT ON TABLE series IS 'Streams of readings: device x quantity x channel, at a site';
COMMENT ON COLUMN series.id IS 'The number that its readings carry; a series that returns gets it again';
COMMENT ON COLUMN series.code IS 'device.quantity or device.quantity.channel';
COMMENT ON COLUMN series.key IS 'The name that the device''s payload uses';
COMMENT ON COLUMN series.unit IS 'The unit the device sends; stored values are in the quantity''s unit';
COMMENT ON COLUMN series.scale IS 'stored value = sent value * scale + shift';
COMMENT ON COLUMN series.shift IS 'stored value = sent value * scale + shift';
COMMENT ON COLUMN series.interval_s IS 'Expected time between readings';
COMMENT ON COLUMN series.position IS 'Place in the site file';
COMMENT ON COLUMN series.raw_from IS
'Raw readings before this are rolled up into kept_* and deleted; always midnight UTC';
COMMENT ON COLUMN series.retired_at IS 'When the site file stopped naming it; NULL while it is in use';

CREATE TABLE retention (
    quantity text PRIMARY KEY,
    keep_s double precision NOT NULL CHECK (keep_s > 0)
);
COMMENT ON TABLE retention IS
'How long raw readings are kept, by quantity; the row "default" is for quantities without their own. '
'No row: for ever. Roll-ups are always kept';
