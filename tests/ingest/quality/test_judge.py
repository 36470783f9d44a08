"""The judge case by case: each reason, when it is given, and when it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from devices.calibration import Calibration, Ledger, Scope, Timeline, Window, WindowKind
from devices.quality import BAD_MASK, Quality, QualityLevel, level
from devices.quantity import QUANTITIES
from devices.reading import Batch
from devices.registry import Registry
from devices.site_file import read_site_file
from ingest.quality.judge import Judge
from ingest.quality.state_file import StateFile, StateUnreadable

AT = 1_767_225_600_000_000
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000

SITE = """
version: 1
sites:
  - {code: b, kind: base, sites: [{code: h1, kind: greenhouse}, {code: h2, kind: greenhouse}]}
broker: {host: x}
devices:
  - code: slab
    site: h1
    interval: 5min
    series:
      - {quantity: soil_moisture, channel: 1}
      - {quantity: soil_ec, channel: 1}
      - {quantity: soil_ec, channel: 2}
  - code: air
    site: h1
    interval: 1min
    series:
      - {quantity: air_temperature}
      - {quantity: relative_humidity}
      - {quantity: dew_point}
      - {quantity: ppfd}
      - {quantity: pm2_5}
      - {quantity: pm10}
  - code: other
    site: h2
    interval: 1min
    series:
      - {quantity: air_temperature, unit: K}
      - {quantity: pipe_temperature}
      - {quantity: illuminance}
checks:
  - {series: air.air_temperature, twin: other.air_temperature, within: 2}
