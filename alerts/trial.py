"""Rules tried on a few made-up readings: tests that stand in YAML beside the rules.

    tests:
      - name: thirty-six degrees for a quarter of an hour is too hot for tomatoes
        rules: [tomato-hot]
        start: 2026-06-01T12:00:00+08:00
        interval: 1min
        place: {crop: tomato}
        series:
          air_temperature: '30x5 36x30 25x10'
        expect:
          - {rule: tomato-hot, severity: warning, started: 6min, fired: 20min, resolved: 37min}

The notation of a series is that of Prometheus: ``5`` one value, ``5x3`` the value and three more of
it, ``5+1x3`` and ``5-1x3`` the value and three steps on, ``_`` and ``_x3`` nothing at that time.
``stale`` is a device that says it has no value, and ``!`` after a value marks it as bad (a sensor
in calibration).  Values are in the quantity's own unit.

`run_trials` is pure: texts in, failures out, each with its place in the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from alerts.binding import Surroundings
from alerts.engine import Settings
from alerts.episode import Episode
from alerts.replay import replay
from alerts.rule import Duration, Rule, Severity, SeverityWord, Words
from alerts.schedule import Planting, StageBegin
from alerts.zone import instant_us
from devices.document import Document, Path, load, nearest, validate_part
from devices.errors import DocumentError, Mistake
from devices.quality import Quality
from devices.quantity import QUANTITIES
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Placement, Site, SiteKind
from devices.units import Conversion

MOST_READINGS = 300_000  # of all tests of a file together; a few letters can ask for billions

_TERM = re.compile(
    r"(?P<value>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?P<bad>!)?"
    r"(?:(?P<step>[-+]\d+(?:\.\d+)?)?x(?P<times>\d+))?"
)
_NOTHING = re.compile(r"(?P<word>_|stale)(?:x(?P<times>\d+))?")
_SERIES = re.compile(
    r"(?:(?P<device>[a-z0-9][a-z0-9_-]*)/)?(?P<quantity>[a-z0-9_]+)"
    r"(?:\.(?P<channel>[a-z0-9][a-z0-9_-]*))?(?:@(?P<placement>[a-z_]+))?"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that did not come out as expected; *line* is where the expectation stands."""

    file: str
    line: int
    test: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.test}: {self.text}"


# -- the shape of the file


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError("a moment with its zone, such as 2026-06-01T12:00:00+08:00") from error
    if moment.tzinfo is None:
        raise ValueError("a moment with its zone, such as 2026-06-01T12:00:00+08:00")
    return moment


def _date(value: object) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError("a date such as 2026-03-01") from error


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StageEntry(_Entry):
    """A stage of the crop, by a date or by degree-days."""

    name: str
    on: Annotated[date, BeforeValidator(_date)] | None = None
    degree_days: float | None = None


class PlaceEntry(_Entry):
    """The house, by its code, and its base, which everything stands in or around."""

    house: str = "h1"
    base: str = "base"
    crop: str = ""
    latitude: float = 38.93
    longitude: float = 100.45
    timezone: str = "Asia/Shanghai"
    tags: Words = []
    stages: list[StageEntry] = []


class SeriesEntry(_Entry):
    """A series that needs more than its values."""

    values: str
    interval: Duration | None = None
    tags: Words = []


class ExpectedEntry(_Entry):
    """One episode; times since *start*, and what is left out may be anything."""

    rule: str
    subject: str | None = None
    severity: SeverityWord | None = None
    started: Duration | None = None
    fired: Duration | None = None
    resolved: Duration | None = None
    open: bool | None = None
    peak: float | None = None


class TrialEntry(_Entry):
    """One test: what is read, and all the episodes that must come of it."""

    name: str = Field(min_length=1)
    rules: Words = []
    start: Annotated[datetime, BeforeValidator(_moment)]
    interval: Duration
    until: Duration | None = None
    place: PlaceEntry = PlaceEntry()
    series: dict[str, Any] = Field(min_length=1)
    expect: list[Any] = []


class TrialDocument(_Entry):
    """The whole file."""

    tests: list[Any] = Field(min_length=1)


# -- reading and running


def run_trials(text: str, file: str, rules: Sequence[Rule]) -> list[Failure]:
    """Run the tests in *text* on *rules*; return what did not come out, in the order of lines.

    Raises `DocumentError`, naming every mistake, where the file itself is wrong.
    """
    document = load(text, file)
    mistakes: list[Mistake] = []
    whole = validate_part(document, (), TrialDocument, mistakes)
    trials: list[_Trial] = []
    left = MOST_READINGS
    for position in range(len(whole.tests) if whole else 0):
        path: Path = ("tests", position)
        entry = validate_part(document, path, TrialEntry, mistakes)
        if entry is not None:
            trials.append(_Trial(document, path, entry, rules, mistakes, left))
            left -= trials[-1].moments
    if mistakes:
        raise DocumentError(mistakes)
    return [failure for trial in trials for failure in trial.run()]


