"""Faults: what each does to a stream, when, and that it does it again the same way."""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sims.faults import (
    ALWAYS,
    RESET_CLOCK_US,
    YEAR_S,
    Chain,
    Drift,
    Dropout,
    Duplicate,
    Fault,
    Noise,
    OutOfOrder,
    Reboot,
    SensorNull,
    Spike,
    Stuck,
    Window,
    WrongClock,
    transform,
)
from firmware_sims.sample import Sample

SECOND_US = 1_000_000
START_US = 1_795_000_000 * SECOND_US


def _stream(count: int = 100, **more: float) -> list[Sample]:
    """Ten seconds apart: a temperature that rises by 0.1, a humidity, a counter of 3 a sample."""
    return [
        Sample(
            START_US + n * 10 * SECOND_US,
            START_US + n * 10 * SECOND_US,
            {"t": round(20 + 0.1 * n, 6), "rh": 70.0, "meter": 1000.0 + 3 * n, **more},
        )
        for n in range(count)
    ]


def _window(first: int, last: int | None = None) -> Window:
    """From sample *first* up to but without sample *last*."""
    until = None if last is None else START_US + last * 10 * SECOND_US
    return Window(START_US + first * 10 * SECOND_US, until)


def _column(samples, key: str) -> list[float | None]:
    return [sample.values.get(key) for sample in samples]


def test_a_window_begins_with_its_start_and_ends_before_its_end():
    window = Window(10, 20)
    assert [at_us in window for at_us in (9, 10, 19, 20)] == [False, True, True, False]
    assert 10**18 in Window(10)
    assert -5 in ALWAYS


def test_dropout_of_a_device_takes_samples_whole_within_its_window():
    out = list(transform(Dropout(_window(10, 30)), _stream()))
    assert out == [s for n, s in enumerate(_stream()) if not 10 <= n < 30]


def test_dropout_of_a_key_leaves_the_others_and_no_empty_samples():
    out = list(transform(Dropout(_window(10, 30), frozenset({"t"})), _stream()))
    assert len(out) == 100
    assert sum("t" not in sample.values for sample in out) == 20
    assert all("rh" in sample.values for sample in out)
    everything = frozenset({"t", "rh", "meter"})
    assert len(list(transform(Dropout(_window(0), everything), _stream()))) == 0


def test_dropout_with_a_probability_takes_about_that_share():
    out = list(transform(Dropout(ALWAYS, probability=0.3, seed=5), _stream(4000)))
    assert len(out) / 4000 == pytest.approx(0.7, abs=0.03)


def test_a_stuck_sensor_repeats_its_last_value_under_fresh_times_and_recovers():
    out = list(transform(Stuck(_window(10, 30), frozenset({"t"})), _stream()))
    expected = _column(_stream(), "t")
    expected[10:30] = [expected[9]] * 20
    assert _column(out, "t") == expected
    assert _column(out, "meter") == _column(_stream(), "meter")
    assert [s.stamp_us for s in out] == [s.stamp_us for s in _stream()]


def test_a_sensor_that_is_stuck_from_the_beginning_repeats_its_first_value():
    out = list(transform(Stuck(ALWAYS), _stream(5)))
    assert _column(out, "t") == [20.0] * 5


def test_spikes_are_single_and_of_the_given_size():
    fault = Spike(ALWAYS, frozenset({"rh"}), amount=25.0, probability=0.1, seed=3)
    values = _column(transform(fault, _stream(2000)), "rh")
    assert set(values) == {45.0, 70.0, 95.0}
    assert sum(value != 70.0 for value in values) / 2000 == pytest.approx(0.1, abs=0.03)


def test_drift_grows_from_the_start_of_its_window():
    fault = Drift(_window(10), frozenset({"rh"}), per_hour=3.6)
    values = _column(transform(fault, _stream()), "rh")
    assert values[:11] == [70.0] * 11
    assert values[60] == pytest.approx(70 + 3.6 * 500 / 3600)
    open_end = _column(transform(Drift(ALWAYS, per_hour=3.6), _stream()), "rh")
    assert open_end[0] == 70.0 and open_end[99] == pytest.approx(70 + 3.6 * 990 / 3600)


def test_noise_scatters_with_its_deviation_about_the_truth():
    values = _column(transform(Noise(ALWAYS, deviation=2.0, seed=1), _stream(3000)), "rh")
    assert statistics.fmean(values) == pytest.approx(70.0, abs=0.2)
    assert statistics.stdev(values) == pytest.approx(2.0, abs=0.15)


def test_a_sensor_that_is_gone_sends_null_not_nothing():
    out = list(transform(SensorNull(_window(10, 20), frozenset({"rh"})), _stream()))
    assert _column(out, "rh")[9:21] == [70.0, *[None] * 10, 70.0]
    assert None not in _column(out, "t")


def test_value_faults_leave_nulls_alone():
    stream = list(transform(SensorNull(ALWAYS, frozenset({"rh"})), _stream(20)))
    for fault in (
        Stuck(ALWAYS),
        Spike(ALWAYS, amount=1),
        Drift(ALWAYS, per_hour=1),
        Noise(deviation=1),
    ):
        assert _column(transform(fault, stream), "rh") == [None] * 20