"""


def site(extra: str = ""):
    site_file = read_site_file(SITE + extra, "site.yaml")
    numbers = {code: number for number, code in enumerate(site_file.registry.series, 1)}
    return replace(site_file.registry, series_ids=numbers, revision=1), site_file.checks


class Told:
    """A judge that is told readings as (series, seconds after `AT`, value)."""

    def __init__(self, extra: str = "") -> None:
        self.registry, checks = site(extra)
        self.judge = Judge(checks)
        self.judge.adopt(self.registry)

    def message(self, *readings, late_us: int = SECOND, quality: int = 0) -> list[Quality]:
        """Judge the rows of one batch; what is physically impossible is marked as by a decoder."""
        rows = []
        for code, at_s, value in readings:
            at_us = AT + round(at_s * SECOND)
            number = self.registry.series_ids.get(code, 99)
            rows.append((number, at_us, at_us + late_us, value, quality))
        batch = Batch.of(*zip(*rows, strict=True))
        bits = [int(beyond(code, value)) << 1 for code, _, value in readings]
        batch = replace(batch, quality=batch.quality | np.array(bits, np.int32))
        self.last = self.judge.judge(batch)
        return [Quality(int(one)) for one in self.last.quality]

    def say(self, code, at_s, value, **options) -> Quality:
        return self.message((code, at_s, value), **options)[0]

    def series(self, code, values, every_s=60.0) -> list[Quality]:
        return [self.say(code, number * every_s, value) for number, value in enumerate(values)]


def beyond(code: str, value: float) -> bool:
    quantity = QUANTITIES[code.split(".")[1]]
    return not quantity.low <= value <= quantity.high and value == value


T, RH, DEW, PPFD = (
    f"air.{name}" for name in ("air_temperature", "relative_humidity", "dew_point", "ppfd")
)
VWC, EC, EC2 = "slab.soil_moisture.1", "slab.soil_ec.1", "slab.soil_ec.2"


def test_ordinary_readings_are_good():
    told = Told()
    assert told.series(T, [20.0, 20.4, 20.9, 21.5, 21.0, 24.9, 22.0]) == [0] * 7


def test_a_single_jump_is_marked_and_what_follows_is_not():
    assert Told().series(T, [20, 20, 20, 60, 20, 20]) == [0, 0, 0, Quality.STEP, 0, 0]


def test_two_wrong_readings_are_marked_once_and_the_way_back_is_good():
    found = Told().series(T, [20, 20, 20, 60, 61, 20, 20])
    assert found == [0, 0, 0, Quality.STEP, 0, 0, 0]


def test_a_new_level_that_lasts_is_marked_once():
    found = Told().series(T, [20, 20, 20, 40, 40, 40, 40])
    assert [bool(one) for one in found] == [False, False, False, True, False, False, False]


def test_nothing_jumps_before_there_are_three_readings():
    assert Told().series(T, [20, 60, -20]) == [0, 0, 0]


def test_after_a_silence_the_value_may_be_another():
    told = Told()
    told.series(T, [20, 20, 20])
    assert told.say(T, 3600, 40) == Quality.GOOD


def test_what_cannot_be_is_no_neighbour():
    """The CO2 at 5 ppm of a real sensor: the way into it and out of it is no jump."""
    told = Told()
    told.series(T, [20, 20, 20])
    assert told.say(T, 180, 200) & Quality.PHYSICAL_RANGE
    assert told.say(T, 240, 20) == Quality.GOOD


def test_a_value_that_stands_still_is_frozen_after_its_time():
    found = Told().series(T, [20.0] * (12 * 60 + 3))
    assert found[:720] == [0] * 720
    assert found[720:] == [Quality.FLAT_LINE] * 3


def test_a_value_at_rest_is_never_frozen():
    assert set(Told().series(PPFD, [0.0] * 26 * 60)) == {Quality.GOOD}
    assert set(Told().series(RH, [99.5] * 13 * 60)) == {Quality.GOOD}
    assert Quality.FLAT_LINE in set(Told().series(RH, [80.0] * 13 * 60))


def test_what_was_silent_was_not_frozen():
    told = Told()
    for hour in range(0, 40, 2):  # every two hours, while one a minute is expected
        assert told.say(T, 3600 * hour, 20.0) == Quality.GOOD


def test_the_sensor_can_say_only_what_it_can_say():
    told = Told("  - {device: air, quantity: air_temperature, sensor: [-10, 50]}\n")
    assert told.say(T, 0, 55.0) == Quality.SENSOR_RANGE
    assert told.say(T, 60, -11.0) == Quality.SENSOR_RANGE
    assert told.say(T, 120, 50.0) == Quality.GOOD


def test_humidity_over_a_hundred_is_past_the_end_of_its_scale():
    told = Told()
    found = told.say(RH, 0, 102.0)
    assert found == Quality.SATURATED
    assert level(int(found)) is QualityLevel.SUSPECT  # wet is what it is; only the figure is not
    assert told.say(RH, 60, 100.0) == Quality.GOOD
    assert told.say(RH, 120, 110.0) == Quality.SATURATED | Quality.PHYSICAL_RANGE


@pytest.mark.parametrize(
    ("code", "value", "is_code"),
    [
        (T, 85.0, True),  # DS18B20 that was not asked to measure
        (T, -127.0, True),  # DS18B20 that is not there
        (T, -9999.0, True),
        (T, 3276.7, True),  # 0x7FFF, a tenth a digit
        (T, 6553.5, True),
        ("other.air_temperature", -273.15 + 65535, True),  # the device counts in kelvin
        ("other.pipe_temperature", 85.0, False),  # pipes are that hot
        ("other.illuminance", 65535.0, False),  # and noon that bright
        (T, 71.5, False),
        (RH, 655.35, True),
    ],
)
def test_numbers_that_stand_for_an_error_are_told_from_values(code, value, is_code):
    found = Told().say(code, 0, value)
    assert bool(found & Quality.SENTINEL) is is_code
    assert bool(found & BAD_MASK) is (is_code or beyond(code, value))


def test_a_probe_in_the_air_has_neither_water_nor_salt():
    told = Told()
    assert told.message((VWC, 0, 62.0), (EC, 0, 3.1), (EC2, 0, 3.0)) == [0, 0, 0]
    found = told.message((VWC, 300, 0.0), (EC, 300, 0.0), (EC2, 300, 3.0))
    assert [bool(one & Quality.CROSS_CHECK) for one in found] == [True, True, False]
    found = told.message((VWC, 600, 0.4), (EC, 600, 0.02))
    assert found == [Quality.CROSS_CHECK, Quality.CROSS_CHECK]
    # Either alone is possible: dry sand, rain water.
    assert told.message((VWC, 900, 0.4), (EC, 900, 0.2)) == [0, 0]
    assert told.message((VWC, 1200, 30.0), (EC, 1200, 0.0))[1] & Quality.CROSS_CHECK == 0


def test_of_two_messages_about_one_probe_at_least_the_later_is_marked():
    told = Told()
    told.message((VWC, 0, 62.0), (EC, 1, 3.1))
    assert told.say(VWC, 300, 0.0) & Quality.CROSS_CHECK == 0
    assert told.say(EC, 301, 0.0) & Quality.CROSS_CHECK


def test_an_old_reading_of_the_other_quantity_proves_nothing():
    told = Told()
    told.say(VWC, 0, 0.5)
    assert told.say(EC, 299, 0.01) == Quality.GOOD


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fine_dust_is_part_of_all_dust(order):
    rows = [("air.pm2_5", 0, 80.0), ("air.pm10", 0, 79.0)]
    assert Told().message(*(rows[n] for n in order)) == [Quality.CROSS_CHECK] * 2
    rows = [("air.pm2_5", 0, 80.0), ("air.pm10", 0, 80.0)]
    assert Told().message(*(rows[n] for n in order)) == [0, 0]


def test_a_pair_may_be_left_alone():
    told = Told("  - {device: air, pairs: off}\n")
    assert told.message(("air.pm2_5", 0, 80.0), ("air.pm10", 0, 20.0)) == [0, 0]


def test_a_dew_point_lies_below_the_air():
    told = Told()
    assert told.message((T, 0, 20.0), (DEW, 0, 20.3)) == [0, 0]
    assert told.message((T, 60, 20.0), (DEW, 60, 21.0)) == [Quality.CROSS_CHECK] * 2


def test_twins_agree_or_both_are_suspect():
    told = Told()
    assert told.message((T, 0, 20.0), ("other.air_temperature", 10, 21.9)) == [0, 0]
    found = told.message((T, 60, 20.0), ("other.air_temperature", 60, 22.5))
    assert found == [Quality.TWIN, Quality.TWIN]
    assert told.say(T, 200, 20.0) == Quality.GOOD  # the other is silent


def test_a_message_of_noughts_is_no_measurement():
    told = Told()
    assert told.message((T, 0, 21.0), (RH, 0, 70.0), (PPFD, 0, 0.0)) == [0, 0, 0]
    found = told.message((T, 60, 0.0), (RH, 60, 0.0), (PPFD, 60, 0.0))
    assert [bool(one & Quality.CROSS_CHECK) for one in found] == [True, True, True]
    found = told.message((T, 120, 0.0), (RH, 120, 0.0), (PPFD, 120, 300.0))
    assert [bool(one & Quality.CROSS_CHECK) for one in found] == [True, True, False]
    # Frost, and a humidity that is one.
    found = told.message((T, 180, 0.0), (RH, 180, 70.0), (PPFD, 180, 0.0))
    assert [bool(one & Quality.CROSS_CHECK) for one in found] == [False, False, False]


def test_a_time_ahead_of_ours_is_in_doubt():
    told = Told()
    assert told.say(T, 0, 20.0, late_us=-2 * MINUTE) == Quality.GOOD
    assert told.say(T, 60, 20.0, late_us=-2 * MINUTE - 1) == Quality.CLOCK


def test_a_time_long_ago_is_in_doubt():
    told = Told()
    assert told.say(T, 0, 20.0, late_us=8 * 24 * HOUR) == Quality.CLOCK
    assert told.say(T, 60, 20.0, late_us=8 * 24 * HOUR, quality=int(Quality.MANUAL)) == (
        Quality.MANUAL  # a sample of last week
    )


def test_a_clock_that_was_set_back_is_in_doubt_from_the_second_reading_on():
    told = Told()
    found = [told.say(T, 60 * n, 20.0 + n % 3, late_us=HOUR) for n in range(5)]
    assert found == [0] + [Quality.CLOCK] * 4
    assert told.say(T, 7200, 20.0) == Quality.GOOD  # it was set right


def test_data_that_was_held_up_is_not_of_a_wrong_clock():
    """An hour's readings come at once; or as fast as the line lets them."""
    told = Told()
    rows = [(T, 60 * n, 20.0 + n % 3) for n in range(60)]
    batch = Batch.of(
        [told.registry.series_ids[T]] * 60,
        [AT + 60 * n * SECOND for n in range(60)],
        [AT + 60 * MINUTE + n * SECOND for n in range(60)],
        [value for _, _, value in rows],
        [0] * 60,
    )
    assert not told.judge.judge(batch).quality.any()


