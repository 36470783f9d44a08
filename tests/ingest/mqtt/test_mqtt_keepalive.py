"""When to ping and when to give up; times are seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.keepalive import Keepalive, Pulse

QUIET, PING, DEAD = Pulse.QUIET, Pulse.PING, Pulse.DEAD


def test_silence_is_pinged_at_half_and_dead_at_the_end():
    keepalive = Keepalive(10, now_s=100)
    assert [keepalive.look(now_s) for now_s in (100, 104.9, 105, 107, 109.9, 110)] == [
        QUIET,
        QUIET,
        PING,
        QUIET,
        QUIET,
        DEAD,
    ]


def test_any_byte_is_life():
    keepalive = Keepalive(10, now_s=0)
    assert keepalive.look(5) is PING
    keepalive.heard(9.9)
    assert keepalive.look(10) is PING  # nothing was sent for half the interval
    assert keepalive.look(14.8) is QUIET
    assert keepalive.look(14.9) is PING
    assert keepalive.look(19.9) is DEAD


def test_a_peer_that_talks_all_the_time_is_pinged_too():
    """Only our packets tell the broker that we live: it may send QoS 0 for ever."""
    keepalive = Keepalive(10, now_s=0)
    pings = 0
    for tenth in range(1000):
        keepalive.heard(tenth / 10)
        pings += keepalive.look(tenth / 10) is PING
    assert pings == 19


def test_who_sends_anyway_needs_no_pings():
    keepalive = Keepalive(10, now_s=0)
    for now_s in range(100):
        keepalive.heard(now_s)
        keepalive.spoke(now_s)
        assert keepalive.look(now_s) is QUIET


def test_while_deaf_nobody_dies_and_pings_go_on():
    keepalive = Keepalive(10, now_s=0)
    keepalive.deaf = True
    assert [keepalive.look(now_s) for now_s in (5, 10, 15, 100)] == [PING, PING, PING, PING]
    keepalive.listen_again(100)
    assert keepalive.look(104) is QUIET
    assert keepalive.look(105) is PING
    assert keepalive.look(110) is DEAD


def test_a_process_that_slept_asks_before_it_gives_up():
    keepalive = Keepalive(10, now_s=0)
    assert keepalive.look(10_000) is PING
    keepalive.heard(10_001)
    assert keepalive.look(10_002) is QUIET


def test_the_broker_may_ask_for_more_but_not_for_less():
    keepalive = Keepalive(10, now_s=0)
    keepalive.shorten(60)
    assert keepalive.next_look_s() == 5
    keepalive.shorten(4)
    assert keepalive.next_look_s() == 2


@given(
    interval_s=st.floats(0.5, 100),
    gaps_s=st.lists(st.tuples(st.floats(0, 80), st.sampled_from("hsl")), max_size=40),
)
def test_looking_only_when_told_to_finds_silence_in_time(interval_s, gaps_s):
    """A shell that sleeps until `next_look_s` finds a dead peer within the interval."""
    now_s, keepalive = 0.0, Keepalive(interval_s, 0.0)
    heard_at_s = 0.0
    for gap_s, what in gaps_s:
        until_s = now_s + gap_s
        while keepalive.next_look_s() <= until_s:
            now_s = max(now_s, keepalive.next_look_s())
            pulse = keepalive.look(now_s)
            if pulse is DEAD:
                assert now_s - heard_at_s == pytest.approx(interval_s)
                return
            assert now_s - heard_at_s < interval_s * 1.000001
        now_s = until_s
        if what == "h":
            keepalive.heard(now_s)
            heard_at_s = now_s
        elif what == "s":
            keepalive.spoke(now_s)
