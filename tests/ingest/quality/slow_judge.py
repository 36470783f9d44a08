"""The rules of quality once more, one reading at a time in plain Python: what the judge must say.

Written from docs/reference/quality.md, not from the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from devices.checks import Checks, Limits, limits_of, shipped_checks
from devices.quality import BAD_MASK, Quality
from devices.quantity import QUANTITIES
from devices.registry import Registry

US = 1_000_000


@dataclass
class Remembered:
    at_us: int
    value: float
    run_us: int
    bits: int


@dataclass
class Memory:
    live: list[Remembered] = field(default_factory=list)
    late: list[Remembered] = field(default_factory=list)
    late_came_us: int | None = None
    lateness_us: int = 0


class SlowJudge:
    """Judges single readings; `judge` returns the quality of one."""

    def __init__(self, registry: Registry, checks: Checks | None = None) -> None:
        self.limits: dict[int, tuple[str, Limits, float]] = {}
        for series, limits in limits_of(registry, checks or Checks()):
            number = registry.series_ids[series.code]
            self.limits[number] = (series.quantity, limits, series.interval_s)
        self.memory = {number: Memory() for number in self.limits}

    def judge(self, series: int, at_us: int, received_us: int, value: float, quality: int) -> int:
        if series not in self.limits:
            return quality
        quantity, limits, interval_s = self.limits[series]
        quality |= self.alone(quantity, limits, at_us, received_us, value, quality)
        apart = quality & (Quality.MANUAL | Quality.RETAINED)
        memory = self.memory[series]
        if not apart:
            quality |= self.lag(memory, limits, interval_s, at_us, received_us)
        if apart or quality & BAD_MASK or math.isnan(value):
            return quality
        return quality | self.neighbours(memory, limits, interval_s, at_us, value)

    def alone(self, quantity, limits, at_us, received_us, value, quality):
        bits = Quality.GOOD
        manual = quality & Quality.MANUAL
        if not manual:
            if value < limits.sensor_low or value > limits.sensor_high:
                bits |= Quality.SENSOR_RANGE
            if value > limits.saturates_at:
                bits |= Quality.SATURATED
            late_us = received_us - at_us
            if -late_us > limits.ahead_s * US or late_us > limits.behind_s * US:
                bits |= Quality.CLOCK
        physical = QUANTITIES[quantity]
        possible = physical.low <= value <= physical.high
        if value in limits.sentinels:
            bits |= Quality.SENTINEL
        if value in shipped_checks().codes and (not possible or bits & Quality.SENSOR_RANGE):
            bits |= Quality.SENTINEL
        return bits

    def lag(self, memory, limits, interval_s, at_us, received_us):
        late_us = received_us - at_us
        if late_us <= limits.lag_s * US or late_us <= 4 * interval_s * US:
            return 0
        bits = 0
        if memory.late_came_us is not None:
            since = received_us - memory.late_came_us
            near = max(5 * US, interval_s * US / 4)
            if (
                interval_s * US / 2 <= since <= 4 * interval_s * US
                and abs(late_us - memory.lateness_us) <= near
            ):
                bits = int(Quality.CLOCK)
        memory.late_came_us, memory.lateness_us = received_us, late_us
        return bits

    def neighbours(self, memory, limits, interval_s, at_us, value):
        if not memory.live or at_us > memory.live[-1].at_us:
            before = memory.live[-3:]
            entry = self.hold(before, limits, interval_s, at_us, value)
            memory.live = [*memory.live, entry][-8:]
            return entry.bits
        for one in (*memory.live, *memory.late):
            if one.at_us == at_us:
                return one.bits if one.value == value else int(Quality.CONFLICT)
        if memory.late and at_us < memory.late[-1].at_us:
            memory.late = []
        both = sorted((*memory.live, *memory.late), key=lambda one: one.at_us)
        before = [one for one in both if one.at_us < at_us][-3:]
        entry = self.hold(before, limits, interval_s, at_us, value)
        memory.late = [*memory.late, entry][-4:]
        return entry.bits

    def hold(self, before, limits, interval_s, at_us, value):
        bits, run_us = 0, at_us

        def too_far(one):
            allowed = limits.step + limits.rate_per_s / 1e6 * (at_us - one.at_us)
            return abs(value - one.value) > allowed

        if len(before) == 3 and all(map(too_far, before)):
            bits |= Quality.STEP
        flat_s = max(limits.flat_s, 5 * interval_s)
        gap_s = max(3.5 * interval_s, flat_s / 8)
        if before:
            last = before[-1]
            if last.value == value and at_us - last.at_us <= gap_s * US:
                run_us = last.run_us
        moves = limits.rest_low < value < limits.rest_high
        if moves and at_us - run_us >= flat_s * US:
            bits |= Quality.FLAT_LINE
        return Remembered(at_us, value, run_us, int(bits))
