"""When something may have passed us by; times are microseconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest.mqtt.coverage import Coverage, Memory

LEFT = Memory("b:1883", "collector", ("gh/+/+",), covered_until_us=500, keeps=True)
REFUSED = replace(LEFT, broken="subscription_refused")


def coverage(memory: Memory | None = None) -> Coverage:
    return Coverage("b:1883", "collector", ("gh/+/+",), memory)


def spans(gaps):
    return [(gap.reason, gap.started_at_us, gap.ended_at_us) for gap in gaps if gap is not None]


RETURNS = [
    # what an earlier connection left, session there?, broker keeps?, the gap at 1000
    (None, False, True, []),  # never been here
    (None, True, True, []),  # an old session, but nothing known of it
    (LEFT, True, True, []),  # a disconnection alone loses nothing
    (LEFT, False, True, [("session_lost", 500, 1000)]),
    (replace(LEFT, keeps=False), False, False, [("disconnected", 500, 1000)]),
    (replace(LEFT, keeps=False), True, True, []),  # kept after all
    (replace(LEFT, qos0=True), True, True, [("disconnected", 500, 1000)]),
    (replace(LEFT, qos0=True), False, True, [("session_lost", 500, 1000)]),
    # It was lost before, and the process died before it could say so.
    (replace(LEFT, broken="session_lost"), True, True, [("session_lost", 500, 1000)]),
    (
        replace(LEFT, broken="subscription_refused"),
        True,
        True,
        [("subscription_refused", 500, 1000)],
    ),
    (replace(LEFT, broken="subscription_refused"), False, True, [("session_lost", 500, 1000)]),
    # Another broker, another name: nothing is known.
    (replace(LEFT, broker="c:1883"), False, True, []),
    (replace(LEFT, client_id="other"), False, True, []),
    # A clock that was set back makes no negative gap.
    (replace(LEFT, covered_until_us=9999), False, True, [("session_lost", 1000, 1000)]),
]


@pytest.mark.parametrize(("memory", "present", "keeps", "expected"), RETURNS)
def test_what_a_return_tells(memory, present, keeps, expected):
    known = coverage(memory)
    known.connected(present, keeps, 900)
    assert spans([known.subscribed(False, 1000)]) == expected


def test_a_gap_reaches_to_the_answer_to_our_subscription():
    """A new session has no subscription: between CONNACK and SUBACK messages still pass by."""
    known = coverage(LEFT)
    known.connected(False, True, 900)
    assert known.memory == replace(LEFT, broken="session_lost")
    known.ended(950)  # gone again before the broker answered
    known.connected(True, True, 980)  # now there is a session: an empty one
    assert spans([known.subscribed(False, 1000)]) == [("session_lost", 500, 1000)]
    assert known.memory == replace(LEFT, covered_until_us=1000)


def test_contact_moves_on_only_while_all_is_well():
    known = coverage()
    known.connected(False, True, 100)
    known.heard(150)
    assert known.memory is not None and known.memory.covered_until_us == 100, "not subscribed yet"
    known.subscribed(False, 200)
    known.heard(300)
    assert known.memory.covered_until_us == 300
    known.heard(250)
    assert known.memory.covered_until_us == 300, "never back"
    known.heard(400, oldest_unaccepted_us=350)
    assert known.memory.covered_until_us == 350, "what we hold is not kept yet"
    known.ended(500)
    known.heard(600)
    assert known.memory.covered_until_us == 350


def test_messages_in_hand_that_die_with_the_session_are_in_its_gap():
    known = coverage()
    known.connected(False, True, 100)
    known.subscribed(False, 110)
    known.heard(400, oldest_unaccepted_us=350)
    known.ended(400)
    known.connected(False, True, 500)
    assert spans([known.subscribed(False, 510)]) == [("session_lost", 350, 510)]


def test_a_refused_subscription_is_a_chain_of_gaps_without_holes():
    known = coverage()
    gaps = []
    known.connected(False, True, 100)
    gaps.append(known.subscribed(True, 110))
    known.heard(200)
    gaps.append(known.ended(300))
    known.connected(True, True, 400)
    gaps.append(known.subscribed(True, 410))
    gaps.append(known.subscribed(False, 500))
    gaps.append(known.ended(600))
    assert spans(gaps) == [
        ("subscription_refused", 100, 110),
        ("subscription_refused", 110, 300),
        ("subscription_refused", 300, 410),
        ("subscription_refused", 410, 500),
    ]


def test_old_filters_are_unwanted_until_the_new_ones_are_answered():
    known = coverage(replace(LEFT, topic_filters=("gh/+/+", "old/#", "older/#")))
    assert known.unwanted_filters == ("old/#", "older/#")
    known.connected(True, True, 900)
    assert known.memory is not None
    assert known.memory.topic_filters == ("gh/+/+", "old/#", "older/#"), "not ended yet"
    known.subscribed(False, 1000)
    assert known.unwanted_filters == ()
    assert known.memory.topic_filters == ("gh/+/+",)


def test_a_full_spool_is_a_gap_only_for_what_no_broker_keeps():
    known = coverage()
    assert known.spool_was_full(100, 200) is None
    known.saw_qos0()
    assert spans([known.spool_was_full(100, 200)]) == [("spool_full", 100, 200)]


class CoverageMachine(RuleBasedStateMachine):
    """Against a model that knows each moment: every lost moment lies in a gap, none is named twice.

    A moment is lost when we were not subscribed and the session did not live over it.
    """

    @initialize()
    def begin(self) -> None:
        self.now_us = 1000
        self.known = coverage()
        self.up = self.subscribed = False
        self.met = False
        self.session_alive = False  # the broker has a session with our subscription
        self.empty_session = False
        self.lost: list[int] = []
        self.gaps: list[tuple[int, int]] = []

    def tick(self) -> int:
        """One moment passes; a message published in it reaches us, waits for us, or is lost."""
        self.now_us += 10
        if self.met and not (self.session_alive or self.subscribed):
            self.lost.append(self.now_us - 5)
        return self.now_us

    def keep(self, gap) -> None:
        if gap is not None:
            self.gaps.append((gap.started_at_us, gap.ended_at_us))

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        self.known.connected(self.session_alive or self.empty_session, True, self.tick())
        self.up = True
        self.empty_session = not self.session_alive

    @precondition(lambda self: self.up and not self.subscribed)
    @rule(refused=st.booleans())
    def answer(self, refused: bool) -> None:
        self.keep(self.known.subscribed(refused, self.tick()))
        self.met = True  # what was published before we ever asked for it is nobody's loss
        if not refused:
            self.subscribed = self.session_alive = True

    @precondition(lambda self: self.up)
    @rule()
    def hear(self) -> None:
        self.known.heard(self.tick())

    @precondition(lambda self: self.up)
    @rule()
    def lose_the_connection(self) -> None:
        self.keep(self.known.ended(self.tick()))
        self.up = self.subscribed = False

    @precondition(lambda self: not self.up)
    @rule()
    def the_broker_forgets_us(self) -> None:
        self.tick()
        self.session_alive = self.empty_session = False

    @precondition(lambda self: not self.up)
    @rule()
    def the_process_is_replaced(self) -> None:
        self.known = coverage(self.known.memory)

    @rule()
    def time_passes(self) -> None:
        self.tick()

    @invariant()
    def gaps_do_not_overlap(self) -> None:
        for (_, ended), (started, _) in zip(self.gaps, self.gaps[1:], strict=False):
            assert ended <= started

    @invariant()
    def every_lost_moment_is_named_once_we_are_back(self) -> None:
        if self.subscribed:
            for moment in self.lost:
                assert any(started <= moment <= ended for started, ended in self.gaps), moment


TestCoverageMachine = CoverageMachine.TestCase
TestCoverageMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
