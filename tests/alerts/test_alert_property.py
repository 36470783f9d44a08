"""The engine and the slow reference agree: any rules, readings, orders of arrival, restarts."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts import engine, group
from tests.alerts import places, worlds
from tests.alerts.places import HOUR, MINUTE, SECOND
from tests.alerts.worlds import World

SEEDS = st.integers(0, 2**32 - 1)
QUICK = settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
EVERYTHING = (*worlds.PLAIN, *worlds.SILENT, *worlds.STREAMS, *worlds.TOGETHER)


@settings(QUICK, max_examples=12)
@given(seed=SEEDS)
def test_alerts_are_those_of_the_reference_whatever_the_order_of_arrival(seed):
    World(seed, EVERYTHING, places.base(), minutes=25).run([1, 20, 60, 300])


@settings(QUICK, max_examples=4)
@given(seed=SEEDS)
def test_alerts_are_the_same_where_little_is_judged_at_once(seed):
    little = patch.object(engine, "_MOST_AT_ONCE", 40), patch.object(group, "_MOST_TAKEN", 8)
    with little[0], little[1]:
        World(seed, EVERYTHING, places.base(), minutes=25).run([1, 20, 60, 300])


# A rule looks at the night, at a midnight, at a sunrise: a few minutes before each.
STARTS = [worlds.START + 24 * HOUR - 20 * MINUTE, worlds.START + 32 * HOUR + 25 * MINUTE]
# The clocks of Europe go forward in the second night.
SPRING = 1_774_652_400 * SECOND


@pytest.mark.parametrize("rule", EVERYTHING)
def test_each_kind_of_rule_by_itself_gives_the_alerts_of_the_reference(rule):
    for seed in range(8):
        start = STARTS[seed % 2]
        world = World(seed, [rule], places.base(), minutes=40, start=start).run([20, 60], checks=0)
        if world.told.transitions:
            return
    pytest.fail("no reading ever met the rule")


@pytest.mark.parametrize("rule", worlds.CALENDAR)
def test_hours_and_days_end_in_the_zone_of_each_site(rule):
    registry = worlds.air_station("Europe/Amsterdam", "Asia/Kolkata")
    for seed in range(8):
        world = World(seed, [rule], registry, 50 * 60, start=SPRING).run([600, 3600], checks=0)
        if world.told.transitions:
            return
    pytest.fail("no reading ever met the rule")


@settings(QUICK, max_examples=3)
@given(seed=SEEDS, timezone=st.sampled_from(["Asia/Shanghai", "Europe/Amsterdam", "Asia/Kolkata"]))
def test_hours_and_days_are_those_of_the_reference(seed, timezone):
    registry = worlds.air_station(timezone)
    World(seed, worlds.CALENDAR, registry, 50 * 60, start=SPRING).run([300, 600, 7200], checks=1)


@settings(QUICK, max_examples=4)
@given(seed=SEEDS)
def test_readings_that_come_after_the_bound_revise_history_exactly(seed):
    _very_late(seed)


def test_very_late_readings_do_revise_something():
    late = [_very_late(seed) for seed in range(3)]
    assert any(news.revised for world in late for news in world.told.transitions)


def _very_late(seed):
    """Run a world whose readings come after the bound, each step held to the reference."""
    world = World(seed, EVERYTHING, places.base(), minutes=30)
    world.mode = "very late"
    world.run([20, 60])
    return world


@settings(QUICK, max_examples=4)
@given(seed=SEEDS)
def test_a_live_run_and_a_replay_of_the_same_readings_give_the_same_alerts(seed):
    world = World(seed, EVERYTHING, places.base(), minutes=40).run([5, 60], checks=0)
    assert world.replayed() == world.told.as_tuples()


@pytest.mark.parametrize("rule", [*EVERYTHING, *worlds.CALENDAR])
def test_no_kind_of_rule_is_left_out(rule):
    """Each rule of the lists binds somewhere, so the properties above can meet it."""
    registry = places.base() if rule in EVERYTHING else worlds.air_station("Asia/Shanghai")
    world = World(1, [rule], registry, minutes=1)
    assert world.engine.bindings
