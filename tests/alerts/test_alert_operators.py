"""Streams of values: the same however readings are cut, and no more remembered than it takes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from alerts.conditions import compile_levels
from alerts.expression import parse
from alerts.segments import NEVER
from alerts.stream import Clock, Facts, Rows, exact, exact_scale
from alerts.window import Aggregate, Sliding
from alerts.zone import calendar
from tests.alerts.places import DAY, HOUR, MINUTE, SECOND

START = 1_774_652_400 * SECOND  # the clocks of Europe go forward in the second night
ZONES = ("Asia/Kolkata", "Europe/Amsterdam", "Asia/Kolkata")
INTERVAL = 10 * MINUTE
END = START + 3 * DAY

_SPANS = ("over each hour", "over each day needing 20 %", "over today", "since 03-29")
# Streams of so2 as conditions write them.
STREAMS = [
    "so2",
    "so2 flat for 40min",
    "no data from so2 for 3 intervals",
    "no valid data from so2 for 90min",
    *(
        f"so2 {name} over 2h needing 30 %"
        for name in ("mean", "min", "max", "sum", "range", "count", "median", "p90", "increase")
    ),
    "so2 rate over 2h",
    "hours with so2 > 300 ug/m3 over 2h",
    "excess of so2 above 300 ug/m3 over 2h",
    *(
        f"so2 {name} {span}"
        for name in ("mean", "min", "max", "sum", "range", "count", "increase")
        for span in _SPANS
    ),
    "excess of so2 below 300 ug/m3 over each day",
    "hours with so2 inside 100..300 ug/m3 over today needing 50 %",
    "so2 mean of hours over each day needing 20 hours of 20min",
    "so2 min of hours over each day",
    "so2 mean of hours over 8h needing 6 hours of 20min",
    "so2 max of 8h means over each day needing 6 hours",
    "so2 usual over 1d",
    "so2 usual over 2d",
]


def operator_of(text):
    """The operator of a stream; a ``for`` of two hours has a silence said once more."""
    limits = {
        "so2 count": "> 1", "so2 rate": "> 1 ug/m3/min", "so2 flat": "", "no": "",
        "hours": "> 1 h", "excess": "> 1 ug/m3.h",
    }  # fmt: skip
    limit = next((one for word, one in limits.items() if text.startswith(word)), "> 1 ug/m3")
    (leaf,) = compile_levels([(parse(f"{text} {limit}"), 2 * HOUR)]).leaves
    return leaf.spec.operator()


def facts():
    names = list(dict.fromkeys(ZONES))
    return Facts(
        np.array([INTERVAL, INTERVAL, 2 * INTERVAL]),
        np.full(len(ZONES), exact_scale("so2")),
        np.array([names.index(zone) for zone in ZONES], np.intp),
        [calendar(name) for name in names],
    )


def readings(seed):
    """Rows (owner, at, value, usable) of three days, with gaps and jitter."""
    rng = random.Random(seed)
    rows = []
    for owner in range(len(ZONES)):
        at = START + rng.randrange(INTERVAL)
        value = 300.0
        while at < END:
            if rng.random() < 0.02:
                at += rng.randrange(40) * INTERVAL
            value = rng.choice(
                [value, value, 100.0, 300.0, 300.5, 500.0, float(rng.randrange(900))]
            )
            rows.append((owner, at, value, rng.random() < 0.95))
            at += INTERVAL + rng.randrange(-MINUTE, MINUTE)
    return sorted(row for row in rows if row[1] < END)


def run(operator, rows, moments):
    """What the operator says when it is told of *rows* up to each of *moments* in turn."""
    state, known, said, now = operator.blank(len(ZONES)), facts(), [], START - DAY
    for moment in moments:
        part = [row for row in rows if now < row[1] <= moment]
        columns = Rows(
            np.array([row[0] for row in part], np.intp),
            np.array([row[1] for row in part], np.int64),
            np.array([row[2] for row in part], np.float64),
            np.array([row[3] for row in part], bool),
        )
        due = operator.due_us(state, known)
        stream = operator.run(state, columns, Clock.at(np.full(len(ZONES), moment)), known)
        found = list(
            zip(stream.owner.tolist(), stream.at_us.tolist(), stream.value.tolist(), strict=True)
        )
        assert [row[:2] for row in found] == sorted(row[:2] for row in found)
        # What time alone brings was announced, and not for later than it came.
        alone = [row for row in found if row[0] not in {row[0] for row in part}]
        assert all(due[owner] <= at for owner, at, _ in alone)
        said += found
        now = moment
    return sorted(said, key=lambda row: row[:2]), state


@pytest.mark.parametrize("text", STREAMS)
def test_a_stream_says_the_same_however_its_readings_are_cut(text):
    operator = operator_of(text)
    rows, rng = readings(1), random.Random(1)
    whole, _ = run(operator, rows, [END])
    cuts = sorted(rng.randrange(START, END) for _ in range(60))
    parts, _ = run(operator, rows, [*cuts, END])
    assert len(whole) == len(parts) > 1
    np.testing.assert_array_equal(np.array(parts), np.array(whole))
    assert any(not np.isnan(value) for *_, value in whole)


@pytest.mark.parametrize("text", STREAMS)
def test_nothing_is_due_of_a_series_that_never_spoke(text):
    operator = operator_of(text)
    state = operator.blank(len(ZONES))
    assert operator.due_us(state, facts()).tolist() == [NEVER] * len(ZONES)
    nothing, state = run(operator, [], [START, END])
    assert nothing == []
    assert operator.due_us(state, facts()).tolist() == [NEVER] * len(ZONES)


@pytest.mark.parametrize(
    ("name", "needs", "fields"),
    [
        ("count", 0.0, {"count", "total"}),
        ("mean", 0.5, {"count", "total", "spoken"}),
        ("min", 0.0, {"count", "total", "low"}),
        ("max", 0.0, {"count", "total", "high"}),
        ("range", 0.0, {"count", "total", "low", "high"}),
        ("rate", 0.0, {"count", "total", "first_at", "first"}),
    ],
)
def test_a_sliding_window_remembers_what_its_statistic_needs(name, needs, fields):
    dtype = Sliding(Aggregate(name, need_share=needs), HOUR).dtype
    assert set(dtype.names) == {"previous", "last", "top"} | fields
    assert dtype.itemsize < 60 * 8 * (len(fields) + 1)


def test_a_first_reading_of_a_meter_is_no_increase():
    for text in ("over 2h", "over today", "over each hour"):
        operator = operator_of(f"so2 increase {text}")
        rows = [(0, START + MINUTE, 50_000.0, True), (0, START + 2 * MINUTE, 50_007.0, True)]
        said, _ = run(operator, rows, [START + MINUTE, START + 2 * HOUR])
        assert said[-1][2] == 7.0


def test_a_meter_that_begins_again_at_nought_has_risen_by_what_it_shows():
    rows = [(0, START + k * MINUTE, value, True) for k, value in enumerate((90.0, 95.0, 3.0, 4.0))]
    said, _ = run(operator_of("so2 increase over 2h"), rows, [END])
    assert [value for *_, value in said] == [0.0, 5.0, 8.0, 9.0]


def test_sums_are_exact_over_the_whole_range_of_a_quantity():
    scale = exact_scale("air_temperature")
    assert scale == 2.0 ** (40 - 7)  # 2^7 °C is more than any air has
    assert exact(np.array([70.0, -40.0]), scale).tolist() == [70 * 2**33, -40 * 2**33]
    assert exact(np.array([1e30, -1e30]), scale).tolist() == [2**41, -(2**41)]
    assert exact_scale("a word that no one knows") == 2.0**40
