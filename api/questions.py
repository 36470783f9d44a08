"""Answering a question about readings: pick the step, ask the database, never give too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.catalogue import zone_of
from api.columns import Columns, dense_columns, raw_columns
from api.formats.answer import Answer
from api.history import ReadingHistory
from api.problems import Finding, Problem, invalid_query
from api.steps import Ask, Step, bucket_starts_us, fitting_steps, points_of
from devices.duration import format_duration
from devices.registry import Registry
from devices.series import Series
from storage.history import Step as RolledStep


class Aggregate(StrEnum):
    """Columns of a rolled-up answer."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    SUM = "sum"
    COUNT = "count"
    VALID_COUNT = "valid_count"


DEFAULT_AGGREGATES = (Aggregate.MEAN, Aggregate.MIN, Aggregate.MAX)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: *series* over [start, end) at *step*, None to have it chosen.

    *max_points* bounds each series while the step is chosen; *cap* bounds the whole answer always.
    *fill* puts empty rows where readings are missing, so that no line is drawn over a gap.
    """

    series: Sequence[Series]
    start_us: int
    end_us: int
    step: Step | None
    aggregates: Sequence[Aggregate]
    max_points: int
    cap: int
    fill: bool = True


class TooManyPoints(Exception):
    """The answer at this step would exceed the limit."""


async def answer(question: Question, registry: Registry, history: ReadingHistory) -> Answer:
    """Return the answer at the step asked for, or at the finest one that keeps it small enough.

    Raises `Problem` 422 where no step does, or where the step asked for gives more than the cap.
    May raise `storage.errors.DatabaseUnavailable`.
    """
    asker = _Asker(question, registry, history)
    steps = asker.candidates() if question.step is None else [question.step]
    for step in steps:
        try:
            parts = await asker.parts(step)
        except TooManyPoints:
            continue
        return Answer(question.start_us, question.end_us, step, parts)
    raise asker.refusal()


class _Asker:
    def __init__(self, question: Question, registry: Registry, history: ReadingHistory) -> None:
        self._question = question
        self._history = history
        self._ids = [registry.series_ids[series.code] for series in question.series]
        self._zones = tuple(zone_of(registry, series) for series in question.series)
        self._chosen = self._ask(question.max_points)
        self._forced = self._ask(question.cap)

    def _ask(self, max_points: int) -> Ask:
        question = self._question
        intervals = tuple(series.interval_s for series in question.series)
        return Ask(
            question.start_us, question.end_us, intervals, self._zones, max_points, question.cap
        )

    def candidates(self) -> list[Step]:
        return fitting_steps(self._chosen)

    async def parts(self, step: Step) -> list[Columns]:
        """Return the answer at *step*; raise `TooManyPoints` where it is over the limit."""
        ask = self._forced if self._question.step is not None else self._chosen
        if step is Step.RAW:
            return await self._raw(ask)
        if points_of(step, ask) > ask.points_each:
            raise TooManyPoints
        return await self._rolled(step)

    async def _raw(self, ask: Ask) -> list[Columns]:
        """Fetch one reading more than is allowed: who gets it knows that there are too many."""
        question = self._question
        most = ask.points_each if question.step is None else question.cap
        if question.step is not None and len(self._ids) > 1:
            found_in_all = await self._history.count(
                self._ids, question.start_us, question.end_us, question.cap + 1
            )
            if found_in_all > question.cap:
                raise TooManyPoints
        found = await self._history.raw(
            self._ids, question.start_us, question.end_us, limit=most + 1
        )
        if any(len(found[one]) > most for one in self._ids):
            raise TooManyPoints
        parts = [
            raw_columns(series, found[one].at_us, found[one].value, found[one].quality,
                        mark_gaps=question.fill)
            for series, one in zip(question.series, self._ids, strict=True)
        ]  # fmt: skip
        if max(map(len, parts)) > most or sum(map(len, parts)) > question.cap:
            raise TooManyPoints
        return parts

    async def _rolled(self, step: Step) -> list[Columns]:
        """Fetch whole buckets: the first may begin before the start, the last end after the end."""
        question = self._question
        grids = {
            zone: bucket_starts_us(step, question.start_us, question.end_us, zone)
            for zone in set(self._zones)
        }
        first_us = min(int(grid[0]) for grid in grids.values())
        found = await self._history.rolled(
            self._ids, first_us, question.end_us, RolledStep(step.value)
        )
        parts = []
        for series, zone, one in zip(question.series, self._zones, self._ids, strict=True):
            buckets, grid = found[one], grids[zone]
            inside = buckets.start_us >= grid[0]
            columns = {
                name.value: getattr(buckets, name.value)[inside] for name in question.aggregates
            }
            if question.fill:
                parts.append(dense_columns(series, grid, buckets.start_us[inside], columns))
            else:
                parts.append(Columns(series, buckets.start_us[inside], columns))
        return parts

    def refusal(self) -> Problem:
        """Return the problem of an answer that is too long, with what would be short enough."""
        question, ask = self._question, self._forced
        rolled = fitting_steps(ask, [step for step in Step if step is not Step.RAW])
        span = format_duration((question.end_us - question.start_us) / 1e6)
        got = f"step={question.step or 'auto'} over {span} for {len(question.series)} series"
        if question.step is None:
            each = self._chosen.points_each
            expected = f"a range that needs at most {each} points for each series, even in days"
            return invalid_query(Finding("query.max_points", got, expected))
        fitting = f"; step={rolled[0]} fits" if rolled else "; ask for a shorter range"
        expected = f"at most {question.cap} points in one answer{fitting}"
        return invalid_query(Finding("query.step", got, expected, rolled[0] if rolled else ""))
