"""What an operator is told in the shipped scenarios, and when; in simulated time, so in seconds."""

from __future__ import annotations

import pytest

from tests.rig.rehearsal import Rehearsal

# A silence is believed after the readings on their way had time to come (`Settings.grace_s`).
GRACE_MIN = 0.5
# An alert is noticed with the batch that brings it.
STEP_MIN = 10 / 60


def firing(said):
    return [one for one in said if one.told in ("firing", "worse")]


def test_a_power_cut_of_a_house_is_told_once_and_so_is_its_end():
    rehearsal = Rehearsal("power-cut", "2026-11-15T14:00", history_min=10)
    said = [one for one in rehearsal.run(until_min=9) if one.group == ("silence", "h2")]
    assert [(one.told, one.severity, one.rules[0]) for one in said] == [
        ("firing", 3, "equipment.house-silent"),
        ("over", 0, "equipment.house-silent"),
    ]
    cut, back = said
    # The lights go out at two minutes; the fastest sensors speak every ten seconds.
    assert cut.at_min == pytest.approx(2 + 3 * 10 / 60 + GRACE_MIN, abs=2 * STEP_MIN)
    assert cut.text == "Smart multi-span house 2: nothing speaks any more; perhaps the power is cut"
    # Five minutes later it is over: twenty and more alerts stood behind that one notice.
    assert back.at_min == pytest.approx(7.5, abs=1)
    assert back.members > 20
    # The other houses have power: nobody is told otherwise.
    everything = rehearsal.run(until_min=9)
    assert not [one for one in everything if "house-silent" in one.rules[0] and one not in said]


def test_a_pump_that_fails_is_told_when_water_is_asked_for():
    # It fails five hours before the live start, at eight in the morning.
    rehearsal = Rehearsal("pump-failure", "2026-06-15T13:00", history_min=320, step_s=30)
    said = rehearsal.run(until_min=-275)
    (first,) = [one for one in firing(said) if one.group == ("water", "base")]
    assert (first.severity, first.rules) == (3, ("equipment.unit-no-flow",))
    assert first.at_min == pytest.approx(-300 + 2, abs=1)
    assert first.text.startswith("Fertigation unit: flow while a valve is open 0.0 L/min")
    # The meter that stands still is the same cause: it joins the group and nobody is told again.
    rules = {alert.episode.rule for alert in rehearsal.alerts() if alert.is_open}
    assert rules >= {"equipment.unit-no-flow", "equipment.unit-meter-stuck"}


def test_a_probe_that_drifts_is_told_when_it_left_its_twin_for_an_hour():
    rehearsal = Rehearsal("sensor-drift", "2026-11-15T12:00", history_min=30, step_s=60)
    said = [one for one in rehearsal.run(until_min=75) if "drift" in one.rules[0]]
    assert [(one.told, one.severity, set(one.rules)) for one in said] == [
        ("firing", 2, {"equipment.humidity-drift"})
    ]
    # It is ten percent off at the start, give or take the scatter of two probes.
    assert said[0].at_min == pytest.approx(60, abs=10)
    assert "differs from its twin" in said[0].text


def test_a_heater_that_fails_in_a_night_of_frost_is_told_before_the_crop_is_lost():
    # It fails two minutes after the start.
    rehearsal = Rehearsal("frost-night", "2026-11-15T17:00", history_min=10, step_s=120)
    said = firing(rehearsal.run(until_min=150))
    told = {one.rules[0]: one for one in said if one.group[1] == "h2"}
    assert {"cucumber.cold", "equipment.heating-behind"} <= set(told)
    assert told["equipment.heating-behind"].at_min < 150
    assert told["cucumber.cold"].severity == 2
