"""A registry over several time zones, readings by a seed, and roll-ups the slow and obvious way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from devices.quality import BAD_MASK
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from storage.history import Buckets, Step

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


def us(*when: int, zone: str = "UTC") -> int:
    """Return microseconds of a wall clock: ``us(2024, 3, 31, 12, zone="Europe/Amsterdam")``."""
    return (datetime(*when, tzinfo=ZoneInfo(zone)) - EPOCH) // timedelta(microseconds=1)


def series(device: str, quantity: str, site: str, **fields: object) -> Series:
    given = {
        "channel": "",
        "key": quantity,
        "placement": Placement.INSIDE,
        "medium": Medium.AIR,
        "unit": "°C",
        "conversion": Conversion(),
        "interval_s": 60.0,
    }
    return Series(device=device, quantity=quantity, site=site, **{**given, **fields})


def registry(*zones: str, quantities: tuple[str, ...] = ("air_temperature",)) -> Registry:
    """Return a base in each of *zones*, each with one device of *quantities*."""
    sites = tuple(
        Site(f"base-{n}", SiteKind.BASE, f"基地{n}", f"Base {n}", None, timezone=zone)
        for n, zone in enumerate(zones)
    )
    devices = tuple(
        Device(
            code=f"probe-{n}",
            site=site.code,
            transport=Transport.MQTT,
            series=tuple(series(f"probe-{n}", quantity, site.code) for quantity in quantities),
        )
        for n, site in enumerate(sites)
    )
    return Registry(sites, devices)


def batch(series_id: int, at_us: list[int], value: list[float], quality: int | list[int] = 0):
    """Return readings of one series, received a second after they were measured."""
    qualities = [quality] * len(at_us) if isinstance(quality, int) else quality
    return Batch.of(
        [series_id] * len(at_us), at_us, [at + SECOND_US for at in at_us], value, qualities
    )


def noisy(series_ids: list[int], start_us: int, end_us: int, every_us: int, seed: int) -> Batch:
    """Return jittered readings with missing values and every reason of quality, out of order."""
    rng = np.random.default_rng(seed)
    grid = np.arange(start_us, end_us, every_us)
    at = np.concatenate([grid + rng.integers(0, every_us, len(grid)) for _ in series_ids])
    ids = np.repeat(np.asarray(series_ids, np.int32), len(grid))
    value = np.round(rng.normal(20, 8, len(at)), 2)
    value[rng.random(len(at)) < 0.1] = np.nan
    # Bits that have no meaning yet have their level already.
    reasons = [1 << bit for bit in range(25)]
    quality = rng.choice(np.asarray([0] * 3 * len(reasons) + reasons, np.int32), len(at))
    made = Batch(ids, at, at + rng.integers(0, SECOND_US, len(at)), value, quality)
    return made.take(rng.permutation(len(at)))


@dataclass(frozen=True)
class Bucket:
    """One row of a roll-up, missing numbers as NaN."""

    count: int
    valid_count: int
    min: float
    max: float
    mean: float
    first: float
    last: float
    sum: float


def slow_rollup(readings: Batch, step: Step, zones: Mapping[int, str]) -> dict[int, dict]:
    """Return {series: {start_us: Bucket}}, one reading at a time."""
    groups: dict[int, dict[int, list[tuple[int, float, int]]]] = {}
    for row in zip(
        readings.series_id.tolist(),
        readings.observed_at_us.tolist(),
        readings.value.tolist(),
        readings.quality.tolist(),
        strict=True,
    ):
        one, at, value, quality = row
        start = _start(at, step, zones[one])
        groups.setdefault(one, {}).setdefault(start, []).append((at, value, quality))
    return {
        one: {start: _bucket(rows) for start, rows in sorted(buckets.items())}
        for one, buckets in groups.items()
    }


def _start(at: int, step: Step, zone: str) -> int:
    if step is not Step.DAY:
        return at - at % (step.nominal_s * SECOND_US)
    local = (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))
    return us(local.year, local.month, local.day, zone=zone)


def _bucket(rows: list[tuple[int, float, int]]) -> Bucket:
    valid = [v for _, v, q in sorted(rows) if not math.isnan(v) and not q & BAD_MASK]
    nan = math.nan
    if not valid:
        return Bucket(len(rows), 0, nan, nan, nan, nan, nan, nan)
    total = math.fsum(valid)
    mean = total / len(valid)
    return Bucket(len(rows), len(valid), min(valid), max(valid), mean, valid[0], valid[-1], total)


def as_buckets(found: Buckets) -> dict[int, Bucket]:
    """Return what the database answered in the shape of `slow_rollup`."""
    return {
        start: Bucket(*rest)
        for start, *rest in zip(
            found.start_us.tolist(),
            found.count.tolist(),
            found.valid_count.tolist(),
            found.min.tolist(),
            found.max.tolist(),
            found.mean.tolist(),
            found.first.tolist(),
            found.last.tolist(),
            found.sum.tolist(),
            strict=True,
        )
    }


def assert_same(found: Mapping[int, Bucket], expected: Mapping[int, Bucket]) -> None:
    """Assert that two roll-ups agree; only mean and sum may differ in their last digits."""
    assert list(found) == sorted(expected)
    for start, wanted in expected.items():
        got = found[start]
        exact = ("count", "valid_count", "min", "max", "first", "last")
        for name in exact:
            a, b = getattr(got, name), getattr(wanted, name)
            assert a == b or (math.isnan(a) and math.isnan(b)), (start, name, got, wanted)
        for name in ("mean", "sum"):
            a, b = getattr(got, name), getattr(wanted, name)
            close = math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-10)
            assert close or (math.isnan(a) and math.isnan(b)), (start, name, got, wanted)