def test_another_value_of_a_remembered_moment_is_a_conflict():
    told = Told()
    told.series(T, [20.0, 20.5, 21.0])
    assert told.say(T, 60, 20.5) == Quality.GOOD  # sent again
    assert told.say(T, 60, 20.6) == Quality.CONFLICT
    assert told.message((T, 300, 20.0), (T, 300, 20.1)) == [0, Quality.CONFLICT]


def test_a_reading_that_is_sent_again_has_the_marks_it_had():
    told = Told()
    told.series(T, [20, 20, 20, 60, 20])
    assert told.say(T, 180, 60) == Quality.STEP


def test_history_behind_the_present_is_judged_like_the_present():
    told = Told()
    told.series(T, [20.0, 20.5, 20.0, 20.5], every_s=60)
    base = -86_400
    found = [told.say(T, base + 60 * n, v) for n, v in enumerate([10, 10.5, 10, 50, 10.5])]
    assert found == [0, 0, 0, Quality.STEP, 0]
    assert told.say(T, 240, 20.0) == Quality.GOOD  # and the present is as it was


def test_a_series_that_nobody_knows_is_left_alone():
    told = Told()
    assert told.say("nobody.air_temperature", 0, 20.0) == Quality.GOOD
    judge = Judge()
    batch = Batch.of([1, 5], [AT, AT], [AT, AT], [1.0, float("nan")], [0, 1])
    assert judge.judge(batch).quality.tolist() == [0, 1]


