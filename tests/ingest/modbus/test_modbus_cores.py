"""The small pure parts of a bus: late replies, breaker, turns, the arithmetic of a bus."""

from __future__ import annotations

import asyncio

import pytest

from devices.profile import Line, Parity
from devices.profile_library import shipped_profile
from ingest.modbus.bell import Bell
from ingest.modbus.breaker import Breaker, BreakerSettings, SlaveState
from ingest.modbus.budget import Load, bus_budgets, request_s
from ingest.modbus.late_reply import Clearance, LateReplies, Verdict
from ingest.modbus.poll_plan import plan_polls, wanted_points
from ingest.modbus.request import ReadRequest, WriteRequest
from ingest.modbus.schedule import Schedule, Turn

READ = ReadRequest(1, 3, 0, 2)
SAME_LOOK = ReadRequest(1, 3, 10, 2)
LONGER = ReadRequest(1, 3, 20, 3)
TWO, THREE, REFUSAL = bytes.fromhex("0304 00010002"), bytes.fromhex("0306000100020003"), b"\x83\x02"


# ---- late replies ---------------------------------------------------------------------------


def test_nothing_is_in_the_way_while_nothing_is_owed():
    late = LateReplies(5.0)
    assert late.clearance(READ, [], 0.0) == Clearance()
    assert late.judge(READ, 1, TWO, 0.0) is Verdict.OURS
    assert late.judge(READ, 2, TWO, 0.0) is Verdict.FOREIGN
    assert late.judge(None, 1, TWO, 0.0) is Verdict.FOREIGN


def test_reply_that_may_be_older_is_not_believed():
    late = LateReplies(5.0)
    late.missed(READ, 0.0)
    assert late.judge(SAME_LOOK, 1, TWO, 1.0) is Verdict.LATE
    assert not late.owes(1, 1.0)
    assert late.judge(SAME_LOOK, 1, TWO, 1.0) is Verdict.OURS


def test_reply_of_another_length_proves_that_the_older_one_will_not_come():
    late = LateReplies(5.0)
    late.missed(READ, 0.0)
    assert late.clearance(LONGER, [], 1.0) == Clearance()
    assert late.judge(LONGER, 1, THREE, 1.0) is Verdict.OURS
    assert not late.owes(1, 1.0)


def test_request_that_looks_alike_is_preceded_by_one_that_does_not():
    late = LateReplies(5.0)
    late.missed(READ, 0.0)
    assert late.clearance(SAME_LOOK, [READ, LONGER], 1.0).sync == LONGER
    assert late.clearance(SAME_LOOK, [READ], 1.0).sync == ReadRequest(1, 4, 10, 1)


def test_refusal_that_may_be_older_is_not_believed_either():
    late = LateReplies(5.0)
    late.missed(READ, 0.0)
    assert late.judge(LONGER, 1, REFUSAL, 1.0) is Verdict.LATE
    late.missed(READ, 2.0)
    twin = late.clearance(SAME_LOOK, [], 2.0).sync
    assert late.judge(twin, 1, b"\x84\x01", 2.0) is Verdict.OURS
    assert not late.owes(1, 2.0)


def test_unit_rests_when_every_look_is_owed_until_the_first_is_free():
    late = LateReplies(5.0)
    for at_s, function in enumerate((3, 4, 1, 2)):
        late.missed(ReadRequest(1, function, 0, 1), float(at_s))
    assert late.clearance(ReadRequest(1, 3, 9, 1), [], 4.0) == Clearance(rest_until_s=5.0)
    assert late.clearance(ReadRequest(1, 3, 9, 1), [], 5.1) == Clearance()


def test_units_owe_for_themselves():
    late = LateReplies(5.0)
    late.missed(READ, 0.0)
    assert late.clearance(ReadRequest(2, 3, 0, 2), [], 0.0) == Clearance()
    assert late.judge(ReadRequest(2, 3, 0, 2), 1, TWO, 0.0) is Verdict.LATE


def test_write_is_recognised_by_its_echo():
    late = LateReplies(5.0)
    write = WriteRequest(1, 6, 5, (7,))
    late.missed(write, 0.0)
    other = WriteRequest(1, 6, 5, (8,))
    assert late.clearance(other, [], 0.0) == Clearance()
    assert late.judge(other, 1, write.echo, 0.0) is Verdict.LATE
    assert late.judge(other, 1, other.echo, 0.0) is Verdict.OURS


# ---- breaker --------------------------------------------------------------------------------


def test_breaker_opens_at_the_third_failure_and_waits_longer_each_time():
    breaker = Breaker(BreakerSettings(failures=3, probe_s=30, probe_max_s=60))
    assert [breaker.fail(float(n)) for n in range(3)] == [False, False, True]
    assert (breaker.state, breaker.probe_at_s) == (SlaveState.DOWN, 32.0)
    breaker.fail(32.0)
    assert breaker.probe_at_s == 92.0
    breaker.fail(92.0)
    assert breaker.probe_at_s == 152.0
    breaker.probe_soon(100.0)
    assert breaker.probe_at_s == 100.0
    assert breaker.succeed()
    assert (breaker.state, breaker.failures) == (SlaveState.UP, 0)
    assert not breaker.succeed()


def test_one_answer_forgives_earlier_failures():
    breaker = Breaker(BreakerSettings())
    for _ in range(10):
        breaker.fail(0.0)
        breaker.fail(0.0)
        assert breaker.state is SlaveState.SUSPECT
        breaker.succeed()


# ---- turns ----------------------------------------------------------------------------------


