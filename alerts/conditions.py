"""Conditions as programs: the tree that was written, with streams chosen and units resolved.

`compile_levels` brings every limit to the unit of what it is compared with, once, when a rule is
loaded; at run time it is a number in an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alerts.errors import ConditionError
from alerts.expression import (
    FUNCTIONS,
    Between,
    Both,
    Call,
    Compare,
    Condition,
    CountOf,
    Excess,
    Flat,
    HoursWith,
    Measure,
    Not,
    Number,
    Operation,
    Silence,
    Span,
    Statistic,
    Sum,
)
from alerts.program import (
    Above,
    Apply,
    Arithmetic,
    AtLeast,
    Column,
    Is,
    Joined,
    Leaf,
    Logical,
    Numeric,
    Opposite,
    Param,
    Program,
    Spec,
    Within,
)
from alerts.window import Aggregate, Bins
from alerts.zone import DAY_US
from devices.derived import FORMULAS
from devices.document import nearest
from devices.quantity import QUANTITIES
from devices.units import UnitError, conversion

# Differences by their nature, whatever they are made of: 2 K and 2 °C say the same of them.
_DIFFERENCES = frozenset({"dew_point_margin"})
_UNITLESS = ("1", "pH")
_DEFAULT_SHARE = 0.5  # of a sliding span, where the rule does not say what it needs
_NEEDS_COVERAGE = ("mean", "median", "range", "sum")


@dataclass(slots=True)
class _Typed:
    """A sum with its unit; *weight* is 1 for a point on a scale, 0 for a difference."""

    node: Numeric
    unit: str
    weight: float
    at: int


@dataclass(slots=True)
class _TypedColumn(_Typed):
    node: Column


@dataclass(slots=True)
class _Compiler:
    confirm_us: tuple[int, ...]
    leaves: list[Leaf] = field(default_factory=list)
    params: list[float] = field(default_factory=list)

    # -- params and leaves

    def param(self, value: float) -> int:
        self.params.append(value)
        return len(self.params) - 1

    def leaf(self, leaf: Leaf) -> int:
        if leaf not in self.leaves:
            self.leaves.append(leaf)
        return self.leaves.index(leaf)

    # -- conditions

    def condition(self, tree: Condition) -> Logical:
        if isinstance(tree, Both):
            return Joined(tree.word, tuple(self.condition(part) for part in tree.parts))
        if isinstance(tree, Not):
            return Opposite(self.condition(tree.part))
        if isinstance(tree, Silence):
            return self._silence(tree)
        if isinstance(tree, Flat):
            return self._flat(tree)
        if isinstance(tree, CountOf):
            return self._count(tree)
        if isinstance(tree, Between):
            return self._between(tree)
        left = self.sum(tree.left)
        limit, clear = self._limits(tree, left)
        return Above(left.node, tree.sign, limit, clear)

    def _limits(self, tree: Compare, left: _Typed) -> tuple[int, int]:
        limit = _convert(tree.limit, left.unit, left.weight)
        if tree.clear is None:
            return self.param(limit), -1
        clear = _convert(tree.clear, left.unit, left.weight)
        if tree.sign in ("==", "!="):
            raise ConditionError(tree.clear.at, "a clear level", f"none, beside {tree.sign}")
        if (clear > limit) if tree.sign in (">", ">=") else (clear < limit):
            side = "at or below" if tree.sign in (">", ">=") else "at or above"
            raise ConditionError(
                tree.clear.at, f"a clear level of {clear:g} {left.unit}", f"one {side} the limit"
            )
        return self.param(limit), self.param(clear)

    def _between(self, tree: Between) -> Logical:
        left = self.sum(tree.left)
        low = _convert(tree.low, left.unit, left.weight)
        high = _convert(tree.high, left.unit, left.weight)
        if low > high:
            raise ConditionError(tree.low.at, f"{low:g}..{high:g}", "the lower limit first")
        margin = _convert(tree.margin, left.unit, 0.0) if tree.margin else 0.0
        if margin < 0 or (not tree.inside and 2 * margin > high - low):
            raise ConditionError(
                tree.at, f"a margin of {margin:g}", "one that leaves room between the limits"
            )
        inward = -margin if tree.inside else margin
        first = self.param(low)
        for value in (high, low + inward, high - inward):
            self.param(value)
        return Within(left.node, tree.inside, first)

    def _silence(self, tree: Silence) -> Logical:
        spec = Spec(
            "silence",
            length_us=tree.length_us,
            intervals=tree.intervals,
            valid=tree.valid,
            confirm_us=self.confirm_us,
        )
        return Is(self.leaf(Leaf(tree.measure, spec, "merged")))

    def _flat(self, tree: Flat) -> Logical:
        if tree.within is None:
            leaf = self.leaf(Leaf(tree.measure, Spec("unchanged")))
            return Above(Column(leaf), ">=", self.param(tree.length_us / 1e6))
        if not tree.measure.quantity:
            raise ConditionError(tree.within.at, "within", "it only after a named quantity")
        aggregate = Aggregate("range", need_share=0.9)
        leaf = self.leaf(Leaf(tree.measure, Spec("sliding", aggregate, tree.length_us)))
        unit = QUANTITIES[tree.measure.quantity].unit
        return Above(Column(leaf), "<=", self.param(_convert(tree.within, unit, 0.0)))

    def _count(self, tree: CountOf) -> Logical:
        left = self._members(tree.compare.left, "all", "average")
        leaf = left.node.leaf
        limit, clear = self._limits(tree.compare, left)
        return AtLeast(leaf, tree.compare.sign, limit, clear, tree.least)

    def _members(self, tree: Sum, members: str, reduce: str) -> _TypedColumn:
        """Return the column that holds every series of a measure."""
        if not isinstance(tree, (Measure, Statistic, HoursWith, Excess)):
            raise ConditionError(tree.at, "a sum", "a quantity, such as air_temperature")
        spec, unit, weight = _stream_of(tree)
        measure = tree if isinstance(tree, Measure) else tree.measure
        column = Column(self.leaf(Leaf(measure, spec, members)), reduce)
        return _TypedColumn(column, unit, weight, tree.at)

    # -- sums

    def sum(self, tree: Sum) -> _Typed:
        if isinstance(tree, Number):
            if tree.unit:
                raise ConditionError(tree.at, "a number with a unit alone", "a quantity beside it")
            return _Typed(Param(self.param(tree.value)), "", 0.0, tree.at)
        if isinstance(tree, Operation):
            return self._operation(tree)
        if isinstance(tree, Call):
            return self._call(tree)
        spec, unit, weight = _stream_of(tree)
        measure = tree if isinstance(tree, Measure) else tree.measure
        return _Typed(Column(self.leaf(Leaf(measure, spec))), unit, weight, tree.at)

    def _operation(self, tree: Operation) -> _Typed:
        if tree.sign in "+-":
            return self._addition(tree)
        left, right = self.sum(tree.left), self.sum(tree.right)
        node = Arithmetic(tree.sign, left.node, right.node)
        if not right.unit:
            factor = tree.right.value if isinstance(tree.right, Number) else 1.0
            weight = left.weight * factor if tree.sign == "*" else left.weight / (factor or 1.0)
            return _Typed(node, left.unit, weight, tree.at)
        if tree.sign == "*" and not left.unit:
            factor = tree.left.value if isinstance(tree.left, Number) else 1.0
            return _Typed(node, right.unit, right.weight * factor, tree.at)
        if tree.sign == "/" and left.unit == right.unit:
            return _Typed(node, "1", 1.0, tree.at)
        raise ConditionError(
            tree.at,
            f"{left.unit or 'a number'} {tree.sign} {right.unit}",
            "a plain number on one side, or a quotient of two of the same unit",
        )

    def _addition(self, tree: Operation) -> _Typed:
        sign = 1.0 if tree.sign == "+" else -1.0
        if isinstance(tree.right, Number) and tree.right.unit:
            left = self.sum(tree.left)
            shift = Param(self.param(_convert(tree.right, left.unit, 0.0)))
            return _Typed(Arithmetic(tree.sign, left.node, shift), left.unit, left.weight, tree.at)
        if isinstance(tree.left, Number) and tree.left.unit:
            right = self.sum(tree.right)
            weight = 0.0 if tree.sign == "+" else right.weight
            start = Param(self.param(_convert(tree.left, right.unit, weight)))
            node = Arithmetic(tree.sign, start, right.node)
            return _Typed(node, right.unit, weight + sign * right.weight, tree.at)
        left, right = self.sum(tree.left), self.sum(tree.right)
        if left.unit != right.unit:
            raise ConditionError(
                tree.at, f"{left.unit or 'a number'} {tree.sign} {right.unit or 'a number'}",
                "two of the same unit",
            )  # fmt: skip
        node = Arithmetic(tree.sign, left.node, right.node)
        return _Typed(node, left.unit, left.weight + sign * right.weight, tree.at)

    def _call(self, tree: Call) -> _Typed:
        if tree.name == "abs":
            self._expect_arguments(tree, 1)
            inner = self.sum(tree.arguments[0])
            return _Typed(Apply("abs", (inner.node,)), inner.unit, inner.weight, tree.at)
        if tree.name in FUNCTIONS:
            self._expect_arguments(tree, 1)
            return self._over_members(tree)
        if tree.name not in FORMULAS:
            known = [*FUNCTIONS, *FORMULAS]
            raise ConditionError(
                tree.at, repr(tree.name), "a function: " + ", ".join(known),
                nearest(tree.name, known),
            )  # fmt: skip
        return self._formula(tree)

    def _over_members(self, tree: Call) -> _Typed:
        if tree.name == "twins":
            return self._members(tree.arguments[0], "twins", "median")
        inner = self._members(tree.arguments[0], "all", tree.name)
        if tree.name == "spread":
            inner.weight = 0.0
        return inner

    def _formula(self, tree: Call) -> _Typed:
        formula = FORMULAS[tree.name]
        self._expect_arguments(tree, len(formula.inputs))
        nodes = []
        for argument, wanted in zip(tree.arguments, formula.inputs, strict=True):
            inner = self.sum(argument)
            unit = QUANTITIES[wanted].unit
            if inner.unit != unit:
                raise ConditionError(inner.at, inner.unit or "a number", f"{wanted} in {unit}")
            nodes.append(inner.node)
        weight = 0.0 if tree.name in _DIFFERENCES else 1.0
        return _Typed(Apply(tree.name, tuple(nodes)), QUANTITIES[tree.name].unit, weight, tree.at)

    def _expect_arguments(self, tree: Call, count: int) -> None:
        if len(tree.arguments) != count:
            raise ConditionError(
                tree.at, f"{len(tree.arguments)} arguments", f"{count} for {tree.name}"
            )


def compile_levels(levels: Sequence[tuple[Condition, int]]) -> Program:
    """Return the program of *levels*: (tree, ``for`` in µs), the lowest severity first.

    Raises `ConditionError` for a unit that does not fit, a limit without one, a clear level on the
    wrong side, a function that does not exist.
    """
    confirm_us = tuple(sorted({for_us for _, for_us in levels if for_us > 0}))
    compiler = _Compiler(confirm_us)
    trees = tuple(compiler.condition(tree) for tree, _ in levels)
    value, unit, sense, band = _shown(levels[0][0], trees[0])
    return Program(tuple(compiler.leaves), tuple(compiler.params), trees, value, unit, sense, band)


def _shown(tree: Condition, node: Logical) -> tuple[Numeric | None, str, int, int]:
    """Return what an alert of this condition shows: the left side of its first comparison."""
    is_turned = False
    while True:
        if isinstance(tree, Both) and isinstance(node, Joined):
            tree, node = tree.parts[0], node.parts[0]
        elif isinstance(tree, Not) and isinstance(node, Opposite):
            tree, node, is_turned = tree.part, node.part, not is_turned
        else:
            break
    if isinstance(node, Within) and isinstance(tree, Between):
        return node.left, _unit_of(tree.left), 0 if node.inside != is_turned else 2, node.low
    if isinstance(node, Above):
        unit = _unit_of(tree.left) if isinstance(tree, Compare) else "s"
        if isinstance(tree, Flat):
            return None, "", 0, 0
        sense = {">": 1, ">=": 1, "<": -1, "<=": -1}.get(node.sign, 0)
        return node.left, unit, -sense if is_turned else sense, 0
    if isinstance(node, AtLeast) and isinstance(tree, CountOf):
        upward = (node.sign in (">", ">=")) != is_turned
        column = Column(node.leaf, "highest" if upward else "lowest")
        return column, _unit_of(tree.compare.left), 1 if upward else -1, 0
    return None, "", 0, 0


def _unit_of(tree: Sum) -> str:
    return _Compiler(()).sum(tree).unit


def measures(tree: Condition | Sum) -> Iterable[Measure]:
    """Yield every measure that *tree* mentions, in its order."""
    if isinstance(tree, Measure):
        yield tree
    elif isinstance(tree, (Statistic, HoursWith, Excess, Silence, Flat)):
        yield tree.measure
    elif isinstance(tree, Operation):
        yield from measures(tree.left)
        yield from measures(tree.right)
    elif isinstance(tree, Call):
        for argument in tree.arguments:
            yield from measures(argument)
    elif isinstance(tree, (Compare, Between)):
        yield from measures(tree.left)
    elif isinstance(tree, CountOf):
        yield from measures(tree.compare)
    elif isinstance(tree, Both):
        for part in tree.parts:
            yield from measures(part)
    elif isinstance(tree, Not):
        yield from measures(tree.part)


def _stream_of(tree: Measure | Statistic | HoursWith | Excess) -> tuple[Spec, str, float]:
    """Return the spec of a leaf, the unit of its values and their weight."""
    measure = tree if isinstance(tree, Measure) else tree.measure
    quantity = QUANTITIES[measure.quantity]
    absolute = 0.0 if measure.quantity in _DIFFERENCES else 1.0
    if isinstance(tree, Measure):
        return Spec("value"), quantity.unit, absolute
    if isinstance(tree, HoursWith):
        limits = tuple(_convert(limit, quantity.unit, absolute) for limit in tree.limits)
        aggregate = _aggregate("hours", tree.span, tree.test, limits)
        return _spec(aggregate, tree.span, tree.at), "h", 1.0
    if isinstance(tree, Excess):
        limit = _convert(tree.limit, quantity.unit, absolute)
        aggregate = _aggregate("excess", tree.span, ">" if tree.above else "<", (limit,))
        return _spec(aggregate, tree.span, tree.at), f"{quantity.unit}·h", 1.0
    if tree.name == "usual":
        return _usual(tree), quantity.unit, absolute
    spec = _spec(_aggregate(tree.name, tree.span), tree.span, tree.at)
    if tree.name == "rate":
        return spec, f"{quantity.unit}/min", 0.0
    if tree.name == "count":
        return spec, "1", 1.0
    return spec, quantity.unit, 0.0 if tree.name in ("range", "increase", "sum") else absolute


def _usual(tree: Statistic) -> Spec:
    days = tree.span.length_us / DAY_US
    if days != int(days) or not 1 <= days <= 28:
        raise ConditionError(tree.at, "another span", "1d to 28d, in whole days")
    return Spec("usual", hours=int(days))


def _aggregate(name: str, span: Span, test: str = "", limits: tuple[float, ...] = ()) -> Aggregate:
    share = span.need.share
    needs = name in _NEEDS_COVERAGE or name.startswith("p")
    if needs and span.kind == "sliding" and not share and not span.need.time_us:
        share = _DEFAULT_SHARE
    return Aggregate(name, test, limits, span.need.time_us, share)


def _spec(aggregate: Aggregate, span: Span, at: int) -> Spec:
    name = aggregate.name
    only_sliding = name in ("rate", "median") or (name.startswith("p") and name[1:].isdigit())
    if only_sliding and span.kind != "sliding":
        raise ConditionError(at, name, f"{name} over a duration, such as over 10min")
    if span.kind == "sliding":
        return Spec("sliding", aggregate, span.length_us)
    if span.kind in ("hour", "day"):
        return Spec(span.kind, aggregate)
    if span.kind == "today":
        return Spec("running", aggregate, bins=Bins("day"))
    if span.kind == "season":
        return Spec("running", aggregate, bins=Bins("season", span.month_day))
    return Spec(span.kind, aggregate, hours=span.need.hours)


# -- units of limits

_MINUTES = {"s": 1 / 60, "min": 1.0, "h": 60.0, "d": 1440.0}
_HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0}


def _convert(number: Number, unit: str, weight: float) -> float:
    """Return *number* in *unit*: as a point on its scale, or as a difference (*weight* 0)."""
    if abs(weight) > 1e-9 and abs(weight - 1.0) > 1e-9:
        raise ConditionError(number.at, "a sum of several points on a scale", "their mean")
    if not number.unit:
        if unit in _UNITLESS or not unit:
            return number.value
        raise ConditionError(
            number.at, f"{number.value:g} without a unit", f"a unit like {unit}", unit
        )
    try:
        scale, offset = _line(number.unit, unit)
    except UnitError as error:
        raise ConditionError(
            number.at, repr(number.unit), f"a unit like {unit}: {error}"
        ) from error
    return float(f"{number.value * scale + offset * round(weight):.12g}")


def _line(given: str, unit: str) -> tuple[float, float]:
    """Return scale and offset from *given* to *unit*; rates and integrals by their parts."""
    if unit.endswith("/min") and given.rpartition("/")[2] in _MINUTES and given != unit:
        base, _, time = given.rpartition("/")
        line = conversion(base, unit.removesuffix("/min"))
        return line.scale / _MINUTES[time], 0.0
    for ending, times in (("·h", _HOURS), ("·d", {"d": 1.0, "h": 1 / 24})):
        base, _, time = given.replace("·", ".").rpartition(".")
        if unit.endswith(ending) and base and time in times:
            return conversion(base, unit.removesuffix(ending)).scale * times[time], 0.0
    line = conversion(given, unit)
    return line.scale, line.offset
