"""Rules read from the database what they would have heard, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from devices.quality import Quality
from devices.reading import Batch
from storage.judged import JudgedReadings
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.storage.samples import HOUR_US, MINUTE_US, registry, us

AT = us(2025, 5, 1)
QUALITIES = [0, int(Quality.PROVISIONAL), int(Quality.STEP), int(Quality.PROVISIONAL) | 1]


@pytest.fixture
async def readings(dsn: str, pool: Pool) -> JudgedReadings:
    """One series with a reading a minute, as good as QUALITIES say, received an hour later."""
    await RegistryStore(pool).apply(registry("UTC"), {})
    at = AT + MINUTE_US * np.arange(len(QUALITIES))
    batch = Batch.of([1] * len(at), at, at + HOUR_US, np.arange(len(at)), QUALITIES)
    async with ReadingWriter(dsn) as writer:
        assert (await writer.write(batch)).kind == "written"
    return JudgedReadings(pool)


def found(batch: Batch) -> list[float]:
    return sorted(batch.value.tolist())


async def test_what_an_engine_missed_is_without_periods_that_go_on(readings: JudgedReadings):
    assert found(await readings.heard_since([1], AT, AT)) == [0.0, 2.0]
    assert found(await readings.heard_since([1], AT, AT + HOUR_US + 1)) == [2.0]
    assert found(await readings.heard_since([1], AT + MINUTE_US, AT)) == [2.0]
    assert found(await readings.heard_since([2], AT, AT)) == []


async def test_a_span_is_without_periods_that_go_on(readings: JudgedReadings):
    assert found(await readings.span([1], AT, AT + HOUR_US)) == [0.0, 2.0]
    assert found(await readings.span([1], AT, AT + 2 * MINUTE_US)) == [0.0]
    assert found(await readings.span([2], AT, AT + HOUR_US)) == []


async def test_a_span_that_has_only_a_period_that_goes_on_has_nothing(readings: JudgedReadings):
    assert await readings.is_any([1], AT, AT + 1)
    assert not await readings.is_any([1], AT + MINUTE_US, AT + 2 * MINUTE_US)
    assert not await readings.is_any([2], AT, AT + HOUR_US)