def test_turn_keeps_its_grid_and_counts_what_it_skipped():
    turn = Turn("a", 10.0, (), due_at_s=100.0)
    turn.take(101.0)
    assert (turn.due_at_s, turn.missed) == (110.0, 0)
    turn.take(135.0)
    assert (turn.due_at_s, turn.missed) == (140.0, 2)
    turn.take(140.0)
    assert (turn.due_at_s, turn.missed) == (150.0, 2)


def test_turn_of_a_device_that_was_set_aside_missed_nothing():
    turn = Turn("a", 10.0, (), due_at_s=100.0)
    turn.catch_up(167.0)
    assert (turn.due_at_s, turn.missed) == (160.0, 0)


def test_schedule_picks_rank_before_deadline():
    schedule = Schedule(
        [Turn("slow", 60.0, (), 0.0), Turn("quick", 1.0, (), 0.0), Turn("off", 0.1, (), 0.0)]
    )
    ranks = {"slow": 0, "quick": 0, "off": None}
    assert schedule.due(0.0, ranks.get).device == "quick"
    ranks["quick"] = 1
    assert schedule.due(0.0, ranks.get).device == "slow"
    assert schedule.due(0.0, ranks.get, skip=["slow"]).device == "quick"
    assert schedule.due(-1.0, ranks.get) is None
    assert schedule.next_due_s(ranks.get) == 0.0
    assert schedule.next_due_s(lambda device: None) is None


# ---- the arithmetic of a bus ----------------------------------------------------------------


def load(name: str, device: str, interval_s: float) -> Load:
    profile = shipped_profile(name)
    groups = plan_polls(profile, 1, wanted_points(profile, interval_s))
    return Load(device, groups, profile.limits.response_s, profile.limits.pause_s)


def test_request_costs_its_bytes_the_silence_and_the_device_s_time():
    # 8 + 5 + 4 bytes and 7 of silence, ten bits each, at 4800 baud: 50 ms
    assert request_s(4, Line(4800), 0.1, 0.02) == pytest.approx(0.05 + 0.1 + 0.02)
    assert request_s(4, Line(4800, parity=Parity.EVEN), 0, 0) == pytest.approx(0.055)
    assert request_s(4, None, 0.1, 0.0) == pytest.approx(0.1)


def test_bus_that_cannot_keep_its_interval_is_refused_with_the_arithmetic():
    loads = [load("zts-3000-tr-ws-n01", f"soil-{n}", 2.0) for n in range(31)]
    (budget,) = bus_budgets("b", loads, Line(4800), probe_s=0.5)
    assert not budget.fits
    assert budget.text == (
        "bus b: 31 devices, 31 requests x 0.150 s + one probe 0.500 s = 5.15 s > interval 2 s"
    )


def test_bus_with_room_is_accepted():
    loads = [load("zts-3000-tr-ws-n01", f"soil-{n}", 10.0) for n in range(31)]
    (budget,) = bus_budgets("b", loads, Line(4800), probe_s=0.5)
    assert budget.fits
    assert budget.text.endswith("= 5.15 s <= interval 10 s")


def test_slower_pace_must_leave_room_for_the_quicker_one():
    quick, slow = load("zts-3000-tr-ws-n01", "quick", 1.0), load("jxct-jxbs-3001-tr", "slow", 10.0)
    first, second = bus_budgets("b", [quick, slow], Line(9600), probe_s=0.5)
    assert first.interval_s == 1.0
    assert "1 request x 0.125 s + one slower request 0.127 s + one probe" in first.text
    assert "10 x 0.125 s" in second.text
    assert first.fits
    assert second.fits


def test_pause_of_the_bus_counts_for_every_request():
    (budget,) = bus_budgets("b", [load("xy-md02", "a", 1.0)], None, probe_s=0.0, pause_s=0.05)
    assert budget.needed_s == pytest.approx(0.15)


async def test_bell_wakes_at_a_ring_or_at_its_deadline_and_not_before():
    bell, loop = Bell(), asyncio.get_running_loop()
    bell.ring()
    bell.ring()
    assert await bell.wait(loop.time() + 10.0), "a ring before the wait is heard"
    begun_s = loop.time()
    assert not await bell.wait(begun_s + 0.02), "and only once"
    assert loop.time() >= begun_s + 0.02

    # The timer of an earlier, nearer deadline goes off while a later one is waited for.
    loop.call_later(0.005, bell.ring)
    assert await bell.wait(loop.time() + 0.03)
    begun_s = loop.time()
    assert not await bell.wait(begun_s + 0.08)
    assert 0.08 <= loop.time() - begun_s < 1.0

    # The timer of an earlier, farther deadline does not hold back a nearer one.
    loop.call_later(0.005, bell.ring)
    assert await bell.wait(loop.time() + 30.0)
    begun_s = loop.time()
    assert not await bell.wait(begun_s + 0.02)
    assert 0.02 <= loop.time() - begun_s < 1.0

    # A timer that goes off while nobody waits is nobody's.
    passed = asyncio.Event()
    loop.call_later(0.005, bell.ring)
    loop.call_later(0.02, passed.set)
    assert await bell.wait(loop.time() + 0.01)
    await passed.wait()
    begun_s = loop.time()
    assert not await bell.wait(begun_s + 0.02)
    assert loop.time() >= begun_s + 0.02
    bell.close()


async def test_bell_that_is_closed_leaves_no_timer_behind():
    bell, loop = Bell(), asyncio.get_running_loop()
    loop.call_soon(bell.ring)
    assert await bell.wait(loop.time() + 3600.0)
    (timer,) = (one for one in vars(loop)["_scheduled"] if one.when() > loop.time() + 3000.0)
    bell.close()
    assert timer.cancelled()
    bell.close()
