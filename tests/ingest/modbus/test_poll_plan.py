"""The planner asks for everything that is wanted, legally, in as few requests as can be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.profile import read_profile
from devices.profile_library import shipped_profile, shipped_profile_names
from ingest.modbus.poll_plan import (
    Stretch,
    plan_polls,
    plan_reads,
    plan_stretches,
    wanted_points,
)


def spans(runs: list[list[Stretch]]) -> list[tuple[int, int]]:
    return [(run[0].start, run[-1].end - 1) for run in runs]


def plan(*pairs: tuple[int, int], most: int = 125, gap: int = 0, illegal=()) -> list:
    return spans(plan_stretches([Stretch(a, b + 1) for a, b in pairs], most, gap, illegal))


@pytest.mark.parametrize(
    ("wanted", "limits", "requests"),
    [
        # neighbours become one request, whatever their order
        ([(2, 3), (0, 0), (1, 1)], {}, [(0, 3)]),
        # a hole is not crossed unless the device puts up with it
        ([(0, 0), (2, 2)], {}, [(0, 0), (2, 2)]),
        ([(0, 0), (2, 2)], {"gap": 1}, [(0, 2)]),
        ([(0, 0), (3, 3)], {"gap": 1}, [(0, 0), (3, 3)]),
        # never across an illegal address, however long a gap may be
        ([(0, 0), (3, 3)], {"gap": 9, "illegal": [(2, 2)]}, [(0, 0), (3, 3)]),
        ([(0, 0), (3, 3)], {"gap": 9, "illegal": [(4, 9)]}, [(0, 3)]),
        # the longest read of the device, values whole
        ([(n, n) for n in range(10)], {"most": 4}, [(0, 1), (2, 5), (6, 9)]),
        ([(0, 1), (2, 3), (4, 5)], {"most": 5}, [(0, 1), (2, 5)]),
        # with two requests either way, the way that moves fewer registers
        ([(0, 0), (5, 5), (6, 6)], {"most": 6, "gap": 9}, [(0, 0), (5, 6)]),
        # bits of one register, bytes of one register
        ([(7, 7), (7, 7), (7, 7)], {}, [(7, 7)]),
        ([], {}, []),
    ],
)
def test_plan(wanted, limits, requests):
    assert plan(*wanted, **limits) == requests


@pytest.mark.parametrize("limits", [{"most": 1}, {"illegal": [(4, 4)]}])
def test_value_that_no_legal_request_holds_is_refused(limits):
    with pytest.raises(ValueError, match=r"no legal request holds 3\.\.4"):
        plan((3, 4), **limits)


def fewest_by_brute_force(
    wanted: list[tuple[int, int]], most: int, gap: int, illegal: list[tuple[int, int]]
) -> int:
    """Try every set of legal requests; addresses are looked at one by one."""
    forbidden = {at for first, last in illegal for at in range(first, last + 1)}
    used = {at for first, last in wanted for at in range(first, last + 1)}
    starts, ends = {a for a, _ in wanted}, {b for _, b in wanted}

    def legal(first: int, last: int) -> bool:
        idle = 0
        for at in range(first, last + 1):
            if at in forbidden:
                return False
            idle = 0 if at in used else idle + 1
            if idle > gap:
                return False
        return last - first < most

    requests = [(a, b) for a in starts for b in ends if a <= b and legal(a, b)]

    def cover(left: frozenset[tuple[int, int]]) -> int:
        if not left:
            return 0
        first = min(left)
        best = 10**9
        for a, b in requests:
            if a <= first[0] and first[1] <= b:
                rest = frozenset(pair for pair in left if not (a <= pair[0] and pair[1] <= b))
                best = min(best, 1 + cover(rest))
        return best

    return cover(frozenset(wanted))


@st.composite
def problems(draw):
    at, wanted = 0, []
    for _ in range(draw(st.integers(1, 7))):
        at += draw(st.integers(0, 4))
        width = draw(st.sampled_from([1, 1, 2, 4]))
        wanted.append((at, at + width - 1))
        at += width
    used = {n for a, b in wanted for n in range(a, b + 1)}
    free = [n for n in range(at) if n not in used]
    illegal = [(n, n) for n in free if draw(st.booleans())]
    return wanted, draw(st.integers(4, 12)), draw(st.integers(0, 4)), illegal


@settings(max_examples=400, deadline=None)
@given(problems())
def test_no_legal_plan_has_fewer_requests(problem):
    wanted, most, gap, illegal = problem
    found = plan(*wanted, most=most, gap=gap, illegal=illegal)
    assert len(found) == fewest_by_brute_force(wanted, most, gap, illegal)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_every_plan_is_legal_and_complete(problem):
    wanted, most, gap, illegal = problem
    found = plan(*wanted, most=most, gap=gap, illegal=illegal)
    for first, last in found:
        assert last - first < most
        assert not any(a <= last and first <= b for a, b in illegal)
    for value in wanted:
        holders = [pair for pair in found if pair[0] <= value[0] and value[1] <= pair[1]]
        assert len(holders) == 1


def test_hundred_and_twenty_five_registers_and_two_thousand_bits_are_the_most():
    registers = ", ".join(f"{{address: {n}, type: uint16, key: r{n}}}" for n in range(130))
    coils = ", ".join(f"{{address: {n}, key: c{n}}}" for n in range(2010))
    text = f"""
