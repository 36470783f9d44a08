"""What a reading is held against: limits by quantity, as shipped, and what a site file changes.

The shipped figures stand in ``checks.yaml`` beside this module, each with its source.  A site file
has ``checks``: a list of entries, each for all series that have its quantity, site (or one below),
device and series code.  Where several speak of the same figure, a series' own beats its device's,
that its site's (a zone's its house's), that its quantity's, and a later entry an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field

from devices.document import Document, Path, load, nearest, validate, validate_part
from devices.errors import Mistake
from devices.profile import Duration, Entry
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Series

_INF = float("inf")
_OFF = Literal["off"]
_USUAL_AGE_S = 30 * 86400.0  # what a device may bring unless its entry says otherwise
_SCOPES = ("quantity", "site", "device", "series")


class LimitsEntry(Entry):
    """Figures of one quantity or of some series; what is left out is as it is elsewhere."""

    sensor: list[float] | _OFF | None = None
    saturates_at: float | _OFF | None = None
    step: float | _OFF | None = None
    per_minute: float | None = Field(default=None, ge=0)
    flat_after: Duration | _OFF | None = None
    rest: list[float | None] | None = None
    sentinels: list[float] | None = None
    never_zero: bool | None = None
    ahead: Duration | None = None
    behind: Duration | None = None
    lag: Duration | _OFF | None = None


class QuantityEntry(LimitsEntry):
    """A row of the shipped figures."""

    source: str = Field(min_length=1)


class CheckEntry(LimitsEntry):
    """An entry of a site file's ``checks``: which series, and what of them is different."""

    quantity: str | None = None
    site: str | None = None
    device: str | None = None
    series: str | None = None
    pairs: Literal["on", "off"] | None = None
    twin: str | None = None
    within: float | None = Field(default=None, gt=0)


class NotBelowEntry(Entry):
    """*quantity* cannot be below *of* by more than *within*."""

    quantity: str
    of: str
    within: float = Field(ge=0)
    source: str


class ZeroTogetherEntry(Entry):
    """*quantity* and *with* cannot both be next to nothing."""

    quantity: str
    at_most: float
    with_: str = Field(alias="with")
    with_at_most: float
    source: str


class ClockEntry(Entry):
    """How far a device's clock may be off."""

    ahead: Duration
    behind: Duration
    lag: Duration
    source: str


class ChecksDocument(Entry):
    """The shipped file."""

    quantities: dict[str, QuantityEntry]
    not_below: list[NotBelowEntry]
    zero_together: list[ZeroTogetherEntry]
    codes: list[float]
    clock: ClockEntry


@dataclass(frozen=True, slots=True)
class Limits:
    """What the readings of one series are held against; infinite where nothing is.

    In the quantity's unit, times in seconds.  *sensor_low* and *sensor_high* bound what the sensor
    can say, above *saturates_at* it is past the end of its scale.  A change of more than *step* +
    *rate_per_s* x seconds is too fast.  The same value for *flat_s* is frozen, unless it is at most
    *rest_low* or at least *rest_high*.  *sentinels* are error codes that look like a value.
    *never_zero* says that an exact nought is improbable.  A time more than *ahead_s* after or
    *behind_s* before its receipt, or steadily more than *lag_s* before it, is in doubt.  *pairs*
    lets it be compared with other quantities of its device.
    """

    sensor_low: float = -_INF
    sensor_high: float = _INF
    saturates_at: float = _INF
    step: float = _INF
    rate_per_s: float = 0.0
    flat_s: float = _INF
    rest_low: float = -_INF
    rest_high: float = _INF
    sentinels: tuple[float, ...] = ()
    never_zero: bool = False
    ahead_s: float = _INF
    behind_s: float = _INF
    lag_s: float = _INF
    pairs: bool = True


@dataclass(frozen=True, slots=True)
class NotBelow:
    """*quantity* of a device and channel is not below its *of* by more than *within*."""

    quantity: str
    of: str
    within: float


@dataclass(frozen=True, slots=True)
class ZeroTogether:
    """*quantity* up to *at_most* while *other* is up to *other_at_most*: a probe in the air."""

    quantity: str
    at_most: float
    other: str
    other_at_most: float


