"""Pauses between connections, and what is worth a line in the log."""

from __future__ import annotations

import pytest

from ingest.mqtt.failures import LinkLost, Refused, TakenOver
from ingest.mqtt.redial import Outage, Redial

LOST, REFUSED = LinkLost("gone"), Refused("bad password")


def test_the_first_try_comes_at_once_and_the_others_later_and_later():
    redial = Redial(cap_s=30, slow_s=30, draw=lambda: 1.0)
    pauses = [redial.pause_s(LOST, 0, 0) for _ in range(12)]
    assert pauses[:5] == pytest.approx([0, 0.2, 0.4, 0.8, 1.6])
    assert pauses[-2:] == [30, 30]


def test_a_connection_that_lasted_ends_the_series_and_a_short_one_does_not():
    redial = Redial(cap_s=30, slow_s=30, draw=lambda: 1.0)
    for lasted_s in (0, 0, 0, 1.0, 5.0, 9.9):
        redial.pause_s(LOST, lasted_s, 0)
    assert redial.pause_s(LOST, 1.0, 0) > 5
    assert redial.pause_s(LOST, 10.0, 0) == 0
    assert redial.pause_s(LOST, 0, 0) == pytest.approx(0.2)


@pytest.mark.parametrize("failure", [REFUSED, TakenOver("somebody else")])
@pytest.mark.parametrize(("draw", "pause_s"), [(0.0, 15), (0.5, 30), (1.0, 45)])
def test_what_a_person_must_mend_is_tried_slowly_from_the_first_time_on(failure, draw, pause_s):
    redial = Redial(cap_s=30, slow_s=30, draw=lambda: draw)
    assert [redial.pause_s(failure, 100, 0) for _ in range(3)] == [pause_s] * 3


def test_jitter_spreads_the_whole_pause():
    draws = iter([0.25, 0.5])
    redial = Redial(cap_s=30, slow_s=30, draw=lambda: next(draws))
    assert [redial.pause_s(LOST, 0, 0) for _ in range(3)] == pytest.approx([0, 0.05, 0.2])


def test_an_outage_is_told_once_and_its_end_once():
    outage = Outage()
    assert [outage.lost(LOST, now_s) for now_s in (100, 101, 200, 5000)] == [True] + [False] * 3
    assert outage.failures == 4
    assert outage.back(5100) == 5000
    assert outage.failures == 0


def test_a_first_connection_is_no_return():
    assert Outage().back(1) is None


def test_a_link_that_comes_and_goes_is_told_once_a_minute():
    outage = Outage()
    told = 0
    for half_second in range(4 * 120):
        told += outage.lost(LOST, half_second / 2)
        outage.back(half_second / 2 + 0.1)
    assert told == 4


def test_a_loss_that_lasts_is_told_even_after_a_quick_one():
    outage = Outage()
    assert outage.lost(LOST, 0)
    outage.back(1)
    assert not outage.lost(LOST, 2)
    assert outage.lost(LOST, 3)
    assert outage.back(10) == 8


def test_a_new_cause_that_a_person_must_mend_is_told_at_once():
    outage = Outage()
    failures = [LOST, REFUSED, REFUSED, LOST, Refused("banned")]
    assert [outage.lost(failure, 0) for failure in failures] == [True, True, False, False, True]
