"""The fewest legal requests for what is wanted of a device; pure.

A value is read whole or not at all.  Values in order of address are cut into runs; a run is one
request.  Among all ways to cut, the one with the fewest requests is taken, and among those the one
that moves the fewest registers.  As values do not overlap, no plan with fewer requests exists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devices.profile import Limits, Point, Profile
from ingest.modbus.request import ReadRequest


@dataclass(frozen=True, slots=True)
class Stretch:
    """Addresses ``start .. end - 1`` that must be read together."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """One request and the values it is for.

    *stretches* are the parts that could also be asked for one by one, in order; *lines* maps their
    first addresses to the line of the profile that wants them.  A *fixed* read is never cut.
    """

    request: ReadRequest
    stretches: tuple[Stretch, ...]
    lines: Mapping[int, int]
    fixed: bool = False

    @property
    def has_gaps(self) -> bool:
        """Whether it runs across registers that nobody wants."""
        pairs = zip(self.stretches, self.stretches[1:], strict=False)
        return any(before.end < after.start for before, after in pairs)

    def shorter(self) -> tuple[ReadRequest, ...]:
        """Return the reads that ask for its first values only, longest first; none if fixed."""
        if self.fixed:
            return ()
        ask = self.request
        ends = [stretch.end for stretch in self.stretches[-2::-1]]
        return tuple(
            ReadRequest(ask.unit, ask.function, ask.address, end - ask.address) for end in ends
        )

    def parts(self) -> tuple[PlannedRead, ...]:
        """Return the reads that ask for the same without running across gaps."""
        runs: list[list[Stretch]] = []
        for stretch in self.stretches:
            if runs and stretch.start <= runs[-1][-1].end:
                runs[-1].append(stretch)
            else:
                runs.append([stretch])
        ask = self.request
        return tuple(planned_read(ask.unit, ask.function, run, self.lines) for run in runs)


@dataclass(frozen=True, slots=True)
class PollGroup:
    """Reads that are due together, every *interval_s* seconds."""

    interval_s: float
    reads: tuple[PlannedRead, ...]


def plan_stretches(
    stretches: Iterable[Stretch],
    most: int,
    gap: int = 0,
    illegal: Sequence[tuple[int, int]] = (),
) -> list[list[Stretch]]:
    """Cut *stretches* into runs, each no longer than *most* and without illegal addresses.

    *gap* is the longest way over unused addresses inside a run.  Raises ValueError for a stretch
    that no legal request can hold.
    """
    ordered = _disjoint(stretches)
    for one in ordered:
        if one.end - one.start > most or _forbidden(one.start, one.end, illegal):
            raise ValueError(f"no legal request holds {one.start}..{one.end - 1}")
    # best[i]: (requests, registers, where the last run begins) for the first i stretches
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for stop in range(1, len(ordered) + 1):
        end = ordered[stop - 1].end
        found: tuple[int, int, int] | None = None
        for first in range(stop - 1, -1, -1):
            start = ordered[first].start
            if end - start > most:
                break
            if first < stop - 1:
                hole = ordered[first].end, ordered[first + 1].start
                if hole[1] - hole[0] > gap or (illegal and _forbidden(*hole, illegal)):
                    break
            before = best[first]
            candidate = (before[0] + 1, before[1] + end - start, first)
            if found is None or candidate < found:
                found = candidate
        assert found is not None  # a stretch alone is always legal
        best.append(found)
    runs: list[list[Stretch]] = []
    stop = len(ordered)
    while stop:
        first = best[stop][2]
        runs.append(ordered[first:stop])
        stop = first
    return runs[::-1]


def plan_polls(profile: Profile, unit: int, wanted: Mapping[str, float]) -> tuple[PollGroup, ...]:
    """Return what to ask *unit* and how often, fastest first.

    *wanted* maps keys of points to intervals in seconds.  A status register that guards a wanted
    point is read with it, at its pace, so that the two are judged together.
    """
    by_interval: dict[float, set[str]] = defaultdict(set)
    for key, interval_s in wanted.items():
        by_interval[interval_s].add(key)
        by_interval[interval_s].update(point.key for point in profile.guards(key))
    return tuple(
        PollGroup(interval_s, plan_reads(profile, unit, keys))
        for interval_s, keys in sorted(by_interval.items())
    )


def plan_reads(profile: Profile, unit: int, keys: Collection[str]) -> tuple[PlannedRead, ...]:
    """Return the fewest legal reads that bring the points *keys* of *profile*."""
    fixed: list[PlannedRead] = []
    loose: dict[int, list[Point]] = defaultdict(list)
    for block in profile.blocks:
        points = [point for point in block.points if point.key in keys]
        if not points:
            continue
        if block.span is not None:
            first, last = block.span
            lines = {first: points[0].line}
            run = [Stretch(first, last + 1)]
            fixed.append(planned_read(unit, block.function, run, lines, fixed=True))
        else:
            loose[block.function] += points
    reads = [
        planned_read(unit, function, run, {point.address: point.line for point in points})
        for function, points in loose.items()
        for run in _runs(points, function, profile.limits)
    ]
    return (*reads, *fixed)


def wanted_points(profile: Profile, interval_s: float) -> dict[str, float]:
    """Return all points that feed a series, each at its block's own interval or *interval_s*."""
    return {
        point.key: block.interval_s or interval_s
        for block in profile.blocks
        if block.polled
        for point in block.points
        if point.quantity is not None
    }


def planned_read(
    unit: int,
    function: int,
    run: Sequence[Stretch],
    lines: Mapping[int, int],
    fixed: bool = False,
) -> PlannedRead:
    """Return the read of one run of stretches."""
    request = ReadRequest(unit, function, run[0].start, run[-1].end - run[0].start)
    inside = {at: line for at, line in lines.items() if request.address <= at <= request.last}
    return PlannedRead(request, tuple(run), inside, fixed)


def _runs(points: Iterable[Point], function: int, limits: Limits) -> list[list[Stretch]]:
    stretches = [Stretch(point.address, point.end) for point in points]
    illegal = limits.illegal.get(function, ())
    return plan_stretches(stretches, limits.most(function), limits.gap, illegal)


def _disjoint(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Order them; those that share addresses (bits of one register) become one."""
    out: list[Stretch] = []
    for one in sorted(stretches, key=lambda stretch: (stretch.start, stretch.end)):
        if out and one.start < out[-1].end:
            out[-1] = Stretch(out[-1].start, max(out[-1].end, one.end))
        else:
            out.append(one)
    return out


def _forbidden(start: int, end: int, illegal: Sequence[tuple[int, int]]) -> bool:
    return any(first < end and start <= last for first, last in illegal)