@dataclass(frozen=True, slots=True)
class Twins:
    """Two series, by code, whose values differ by at most *within* at any time."""

    first: str
    second: str
    within: float


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of a site file: *changes* of `Limits` for the series that all its codes name."""

    changes: Mapping[str, Any]
    quantity: str | None = None
    site: str | None = None
    device: str | None = None
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Checks:
    """All that a site file says about checks."""

    entries: tuple[Check, ...] = ()
    twins: tuple[Twins, ...] = ()


@dataclass(frozen=True, slots=True)
class ShippedChecks:
    """The shipped figures: limits by quantity, pairs, and *codes* of registers without a value."""

    limits: Mapping[str, Limits]
    not_below: tuple[NotBelow, ...]
    zero_together: tuple[ZeroTogether, ...]
    codes: tuple[float, ...]
    sources: Mapping[str, str] = field(default_factory=dict)


@cache
def shipped_checks() -> ShippedChecks:
    """Return the figures that are shipped with the package."""
    file = files("devices") / "checks.yaml"
    document = load(file.read_text("utf-8"), "devices/checks.yaml")
    found = validate(document, ChecksDocument)
    clock = found.clock
    plain = Limits(ahead_s=clock.ahead, behind_s=clock.behind, lag_s=clock.lag)
    limits = {
        name: replace(plain, **_changes(found.quantities[name]))
        if name in found.quantities
        else plain
        for name in QUANTITIES
    }
    unknown = set(found.quantities) - set(QUANTITIES)
    if unknown:
        raise ValueError(f"devices/checks.yaml: unknown quantities {sorted(unknown)}")
    return ShippedChecks(
        limits,
        tuple(NotBelow(one.quantity, one.of, one.within) for one in found.not_below),
        tuple(
            ZeroTogether(one.quantity, one.at_most, one.with_, one.with_at_most)
            for one in found.zero_together
        ),
        tuple(found.codes),
        {name: one.source for name, one in found.quantities.items()},
    )


def limits_of(registry: Registry, checks: Checks) -> Iterator[tuple[Series, Limits]]:
    """Yield every series of *registry* with its limits, the same object for equal ones."""
    shipped = shipped_checks().limits
    made: dict[tuple[str, tuple[int, ...], float], Limits] = {}
    above = {
        site.code: {one.code: depth for depth, one in enumerate(registry.ancestors(site.code))}
        for site in registry.sites
    }
    for series in registry.series.values():
        ranks = _ranked(series, checks.entries, above.get(series.site, {}))
        # Who lets a device bring readings that old does not doubt its clock for it.
        max_age_s = registry.device[series.device].max_age_s
        age_s = max_age_s if max_age_s > _USUAL_AGE_S else 0.0
        key = (series.quantity, ranks, age_s)
        if key not in made:
            changes: dict[str, Any] = {}
            for index in ranks:
                changes |= checks.entries[index].changes
            base = shipped.get(series.quantity, Limits())
            base = replace(base, behind_s=max(base.behind_s, age_s)) if age_s else base
            made[key] = replace(base, **changes) if changes else base
        yield series, made[key]


def _ranked(series: Series, entries: Sequence[Check], depths: Mapping[str, int]) -> tuple[int, ...]:
    """Return which of *entries* speak of *series*, the one that wins last."""
    found: list[tuple[int, int, int]] = []
    for index, one in enumerate(entries):
        if one.quantity not in (None, series.quantity) or one.device not in (None, series.device):
            continue
        if one.series not in (None, series.code):
            continue
        if one.site is not None and one.site not in depths:
            continue
        depth = depths[one.site] if one.site is not None else 0
        found.append((_rank(one), -depth, index))
    return tuple(index for _, _, index in sorted(found))


def _rank(check: Check) -> int:
    """Return how narrow *check* is: a series is narrower than a device, that than a site."""
    return max(
        (rank for rank, scope in enumerate(_SCOPES, 1) if getattr(check, scope) is not None),
        default=0,
    )


def read_checks(document: Document, registry: Registry, mistakes: list[Mistake]) -> Checks:
    """Return what the list ``checks`` of *document* says, adding every mistake to *mistakes*.

    Where there are mistakes already the names may be right: *registry* then lacks what is wrong.
    """
    blame_names = not mistakes
    data = document.data.get("checks") if isinstance(document.data, dict) else None
    if data is None:
        return Checks()
    if not isinstance(data, list):
        return Checks()  # told where the shape of the file is checked
    entries: list[Check] = []
    twins: list[Twins] = []
    for index in range(len(data)):
        path: Path = ("checks", index)
        entry = validate_part(document, path, CheckEntry, mistakes)
        if entry is not None:
            _Reader(document, path, registry, mistakes, blame_names).read(entry, entries, twins)
    return Checks(tuple(entries), tuple(twins))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one entry at its place."""

    document: Document
    path: Path
    registry: Registry
    mistakes: list[Mistake]
    blame_names: bool

    def wrong(self, key: str, got: object, expected: str, hint: str = "") -> None:
        path = (*self.path, key) if key else self.path
        self.mistakes.append(self.document.mistake(path, got, expected, hint))

    def read(self, entry: CheckEntry, entries: list[Check], twins: list[Twins]) -> None:
        before = len(self.mistakes)
        self._check_names(entry)
        self._check_pairs(entry)
        if entry.twin is not None or entry.within is not None:
            self._read_twin(entry, twins)
        changes = _changes(entry)
        if entry.pairs is not None:
            changes["pairs"] = entry.pairs == "on"
        if not changes and entry.twin is None and len(self.mistakes) == before:
            known = ", ".join(sorted({*LimitsEntry.model_fields, "pairs", "twin"}))
            self.wrong("", "no figure", f"at least one of {known}")
        if changes and len(self.mistakes) == before:
            scope = {name: getattr(entry, name) for name in _SCOPES}
            entries.append(Check(changes, **scope))

    def _check_names(self, entry: CheckEntry) -> None:
        known: dict[str, Mapping[str, object]] = {
            "quantity": QUANTITIES,
            "site": self.registry.site,
            "device": self.registry.device,
            "series": self.registry.series,
            "twin": self.registry.series,
        }
        for key, names in known.items():
            name = getattr(entry, key)
            if name is not None and name not in names and self.blame_names:
                kind = "series" if key == "twin" else key
                self.wrong(key, name, f"the name of a known {kind}", nearest(name, names))

    def _check_pairs(self, entry: CheckEntry) -> None:
        sensor, rest = entry.sensor, entry.rest
        if isinstance(sensor, list) and (len(sensor) != 2 or sensor[0] >= sensor[1]):
            self.wrong("sensor", sensor, "[low, high], low below high; or off")
        if rest is not None:
            low, high = rest if len(rest) == 2 else (1.0, 0.0)
            if low is not None and high is not None and low >= high:
                self.wrong("rest", rest, "[low, high], low below high, null for an open side")
        if isinstance(entry.step, float) and entry.step <= 0:
            self.wrong("step", entry.step, "a change larger than nothing; or off")

    def _read_twin(self, entry: CheckEntry, twins: list[Twins]) -> None:
        if entry.series is None or entry.twin is None or entry.within is None:
            self.wrong("twin", entry.twin or "nothing", "series, twin and within together")
            return
        first = self.registry.series.get(entry.series)
        second = self.registry.series.get(entry.twin)
        if first is None or second is None:
            return
        if first.code == second.code or first.quantity != second.quantity:
            expected = f"another series of {first.quantity}"
            self.wrong("twin", entry.twin, expected)
            return
        twins.append(Twins(first.code, second.code, entry.within))