profile: wide
protocol: modbus
maker: nobody
model: wide
name: {{en: wide}}
sources: [{{text: test, evidence: C}}]
blocks:
  - function: 3
    points: [{registers}]
  - function: 1
    points: [{coils}]
"""
    profile = read_profile(text, "wide.yaml")
    reads = plan_reads(profile, 1, {point.key for point in profile.points})
    assert sorted((r.request.function, r.request.address, r.request.count) for r in reads) == [
        (1, 0, 10),
        (1, 10, 2000),
        (3, 0, 5),
        (3, 5, 125),
    ]


def requests_of(name: str) -> list[tuple[int, int, int]]:
    profile = shipped_profile(name)
    (group,) = plan_polls(profile, profile.unit, wanted_points(profile, 10.0))
    return [(r.request.function, r.request.address, r.request.count) for r in group.reads]


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("zts-3000-tr-ws-n01", [(3, 0, 2)]),
        ("jxct-jxbs-3001-tr", [(3, 6, 1), (3, 0x12, 2), (3, 0x15, 1), (3, 0x1E, 3)]),
        ("sn-3001-tr-thnpkph-n01", [(3, 0, 2), (3, 3, 4)]),
        ("renke-rs-fsxcs", [(3, 500, 16)]),
        ("vaisala-gmp252", [(3, 0, 2), (3, 0x800, 2)]),
        ("vaisala-wxt530", [(4, 0x0A, 26)]),
        ("apogee-sq-422x", [(3, 0, 11)]),
        ("generic-relay-8", [(1, 0, 8)]),
        ("generic-fertigation-unit", [(3, 0, 12)]),
    ],
)
def test_shipped_profile_is_read_in_the_fewest_requests(name, requests):
    assert requests_of(name) == requests


@pytest.mark.parametrize("name", shipped_profile_names())
def test_plan_brings_every_series_of_a_shipped_profile(name):
    profile = shipped_profile(name)
    reads = plan_reads(profile, profile.unit, {point.key for point in profile.series()})
    for point in profile.series():
        assert [
            read
            for read in reads
            if read.request.function == point.function
            and read.request.address <= point.address
            and point.end <= read.request.last + 1
        ]


def test_status_is_read_with_what_it_guards_at_its_pace():
    profile = shipped_profile("vaisala-gmp252")
    (group,) = plan_polls(profile, 240, {"co2": 2.0})
    assert group.interval_s == 2.0
    assert [read.request.address for read in group.reads] == [0, 0x800]


def test_points_of_different_pace_are_polled_apart_fastest_first():
    profile = shipped_profile("sn-3001-tr-ecthnpkph-n01")
    groups = plan_polls(profile, 1, {"soil_ph": 600.0, "soil_moisture": 60.0, "soil_ec": 60.0})
    assert [(g.interval_s, [str(r.request) for r in g.reads]) for g in groups] == [
        (60.0, ["unit 1 function 3 0..0", "unit 1 function 3 2..2"]),
        (600.0, ["unit 1 function 3 3..3"]),
    ]


def test_read_across_gaps_can_be_taken_apart():
    profile = shipped_profile("sn-3002-tr-ecthph-n01")
    (read,) = plan_reads(profile, 1, {point.key for point in profile.series()})
    assert read.has_gaps
    assert [(p.request.address, p.request.count) for p in read.parts()] == [(0, 4), (7, 2)]
    assert not any(part.has_gaps for part in read.parts())


def test_planned_read_knows_the_lines_of_the_profile():
    profile = shipped_profile("zts-3000-tr-ws-n01")
    (read,) = plan_reads(profile, 1, {"soil_moisture", "soil_temperature"})
    assert read.lines == {
        0: profile.point("soil_moisture").line,
        1: profile.point("soil_temperature").line,
    }
