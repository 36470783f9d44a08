"""What goes wrong with a device's readings, as transformations of its stream of samples.

A fault takes one sample and gives back none, one or several; several faults in a row are a fault
again (`Chain`).  All draw from their own seeded random source and go by the sample's true time
(`Sample.at_us`), never by a clock, so a stream with faults is as repeatable as one without.

    instrument ──▶ [stuck] ──▶ [spike] ──▶ [wrong clock] ──▶ [duplicate] ──▶ node

Whoever feeds one sample at a time calls `Fault.push` and at the end `Fault.rest`; `transform` does
both for a whole stream.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from firmware_sims.sample import Sample

RESET_CLOCK_US = 946_684_800_000_000  # 2000-01-01 00:00 UTC, where clocks without battery begin
YEAR_S = 365 * 86400.0

Values = Mapping[str, float | None]


class Fault(Protocol):
    """One thing that is wrong, for a while: in its *window*."""

    @property
    def window(self) -> Window:
        """When it acts."""
        ...

    def push(self, sample: Sample) -> list[Sample]:
        """Return what comes out when *sample* goes in; samples come in the order of their time."""
        ...

    def rest(self) -> list[Sample]:
        """Return what is held back when no more samples come."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault acts, in true time; *until_us* is exclusive and None means for good."""

    from_us: int
    until_us: int | None = None

    def __contains__(self, at_us: object) -> bool:
        if not isinstance(at_us, int) or at_us < self.from_us:
            return False
        return self.until_us is None or at_us < self.until_us


ALWAYS = Window(-(2**63))


@dataclass
class _Each(ABC):
    """A fault that makes one sample of one, or none: subclasses say what *change* does."""

    window: Window = ALWAYS
    _started_us: int | None = field(default=None, init=False, repr=False)

    def push(self, sample: Sample) -> list[Sample]:
        if sample.at_us not in self.window:
            self.passed(sample)
            return [sample]
        if self._started_us is None:
            is_open = self.window.from_us == ALWAYS.from_us
            self._started_us = sample.at_us if is_open else self.window.from_us
        changed = self.change(sample)
        return [] if changed is None else [changed]

    def rest(self) -> list[Sample]:
        return []

    def passed(self, sample: Sample) -> None:  # noqa: B027 - most faults have nothing to remember
        """See a sample that the fault leaves alone."""

    @abstractmethod
    def change(self, sample: Sample) -> Sample | None:
        """Return what becomes of a sample within the window."""

    def since_start_us(self, sample: Sample) -> int:
        """Return how long the fault has acted: from its window's start, else its first sample."""
        return sample.at_us - (sample.at_us if self._started_us is None else self._started_us)


@dataclass
class _Keyed(_Each):
    """A fault of some sensors of a device; no *keys* means all of them."""

    keys: frozenset[str] = frozenset()

    def hits(self, key: str) -> bool:
        return not self.keys or key in self.keys

    def changed(self, sample: Sample, change: Callable[[str, float], float | None]) -> Sample:
        """Return *sample* with *change* applied to the numbers that the fault hits."""
        return sample.with_values(
            {
                key: change(key, value) if value is not None and self.hits(key) else value
                for key, value in sample.values.items()
            }
        )


@dataclass
class Dropout(_Keyed):
    """Readings that never come: each key's with *probability*, a sample left empty not at all."""

    probability: float = 1.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def change(self, sample: Sample) -> Sample | None:
        """Return what is left; without keys of its own the fault takes samples whole."""
        if not self.keys:
            return None if self._random.random() < self.probability else sample
        left = {
            key: value
            for key, value in sample.values.items()
            if key not in self.keys or self._random.random() >= self.probability
        }
        return sample.with_values(left) if left else None


@dataclass
class Stuck(_Keyed):
    """A sensor that goes on saying what it said last before the fault."""

    _last: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def passed(self, sample: Sample) -> None:
        """Remember the last number of each key."""
        self._last.update({k: v for k, v in sample.values.items() if v is not None})

    def change(self, sample: Sample) -> Sample | None:
        """Return the remembered numbers under the new time."""
        return self.changed(sample, lambda key, value: self._last.setdefault(key, value))


@dataclass
class Spike(_Keyed):
    """Single readings that are off by *amount*, up or down, each with *probability*."""

    amount: float = 0.0
    probability: float = 0.02
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def change(self, sample: Sample) -> Sample | None:
        """Return the sample with spikes."""
        return self.changed(sample, self._spiked)

    def _spiked(self, key: str, value: float) -> float:
        if self._random.random() >= self.probability:
            return value
        return round(value + self._random.choice((-self.amount, self.amount)), 6)


