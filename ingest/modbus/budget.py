"""Whether a bus can carry what is asked of it, with the arithmetic in words; pure.

A half-duplex line carries one request at a time.  Each costs the bytes of question and answer at
the line's speed, the silence that frames need, the time the device thinks, and the pause it wants.
One slave at a time may be dead and be probed; on lines without transactions that costs its timeout
and as much silence again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from devices.profile import Line
from ingest.modbus.poll_plan import PollGroup

_QUESTION_BYTES = 8
_ANSWER_BYTES = 5
_SILENT_CHARS = 3.5


@dataclass(frozen=True, slots=True)
class Load:
    """One device on a bus: *groups* as planned, *response_s* and *pause_s* as its profile says."""

    device: str
    groups: tuple[PollGroup, ...]
    response_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What one interval of a bus is made of.

    *fits* says whether all that is due within *interval_s* can be done in it; *text* shows why.
    """

    interval_s: float
    needed_s: float
    text: str

    @property
    def fits(self) -> bool:
        """Whether the interval is kept in the worst case."""
        return self.needed_s <= self.interval_s


def request_s(count_bytes: int, line: Line | None, response_s: float, pause_s: float) -> float:
    """Return how long one request occupies the bus, in seconds; *line* None for a network."""
    wire_s = 0.0
    if line is not None:
        byte_s = line.bits_per_byte / line.baud
        wire_s = (_QUESTION_BYTES + _ANSWER_BYTES + count_bytes + 2 * _SILENT_CHARS) * byte_s
    return wire_s + response_s + pause_s


def bus_budgets(
    bus: str,
    loads: Sequence[Load],
    line: Line | None,
    probe_s: float,
    pause_s: float = 0.0,
) -> list[Budget]:
    """Return the arithmetic for each interval on the bus, shortest first.

    In an interval fall all requests of that pace, those of quicker paces as often as they are due
    in it, one request of a slower pace that may just be under way, and one probe of *probe_s*.
    *pause_s* is the bus's own pause between requests.
    """
    costs: list[tuple[float, str, float]] = []
    for load in loads:
        for group in load.groups:
            for read in group.reads:
                pause = max(pause_s, load.pause_s)
                cost = request_s(read.request.data_bytes, line, load.response_s, pause)
                costs.append((group.interval_s, load.device, cost))
    return [
        _budget(bus, interval_s, costs, probe_s)
        for interval_s in sorted({interval_s for interval_s, _, _ in costs})
    ]


def _budget(
    bus: str, interval_s: float, costs: Sequence[tuple[float, str, float]], probe_s: float
) -> Budget:
    parts: Counter[tuple[int, float]] = Counter()
    needed_s = probe_s
    slower = [cost for pace_s, _, cost in costs if pace_s > interval_s]
    for pace_s, _, cost in costs:
        if pace_s <= interval_s:
            times = int(interval_s // pace_s)
            parts[times, round(cost, 4)] += 1
            needed_s += times * cost
    words = [
        f"{count} request{'s' * (count > 1)} x {f'{times} x ' if times > 1 else ''}{cost:.3f} s"
        for (times, cost), count in sorted(parts.items())
    ]
    if slower:
        needed_s += max(slower)
        words.append(f"one slower request {max(slower):.3f} s")
    words.append(f"one probe {probe_s:.3f} s")
    devices = len({device for pace_s, device, _ in costs if pace_s <= interval_s})
    sign = "<=" if needed_s <= interval_s else ">"
    text = (
        f"bus {bus}: {devices} device{'s' * (devices > 1)}, {' + '.join(words)} "
        f"= {needed_s:.2f} s {sign} interval {interval_s:g} s"
    )
    return Budget(interval_s, needed_s, text)
