"""The judge, whatever comes in whatever order and however it is cut, against plain Python."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devices.checks import Check, Checks
from devices.quality import Quality
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from ingest.quality.judge import Judge
from tests.ingest.quality.slow_judge import SlowJudge

START_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000
INTERVAL_S = 60.0
# Short, so that few readings are enough: frozen after ten minutes, 5 ppm and 1 ppm a minute.
CHECKS = Checks(
    (
        Check({"flat_s": 600.0, "step": 5.0, "rate_per_s": 1 / 60}, quantity="co2"),
        Check({"flat_s": 600.0, "step": 2.0, "sentinels": (25.0,)}, quantity="soil_temperature"),
    )
)


def registry() -> Registry:
    def series(device: str, quantity: str) -> Series:
        return Series(
            device,
            quantity,
            "",
            quantity,
            "base",
            Placement.INSIDE,
            Medium.AIR,
            "",
            Conversion(),
            INTERVAL_S,
        )

    devices = tuple(
        Device(code, "base", Transport.MQTT, series=(series(code, quantity),))
        for code, quantity in (("a", "co2"), ("b", "soil_temperature"), ("c", "wind_speed"))
    )
    bare = Registry((Site("base", SiteKind.BASE, "", "", None),), devices)
    return replace(bare, series_ids={code: n for n, code in enumerate(bare.series, 1)})


HOUSE = registry()
VALUES = {
    1: st.sampled_from([400.0, 400.0, 400.0, 401.0, 450.0, 900.0, 5.0, -9999.0, float("nan")]),
    2: st.sampled_from([20.0, 20.0, 20.5, 24.0, 25.0, 85.0, -127.0, 3276.7, float("nan")]),
    3: st.sampled_from([0.0, 0.0, 3.0, 61.0, 1e300, -1e300, float("nan")]),
    9: st.sampled_from([1.0, float("nan")]),  # a series that nobody knows
}


@st.composite
def reading(draw):
    series = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 9]))
    minute = draw(st.integers(0, 40))
    lateness = draw(st.sampled_from([0, 0, 0, 1, 30, 31, -1, -5, 12_000]))
    bits = draw(st.sampled_from([0, 0, 0, 0, 0, int(Quality.MANUAL), int(Quality.RETAINED)]))
    at_us = START_US + minute * MINUTE_US
    return series, at_us, at_us + lateness * MINUTE_US, draw(VALUES[series]), bits


def batch_of(rows) -> Batch:
    return Batch.of(*zip(*rows, strict=True)) if rows else Batch.empty()


def physical(batch: Batch) -> Batch:
    """What the decoder says of a reading before the judge sees it."""
    low = np.array([-np.inf, 150, -40, 0, *[-np.inf] * 6])[batch.series_id]
    high = np.array([np.inf, 20000, 80, 100, *[np.inf] * 6])[batch.series_id]
    bits = np.where((batch.value < low) | (batch.value > high), int(Quality.PHYSICAL_RANGE), 0)
    bits |= np.where(np.isnan(batch.value), int(Quality.MISSING), 0)
    return replace(batch, quality=batch.quality | bits.astype(np.int32))


def judged(judge: Judge, rows, cuts) -> list[int]:
    found: list[int] = []
    edges = [0, *sorted(cuts), len(rows)]
    for start, end in pairwise(edges):
        found += judge.judge(physical(batch_of(rows[start:end]))).quality.tolist()
    return found


def slowly(rows) -> list[int]:
    slow = SlowJudge(HOUSE, CHECKS)
    batch = physical(batch_of(rows))
    columns = (batch.series_id, batch.observed_at_us, batch.received_at_us)
    return [
        int(slow.judge(*row))
        for row in zip(
            *(one.tolist() for one in (*columns, batch.value, batch.quality)), strict=True
        )
    ]


@pytest.fixture(scope="module")
def laid_out():
    return Judge(CHECKS).lay_out(HOUSE)


def new_judge(laid_out) -> Judge:
    judge = Judge(CHECKS)
    judge.use(laid_out)
    return judge


@given(rows=st.lists(reading(), max_size=60), data=st.data())
@settings(max_examples=400, deadline=None)
def test_any_order_and_any_cut_gives_what_plain_python_says(laid_out, rows, data):
    # At most fifteen rows a batch: a longer one may be taken in the order of time at its end.
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=10)) + list(
        range(15, len(rows), 15)
    )
    assert judged(new_judge(laid_out), rows, cuts) == slowly(rows)


@given(
    values=st.lists(VALUES[1], min_size=1, max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_long_runs_in_order_give_what_plain_python_says(laid_out, values, cuts):
    rows = [
        (1, START_US + n * MINUTE_US, START_US + n * MINUTE_US, value, 0)
        for n, value in enumerate(values)
    ]
    cuts = [cut for cut in cuts if cut <= len(rows)]
    assert judged(new_judge(laid_out), rows, cuts) == slowly(rows)


@given(rows=st.lists(reading(), max_size=80))
@example(rows=[(1, START_US, START_US, 400.0, 0)] * 60)
@settings(max_examples=100, deadline=None)
def test_a_batch_that_falls_back_without_end_is_taken_in_the_order_of_time_at_its_end(
    laid_out, rows
):
    found = new_judge(laid_out).judge(physical(batch_of(rows)))
    assert len(found) == len(rows)
    alone = Quality.SENSOR_RANGE | Quality.SENTINEL | Quality.PHYSICAL_RANGE | Quality.MISSING
    expected = [bits & int(alone) for bits in slowly(rows)]
    assert (found.quality & int(alone)).tolist() == expected
    falls = [
        sum(a[1] >= b[1] for a, b in pairwise(one))
        for number in VALUES
        for one in [[row for row in rows if row[0] == number and not row[4]]]
    ]
    if max(falls) < 15:
        assert found.quality.tolist() == slowly(rows)


@given(rows=st.lists(reading(), max_size=30), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_remembered_state_goes_on_as_if_nothing_had_been(laid_out, rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    first, second = new_judge(laid_out), new_judge(laid_out)
    found = judged(first, rows[:cut], range(15, cut, 15))
    second.recall(first.remembered(), complete=True)
    found += judged(second, rows[cut:], range(15, len(rows) - cut, 15))
    assert found == slowly(rows)


@given(rows=st.lists(reading(), min_size=1, max_size=40), data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_killed_process_leaves_bits_out_and_adds_none(laid_out, rows, data):
    """Rows come in order; a state from before the last of them is all that is left."""
    rows = sorted(rows, key=lambda row: row[1])
    rows = list({(row[0], row[1]): row for row in rows}.values())
    saved = data.draw(st.integers(0, len(rows)))
    killed = data.draw(st.integers(saved, len(rows)))
    whole = judged(new_judge(laid_out), rows, range(15, len(rows), 15))
    first, second = new_judge(laid_out), new_judge(laid_out)
    judged(first, rows[:saved], range(15, saved, 15))
    second.recall(first.remembered(), complete=False)
    after = judged(second, rows[killed:], range(15, len(rows) - killed, 15))
    for late, all_along in zip(after, whole[killed:], strict=True):
        assert late & ~all_along == 0


def test_nothing_extreme_stops_the_judge(laid_out):
    judge = new_judge(laid_out)
    assert len(judge.judge(Batch.empty())) == 0
    extreme = [float("inf"), float("-inf"), 1.7e308, -1.7e308, 5e-324, float("nan"), 0.0]
    times = [0, 1, START_US, (1 << 61), -(1 << 60)]
    rows = [
        (series, at, 0, value, 0) for series in (1, 2, 3, 9) for at in times for value in extreme
    ]
    found = judge.judge(batch_of(rows))
    assert len(found) == len(rows)
    assert np.array_equal(found.value, [row[3] for row in rows], equal_nan=True)
