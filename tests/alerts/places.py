"""Small places for tests: a base with two houses, an outdoor station and a fertigation unit."""

from __future__ import annotations

from pathlib import Path

from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def series(device, quantity, site, interval_s=60.0, channel="", placement=Placement.INSIDE):
    """One series in its quantity's own unit."""
    return Series(
        device=device,
        quantity=quantity,
        channel=channel,
        key=quantity,
        site=site,
        placement=placement,
        medium=Medium.AIR,
        unit="",
        conversion=Conversion(),
        interval_s=interval_s,
    )


def device(code, site, *members, settings=None):
    """A device with its series."""
    return Device(
        code=code, site=site, transport=Transport.MQTT, series=members, settings=settings or {}
    )


def site(code, kind, parent, crop=None, timezone="Asia/Shanghai", at=(38.93, 100.45)):
    """A site; Zhangye unless said otherwise."""
    return Site(code, kind, code, code, parent, timezone, at[0], at[1], 1480.0, None, crop)


def registry(sites, devices):
    """A registry whose series are numbered from 1 on in the order given."""
    codes = [one.code for each in devices for one in each.series]
    ids = {code: number for number, code in enumerate(codes, start=1)}
    return Registry(tuple(sites), tuple(devices), ids, 1)


def base(timezone="Asia/Shanghai"):
    """A base with houses h1 (two thermometers) and h2, an outdoor station, a fertigation unit."""
    sites = [
        site("base", SiteKind.BASE, None, timezone=timezone),
        site("h1", SiteKind.GREENHOUSE, "base", crop="tomato", timezone=timezone),
        site("h2", SiteKind.GREENHOUSE, "base", crop="cucumber", timezone=timezone),
    ]
    outdoor = Placement.OUTDOOR
    devices = [
        device(
            "c1", "h1",
            series("c1", "air_temperature", "h1", 60, "a"),
            series("c1", "air_temperature", "h1", 60, "b"),
            series("c1", "relative_humidity", "h1", 120),
        ),
        device(
            "c2", "h2",
            series("c2", "air_temperature", "h2", 30),
            series("c2", "relative_humidity", "h2", 30),
            series("c2", "temperature_setpoint", "h2", 300),
        ),
        device(
            "f2", "h2",
            series("f2", "irrigation_volume", "h2", 60),
            series("f2", "valve_state", "h2", 60),
            series("f2", "solution_ec", "h2", 60),
        ),
        device(
            "w", "base",
            series("w", "air_temperature", "base", 300, placement=outdoor),
            series("w", "so2", "base", 300, placement=outdoor),
            series("w", "o3", "base", 600, placement=outdoor),
        ),
    ]  # fmt: skip
    return registry(sites, devices)


def batch(rows, received_us=0):
    """Rows of (series id, observed_at_us, value, quality) as a batch."""
    return Batch.of(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [received_us] * len(rows),
        [row[2] for row in rows],
        [row[3] for row in rows],
    )


REPOSITORY = Path(__file__).parents[2]
