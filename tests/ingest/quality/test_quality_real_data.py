"""Quality on measured series: each odd thing has its bit, and ordinary good data has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from devices.checks import Checks, Twins
from devices.quality import Quality
from ingest.quality.judge import Judge
from tests.ingest.quality.false_flags import flags, judged
from tests.ingest.quality.real_series import (
    AIR,
    CLIMATES,
    GLASSHOUSE,
    SLABS,
    TABLES,
    cut,
    real,
)

pytestmark = pytest.mark.realdata

HOUR_US = 3_600_000_000


def numbered(found, code):
    return found.registry.series_ids[code]


def bits_of(found, quality, code):
    own = found.batch.series_id == numbered(found, code)
    return found.batch.take(own), quality[own]


def local(text, zone="Europe/Amsterdam"):
    return pd.Timestamp(text, tz=zone).value // 1000


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_clean_stretches_are_hardly_ever_marked(table):
    for one in flags(table):
        assert one.clean > 500
        assert one.rate < 0.001, str(one)


# Hours of PM10 below PM2.5: SOURCE.md gives 1,183 to 2,156 a station.
INVERTED = {"Aotizhongxin": 1183, "Changping": 1684, "Dongsi": 2156, "Huairou": 1485}
INVERTED |= {"Shunyi": 1884, "Tiantan": 1620}


@pytest.mark.parametrize("table", AIR, ids=lambda table: table.name)
def test_every_hour_of_pm10_below_pm2_5_contradicts_itself(table):
    found = real(table)
    quality = judged(found)
    for code in ("air.pm2_5", "air.pm10"):
        _, bits = bits_of(found, quality, code)
        crossed = np.count_nonzero(bits & int(Quality.CROSS_CHECK))
        assert crossed == INVERTED[table.name.removeprefix("beijing ")]


def test_ozone_that_jumps_by_a_thousand_in_an_hour_is_a_step():
    found = real(AIR[2])
    rows, bits = bits_of(found, judged(found), "air.o3")
    jump = int(rows.value.argmax())
    assert rows.value[jump] == 1071
    assert bits[jump] == int(Quality.STEP)


def test_co2_at_five_ppm_is_physically_impossible_every_time():
    found = real(GLASSHOUSE)
    rows, bits = bits_of(found, judged(found), "co2.co2")
    low = rows.value < 100
    assert np.count_nonzero(low) == 90
    assert (bits[low] & int(Quality.PHYSICAL_RANGE) != 0).all()
    # The way into it and out of it is good.
    assert not bits[~low].any()


def test_an_export_of_noughts_contradicts_itself_in_every_channel():
    found = real(GLASSHOUSE)
    quality = judged(found)
    at_us = [local("2020-08-16 12:47:00"), local("2020-09-15 12:45:00")]
    for code in found.registry.device["computer"].series:
        rows, bits = bits_of(found, quality, code.code)
        noughts = np.isin(rows.observed_at_us, at_us)
        assert (rows.value[noughts] == 0).all()
        assert (bits[noughts] & int(Quality.CROSS_CHECK) != 0).all()
        assert not bits[~noughts].any()


def test_a_sensor_that_was_silent_is_good_when_it_speaks_again():
    found = real(GLASSHOUSE)
    rows, bits = bits_of(found, judged(found), "pmc.air_temperature")
    silent = np.flatnonzero(np.diff(rows.observed_at_us) > 12 * HOUR_US)
    assert len(silent) == 1
    assert not bits[silent[0] : silent[0] + 50].any()


def test_a_frozen_copy_of_a_real_series_is_flat_after_its_time_and_good_when_it_moves():
    found = real(GLASSHOUSE)
    number = numbered(found, "pmc.relative_humidity")
    own = np.flatnonzero(found.batch.series_id == number)
    value = found.batch.value.copy()
    frozen = own[2000:2300]  # 25 hours
    value[frozen] = value[frozen[0]]
    rows, bits = bits_of(
        found,
        judged(replace(found, batch=replace(found.batch, value=value))),
        "pmc.relative_humidity",
    )
    flat = np.flatnonzero(bits & int(Quality.FLAT_LINE))
    since = rows.observed_at_us[flat[0]] - rows.observed_at_us[2000]
    assert 12 * HOUR_US <= since < 13 * HOUR_US
    assert flat[-1] == 2299
    assert not bits[2300:2400].any()


def test_a_probe_out_of_its_slab_contradicts_itself_until_it_is_back():
    found = real(SLABS[1])
    numbers = [numbered(found, f"slab.{name}.1") for name in ("soil_moisture", "soil_ec")]
    value = found.batch.value.copy()
    at = found.batch.observed_at_us
    out = (at >= local("2020-02-03 10:00")) & (at < local("2020-02-03 16:00"))
    value[out & np.isin(found.batch.series_id, numbers)] = 0.0
    changed = replace(found, batch=replace(found.batch, value=value))
    quality = judged(changed)
    for number in numbers:
        own = found.batch.series_id == number
        assert (quality[own & out] & int(Quality.CROSS_CHECK) != 0).all()
        assert not quality[own & ~out].any()
    # The other slab of the same device says nothing of it.
    other = found.batch.series_id == numbered(found, "slab.soil_ec.2")
    assert not quality[other].any()


@pytest.mark.parametrize(
    ("shift_us", "first"),
    [
        (HOUR_US, 0),  # stamps of summer time read as winter time: an hour in the future
        (-HOUR_US, 1),  # a clock that stayed in winter: the first cannot be told from a late one
    ],
)
def test_a_clock_that_changes_by_an_hour_is_in_doubt_from_then_on(shift_us, first):
    found = real(SLABS[0])
    own = found.batch.series_id == numbered(found, "slab.soil_ec.1")
    batch = found.batch.take(own)
    change = int(np.searchsorted(batch.observed_at_us, local("2020-03-29 03:00")))
    at = batch.observed_at_us.copy()
    at[change:] += shift_us
    quality = judged(replace(found, batch=replace(batch, observed_at_us=at)))
    doubt = quality & int(Quality.CLOCK) != 0
    assert not doubt[: change + first].any()
    # After a silence the first reading cannot be told from a late one either.
    assert np.count_nonzero(~doubt[change + first :]) <= (0 if shift_us > 0 else 25)


def test_a_second_sensor_that_drifts_away_is_told_from_its_twin():
    """Reference's wireless sensor stood in another compartment; SOURCE.md has up to 2 K."""
    found = real(CLIMATES[2])
    twins = Twins("climate.air_temperature", "sigrow.air_temperature", 2.0)
    judge = Judge(Checks(twins=(twins,)))
    judge.adopt(found.registry)
    quality = np.concatenate([judge.judge(part).quality for part in cut(found.batch)])
    rows, bits = bits_of(found, quality, "sigrow.air_temperature")
    other, other_bits = bits_of(found, quality, "climate.air_temperature")
    shared, left, right = np.intersect1d(
        rows.observed_at_us, other.observed_at_us, return_indices=True
    )
    apart = np.abs(rows.value[left] - other.value[right]) > 2.0
    assert 0 < np.count_nonzero(apart) < len(shared)
    assert ((bits[left] & int(Quality.TWIN) != 0) == apart).all()
    assert ((other_bits[right] & int(Quality.TWIN) != 0) == apart).all()
