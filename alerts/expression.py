"""Conditions as text: what a rule file says, as a tree with the place of every part.

    condition  := all ("or" all)*
    all        := one ("and" one)*
    one        := "not" one | "(" condition ")" | silence | flat | count | comparison
    silence    := "no" ["valid"] "data" ["from" measure] "for" (N "intervals" | duration)
    flat       := [measure] "flat" "for" duration ["within" limit]
    count      := ("at" "least" N | "any" | "all") "of" measure comparator limit ["clear" limit]
    comparison := sum comparator limit ["clear" limit]
                | sum ("inside" | "outside") limit ".." limit ["margin" limit]
    sum        := product (("+" | "-") product)*
    product    := factor (("*" | "/") factor)*
    factor     := number [unit] | "-" factor | "(" sum ")" | function "(" sum,* ")" | statistic
                | "hours" "with" measure test span | "excess" "of" measure "above|below" limit span
    statistic  := measure [stat span]
    measure    := quantity ["." channel] ["@" placement]
    span       := "over" duration | "over" "each" ("hour" | "day") | "over" "today"
                | "since" MM-DD | "of" "hours" "over" ... | "of" "8h" "means" "over" "each" "day"
                  each followed by ["needing" coverage]

Written by hand: the language is small, and a hand-written reader can say in the field's words what
it expected and where.  Units are kept as written; `alerts.conditions` brings them to the
quantity's own unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from alerts.errors import ConditionError
from devices.document import nearest
from devices.duration import parse_duration_s
from devices.quantity import QUANTITIES
from devices.site import Placement

STATISTICS = (
    "mean", "min", "max", "sum", "range", "count", "median", "rate", "increase", "usual",
)  # fmt: skip
FUNCTIONS = ("abs", "highest", "lowest", "average", "spread", "twins")
COMPARATORS = (">=", "<=", "==", "!=", ">", "<")
_WORDS = {
    "and", "or", "not", "of", "over", "for", "clear", "margin", "inside", "outside", "flat",
    "within", "no", "valid", "data", "from", "at", "least", "any", "all", "each", "today", "since",
    "needing", "hours", "with", "excess", "above", "below", "intervals", *STATISTICS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written; *unit* is empty where none stands beside it."""

    value: float
    unit: str = ""
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity, perhaps of one channel or placement only; an empty quantity is the subject's."""

    quantity: str
    channel: str = ""
    placement: Placement | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Need:
    """How much of a span must have been observed for its statistic to count.

    *time_us* of readings (or *share* of the span, 0-1); *hours*: how many valid hours of a day or
    of eight hours, where hours are what is counted.
    """

    time_us: int = 0
    share: float = 0.0
    hours: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """What a statistic looks at.

    *kind*: ``sliding`` (the last *length_us*), ``hour``, ``day`` (calendar, known when it is over),
    ``today`` and ``season`` (from local midnight, from *month_day*, up to now), ``hours_day`` and
    ``hours_8`` (over the hourly means), ``eights_day`` (over the 8-hour means inside a day).
    """

    kind: str
    length_us: int = 0
    month_day: tuple[int, int] = (1, 1)
    need: Need = Need()