def book(*lines, windows=()) -> Ledger:
    return Ledger(tuple(lines), tuple(windows), revision=9)


def test_a_line_holds_from_its_moment_on():
    told = Told()
    one = Calibration(T, AT + 60 * SECOND, 1.1, 0.5, "Li", revision=1)
    two = Calibration(T, AT + 120 * SECOND, 1.0, 0.0, "Li", revision=2)
    told.judge.timeline = Timeline.build(book(one, two), told.registry)
    told.message((T, 0, 20.0), (T, 60, 20.0), (T, 90, 20.0), (T, 120, 20.0), (RH, 90, 70.0))
    assert told.last.value.tolist() == [20.0, 22.5, 22.5, 20.0, 70.0]


def test_what_a_line_makes_of_a_value_decides_whether_it_is_possible():
    told = Told("  - {quantity: air_temperature, sensor: off}\n")
    line = Calibration(T, AT, 1.0, 20.0, "Li", revision=1)
    told.judge.timeline = Timeline.build(book(line), told.registry)
    assert told.say(T, 0, 51.0) == Quality.PHYSICAL_RANGE
    assert told.say(T, 60, -60.0) == Quality.GOOD  # -60 sent, -40 meant


def test_a_new_line_is_no_jump():
    told = Told()
    told.series(T, [20.0, 20.5, 20.0])
    line = Calibration(T, AT + 150 * SECOND, 1.0, 30.0, "Li", revision=1)
    told.judge.timeline = Timeline.build(book(line), told.registry)
    assert told.say(T, 180, 20.5) == Quality.GOOD
    assert told.last.value.tolist() == [50.5]


