-- name: be_patient
-- Applying a large registry, or waiting for another one to be applied, may take longer than a read.
SET LOCAL statement_timeout = '120s';

-- name: lock
-- One registry is applied at a time.
SELECT pg_advisory_xact_lock(7402417, 2);

-- name: one_moment
-- All of the registry as it was at one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: revision
-- How often the registry has changed.
SELECT revision FROM registry_state;

-- name: raise_revision
-- Tell those who poll that there is something new.
UPDATE registry_state SET revision = revision + 1;

-- name: retired
-- Codes of what is not in use any more.
SELECT 'sites' AS kind, code FROM sites WHERE retired_at IS NOT NULL
UNION ALL
SELECT 'devices', code FROM devices WHERE retired_at IS NOT NULL
UNION ALL
SELECT 'series', code FROM series WHERE retired_at IS NOT NULL;

-- name: sites
-- All sites, in the order of the file, retired ones last.
SELECT
    sites.code,
    sites.kind,
    sites.name_zh,
    sites.name_en,
    above.code AS parent,
    sites.timezone,
    sites.latitude,
    sites.longitude,
    sites.altitude_m,
    sites.area_m2,
    sites.crop
FROM sites
LEFT JOIN sites AS above ON sites.parent_id = above.id
WHERE %(include_retired)s OR sites.retired_at IS NULL
ORDER BY sites.retired_at IS NOT NULL, sites.position, sites.id;

-- name: devices
-- All devices, in the order of the file, retired ones last.
SELECT
    devices.code,
    sites.code AS site,
    devices.transport,
    devices.payload,
    devices.name_zh,
    devices.name_en,
    devices.max_age_s,
    devices.max_ahead_s,
    devices.settings
FROM devices
INNER JOIN sites ON devices.site_id = sites.id
WHERE %(include_retired)s OR devices.retired_at IS NULL
ORDER BY devices.retired_at IS NOT NULL, devices.position, devices.id;

-- name: series
-- All series with their numbers, in the order of the file, retired ones last.
SELECT
    series.id,
    devices.code AS device,
    series.quantity,
    series.channel,
    series.key,
    sites.code AS site,
    series.placement,
    series.medium,
    series.unit,
    series.scale,
    series.shift,
    series.interval_s,
    series.name_zh,
    series.name_en
FROM series
INNER JOIN devices ON series.device_id = devices.id
INNER JOIN sites ON series.site_id = sites.id
WHERE %(include_retired)s OR series.retired_at IS NULL
ORDER BY series.retired_at IS NOT NULL, series.position, series.id;

-- name: retention
-- How long raw readings are kept.
SELECT quantity, keep_s FROM retention;

-- name: put_sites
-- Create the sites that are new and change those that differ; who was retired returns.
INSERT INTO sites AS old (
    code, kind, name_zh, name_en, timezone,
    latitude, longitude, altitude_m, area_m2, crop, position
)
SELECT
    code, kind, name_zh, name_en, timezone,
    latitude, longitude, altitude_m, area_m2, crop, position
FROM jsonb_to_recordset(%(rows)s) AS file (
    code text, kind text, name_zh text, name_en text, timezone text,
    latitude double precision, longitude double precision, altitude_m double precision,
    area_m2 double precision, crop text, position integer
)
ON CONFLICT (code) DO UPDATE SET
    kind = excluded.kind,
    name_zh = excluded.name_zh,
    name_en = excluded.name_en,
    timezone = excluded.timezone,
    latitude = excluded.latitude,
    longitude = excluded.longitude,
    altitude_m = excluded.altitude_m,
    area_m2 = excluded.area_m2,
    crop = excluded.crop,
    position = excluded.position,
    retired_at = NULL
WHERE
    (
        old.kind, old.name_zh, old.name_en, old.timezone, old.latitude, old.longitude,
        old.altitude_m, old.area_m2, old.crop, old.position, old.retired_at
    ) IS DISTINCT FROM (
        excluded.kind, excluded.name_zh, excluded.name_en, excluded.timezone, excluded.latitude,
        excluded.longitude, excluded.altitude_m, excluded.area_m2, excluded.crop,
        excluded.position, NULL
    );

-- name: join_sites
-- Put every site under the one above it.
UPDATE sites SET parent_id = above.id
FROM jsonb_to_recordset(%(rows)s) AS file (code text, parent text)
LEFT JOIN sites AS above ON file.parent = above.code
WHERE sites.code = file.code AND sites.parent_id IS DISTINCT FROM above.id;

