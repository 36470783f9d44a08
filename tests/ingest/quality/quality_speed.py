"""How long the judge takes: 10,000 readings of a base, as they come."""

from __future__ import annotations

import time

import numpy as np

from devices.quality import Quality
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from ingest.quality.judge import Judge

START_US = 1_767_225_600_000_000
SECOND_US = 1_000_000
_PER_DEVICE = ("air_temperature", "relative_humidity", "co2", "ppfd", "soil_moisture", "soil_ec")


def large_base(series: int, interval_s: float = 10.0) -> Registry:
    """Return a registry of *series* series, six a device, numbered from 1."""
    devices = []
    for number in range(-(-series // len(_PER_DEVICE))):
        code = f"d{number}"
        made = tuple(
            Series(
                code,
                quantity,
                "",
                quantity,
                "base",
                Placement.INSIDE,
                Medium.AIR,
                "",
                Conversion(),
                interval_s,
            )
            for quantity in _PER_DEVICE
        )
        devices.append(Device(code, "base", Transport.MQTT, series=made))
    site = Site("base", SiteKind.BASE, "", "", None)
    registry = Registry((site,), tuple(devices))
    return Registry(
        (site,),
        tuple(devices),
        {code: number for number, code in enumerate(registry.series, 1)},
        1,
    )


def ordinary_batches(series: int, rows: int, count: int, interval_s: float = 10.0) -> list[Batch]:
    """Return *count* batches of *rows* good readings, all series in turn, each at its pace."""
    random = np.random.default_rng(7)
    level = np.resize([22.0, 70.0, 450.0, 300.0, 40.0, 2.5], series)
    batches = []
    taken = 0
    for _ in range(count):
        number = np.arange(taken, taken + rows)
        taken += rows
        sid = number % series
        at_us = START_US + (number // series) * round(interval_s * SECOND_US) + sid * 7
        value = np.round(level[sid] * (1 + 0.01 * random.standard_normal(rows)), 2)
        batches.append(
            Batch(
                (sid + 1).astype(np.int32),
                at_us,
                at_us + 200_000,
                value,
                np.zeros(rows, np.int32),
            )
        )
    return batches


def quality_ms(series: int = 10_000, rows: int = 10_000, repeats: int = 30) -> float:
    """Return the median milliseconds for the quality of *rows* readings of *series* series."""
    judge = Judge()
    judge.adopt(large_base(series))
    spent = []
    for batch in ordinary_batches(series, rows, repeats + 5):
        before = time.perf_counter()
        judged = judge.judge(batch)
        spent.append(time.perf_counter() - before)
        assert not (judged.quality & int(Quality.PHYSICAL_RANGE)).any()
    return float(np.median(spent[5:])) * 1e3
