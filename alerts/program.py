"""Programs: conditions over columns of samples, evaluated for all of them at once.

A `Program` has *leaves* (which stream of which measure), *params* (every limit, in the unit of what
it is compared with) and one tree a level over both.  Params stand outside of the trees, so that all
rules of one shape (``something > limit``) share one tree and are evaluated together, each with its
own limits.

A tree answers in three values, twice: *yes* / *no* at the limit, and *stay* / *gone* at the clear
level.  What is in neither array is unknown: it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.expression import Measure
from alerts.hours import OfHours, Usual
from alerts.segments import NEVER, BoolArray, FloatArray, IndexArray, Int64Array
from alerts.stream import Operator, Unchanged, Value
from alerts.stream import Silence as SilenceOperator
from alerts.window import COMPARE, Aggregate, Bins, Each, Running, Sliding
from alerts.zone import DAY_US, HOUR_US
from devices.derived import FORMULAS
from devices.series import STALE_AFTER_INTERVALS

RAISE, BAND, CLEAR, UNKNOWN = np.int8(1), np.int8(0), np.int8(-1), np.int8(2)

_MEAN, _DAYS = Aggregate("mean"), Bins("day")


# -- leaves


@dataclass(frozen=True, slots=True)
class Spec:
    """Which operator makes a leaf's stream, with all that fixes it; equal specs share one."""

    kind: str
    aggregate: Aggregate = _MEAN
    length_us: int = 0
    bins: Bins = _DAYS
    hours: int = 0
    intervals: float = 0.0
    valid: bool = False
    confirm_us: tuple[int, ...] = ()

    def operator(self) -> Operator:
        """Return a new operator of this kind."""
        a = self.aggregate
        if self.kind == "value":
            return Value()
        if self.kind == "silence":
            return SilenceOperator(self.intervals, self.length_us, self.valid, self.confirm_us)
        if self.kind == "unchanged":
            return Unchanged()
        if self.kind == "sliding":
            return Sliding(a, self.length_us)
        if self.kind == "usual":
            return Usual(self.hours)
        if self.kind in ("hour", "day"):
            return Each(a, self.kind)
        if self.kind == "running":
            return Running(a, self.bins)
        return OfHours(self.kind, a.name, a.need_us, self.hours)

    def step_us(self, interval_us: Int64Array) -> Int64Array:
        """Return how often the stream says something, from the series' intervals (m,).

        0 for a silence, which says something when it begins and nothing while it lasts.
        """
        fixed = {"hour": HOUR_US, "hours_8": HOUR_US, "silence": 0}
        fixed |= dict.fromkeys(("day", "hours_day", "eights_day"), DAY_US)
        if self.kind in fixed:
            return np.full(len(interval_us), fixed[self.kind], np.int64)
        return interval_us

    def holds_us(self, interval_us: Int64Array) -> Int64Array:
        """Return how long a value of the stream counts while no other comes."""
        if self.kind == "silence":
            return np.full(len(interval_us), NEVER)
        return np.asarray(STALE_AFTER_INTERVALS * self.step_us(interval_us))

    @property
    def by_time(self) -> bool:
        """Whether time alone brings values."""
        return self.kind in ("silence", "hour", "day", "hours_8", "hours_day", "eights_day")

    @property
    def at_end(self) -> bool:
        """Whether values stand at the end of the hour or day that they speak of."""
        return self.by_time and self.kind != "silence"

    def memory_us(self) -> int:
        """Return how far back readings matter for a value, apart from the series' own intervals."""
        if self.kind == "usual":
            return (self.hours + 1) * DAY_US
        if self.kind == "running" and self.bins.kind == "season":
            return 366 * DAY_US
        lengths = {"hour": HOUR_US, "hours_8": 9 * HOUR_US}
        lengths |= dict.fromkeys(("day", "hours_day", "eights_day", "running"), 2 * DAY_US)
        return lengths.get(self.kind, self.length_us + max(self.confirm_us, default=0))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One stream that a condition looks at.

    *members* says which series of a subject feed it: ``one``, ``all`` (each its own stream),
    ``merged`` (all readings together as one stream: silence of a device or a house) or ``twins``
    (the other series of the subject's kind beside it).
    """

    measure: Measure
    spec: Spec
    members: str = "one"


# -- trees over leaves and params


@dataclass(slots=True)
class Frame:
    """n samples: a column (n,) or (n, members) for each leaf, and the params of their bindings."""

    columns: Sequence[FloatArray]
    params: FloatArray
    binding: IndexArray

    def param(self, index: int) -> FloatArray:
        """Return one param for each sample."""
        return np.asarray(self.params[:, index][self.binding])

    def take(self, rows: npt.NDArray[Any]) -> Frame:
        """Return some of the samples."""
        return Frame([column[rows] for column in self.columns], self.params, self.binding[rows])


@dataclass(slots=True)
class Truth:
    """*yes* / *no*: the condition holds, does not; *stay* / *gone*: the same at the clear level."""

    yes: BoolArray
    no: BoolArray
    stay: BoolArray
    gone: BoolArray

    def codes(self) -> npt.NDArray[np.int8]:
        """Return RAISE, CLEAR, BAND or UNKNOWN for each sample."""
        band = np.where(self.no, BAND, UNKNOWN)
        return np.where(self.yes, RAISE, np.where(self.gone, CLEAR, band)).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Param:
    """The *index*-th param of the sample's binding."""

    index: int

    def values(self, frame: Frame) -> FloatArray:
        """Return it for each sample."""
        return frame.param(self.index)


@dataclass(frozen=True, slots=True)
class Column:
    """A leaf; where it has several members, *reduce* makes one value of those that are known."""

    leaf: int
    reduce: str = "average"

    def values(self, frame: Frame) -> FloatArray:
        """Return it for each sample, NaN where it is unknown."""
        column = frame.columns[self.leaf]
        if column.ndim == 1:
            return np.full_like(column, np.nan) if self.reduce == "spread" else column
        return np.asarray(REDUCE[self.reduce](column))


def _average(members: FloatArray) -> FloatArray:
    """Return the mean of the known members, added in their order so that it is always the same."""
    total, count = np.zeros(len(members)), np.zeros(len(members))
    for column in members.T:
        known = ~np.isnan(column)
        total = np.where(known, total + column, total)
        count += known
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count)