-- name: put_devices
-- Create the devices that are new and change those that differ; who was retired returns.
INSERT INTO devices AS old (
    code, site_id, transport, payload, name_zh, name_en, max_age_s, max_ahead_s, settings, position
)
SELECT
    file.code, sites.id, file.transport, file.payload, file.name_zh, file.name_en,
    file.max_age_s, file.max_ahead_s, file.settings, file.position
FROM jsonb_to_recordset(%(rows)s) AS file (
    code text, site text, transport text, payload text, name_zh text, name_en text,
    max_age_s double precision, max_ahead_s double precision, settings jsonb, position integer
)
INNER JOIN sites ON file.site = sites.code
ON CONFLICT (code) DO UPDATE SET
    site_id = excluded.site_id,
    transport = excluded.transport,
    payload = excluded.payload,
    name_zh = excluded.name_zh,
    name_en = excluded.name_en,
    max_age_s = excluded.max_age_s,
    max_ahead_s = excluded.max_ahead_s,
    settings = excluded.settings,
    position = excluded.position,
    retired_at = NULL
WHERE
    (
        old.site_id, old.transport, old.payload, old.name_zh, old.name_en, old.max_age_s,
        old.max_ahead_s, old.settings, old.position, old.retired_at
    ) IS DISTINCT FROM (
        excluded.site_id, excluded.transport, excluded.payload, excluded.name_zh,
        excluded.name_en, excluded.max_age_s, excluded.max_ahead_s, excluded.settings,
        excluded.position, NULL
    );

-- name: put_series
-- Create the series that are new and change those that differ; who was retired returns.
INSERT INTO series AS old (
    code, device_id, quantity, channel, key, site_id, placement, medium,
    unit, scale, shift, interval_s, name_zh, name_en, position
)
SELECT
    file.code, devices.id, file.quantity, file.channel, file.key, sites.id, file.placement,
    file.medium, file.unit, file.scale, file.shift, file.interval_s, file.name_zh, file.name_en,
    file.position
FROM jsonb_to_recordset(%(rows)s) AS file (
    code text, device text, quantity text, channel text, key text, site text, placement text,
    medium text, unit text, scale double precision, shift double precision,
    interval_s double precision, name_zh text, name_en text, position integer
)
INNER JOIN devices ON file.device = devices.code
INNER JOIN sites ON file.site = sites.code
ON CONFLICT (code) DO UPDATE SET
    device_id = excluded.device_id,
    quantity = excluded.quantity,
    channel = excluded.channel,
    key = excluded.key,
    site_id = excluded.site_id,
    placement = excluded.placement,
    medium = excluded.medium,
    unit = excluded.unit,
    scale = excluded.scale,
    shift = excluded.shift,
    interval_s = excluded.interval_s,
    name_zh = excluded.name_zh,
    name_en = excluded.name_en,
    position = excluded.position,
    retired_at = NULL
WHERE
    (
        old.device_id, old.quantity, old.channel, old.key, old.site_id, old.placement, old.medium,
        old.unit, old.scale, old.shift, old.interval_s, old.name_zh, old.name_en, old.position,
        old.retired_at
    ) IS DISTINCT FROM (
        excluded.device_id, excluded.quantity, excluded.channel, excluded.key, excluded.site_id,
        excluded.placement, excluded.medium, excluded.unit, excluded.scale, excluded.shift,
        excluded.interval_s, excluded.name_zh, excluded.name_en, excluded.position, NULL
    );

-- name: retire_sites
-- Sites that the file does not name any more.
UPDATE sites SET retired_at = now()
WHERE retired_at IS NULL AND code <> ALL(%(codes)s::text []);

-- name: retire_devices
-- Devices that the file does not name any more.
UPDATE devices SET retired_at = now()
WHERE retired_at IS NULL AND code <> ALL(%(codes)s::text []);

-- name: retire_series
-- Series that the file does not name any more.
UPDATE series SET retired_at = now()
WHERE retired_at IS NULL AND code <> ALL(%(codes)s::text []);

-- name: put_retention
-- How long raw readings are kept, where that is new.
INSERT INTO retention AS old (quantity, keep_s)
SELECT quantity, keep_s
FROM jsonb_to_recordset(%(rows)s) AS file (quantity text, keep_s double precision)
ON CONFLICT (quantity) DO UPDATE SET keep_s = excluded.keep_s
WHERE old.keep_s <> excluded.keep_s;

-- name: drop_retention
-- Quantities without a time of their own any more.
DELETE FROM retention WHERE quantity <> ALL(%(quantities)s::text []);