class _Trial:
    """One test, read and ready to run; what is wrong with it goes to *mistakes*."""

    def __init__(
        self,
        document: Document,
        path: Path,
        entry: TrialEntry,
        rules: Sequence[Rule],
        mistakes: list[Mistake],
        most_moments: int,
    ) -> None:
        self._document, self._path, self._entry = document, path, entry
        self.moments = 0
        self._most_moments = most_moments
        self._mistakes = mistakes
        self._start_us = instant_us(entry.start)
        self._rules = self._chosen(rules)
        self._expected = self._read_expected()
        self._readings: list[tuple[str, int, float, int]] = []
        self._tags: dict[str, frozenset[str]] = {}
        self._registry = self._read_place()

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._mistakes.append(self._document.mistake((*self._path, *path), got, expected, hint))

    def _chosen(self, rules: Sequence[Rule]) -> list[Rule]:
        """Return the rules the test names, by code or by their word within the pack."""
        known = {rule.code: rule for rule in rules}
        short = {rule.code.rpartition(".")[2]: rule for rule in rules}
        if not self._entry.rules:
            return list(rules)
        chosen = []
        for position, word in enumerate(self._entry.rules):
            rule = known.get(word) or short.get(word)
            if rule is None:
                hint = nearest(word, [*known, *short])
                self._wrong(("rules", position), word, "the id of a rule", hint)
            else:
                chosen.append(rule)
        return chosen

    def _read_expected(self) -> list[tuple[int, ExpectedEntry]]:
        out = []
        for position in range(len(self._entry.expect)):
            path = (*self._path, "expect", position)
            entry = validate_part(self._document, path, ExpectedEntry, self._mistakes)
            if entry is None:
                continue
            names = {rule.code for rule in self._rules}
            words = {code.rpartition(".")[2] for code in names}
            if entry.rule not in names | words:
                hint = nearest(entry.rule, [*names, *words])
                self._wrong(("expect", position, "rule"), entry.rule, "a rule of this test", hint)
            out.append((position, entry))
        return out

    # -- the place and its readings

    def _read_place(self) -> Registry:
        place = self._entry.place
        if place.house == place.base:
            self._wrong(("place", "house"), place.house, "another code than that of the base")
        if place.timezone not in available_timezones():
            hint = nearest(place.timezone, available_timezones())
            self._wrong(("place", "timezone"), place.timezone, "an IANA time zone", hint)
            return Registry()
        members: dict[str, list[Series]] = {}
        for key in self._entry.series:
            series = self._read_series(key)
            if series is not None:
                members.setdefault(series.device, []).append(series)
        devices = tuple(
            Device(code, series[0].site, Transport.MQTT, series=tuple(series))
            for code, series in members.items()
        )
        codes = [series.code for device in devices for series in device.series]
        return Registry(
            (
                _site(place.base, SiteKind.BASE, None, place),
                _site(place.house, SiteKind.GREENHOUSE, place.base, place),
            ),
            devices,
            {code: number for number, code in enumerate(codes, start=1)},
        )

    def _read_series(self, key: str) -> Series | None:
        path = ("series", key)
        match = _SERIES.fullmatch(key)
        if not match or match["quantity"] not in QUANTITIES:
            word = match["quantity"] if match else key
            self._wrong(
                path, key, "a quantity, as in device/quantity.channel@placement",
                nearest(word, QUANTITIES),
            )  # fmt: skip
            return None
        placements = [placement.value for placement in Placement]
        placement = match["placement"] or "inside"
        if placement not in placements:
            self._wrong(path, placement, "one of " + ", ".join(placements))
            return None
        data = self._entry.series[key]
        entry: SeriesEntry | None = SeriesEntry(values=data) if isinstance(data, str) else None
        if entry is None:
            full = (*self._path, *path)
            entry = validate_part(self._document, full, SeriesEntry, self._mistakes)
        if entry is None:
            return None
        interval_us = entry.interval or self._entry.interval
        inside = placement in ("inside", "root_zone")
        series = Series(
            device=match["device"] or ("d1" if inside else "w1"),
            quantity=match["quantity"],
            channel=match["channel"] or "",
            key=key,
            site=self._entry.place.house if inside else self._entry.place.base,
            placement=Placement(placement),
            medium=QUANTITIES[match["quantity"]].medium,
            unit=QUANTITIES[match["quantity"]].unit,
            conversion=Conversion(),
            interval_s=interval_us / 1e6,
        )
        self._tags[f"series:{series.code}"] = frozenset(entry.tags)
        self._read_values(path, series.code, entry.values, interval_us)
        return series

    def _read_values(self, path: Path, code: str, text: str, interval_us: int) -> None:
        at_us = self._start_us
        try:
            for value, quality in notation(text):
                self.moments += 1
                if self.moments > self._most_moments:
                    raise ValueError(f"at most {MOST_READINGS} moments in all tests of a file")
                if value is not None:
                    self._readings.append((code, at_us, value, quality))
                at_us += interval_us
        except ValueError as error:
            self._wrong(path, text, str(error))

    # -- running

    def run(self) -> Iterator[Failure]:
        """Yield what did not come out as expected."""
        place = self._entry.place
        plantings: Mapping[str, Planting] = {}
        if place.stages:
            stages = tuple(StageBegin(s.name, s.on, s.degree_days) for s in place.stages)
            plantings = {place.house: Planting(place.house, place.crop, stages)}
        tags = self._tags | {f"site:{place.base}": frozenset(place.tags)}
        settings = Settings(surroundings=Surroundings(tags, plantings))
        ids = self._registry.series_ids
        columns = list(zip(*self._readings, strict=True)) or [(), (), (), ()]
        history = Batch.of(
            [ids[code] for code in columns[0]], columns[1], columns[1], columns[2], columns[3]
        )
        until_us = max(columns[1], default=self._start_us)
        if self._entry.until is not None:
            until_us = self._start_us + self._entry.until
        left = list(replay(self._rules, self._registry, history, until_us, settings))
        for position, expected in self._expected:
            found = next((e for e in left if self._fits(e, expected)), None)
            if found is not None:
                left.remove(found)
                continue
            same = [e for e in left if _is_of(e, expected.rule)]
            near = "; ".join(self._shown(e) for e in same) or "nothing"
            wanted = expected.model_dump(exclude_none=True)
            yield self._failure(
                ("expect", position), f"expected {self._written(wanted)}, got {near}"
            )
        for episode in left:
            yield self._failure(("expect",), f"not expected: {self._shown(episode)}")

    def _failure(self, path: Path, text: str) -> Failure:
        place = self._document.place((*self._path, *path))
        return Failure(self._document.file, place.line, self._entry.name, text)

    def _fits(self, episode: Episode, expected: ExpectedEntry) -> bool:
        wanted = {
            "started": (expected.started, episode.started_at_us - self._start_us),
            "fired": (expected.fired, episode.fired_at_us - self._start_us),
            "resolved": (expected.resolved, (episode.resolved_at_us or 0) - self._start_us),
            "open": (expected.open, episode.is_open),
            "severity": (expected.severity, Severity(episode.worst).word),
            "subject": (expected.subject, episode.subject),
        }
        peak = expected.peak is None or (
            episode.peak is not None and math.isclose(expected.peak, episode.peak, rel_tol=1e-9)
        )
        return (
            peak and _is_of(episode, expected.rule)
            and all(want is None or want == got for want, got in wanted.values())
        )  # fmt: skip

    def _shown(self, episode: Episode) -> str:
        facts: dict[str, Any] = {
            "rule": episode.rule,
            "subject": episode.subject,
            "severity": Severity(episode.worst).word,
            "started": episode.started_at_us - self._start_us,
            "fired": episode.fired_at_us - self._start_us,
        }
        if episode.resolved_at_us is None:
            facts["open"] = True
        else:
            facts["resolved"] = episode.resolved_at_us - self._start_us
        return self._written(facts)

    def _written(self, facts: Mapping[str, Any]) -> str:
        """Write *facts* as the file would, durations with their unit."""
        times = ("started", "fired", "resolved")
        parts = [
            f"{key}: {_duration(value) if key in times else value}" for key, value in facts.items()
        ]
        return "{" + ", ".join(parts) + "}"