def _spread(members: FloatArray) -> FloatArray:
    known = (~np.isnan(members)).sum(axis=1)
    difference = np.fmax.reduce(members, axis=1) - np.fmin.reduce(members, axis=1)
    return np.where(known >= 2, difference, np.nan)


def _median(members: FloatArray) -> FloatArray:
    ordered = np.sort(members, axis=1)  # NaN last
    known = (~np.isnan(members)).sum(axis=1)
    row = np.arange(len(members))
    low = ordered[row, np.maximum((known - 1) // 2, 0)]
    high = ordered[row, np.minimum(known // 2, members.shape[1] - 1)]
    return np.where(known > 0, (low + high) / 2.0, np.nan)


REDUCE = {
    "average": _average,
    "highest": lambda members: np.fmax.reduce(members, axis=1),
    "lowest": lambda members: np.fmin.reduce(members, axis=1),
    "spread": _spread,
    "median": _median,
}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``+ - * /``; NaN where a side is unknown or the divisor is 0."""

    sign: str
    left: Numeric
    right: Numeric

    def values(self, frame: Frame) -> FloatArray:
        """Return the result for each sample."""
        left, right = self.left.values(frame), self.right.values(frame)
        if self.sign == "+":
            return left + right
        if self.sign == "-":
            return left - right
        if self.sign == "*":
            return left * right
        return np.asarray(left / np.where(right == 0.0, np.nan, right))


@dataclass(frozen=True, slots=True)
class Apply:
    """``abs``, or the formula of a derived quantity."""

    name: str
    arguments: tuple[Numeric, ...]

    def values(self, frame: Frame) -> FloatArray:
        """Return the result for each sample."""
        arguments = [argument.values(frame) for argument in self.arguments]
        if self.name == "abs":
            return np.abs(arguments[0])
        return np.asarray(FORMULAS[self.name].compute(*arguments), np.float64)


Numeric = Param | Column | Arithmetic | Apply


@dataclass(frozen=True, slots=True)
class Above:
    """A comparison (of any sign) with a limit; *clear* is a param too, or -1."""

    left: Numeric
    sign: str
    limit: int
    clear: int = -1

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        values = self.left.values(frame)
        known = ~np.isnan(values)
        yes = COMPARE[self.sign](values, frame.param(self.limit)) & known
        if self.clear < 0:
            no = known & ~yes
            return Truth(yes, no, yes, no)
        stay = (COMPARE[self.sign](values, frame.param(self.clear)) & known) | yes
        return Truth(yes, known & ~yes, stay, known & ~stay)

    def yes(self, frame: Frame) -> BoolArray:
        """Return only where the limit is passed: the common, quick question."""
        values = self.left.values(frame)
        passed = COMPARE[self.sign](values, frame.param(self.limit))
        return np.asarray(passed & ~np.isnan(values) if self.sign == "!=" else passed)


@dataclass(frozen=True, slots=True)
class Within:
    """Inside or outside of two limits; the params are low, high, and both again with the margin."""

    left: Numeric
    inside: bool
    low: int

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        values = self.left.values(frame)
        known = ~np.isnan(values)
        low, high, low_clear, high_clear = (frame.param(self.low + i) for i in range(4))
        yes = (values >= low) & (values <= high)
        stay = (values >= low_clear) & (values <= high_clear)
        if not self.inside:
            yes, stay = known & ~yes, known & ~stay
        return Truth(yes, known & ~yes, stay, known & ~stay)

    def yes(self, frame: Frame) -> BoolArray:
        """Return where the condition holds."""
        return self.truth(frame).yes


@dataclass(frozen=True, slots=True)
class Is:
    """A stream of 0 and 1."""

    leaf: int

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        values = frame.columns[self.leaf]
        return Truth(values == 1.0, values == 0.0, values == 1.0, values == 0.0)

    def yes(self, frame: Frame) -> BoolArray:
        """Return where it is 1."""
        return np.asarray(frame.columns[self.leaf] == 1.0)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A comparison that at least *least* members pass; all of them where it is 0.

    Members that are unknown count neither way: true needs enough that pass, false needs so many
    that fail that there cannot be enough.
    """

    leaf: int
    sign: str
    limit: int
    clear: int
    least: int

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        members = frame.columns[self.leaf]
        members = members[:, None] if members.ndim == 1 else members
        size = members.shape[1]
        least = self.least or size
        known = ~np.isnan(members)
        yes = COMPARE[self.sign](members, frame.param(self.limit)[:, None]) & known
        clear = self.clear if self.clear >= 0 else self.limit
        stay = (COMPARE[self.sign](members, frame.param(clear)[:, None]) & known) | yes
        return Truth(
            yes.sum(axis=1) >= least,
            (known & ~yes).sum(axis=1) > size - least,
            stay.sum(axis=1) >= least,
            (known & ~stay).sum(axis=1) > size - least,
        )

    def yes(self, frame: Frame) -> BoolArray:
        """Return where enough members pass."""
        return self.truth(frame).yes


@dataclass(frozen=True, slots=True)
class Joined:
    """``and`` or ``or`` in three values."""

    word: str
    parts: tuple[Logical, ...]

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        every = [part.truth(frame) for part in self.parts]
        all_of, any_of = np.logical_and.reduce, np.logical_or.reduce
        first, second = (all_of, any_of) if self.word == "and" else (any_of, all_of)
        return Truth(
            first([t.yes for t in every]),
            second([t.no for t in every]),
            first([t.stay for t in every]),
            second([t.gone for t in every]),
        )

    def yes(self, frame: Frame) -> BoolArray:
        """Return where the condition holds."""
        join = np.logical_and.reduce if self.word == "and" else np.logical_or.reduce
        return np.asarray(join([part.yes(frame) for part in self.parts]))


@dataclass(frozen=True, slots=True)
class Opposite:
    """``not``: it holds when the part is surely over, and stays until the part holds again."""

    part: Logical

    def truth(self, frame: Frame) -> Truth:
        """Return what each sample says."""
        part = self.part.truth(frame)
        return Truth(part.gone, part.stay, part.no, part.yes)

    def yes(self, frame: Frame) -> BoolArray:
        """Return where the condition holds."""
        return self.part.truth(frame).gone


Logical = Above | Within | Is | AtLeast | Joined | Opposite


# -- programs


@dataclass(frozen=True)
class Program:
    """What a rule's levels look at and how they judge it.

    *levels* from the lowest severity to the highest.  *value* is what an alert shows, with its
    *unit*; *sense* says which way is worse (1 up, -1 down, 2 away from the band of the params
    *band* and the one after it, 0 neither).
    """

    leaves: tuple[Leaf, ...]
    params: tuple[float, ...]
    levels: tuple[Logical, ...]
    value: Numeric | None
    unit: str
    sense: int
    band: int = 0

    @cached_property
    def shape(self) -> str:
        """What programs that can be evaluated together have in common."""
        leaves = [(leaf.spec, leaf.members) for leaf in self.leaves]
        return repr((leaves, self.levels, self.value, self.sense, self.band))

    def beyond(self, frame: Frame, values: FloatArray) -> FloatArray:
        """Return how bad each value is: the larger the worse, NaN where it is unknown."""
        if self.sense == 2:
            low, high = frame.param(self.band), frame.param(self.band + 1)
            return np.asarray(np.maximum(values - high, low - values))
        return values * float(self.sense)