@dataclass(frozen=True, slots=True)
class Statistic:
    """*name* is one of `STATISTICS` or ``p`` with a percentage (``p95``)."""

    measure: Measure
    name: str
    span: Span
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class HoursWith:
    """Hours of *span* in which *measure* was above, below, inside or outside limits."""

    measure: Measure
    test: str
    limits: tuple[Number, ...]
    span: Span
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Excess:
    """Integral over *span* of what *measure* was beyond *limit*, in unit-hours."""

    measure: Measure
    above: bool
    limit: Number
    span: Span
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """``+ - * /`` between two sums."""

    sign: str
    left: Sum
    right: Sum
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function of sums; `FUNCTIONS`, or a derived quantity of its inputs."""

    name: str
    arguments: tuple[Sum, ...]
    at: int = field(default=0, compare=False)


Sum = Number | Measure | Statistic | HoursWith | Excess | Operation | Call


@dataclass(frozen=True, slots=True)
class Compare:
    """*left* comparator *limit*; *clear* is the level at which it is over again."""

    left: Sum
    sign: str
    limit: Number
    clear: Number | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Between:
    """*left* inside or outside *low* .. *high*; *margin* is how far it must come back."""

    left: Sum
    inside: bool
    low: Number
    high: Number
    margin: Number | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Silence:
    """No reading (no usable one where *valid*) for *intervals* or *length_us*."""

    measure: Measure
    intervals: float
    length_us: int
    valid: bool
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Flat:
    """The value has not changed at all for *length_us*, or by no more than *within*."""

    measure: Measure
    length_us: int
    within: Number | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class CountOf:
    """At least *least* of the series of *measure* satisfy the comparison; 0 means all of them."""

    least: int
    compare: Compare
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Both:
    """All of *parts* (``and``) or one of them (``or``)."""

    word: str
    parts: tuple[Condition, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of *part*."""

    part: Condition
    at: int = field(default=0, compare=False)


Condition = Compare | Between | Silence | Flat | CountOf | Both | Not


def substituted(tree: Any, old: Measure, new: Call) -> Any:
    """Return *tree* with *new* wherever *old* stands by itself in a sum."""
    if tree == old:
        return new
    if isinstance(tree, Both):
        return replace(tree, parts=tuple(substituted(part, old, new) for part in tree.parts))
    if isinstance(tree, Call):
        return replace(tree, arguments=tuple(substituted(a, old, new) for a in tree.arguments))
    changes = {
        name: substituted(getattr(tree, name), old, new)
        for name in ("part", "left", "right")
        if hasattr(tree, name)
    }
    return replace(tree, **changes) if changes else tree


_AFTER_A_LIMIT = {
    "and", "or", "clear", "margin", "of", "over", "since", "needing", "inside", "outside", "above",
    "below",
}  # fmt: skip
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHANNEL = re.compile(r"\.([a-z0-9][a-z0-9_-]*)")
_PLACEMENT = re.compile(r"@([a-z_]+)")
_UNIT = re.compile(r"[A-Za-z°℃µ%\[](?:[^\s(),<>=!+*.]|\.(?!\.))*")
_DURATION = re.compile(r"P[0-9A-Z.]+|\d+(?:\.\d+)?\s*(?:ms|s|min|h|d)(?![A-Za-z])")
_PERCENTILE = re.compile(r"p(\d{1,2})")
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)")


# Whatever makes a tree deeper: what reads it and what compiles it go down by recursion.
_NESTING = re.compile(r"[-(+*/]|\bnot\b")
_MOST_NESTING = 60


def parse(text: str) -> Condition:
    """Return the tree of *text*; raise `ConditionError` at the first part that makes no sense."""
    nested = list(_NESTING.finditer(text))
    if len(nested) > _MOST_NESTING:
        at = nested[_MOST_NESTING].start()
        expected = f"at most {_MOST_NESTING} brackets, signs and nots in a condition"
        raise ConditionError(at, repr(text[at : at + 20]), expected)
    reader = _Reader(text)
    condition = reader.condition()
    reader.end()
    return condition


def parse_limit(text: str) -> Number:
    """Return a number with its unit, such as ``31 degC``: the ``clear`` key of a rule."""
    reader = _Reader(text)
    number = reader.limit()
    reader.end()
    return number