def _duration(microseconds: int) -> str:
    seconds = microseconds / 1e6
    return f"{seconds / 60:g}min" if seconds % 60 == 0 else f"{seconds:g}s"


def _is_of(episode: Episode, rule: str) -> bool:
    return rule in (episode.rule, episode.rule.rpartition(".")[2])


def _site(code: str, kind: SiteKind, parent: str | None, place: PlaceEntry) -> Site:
    crop = place.crop if kind is SiteKind.GREENHOUSE else ""
    return Site(
        code, kind, code, code, parent, place.timezone, place.latitude, place.longitude,
        crop=crop or None,
    )  # fmt: skip


def notation(text: str) -> Iterator[tuple[float | None, int]]:
    """Yield (value, quality) of each moment; None where nothing is read.

    Raises ValueError, saying what was expected, at the first term that is none.
    """
    for term in text.split():
        if match := _NOTHING.fullmatch(term):
            value = math.nan if match["word"] == "stale" else None
            for _ in range(int(match["times"] or 1)):
                yield value, int(Quality.MISSING) if value is not None else 0
        elif match := _TERM.fullmatch(term):
            first, step = float(match["value"]), float(match["step"] or 0)
            quality = int(Quality.CALIBRATION) if match["bad"] else 0
            for number in range(int(match["times"] or 0) + 1):
                yield first + number * step, quality
        else:
            raise ValueError(f"values such as 5 5x3 5+1x3 _ _x3 stale 5! where {term!r} stands")


TRIAL_FIELDS: Mapping[str, type[BaseModel]] = {
    "test": TrialEntry, "place": PlaceEntry, "series": SeriesEntry, "expect": ExpectedEntry,
}  # fmt: skip