@dataclass
class Drift(_Keyed):
    """A sensor that moves away from the truth by *per_hour*."""

    per_hour: float = 0.0

    def change(self, sample: Sample) -> Sample | None:
        """Return the sample with what has gathered by its time."""
        gathered = self.per_hour * self.since_start_us(sample) / 3600e6
        return self.changed(sample, lambda _, value: round(value + gathered, 4))


@dataclass
class Noise(_Keyed):
    """A loose contact: readings scatter with the standard deviation *deviation*."""

    deviation: float = 0.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def change(self, sample: Sample) -> Sample | None:
        """Return the sample with its scatter."""
        return self.changed(
            sample, lambda _, value: round(value + self._random.gauss(0.0, self.deviation), 4)
        )


@dataclass
class SensorNull(_Keyed):
    """A sensor that is gone: its key is sent, with null."""

    def change(self, sample: Sample) -> Sample | None:
        """Return the sample with nulls."""
        return self.changed(sample, lambda _key, _value: None)


@dataclass
class WrongClock(_Each):
    """A clock that is off by *offset_s*, and by *drift_s_per_day* more as time goes on."""

    offset_s: float = 0.0
    drift_s_per_day: float = 0.0

    def change(self, sample: Sample) -> Sample | None:
        """Return the same values under the wrong time."""
        off_s = self.offset_s + self.drift_s_per_day * self.since_start_us(sample) / 86400e6
        return sample.stamped(sample.stamp_us + round(off_s * 1e6))


@dataclass
class Reboot:
    """A restart at the window's start that takes *down_s*, in which nothing is measured.

    Afterwards and until the window's end the clock counts from 2000-01-01, and for good the
    running totals in *counters* count from nothing.
    """

    window: Window
    down_s: float = 20.0
    counters: frozenset[str] = frozenset()
    _base: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def push(self, sample: Sample) -> list[Sample]:
        """Return the sample as the device sends it at its time."""
        since_us = sample.at_us - self.window.from_us
        if since_us < 0:
            self._base.update(
                {k: v for k in self.counters if (v := sample.values.get(k)) is not None}
            )
            return [sample]
        if since_us < self.down_s * 1e6:
            return []
        values = {
            key: round(value - self._base.get(key, 0.0), 6)
            if value is not None and key in self.counters
            else value
            for key, value in sample.values.items()
        }
        stamp_us = sample.stamp_us
        if sample.at_us in self.window:
            stamp_us = RESET_CLOCK_US + since_us - round(self.down_s * 1e6)
        return [Sample(sample.at_us, stamp_us, values)]

    def rest(self) -> list[Sample]:
        """Return nothing: no sample is held back."""
        return []


@dataclass
class Duplicate:
    """Samples that are sent twice, each with *probability*."""

    window: Window = ALWAYS
    probability: float = 0.1
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def push(self, sample: Sample) -> list[Sample]:
        """Return the sample once or twice."""
        if sample.at_us in self.window and self._random.random() < self.probability:
            return [sample, sample]
        return [sample]

    def rest(self) -> list[Sample]:
        """Return nothing: no sample is held back."""
        return []


@dataclass
class OutOfOrder:
    """Samples that are overtaken: each with *probability* waits for up to *depth* later ones."""

    window: Window = ALWAYS
    probability: float = 0.2
    depth: int = 3
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)
    _held: list[tuple[int, Sample]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def push(self, sample: Sample) -> list[Sample]:
        """Return the sample unless it has to wait, and after it those that have waited enough."""
        waiting = [(left - 1, held) for left, held in self._held]
        self._held = [(left, held) for left, held in waiting if left > 0]
        out = [held for left, held in waiting if left <= 0]
        if sample.at_us in self.window and self._random.random() < self.probability:
            self._held.append((self._random.randint(1, self.depth), sample))
            return out
        return [sample, *out]

    def rest(self) -> list[Sample]:
        """Return what still waits, oldest first."""
        out = [held for _, held in self._held]
        self._held = []
        return out


@dataclass
class Chain:
    """Faults in a row: what one gives out the next one takes in."""

    faults: Sequence[Fault]

    def push(self, sample: Sample) -> list[Sample]:
        """Return what comes out at the end of the row."""
        return _through(self.faults, [sample])

    def rest(self) -> list[Sample]:
        """Empty the row from its beginning."""
        out: list[Sample] = []
        for index, fault in enumerate(self.faults):
            out += _through(self.faults[index + 1 :], fault.rest())
        return out


def transform(fault: Fault, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield what *fault* makes of a whole stream."""
    for sample in samples:
        yield from fault.push(sample)
    yield from fault.rest()


def _through(faults: Sequence[Fault], samples: list[Sample]) -> list[Sample]:
    for fault in faults:
        samples = [out for sample in samples for out in fault.push(sample)]
    return samples