def test_what_a_person_entered_is_on_no_line():
    told = Told()
    line = Calibration(T, AT - HOUR, 1.0, 30.0, "Li", revision=1)
    told.judge.timeline = Timeline.build(book(line), told.registry)
    told.say(T, 0, 20.0, quality=int(Quality.MANUAL))
    assert told.last.value.tolist() == [20.0]


def test_windows_mark_the_series_the_device_and_the_site_they_are_over():
    told = Told()
    spans = [
        Window(Scope.SERIES, T, WindowKind.CALIBRATION, AT, AT + MINUTE, "Li", id=1),
        Window(Scope.DEVICE, "air", WindowKind.MAINTENANCE, AT, AT + 2 * MINUTE, "Li", id=2),
        Window(Scope.SITE, "h1", WindowKind.STOPPED, AT, AT + 3 * MINUTE, "Li", id=3),
    ]
    told.judge.timeline = Timeline.build(book(windows=spans), told.registry)
    every = Quality.CALIBRATION | Quality.MAINTENANCE | Quality.STOPPED
    assert told.message((T, 0, 20.0), (RH, 0, 70.0), (EC, 0, 3.0)) == [
        every,
        Quality.MAINTENANCE | Quality.STOPPED,
        Quality.STOPPED,
    ]
    assert told.message((T, 60, 20.0), (T, 120, 20.0), (T, 180, 20.0)) == [
        Quality.MAINTENANCE | Quality.STOPPED,
        Quality.STOPPED,
        0,
    ]
    assert told.say("other.air_temperature", 0, 20.0) == Quality.GOOD


def test_a_calibration_that_is_due_is_told_until_the_next_one():
    told = Told()
    one = Calibration(T, AT, 1.0, 0.1, "Li", due_us=AT + MINUTE, revision=1)
    two = Calibration(T, AT + 3 * MINUTE, 1.0, 0.2, "Li", revision=2)
    told.judge.timeline = Timeline.build(book(one, two), told.registry)
    found = told.series(T, [20.0, 20.5, 20.0, 20.5])
    assert found == [0, Quality.CALIBRATION_DUE, Quality.CALIBRATION_DUE, 0]
    assert level(int(found[1])) is QualityLevel.GOOD


def test_the_state_of_another_database_is_not_taken_for_ours():
    told = Told()
    told.series(T, [20.0, 20.5, 20.0])
    swapped = dict(told.registry.series_ids)
    swapped[T], swapped[RH] = swapped[RH], swapped[T]
    other = Judge()
    other.recall(told.judge.remembered(), complete=True)
    other.adopt(Registry(told.registry.sites, told.registry.devices, swapped, 2))
    at_us = AT + 180 * SECOND
    found = other.judge(Batch.of([swapped[RH]], [at_us], [at_us], [70.0], [0]))
    assert found.quality.tolist() == [0]  # three temperatures of 20 are not its neighbours


def test_the_file_of_the_state_is_whole_or_not_there(tmp_path):
    told = Told()
    told.series(T, [20.0, 20.5, 20.0])
    file = StateFile(tmp_path / "quality.npz")
    assert file.load() is None
    file.save(told.judge.remembered(), complete=True)
    columns, complete = file.load()
    assert complete
    other = Told()
    other.judge.recall(columns, complete=complete)
    assert other.say(T, 180, 60.0) == Quality.STEP
    whole = file.path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        file.path.write_bytes(whole[:size])
        with pytest.raises(StateUnreadable):
            file.load()
    with pytest.raises((KeyError, ValueError)):
        other.judge.recall({"version": np.array([0])}, complete=True)