class _Reader:
    """Reads a condition from left to right; each method takes what its name says."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    # -- the lexical floor

    def _skip(self) -> int:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _word(self) -> str:
        self._skip()
        match = _NAME.match(self._text, self._at)
        return match[0] if match else ""

    def _accept(self, *words: str) -> bool:
        """Take *words* if they stand here, all of them; nothing is taken otherwise."""
        start = self._at
        for word in words:
            if self._word() != word:
                self._at = start
                return False
            self._at += len(word)
        return True

    def _symbol(self, *symbols: str) -> str:
        self._skip()
        for symbol in symbols:
            if self._text.startswith(symbol, self._at):
                self._at += len(symbol)
                return symbol
        return ""

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._wrong(f"the word {word!r}", [word])

    def _wrong(self, expected: str, known: list[str] | None = None) -> ConditionError:
        at = self._skip()
        word = self._word()
        found = word or self._text[at : at + 12]
        hint = nearest(word, known or []) if word else ""
        return ConditionError(at, repr(found) if found else "the end", expected, hint)

    def end(self) -> None:
        """Raise unless everything has been read."""
        if self._skip() < len(self._text):
            raise self._wrong("and, or, or the end of the condition", sorted(_WORDS))

    # -- conditions

    def condition(self) -> Condition:
        """Take parts joined by ``or``."""
        return self._joined("or", lambda: self._joined("and", self._one))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        at = self._skip()
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(word, tuple(parts), at)

    def _one(self) -> Condition:
        at = self._skip()
        if self._accept("not"):
            return Not(self._one(), at)
        if self._accept("no"):
            return self._silence(at)
        if self._accept("flat"):
            return self._flat(Measure("", at=at), at)
        if counted := self._count(at):
            return counted
        if grouped := self._group():
            return grouped
        return self._comparison(at)

    def _group(self) -> Condition | None:
        """Take a condition in brackets; a bracket may open a sum too, so try and step back."""
        start = self._at
        if not self._symbol("("):
            return None
        wrong = None
        try:
            inner = self.condition()
            if not self._symbol(")"):
                raise self._wrong("a closing bracket")
            if not self._continues_a_sum():
                return inner
        except ConditionError as error:
            wrong = error
        self._at = start
        if wrong is None:
            return None
        try:
            self._comparison(start)
        except ConditionError as error:
            raise max(wrong, error, key=lambda e: e.at) from None
        self._at = start
        return None

    def _continues_a_sum(self) -> bool:
        start = self._at
        more = bool(self._symbol(*COMPARATORS, "+", "-", "*", "/"))
        self._at = start
        return more or self._word() in ("inside", "outside")

    def _silence(self, at: int) -> Silence:
        valid = self._accept("valid")
        self._expect("data")
        measure = self._measure() if self._accept("from") else Measure("", at=at)
        self._expect("for")
        start = self._at
        number = self._take(_NUMBER)
        if number and self._accept("intervals"):
            return Silence(measure, float(number[0]), 0, valid, at)
        self._at = start
        length_us = self._duration("N intervals, or a duration such as 10min")
        return Silence(measure, 0.0, length_us, valid, at)

    def _flat(self, measure: Measure, at: int) -> Flat:
        self._expect("for")
        length_us = self._duration()
        within = self.limit() if self._accept("within") else None
        return Flat(measure, length_us, within, at)

    def _count(self, at: int) -> CountOf | None:
        if self._accept("at", "least"):
            number = self._take(re.compile(r"[1-9]\d*(?![\d.])"))
            if not number:
                raise self._wrong("how many, such as: at least 2 of air_temperature")
            least = int(number[0])
        elif self._accept("any"):
            least = 1
        elif self._accept("all"):
            least = 0
        else:
            return None
        self._expect("of")
        place = self._skip()
        left = self._statistic(self._measure())
        compare = self._compared(left, place)
        if not isinstance(compare, Compare):
            raise ConditionError(place, "a range", "one comparison, such as > 35 degC")
        return CountOf(least, compare, at)

    def _comparison(self, at: int) -> Condition:
        left = self._sum()
        if isinstance(left, Measure) and self._accept("flat"):
            return self._flat(left, at)
        return self._compared(left, at)

    def _compared(self, left: Sum, at: int) -> Compare | Between:
        sign = self._symbol(*COMPARATORS)
        if sign:
            limit = self.limit()
            clear = self.limit() if self._accept("clear") else None
            return Compare(left, sign, limit, clear, at)
        inside = self._accept("inside")
        if not inside and not self._accept("outside"):
            known = ["inside", "outside", "flat", "over", *STATISTICS]
            raise self._wrong(
                "a comparison: > >= < <= == != with a limit, inside LOW..HIGH, "
                "or a statistic such as mean over 1h before it",
                known,
            )
        low, high = self._range()
        margin = self.limit() if self._accept("margin") else None
        return Between(left, inside, low, high, margin, at)

    def _range(self) -> tuple[Number, Number]:
        low = self.limit()
        if not self._symbol(".."):
            raise self._wrong("'..' between the two limits, such as 15..25 degC")
        high = self.limit()
        return (Number(low.value, low.unit or high.unit, low.at), high)

    def limit(self) -> Number:
        """Take a number, perhaps negative, with its unit."""
        at = self._skip()
        negative = bool(self._symbol("-", "−"))
        number = self._take(_NUMBER)
        if not number:
            raise self._wrong("a number with its unit, such as 35 degC")
        return Number(float(number[0]) * (-1 if negative else 1), self._unit(), at)

    def _unit(self) -> str:
        start = self._at
        match = self._take(_UNIT)
        if match and match[0] not in _AFTER_A_LIMIT:
            return match[0]
        self._at = start
        return ""

    def _duration(self, expected: str = "a duration such as 10min, 6h or PT1H") -> int:
        start = self._skip()
        match = self._take(_DURATION)
        if not match:
            raise self._wrong(expected)
        try:
            microseconds = round(parse_duration_s(match[0]) * 1e6)
        except ValueError as error:
            raise ConditionError(start, repr(match[0]), str(error)) from error
        if microseconds <= 0:
            raise ConditionError(start, repr(match[0]), "a duration longer than nothing")
        return microseconds

    # -- sums

    def _sum(self) -> Sum:
        left = self._product()
        while True:
            at = self._skip()
            sign = self._symbol("+", "-", "−")
            if not sign:
                return left
            left = Operation("-" if sign == "−" else sign, left, self._product(), at)

    def _product(self) -> Sum:
        left = self._factor()
        while True:
            at = self._skip()
            sign = self._symbol("*", "/")
            if not sign:
                return left
            left = Operation(sign, left, self._factor(), at)

    def _factor(self) -> Sum:
        at = self._skip()
        if self._symbol("-", "−"):
            return Operation("*", Number(-1.0, at=at), self._factor(), at)
        if self._symbol("("):
            inner = self._sum()
            if not self._symbol(")"):
                raise self._wrong("a closing bracket")
            return inner
        if number := self._take(_NUMBER):
            return Number(float(number[0]), self._unit(), at)
        if self._accept("hours", "with"):
            return self._hours_with(at)
        if self._accept("excess"):
            return self._excess(at)
        return self._call(at) or self._statistic(self._measure())

    def _call(self, at: int) -> Call | None:
        start = self._at
        name = self._take(_NAME)
        if not name or not self._symbol("("):
            self._at = start
            return None
        arguments = [self._sum()]
        while self._symbol(","):
            arguments.append(self._sum())
        if not self._symbol(")"):
            raise self._wrong("a closing bracket or a comma")
        return Call(name[0], tuple(arguments), at)

    def _hours_with(self, at: int) -> HoursWith:
        measure = self._measure()
        sign = self._symbol(*COMPARATORS)
        if sign:
            limits: tuple[Number, ...] = (self.limit(),)
        elif self._accept("inside"):
            sign, limits = "inside", self._range()
        elif self._accept("outside"):
            sign, limits = "outside", self._range()
        else:
            raise self._wrong("a test such as > 90 % or inside 0..7.2 degC")
        return HoursWith(measure, sign, limits, self._span("hours"), at)

    def _excess(self, at: int) -> Excess:
        self._expect("of")
        measure = self._measure()
        above = self._accept("above")
        if not above and not self._accept("below"):
            raise self._wrong("above or below a limit", ["above", "below"])
        return Excess(measure, above, self.limit(), self._span("excess"), at)

    def _measure(self) -> Measure:
        at = self._skip()
        name = self._word()
        if name not in QUANTITIES:
            hint = nearest(name, QUANTITIES) or nearest(name, STATISTICS)
            found = repr(name) if name else repr(self._text[at : at + 12]) or "the end"
            raise ConditionError(
                at, found if at < len(self._text) else "the end", "a quantity of the vocabulary",
                hint,
            )  # fmt: skip
        self._at += len(name)
        channel = _CHANNEL.match(self._text, self._at)
        if channel:
            self._at = channel.end()
        return Measure(name, channel[1] if channel else "", self._placement(), at)

    def _placement(self) -> Placement | None:
        match = _PLACEMENT.match(self._text, self._at)
        if not match:
            return None
        names = [placement.value for placement in Placement]
        if match[1] not in names:
            hint = nearest(match[1], names)
            raise ConditionError(
                self._at + 1, repr(match[1]), "a placement: " + ", ".join(names), hint
            )
        self._at = match.end()
        return Placement(match[1])

    def _statistic(self, measure: Measure) -> Sum:
        at = self._skip()
        word = self._word()
        if word not in STATISTICS and not _PERCENTILE.fullmatch(word):
            return measure
        self._at += len(word)
        if word == "usual":
            self._expect("over")
            return Statistic(measure, word, Span("sliding", self._duration()), at)
        return Statistic(measure, word, self._span(word), at)

    def _span(self, word: str) -> Span:
        if self._accept("since"):
            return self._since()
        if self._accept("of"):
            return self._span_of_hours(word)
        if not self._accept("over"):
            raise self._wrong("over and a span, such as over 10min or over each hour", ["over"])
        if self._accept("each"):
            return self._each()
        if self._accept("today"):
            return Span("today", need=self._needing(False))
        length_us = self._duration("a duration, each hour, each day or today")
        return Span("sliding", length_us, need=self._needing(False))

    def _each(self) -> Span:
        for word in ("hour", "day"):
            if self._accept(word):
                return Span(word, need=self._needing(False))
        raise self._wrong("hour or day", ["hour", "day"])

    def _since(self) -> Span:
        at = self._skip()
        match = self._take(_MONTH_DAY)
        days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
        if match and 1 <= int(match[1]) <= 12 and 1 <= int(match[2]) <= days[int(match[1]) - 1]:
            return Span("season", month_day=(int(match[1]), int(match[2])))
        self._at = at
        raise self._wrong("a day of the year as MM-DD, such as 10-01")

    def _span_of_hours(self, word: str) -> Span:
        """Take what follows ``mean of`` or ``max of``: spans that are made of hourly means."""
        at = self._skip()
        if self._take(re.compile(r"8\s*h\b")) and self._accept("means"):
            if word != "max":
                raise ConditionError(at, repr(word), "max of 8h means over each day", "max")
            self._expect("over")
            self._expect("each")
            self._expect("day")
            return Span("eights_day", need=self._needing(True, 6))
        self._at = at
        if not self._accept("hours"):
            raise self._wrong("hours, or 8h means", ["hours"])
        if word not in ("mean", "max", "min"):
            raise ConditionError(at, repr(word), "mean, min or max of hours")
        self._expect("over")
        if self._accept("each"):
            self._expect("day")
            return Span("hours_day", need=self._needing(True, 1))
        if word != "mean" or self._duration("8h, or each day") != 8 * 3_600_000_000:
            raise ConditionError(at, "another span", "mean of hours over 8h, or over each day")
        return Span("hours_8", need=self._needing(True, 1))

    def _needing(self, hours: bool, default: int = 0) -> Need:
        """Take the coverage that is needed: ``45min``, ``75 %``, ``20 hours of 45min``."""
        if not self._accept("needing"):
            return Need(hours=default)
        if hours:
            number = self._take(re.compile(r"[1-9]\d?(?!\d)"))
            if not number or not self._accept("hours"):
                raise self._wrong("how many hours, such as needing 20 hours of 45min")
            return Need(
                hours=int(number[0]),
                time_us=self._duration() if self._accept("of") else 0,
            )
        start = self._skip()
        number = self._take(re.compile(r"\d+(?:\.\d+)?\s*%"))
        if number:
            share = float(number[0].rstrip("% ")) / 100.0
            if not 0 < share <= 1:
                raise ConditionError(start, number[0], "a share of at most 100 %")
            return Need(share=share)
        return Need(time_us=self._duration("a duration or a share, such as 45min or 75 %"))
