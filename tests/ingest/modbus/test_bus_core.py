"""What a bus decides, in virtual time: whose turn, what is believed, when it is silent."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.modbus.breaker import SlaveState
from ingest.modbus.bus_core import Job
from ingest.modbus.framing import Frame, Speech
from ingest.modbus.reply import Answer, Failure
from ingest.modbus.request import ReadRequest
from tests.ingest.modbus.virtual_line import (
    VirtualLine,
    answer,
    dead,
    healthy,
    plan,
    refusing,
)


def status_of(line: VirtualLine, device: str):
    return next(one for one in line.core.status().slaves if one.device == device)


# ---- rounds ---------------------------------------------------------------------------------


def test_each_device_is_polled_at_its_pace_without_drift():
    line = VirtualLine({1: healthy(), 2: healthy()}, [plan("a", 1, (0, 3)), plan("b", 2, (0, 0))])
    line.run(60.0)
    for device in "ab":
        times = [at_s for at_s, _ in line.polls(device)]
        assert len(times) == 60
        assert max(abs(at_s - (100 + n)) for n, at_s in enumerate(times)) < 0.1
    assert line.wrong_values() == 0


def test_nearest_deadline_goes_first():
    line = VirtualLine(
        {1: healthy(0.2), 2: healthy(0.2)},
        [plan("slow", 1, (0, 0), every=10.0), plan("quick", 2, (0, 0), every=1.0)],
    )
    line.run(5.0)
    assert line.results[0][1].device == "quick"
    assert line.results[1][1].device == "slow"


def test_overloaded_bus_skips_turns_and_counts_them():
    line = VirtualLine({1: healthy(0.25)}, [plan("a", 1, (0, 0), every=0.1)])
    line.run(10.0)
    assert 35 <= len(line.polls("a")) <= 40
    assert line.core.status().counters.missed_turns >= 55


def test_poll_carries_all_reads_of_a_turn_with_the_time_of_each_reply():
    line = VirtualLine({1: healthy(0.05)}, [plan("a", 1, (0, 1), (10, 11))])
    line.run(0.9)
    ((_, poll),) = line.polls("a")
    assert [(read.address, read.count) for read in poll.reads] == [(0, 2), (10, 2)]
    assert [read.at_us for read in poll.reads] == [100_050_000, 100_100_000]
    assert poll.is_whole


# ---- silence, breaker, probes ---------------------------------------------------------------


def test_one_dead_slave_of_ten_delays_the_others_by_less_than_a_tenth():
    slaves = {unit: healthy(0.02) for unit in range(1, 10)} | {10: dead}
    plans = [plan(f"d{unit}", unit, (0, 3), every=1.0) for unit in range(1, 11)]
    line = VirtualLine(slaves, plans)
    line.run(120.0)
    for unit in range(1, 10):
        times = [at_s for at_s, _ in line.polls(f"d{unit}")]
        periods = [after - before for before, after in itertools.pairwise(times)]
        assert len(times) >= 118
        assert abs(statistics.mean(periods) - 1.0) < 0.05
        late = [period for period in periods if period > 1.1]
        assert len(late) <= 2, late  # only before the breaker opens
    assert status_of(line, "d10").state is SlaveState.DOWN


def test_slave_is_set_aside_after_three_polls_and_probed():
    line = VirtualLine({1: healthy(), 2: dead}, [plan("a", 1, (0, 0)), plan("b", 2, (0, 0))])
    line.run(3.5)
    assert status_of(line, "b").state is SlaveState.DOWN
    assert [n for n in line.notices if n.startswith("device b: set aside after 3 failures")]
    asked = sum(request.unit == 2 for _, request in line.sent)
    line.run(20.0)
    assert sum(request.unit == 2 for _, request in line.sent) == asked
    line.run(12.0)
    assert sum(request.unit == 2 for _, request in line.sent) == asked + 1


def test_slave_that_comes_back_is_polled_at_once_and_told_once():
    slaves = {1: healthy(), 2: dead}
    line = VirtualLine(slaves, [plan("a", 1, (0, 0)), plan("b", 2, (0, 0))])
    line.run(10.0)
    slaves[2] = healthy()
    line.run(60.0)
    assert status_of(line, "b").state is SlaveState.UP
    assert line.notices.count("device b: answers again") == 1
    good = [at_s for at_s, poll in line.polls("b") if poll.is_whole]
    assert len(good) >= 35
    assert line.core.status().counters.missed_turns <= 2


def test_failed_poll_is_reasons_and_no_registers():
    line = VirtualLine({1: dead}, [plan("a", 1, (0, 1), (10, 11))], settings={"retries": 0})
    line.run(0.5)
    ((_, poll),) = line.polls("a")
    assert [(read.error, read.data) for read in poll.reads] == [("E-MB-TIMEOUT", b"")] * 2
    assert poll.reads[0].text == "unit 1 after 0.30 s"
    assert sum(request.unit == 1 for _, request in line.sent) == 1


def test_what_was_read_before_the_failure_is_kept():
    def dies(request, now_s):
        return healthy()(request, now_s) if request.address == 0 else []

    line = VirtualLine({1: dies}, [plan("a", 1, (0, 1), (10, 12))], settings={"retries": 0})
    line.run(0.7)
    ((_, poll),) = line.polls("a")
    assert [read.error for read in poll.reads] == ["", "E-MB-TIMEOUT"]


def test_dead_bus_is_probed_every_few_seconds_and_revives_together():
    slaves = {unit: dead for unit in range(1, 6)}
    line = VirtualLine(slaves, [plan(f"d{unit}", unit, (0, 0)) for unit in range(1, 6)])
    line.run(60.0)
    for unit in slaves:
        slaves[unit] = healthy()
    line.run(8.0)
    assert all(status_of(line, f"d{unit}").state is SlaveState.UP for unit in slaves)


# ---- late replies ---------------------------------------------------------------------------


def late_once(at: int, delay_s: float):
    """A slave whose reply number *at* is late; a slave answers one after the other."""
    state = {"n": 0, "free_s": 0.0}

    def slave(request, now_s):
        state["n"] += 1
        wait_s = delay_s if state["n"] == at else 0.01
        state["free_s"] = max(now_s, state["free_s"]) + wait_s
        return [(state["free_s"] - now_s, Frame(request.unit, answer(request)))]

    return slave


@pytest.mark.parametrize("delay_s", [0.35, 0.5, 0.65, 0.9, 1.5, 3.0, 8.0])
def test_late_reply_never_becomes_another_register_s_value(delay_s):
    line = VirtualLine(
        {1: late_once(5, delay_s)}, [plan("a", 1, (0, 1), (10, 11), (20, 21), every=0.5)]
    )
    line.run(30.0)
    assert line.wrong_values() == 0
    assert line.core.status().counters.timeouts >= 1
    assert line.polls("a")[-1][1].is_whole


@pytest.mark.parametrize("fixed", [False, True])
def test_ten_thousand_requests_with_late_replies_bring_no_wrong_value(fixed):
    chance = random.Random(20260101)
    free_s = 0.0

    def slave(request, now_s):
        nonlocal free_s
        wait_s = chance.uniform(0.3, 4.0) if chance.random() < 0.05 else 0.01
        free_s = max(now_s, free_s) + wait_s
        return [(free_s - now_s, Frame(request.unit, answer(request)))]

    # lateness adds up: a slave that is late twice answers both times after the second
    pairs = [(at, at + 1) for at in range(0, 80, 10)]
    line = VirtualLine(
        {1: slave, 2: slave},
        [
            plan("a", 1, *pairs, every=0.25, fixed=fixed),
            plan("b", 2, *pairs, every=0.25, fixed=fixed),
        ],
        settings={"horizon_s": 20.0},
    )
    while line.core.counters.requests < 10_000:
        line.run(10.0)
    counters = line.core.status().counters
    assert line.wrong_values() == 0
    assert counters.late_replies > 100
    assert counters.replies > 7_000


@pytest.mark.parametrize(("horizon_s", "is_fooled"), [(0.0, True), (5.0, False)])
def test_silence_alone_is_fooled_and_the_reckoning_is_not(horizon_s, is_fooled):
    line = VirtualLine(
        {1: late_once(5, 0.65)},
        [plan("a", 1, (0, 1)), plan("b", 1, (10, 11))],
        settings={"horizon_s": horizon_s, "retries": 0},
    )
    line.run(10.0)
    assert (line.wrong_values() > 0) == is_fooled


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 0.6),
    longest_s=st.floats(0.05, 6.0),
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    fixed=st.booleans(),
)
def test_no_pattern_of_lateness_and_loss_brings_a_wrong_value(
    seed, share, longest_s, widths, fixed
):
    chance = random.Random(seed)
    free_s = {1: 0.0, 2: 0.0}

    def slave(request, now_s):
        if chance.random() < share / 3:
            return []  # lost on the way
        wait_s = chance.uniform(0, longest_s) if chance.random() < share else 0.01
        free_s[request.unit] = max(now_s, free_s[request.unit]) + wait_s
        pdu = answer(request)
        if request.function != 3:
            pdu = bytes((request.function | 0x80, 1))  # it has holding registers only
        return [(free_s[request.unit] - now_s, Frame(request.unit, pdu))]

    pairs = [(20 * n, 20 * n + width - 1) for n, width in enumerate(widths)]
    line = VirtualLine(
        {1: slave, 2: slave},
        [plan("a", 1, *pairs, fixed=fixed), plan("b", 2, *pairs, fixed=fixed)],
        settings={"horizon_s": 60.0},
    )
    line.run(60.0)
    assert line.wrong_values() == 0


def test_line_is_silent_for_a_timeout_after_every_missed_reply():
    line = VirtualLine({1: dead, 2: healthy()}, [plan("a", 1, (0, 0)), plan("b", 2, (0, 0))])
    line.run(3.0)
    missed = [at_s for at_s, request in line.sent if request.unit == 1]
    for at_s in missed:
        after = [other for other, _ in line.sent if other > at_s]
        assert not after or min(after) >= at_s + 0.3 + 0.3 - 1e-6


def test_tcp_with_transactions_needs_no_silence_and_ignores_late_replies():
    line = VirtualLine(
        {1: late_once(5, 0.35)}, [plan("a", 1, (0, 1), (10, 11), every=0.5)], Speech.TCP
    )
    line.run(10.0)
    assert line.wrong_values() == 0
    assert line.core.status().counters.late_replies == 1
    assert line.closes == []


def test_gateway_that_answers_transaction_0_is_treated_like_a_serial_line():
    line = VirtualLine(
        {1: late_once(9, 0.9)},
        [plan("a", 1, (0, 1), (10, 11), (20, 21), every=0.5)],
        Speech.TCP,
        echoes=lambda transaction: 0,
    )
    line.run(20.0)
    assert line.wrong_values() == 0
    assert line.core.status().counters.zero_transactions > 50
    assert line.polls("a")[-1][1].is_whole


def test_foreign_transaction_is_a_mismatch_and_the_connection_is_dropped():
    line = VirtualLine({1: healthy()}, [plan("a", 1, (0, 1))], Speech.TCP, echoes=lambda t: t ^ 99)
    line.run(1.0)
    assert line.closes
    assert "E-MB-TID" in line.closes[0][1]
    assert line.errors("a")[0] == "E-MB-TID"


def test_gateway_with_transactions_of_its_own_is_read_when_told_so():
    line = VirtualLine(
        {1: healthy()},
        [plan("a", 1, (0, 1))],
        Speech.TCP,
        echoes=lambda t: t ^ 99,
        settings={"trusts_transactions": False},
    )
    line.run(3.0)
    assert line.closes == []
    assert line.polls("a")[-1][1].is_whole


# ---- mismatches, refusals -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pdu", "unit", "code"),
    [
        ("04040001 0002", 1, "E-MB-FC"),
        ("03020001", 1, "E-MB-LENGTH"),
        ("0306000100020003", 1, "E-MB-LENGTH"),
        ("0300", 1, "E-MB-LENGTH"),
        ("0304 00010002", 2, "E-MB-UNIT"),
    ],
)
@pytest.mark.parametrize("speech", list(Speech))
def test_mismatch_is_a_reason_and_drops_the_connection(pdu, unit, code, speech):
    reply = Frame(unit, bytes.fromhex(pdu))
    line = VirtualLine({1: lambda r, n: [(0.01, reply)]}, [plan("a", 1, (0, 1))], speech)
    line.run(0.4)
    assert line.errors("a")[0] == code
    assert code in line.closes[0][1]


def test_busy_slave_is_asked_again_and_meanwhile_others_are_read():
    tries = {"n": 0}

    def busy(request, now_s):
        tries["n"] += 1
        return (refusing(6) if tries["n"] <= 2 else healthy())(request, now_s)

    line = VirtualLine({1: busy, 2: healthy()}, [plan("a", 1, (0, 0)), plan("b", 2, (0, 0))])
    line.run(0.9)
    assert [result.device for _, result in line.results] == ["b", "a"]
    assert line.polls("a")[0][1].is_whole
    assert line.core.status().counters.busy == 2


def test_slave_that_stays_busy_is_a_reason_but_not_dead():
    line = VirtualLine({1: refusing(6)}, [plan("a", 1, (0, 0), every=2.0)])
    line.run(20.0)
    assert set(line.errors("a")) == {"E-MB-EXC-6"}
    assert status_of(line, "a").state is SlaveState.UP


def test_illegal_address_is_a_mistake_of_the_profile_with_its_line():
    line = VirtualLine({1: refusing(2), 2: healthy()}, [plan("a", 1, (7, 8)), plan("b", 2, (0, 0))])
    line.run(30.0)
    told = "unit 1 function 3 7..8: illegal address: check the register map line 10"
    assert line.notices == [f"device a: {told}"]
    assert status_of(line, "a").refused == (told,)
    assert sum(request.unit == 1 for _, request in line.sent) == 1  # not asked again at once
    assert set(line.errors("a")) == {"E-MB-EXC-2"}  # but the reason stays on record
    assert len(line.polls("a")) == 30


def test_refused_read_is_tried_again_after_a_while():
    slaves = {1: refusing(2)}
    line = VirtualLine(slaves, [plan("a", 1, (7, 8), every=10.0)])
    line.run(60.0)
    slaves[1] = healthy()
    line.run(620.0)
    assert line.polls("a")[-1][1].is_whole
    assert status_of(line, "a").refused == ()


def test_read_across_a_register_that_is_not_there_is_taken_apart():
    def sparse(request, now_s):
        hole = request.address <= 2 <= request.last
        return (refusing(2) if hole else healthy())(request, now_s)

    line = VirtualLine({1: sparse}, [plan("a", 1, (0, 1), (3, 4), gap=4)])
    line.run(10.0)
    assert [r.address for r in line.polls("a")[0][1].reads] == [0, 3]
    assert all(poll.is_whole for _, poll in line.polls("a"))
    assert sum(request.count == 5 for _, request in line.sent) == 1
    assert "limits.illegal" in line.notices[0]


def test_device_whose_reads_are_all_refused_is_not_called_up_when_it_falls_silent():
    slaves = {1: refusing(2)}
    line = VirtualLine(slaves, [plan("a", 1, (7, 8), every=60.0)])
    line.run(30.0)
    assert status_of(line, "a").state is SlaveState.UP
    slaves[1] = dead
    line.run(1500.0)
    assert status_of(line, "a").state is not SlaveState.UP


def test_slow_line_is_given_the_time_that_the_bytes_take():
    # 125 registers at 4800 baud: 255 bytes take longer than the timeout
    byte_s = 10 / 4800
    line = VirtualLine(
        {1: healthy(0.2 + 268 * byte_s)},
        [plan("a", 1, (0, 124), every=2.0)],
        settings={"byte_s": byte_s, "timeout_s": 0.3},
    )
    line.run(20.0)
    assert all(poll.is_whole for _, poll in line.polls("a"))


def test_gateway_without_its_target_sets_the_slave_aside_without_silence():
    line = VirtualLine(
        {1: refusing(11), 2: healthy()}, [plan("a", 1, (0, 0)), plan("b", 2, (0, 0))]
    )
    line.run(5.0)
    assert status_of(line, "a").state is SlaveState.DOWN
    assert line.closes == []
    assert set(line.errors("a")) == {"E-MB-EXC-11"}


def test_garbled_reply_is_retried_once_after_silence():
    tries = {"n": 0}

    def noisy(request, now_s):
        tries["n"] += 1
        return [(0.01, "garbled")] if tries["n"] == 3 else healthy()(request, now_s)

    line = VirtualLine({1: noisy}, [plan("a", 1, (0, 1))])
    line.run(10.0)
    assert all(poll.is_whole for _, poll in line.polls("a"))
    assert line.core.status().counters.garbled == 1


# ---- connections ----------------------------------------------------------------------------


def test_lost_connection_is_opened_again_within_a_second_and_told_once():
    tries = {"n": 0}

    def closes(request, now_s):
        tries["n"] += 1
        return [(0.01, "lost")] if tries["n"] == 3 else healthy()(request, now_s)

    line = VirtualLine({1: closes}, [plan("a", 1, (0, 1))])
    line.run(10.0)
    assert len(line.connects) == 2
    assert line.connects[1][0] - line.connects[0][0] < 3.5
    assert line.notices == [
        "bus line: not connected: closed by the gateway",
        "bus line: connected again",
    ]
    assert line.errors("a").count("E-MB-LINK") == 1
    assert status_of(line, "a").state is SlaveState.UP


def test_gateway_that_is_down_at_start_is_connected_when_it_appears():
    line = VirtualLine({1: healthy()}, [plan("a", 1, (0, 1))], endpoints={0: False})
    line.run(300.0)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(line.connects)]
    assert max(gaps) <= 3.0
    assert line.notices == ["bus line: not connected: refused"]
    assert len(line.polls("a")) <= 6  # the reason is on record, once a minute
    line.endpoints[0] = True
    line.run(5.0)
    assert line.polls("a")[-1][1].is_whole


def test_half_open_connection_is_given_up_and_opened_again():
    slaves = {1: healthy()}
    line = VirtualLine(slaves, [plan("a", 1, (0, 1))])
    line.run(5.0)
    slaves[1] = dead
    line.run(4.0)
    assert "no reply to 3 requests" in line.closes[0][1]
    slaves[1] = healthy()
    line.run(5.0)
    assert line.polls("a")[-1][1].is_whole


def test_other_endpoint_is_used_while_the_preferred_one_is_down():
    line = VirtualLine(
        {1: healthy()},
        [plan("a", 1, (0, 1))],
        endpoints={0: False, 1: True},
        settings={"primary_again_s": 30.0},
    )
    line.run(10.0)
    assert [endpoint for _, endpoint in line.connects] == [0, 1]
    line.run(25.0)
    assert [endpoint for _, endpoint in line.connects] == [0, 1, 0, 1]
    line.endpoints[0] = True
    line.run(40.0)
    assert line.connects[-1][1] == 0
    line.run(100.0)
    assert line.connects[-1][1] == 0


def test_line_that_is_never_silent_is_left():
    def babbling(request, now_s):
        return [(0.05 * n, Frame(9, b"\x03\x02\x00\x00")) for n in range(1, 200)]

    line = VirtualLine({1: babbling}, [plan("a", 1, (0, 1))], settings={"quiet_s": 0.2})
    line.run(3.0)
    assert line.closes
    assert line.wrong_values() == 0


def test_silent_serial_port_is_not_opened_again_and_again():
    line = VirtualLine({1: dead}, [plan("a", 1, (0, 1))], settings={"is_port": True})
    line.run(60.0)
    assert len(line.connects) == 1


# ---- jobs -----------------------------------------------------------------------------------


def test_job_goes_between_polls_and_starves_nobody():
    line = VirtualLine({1: healthy(0.02)}, [plan("a", 1, (0, 1), every=0.1)])
    line.run(1.0)
    job = Job(tuple(ReadRequest(1, 3, at, 1) for at in range(20)))
    assert line.core.add_job(job)
    before = len(line.polls("a"))
    line.run(2.0)
    assert job.is_done
    assert all(isinstance(outcome, Answer) for outcome in job.outcomes)
    assert line.core.take_finished() == [job]
    assert len(line.polls("a")) - before >= 19


def test_job_gives_up_at_the_first_silence_unless_told_otherwise():
    line = VirtualLine({1: dead}, [])
    first = Job((ReadRequest(1, 3, 0, 1), ReadRequest(1, 3, 1, 1)), timeout_s=0.1)
    second = Job((ReadRequest(2, 3, 0, 1), ReadRequest(3, 3, 0, 1)), timeout_s=0.1, goes_on=True)
    line.core.add_job(first)
    line.core.add_job(second)
    line.run(3.0)
    assert [outcome.code for outcome in first.outcomes] == ["E-MB-TIMEOUT"] * 2
    assert first.outcomes[1].text.startswith("not asked")
    assert [request.unit for _, request in line.sent] == [1, 2, 3]


def test_job_without_a_connection_fails_at_once():
    line = VirtualLine({1: healthy()}, [], endpoints={0: False})
    line.run(0.2)
    job = Job((ReadRequest(1, 3, 0, 1),))
    line.core.add_job(job)
    line.run(0.5)
    assert isinstance(job.outcomes[0], Failure)
    assert job.outcomes[0].code == "E-MB-LINK"


def test_queue_of_jobs_is_bounded():
    line = VirtualLine({}, [])
    accepted = [line.core.add_job(Job((ReadRequest(1, 3, 0, 1),))) for _ in range(65)]
    assert accepted == [True] * 64 + [False]