@pytest.mark.parametrize("offset_s", [YEAR_S, -3600.0, -26 * YEAR_S])
def test_a_wrong_clock_moves_the_stamp_and_nothing_else(offset_s: float):
    out = list(transform(WrongClock(_window(10, 20), offset_s), _stream()))
    for n, (sample, true) in enumerate(zip(out, _stream(), strict=True)):
        off_us = round(offset_s * SECOND_US) if 10 <= n < 20 else 0
        assert sample.stamp_us - true.stamp_us == off_us
        assert sample.at_us == true.at_us and sample.values == true.values


def test_a_drifting_clock_is_further_off_the_longer_it_runs():
    out = list(transform(WrongClock(_window(0), drift_s_per_day=8640.0), _stream()))
    assert [out[n].stamp_us - out[n].at_us for n in (0, 10, 99)] == [
        0,
        10 * SECOND_US,
        99 * SECOND_US,
    ]


def test_a_reboot_is_silent_then_lives_in_the_year_2000_then_knows_the_time_again():
    fault = Reboot(_window(10, 40), down_s=50.0, counters=frozenset({"meter"}))
    out = list(transform(fault, _stream()))
    assert len(out) == 95  # five samples fell into the pause
    before, lost, after = out[:10], out[10:35], out[35:]
    assert before == _stream()[:10]
    assert lost[0].stamp_us == RESET_CLOCK_US
    assert [b.stamp_us - a.stamp_us for a, b in pairwise(lost)] == [10 * SECOND_US] * 24
    assert [s.stamp_us for s in after] == [s.stamp_us for s in _stream()[40:]]


def test_a_reboot_starts_counters_from_nothing_for_good():
    fault = Reboot(_window(10, 40), down_s=50.0, counters=frozenset({"meter"}))
    meter = _column(transform(fault, _stream()), "meter")
    assert meter[:10] == [1000.0 + 3 * n for n in range(10)]
    assert meter[10:] == [3.0 * (n - 9) for n in range(15, 100)]


def test_duplicates_are_the_same_sample_twice_in_a_row():
    out = list(transform(Duplicate(ALWAYS, probability=0.25, seed=9), _stream(2000)))
    assert len(out) / 2000 == pytest.approx(1.25, abs=0.03)
    assert list(dict.fromkeys(s.at_us for s in out)) == [s.at_us for s in _stream(2000)]


def test_out_of_order_changes_the_order_and_loses_nothing():
    out = list(transform(OutOfOrder(ALWAYS, probability=0.3, depth=4, seed=2), _stream(500)))
    assert sorted(out, key=lambda s: s.at_us) == _stream(500)
    assert out != _stream(500)
    where = {sample.at_us: n for n, sample in enumerate(out)}
    late = [where[sample.at_us] - n for n, sample in enumerate(_stream(500))]
    assert max(late) <= 2 * 4


def test_faults_in_a_row_act_one_after_the_other():
    chain = Chain(
        [
            Stuck(_window(10), frozenset({"t"})),
            Drift(_window(10), frozenset({"t"}), per_hour=36.0),
            WrongClock(_window(20, 30), YEAR_S),
            Duplicate(_window(50, 51), probability=1.0),
        ]
    )
    out = list(transform(chain, _stream()))
    assert len(out) == 101
    assert out[19].values["t"] == pytest.approx(20.9 + 0.9)  # stuck first, then drifting
    assert out[25].stamp_us - out[25].at_us == round(YEAR_S * SECOND_US)
    assert out[50] == out[51]


def test_a_chain_hands_over_what_was_held_back_to_the_faults_behind_it():
    chain = Chain([OutOfOrder(ALWAYS, probability=1.0, depth=50), SensorNull(ALWAYS)])
    out = list(transform(chain, _stream(10)))
    assert len(out) == 10
    assert all(value is None for sample in out for value in sample.values.values())


def _random_faults(numbers: random.Random) -> list[Fault]:
    window = _window(numbers.randint(0, 50), numbers.randint(51, 120))
    seed = numbers.randint(0, 10**6)
    return [
        Dropout(window, frozenset({"t"}), 0.5, seed),
        Spike(window, frozenset(), 5.0, 0.2, seed),
        Noise(window, frozenset({"rh"}), 1.0, seed),
        Duplicate(window, 0.3, seed),
        OutOfOrder(window, 0.3, 3, seed),
        Dropout(window, probability=0.2, seed=seed),
    ]


@given(st.integers(0, 10**6))
def test_the_same_seed_makes_the_same_mistakes(seed: int):
    once = list(transform(Chain(_random_faults(random.Random(seed))), _stream()))
    again = list(transform(Chain(_random_faults(random.Random(seed))), _stream()))
    assert once == again


@given(st.integers(0, 10**6))
def test_a_fault_changes_nothing_outside_its_window(seed: int):
    faults = _random_faults(random.Random(seed))
    window = faults[0].window
    out = list(transform(Chain(faults), _stream(200)))
    held_us = 10 * 10 * SECOND_US  # what was held back may come out a little later
    outside = [
        sample
        for sample in _stream(200)
        if sample.at_us < window.from_us or sample.at_us >= window.until_us + held_us
    ]
    assert [sample for sample in out if sample in outside] == outside