def _changes(entry: LimitsEntry) -> dict[str, Any]:
    """Return what *entry* says, under the names of `Limits`."""
    found: dict[str, Any] = {}
    if entry.sensor is not None:
        low, high = (-_INF, _INF) if entry.sensor == "off" else _two(entry.sensor)
        found |= {"sensor_low": low, "sensor_high": high}
    if entry.per_minute is not None:
        found["rate_per_s"] = entry.per_minute / 60.0
    if entry.rest is not None:
        low_rest, high_rest = _two(entry.rest)
        found["rest_low"] = -_INF if low_rest is None else low_rest
        found["rest_high"] = _INF if high_rest is None else high_rest
    if entry.sentinels is not None:
        found["sentinels"] = tuple(entry.sentinels)
    names = {"flat_after": "flat_s", "ahead": "ahead_s", "behind": "behind_s", "lag": "lag_s"}
    for key in ("saturates_at", "step", "never_zero", *names):
        given = getattr(entry, key)
        if given is not None:
            found[names.get(key, key)] = _INF if given == "off" else given
    assert found.keys() <= {one.name for one in fields(Limits)}
    return found


def _two(values: Sequence[Any]) -> tuple[Any, Any]:
    """Return *values* as two; a list of another length is told as a mistake elsewhere."""
    return (values[0], values[1]) if len(values) == 2 else (None, None)
