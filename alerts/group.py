"""All bindings of one shape, judged together.

A group holds what is fixed about its bindings as columns, and their state three times: as it is
*live*, and at two checkpoints in the past.  Nothing here knows of batches, of clocks or of who is
told; `alerts.engine` brings the readings and the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.binding import Binding
from alerts.episode import Episode
from alerts.lanes import Course, Happening, Samples, Terms, advance, blank_courses, blank_lanes
from alerts.program import CLEAR, RAISE, UNKNOWN, Above, Column, Frame, Spec, Within
from alerts.recent import Readings
from alerts.rule import Rule
from alerts.segments import (
    LONG_AGO,
    NEVER,
    BoolArray,
    FloatArray,
    IndexArray,
    Int64Array,
    heads,
    latest_mark,
    over_slots,
    tails,
)
from alerts.stream import Clock, Facts, Operator, Rows, Stream, exact_scale
from alerts.zone import ZoneCalendar
from devices.quality import BAD_MASK
from devices.registry import Registry

ABSENT = -1  # the series of a slot that a binding does not have
_MOST_TAKEN = 65_536  # readings that bindings take in together; each takes about a kilobyte


class Shelf:
    """Sorted readings with the place of each series' rows.

    *first* and *past* (series + 1,) say where a series' rows begin and end; the last entry stands
    for `ABSENT` and is empty.
    """

    def __init__(self, series_count: int) -> None:
        self.first = np.zeros(series_count + 1, np.int64)
        self.past = np.zeros(series_count + 1, np.int64)
        self.touched = np.empty(0, np.intp)
        self.readings = Readings.joined([])
        self.usable = np.empty(0, bool)
        self._first_us = np.full(series_count + 1, NEVER)
        self._last_us = np.full(series_count + 1, LONG_AGO)
        self._is_here = np.zeros(series_count + 1, bool)

    def put(self, readings: Readings) -> None:
        """Lay *readings* (sorted) on the shelf in place of what lay there."""
        gone = self.touched
        self.first[gone] = self.past[gone] = 0
        self._first_us[gone], self._last_us[gone], self._is_here[gone] = NEVER, LONG_AGO, False
        starts = np.flatnonzero(heads(readings.series.astype(np.intp)))
        past = np.append(starts[1:], len(readings))
        self.touched = touched = readings.series[starts].astype(np.intp)
        self.first[touched], self.past[touched], self._is_here[touched] = starts, past, True
        self._first_us[touched] = readings.at_us[starts]
        self._last_us[touched] = readings.at_us[past - 1]
        self.readings = readings
        self.usable = ((readings.quality & BAD_MASK) == 0) & np.isfinite(readings.value)

    def is_here(self, series: npt.NDArray[Any]) -> BoolArray:
        """Return whether any series of each owner (m, slots) has a reading here."""
        return np.asarray(over_slots(self._is_here[series], np.logical_or))

    def count(self, series: npt.NDArray[Any]) -> Int64Array:
        """Return how many readings of each series are here."""
        return np.asarray(self.past[series] - self.first[series])

    def first_us(self, series: npt.NDArray[Any]) -> Int64Array:
        """Return when each series' first reading here was measured, `NEVER` without one."""
        return np.asarray(self._first_us[series])

    def last_us(self, series: npt.NDArray[Any]) -> Int64Array:
        """Return when each series' last reading here was measured, `LONG_AGO` without one."""
        return np.asarray(self._last_us[series])

    def rows(self, series: npt.NDArray[Any], after_us: Int64Array | None) -> Rows:
        """Return the rows of each owner's series (m,); *after_us* (m,) leaves out earlier ones."""
        first, past = self.first[series], self.past[series]
        count = past - first
        if (count == 1).all() and after_us is None:
            owner: IndexArray = np.arange(len(series))
            place = first
        else:
            owner = np.repeat(np.arange(len(series)), count)
            place = np.repeat(first - np.cumsum(count) + count, count) + np.arange(len(owner))
        at_us = self.readings.at_us[place]
        if after_us is not None:
            later = at_us > after_us[owner]
            owner, place, at_us = owner[later], place[later], at_us[later]
        return Rows(owner, at_us, self.readings.value[place], self.usable[place])


@dataclass(slots=True)
class Generation:
    """The state of n bindings at one time.

    *through_us* (n,): up to when everything has been taken in.  *channels*: one state array a
    channel.  *held_us*, *held* (n, channels): the last value of each channel and its time, where
    there are several.
    """

    through_us: Int64Array
    course: Course
    channels: list[npt.NDArray[Any]]
    held_us: Int64Array
    held: FloatArray

    def _always(self) -> list[npt.NDArray[Any]]:
        """Return the arrays that matter for every binding."""
        course = self.course
        return [
            self.through_us, course.seen_us, course.active, self.held_us, self.held,
            *self.channels,
        ]  # fmt: skip

    def _when_active(self) -> list[npt.NDArray[Any]]:
        """Return the arrays that matter only where a binding is active."""
        return [self.course.lanes, self.course.courses]

    def columns(self) -> list[npt.NDArray[Any]]:
        """Return every array, each with one row a binding."""
        return self._always() + self._when_active()

    def take(self, rows: IndexArray) -> Generation:
        """Return a copy of some rows."""
        course = self.course
        return Generation(
            self.through_us[rows],
            Course(
                course.lanes[rows], course.courses[rows], course.seen_us[rows], course.active[rows]
            ),
            [channel[rows] for channel in self.channels],
            self.held_us[rows],
            self.held[rows],
        )

    def put(self, rows: IndexArray, other: Generation) -> None:
        """Overwrite *rows* by all of *other*."""
        for mine, theirs in zip(self.columns(), other.columns(), strict=True):
            mine[rows] = theirs

    def copy_rows(self, rows: IndexArray, source: Generation) -> None:
        """Overwrite *rows* by the same rows of *source*."""
        matters = rows[self.course.active[rows] | source.course.active[rows]]
        for mine, theirs in zip(self._when_active(), source._when_active(), strict=True):
            mine[matters] = theirs[matters]
        for mine, theirs in zip(self._always(), source._always(), strict=True):
            if mine.size:
                mine[rows] = theirs[rows]


@dataclass(frozen=True, slots=True)
class Channel:
    """One stream of every binding: an operator, and the slots whose readings it takes."""

    operator: Operator
    spec: Spec
    slots: tuple[int, ...]
    facts: Facts
    holds_us: Int64Array


class Group:
    """n bindings of one shape; *numbers* (n,) are their numbers in the engine."""

    def __init__(
        self,
        bindings: Sequence[Binding],
        numbers: Sequence[int],
        registry: Registry,
        dense: Mapping[str, int],
    ) -> None:
        self.bindings = list(bindings)
        self.numbers = np.array(numbers, np.intp)
        self.count = len(self.bindings)
        self.program = self.bindings[0].program
        self._slots(dense)
        self._build_channels(registry)
        self._build_terms()
        self._build_timetables()
        self.live = self._blank()
        self.newer = self._blank()
        self.older = self._blank()
        self.due_us = np.full((self.count, len(self.channels)), NEVER)
        self._refresh_due(np.arange(self.count), self.live.channels)

    # -- what is fixed

    def _slots(self, dense: Mapping[str, int]) -> None:
        """Number the series of every leaf: one column of *slot_series* (n, slots) each."""
        sizes = [
            max(len(binding.leaves[leaf]) for binding in self.bindings)
            for leaf in range(len(self.program.leaves))
        ]
        self._leaf_slots = [
            tuple(range(sum(sizes[:leaf]), sum(sizes[: leaf + 1]))) for leaf in range(len(sizes))
        ]
        self.slot_series = np.full((self.count, sum(sizes)), ABSENT, np.intp)
        for row, binding in enumerate(self.bindings):
            for leaf, codes in enumerate(binding.leaves):
                start = self._leaf_slots[leaf][0]
                for offset, code in enumerate(codes):
                    self.slot_series[row, start + offset] = dense[code]

    def _build_channels(self, registry: Registry) -> None:
        names = {binding.timetable.zone.name: binding.timetable.zone for binding in self.bindings}
        calendars: list[ZoneCalendar] = list(names.values())
        numbers = {name: number for number, name in enumerate(names)}
        zone = np.array([numbers[b.timetable.zone.name] for b in self.bindings], np.intp)
        self.channels: list[Channel] = []
        self._leaf_channels: list[tuple[int, ...]] = []
        for position, leaf in enumerate(self.program.leaves):
            slots = self._leaf_slots[position]
            shares = [slots] if leaf.members == "merged" else [(slot,) for slot in slots]
            first = len(self.channels)
            for share in shares:
                facts = Facts(
                    self._intervals(registry, position, share[0] - slots[0], len(share)),
                    self._scales(registry, position),
                    zone,
                    calendars,
                )
                self.channels.append(
                    Channel(
                        leaf.spec.operator(), leaf.spec, share, facts,
                        np.asarray(leaf.spec.holds_us(facts.interval_us)),
                    )
                )  # fmt: skip
            self._leaf_channels.append(tuple(range(first, len(self.channels))))
        # A rule speaks of its own series: what a twin says is looked up when those say something.
        mine = [
            channels
            for leaf, channels in zip(self.program.leaves, self._leaf_channels, strict=True)
            if leaf.members != "twins"
        ]
        self._sampled = [number for channels in mine or self._leaf_channels for number in channels]
        self.by_time = any(channel.spec.by_time for channel in self.channels)
        self._is_plain = (
            len(self.channels) == 1
            and self.channels[0].spec.kind == "value"
            and all(
                isinstance(level, (Above, Within)) and isinstance(level.left, Column)
                for level in self.program.levels
            )
        )

    def _intervals(self, registry: Registry, leaf: int, offset: int, width: int) -> Int64Array:
        """Return the expected interval of a channel; of merged series, the shortest."""
        out = np.ones(self.count, np.int64)
        for row, binding in enumerate(self.bindings):
            codes = binding.leaves[leaf][offset : offset + width]
            seconds = [registry.series[code].interval_s for code in codes]
            out[row] = round(min(seconds, default=1.0) * 1e6)
        return out

    def _scales(self, registry: Registry, leaf: int) -> FloatArray:
        quantities = [registry.series[b.leaves[leaf][0]].quantity for b in self.bindings]
        return np.array([exact_scale(quantity) for quantity in quantities])

    def _build_terms(self) -> None:
        spoken = [c for c in self.channels if c.spec.kind != "silence"]
        # Where there is nothing but silence to judge, silence is no gap.
        gap = [c.holds_us for c in spoken] or [np.full(self.count, NEVER)]
        step = [c.spec.step_us(c.facts.interval_us) for c in spoken] or [
            np.zeros(self.count, np.int64)
        ]
        self.terms = Terms(
            self._of_rule(lambda rule: [level.for_us for level in rule.levels], np.int64),
            self._of_rule(lambda rule: [level.keep_us for level in rule.levels], np.int64),
            self._of_rule(lambda rule: [level.severity for level in rule.levels], np.int8),
            np.asarray(np.maximum.reduce(gap)),
            np.asarray(np.minimum.reduce(step)),
        )
        programs = {id(b.program): b.program for b in self.bindings}
        place = {key: number for number, key in enumerate(programs)}
        params = np.array([p.params for p in programs.values()], np.float64)
        params = params.reshape(len(programs), len(self.program.params))
        # Column by column: one param of many bindings is what is asked for.
        self.params = np.asfortranarray(params[[place[id(b.program)] for b in self.bindings]])

    def _of_rule(self, ask: Callable[[Rule], list[Any]], dtype: Any) -> npt.NDArray[Any]:
        """Return one row a binding of what its rule says: asked once a rule, not once a binding."""
        rules = {id(b.rule): b.rule for b in self.bindings}
        place = {key: number for number, key in enumerate(rules)}
        values = np.array([ask(rule) for rule in rules.values()], dtype)
        return np.asarray(values[[place[id(b.rule)] for b in self.bindings]])

    def _build_timetables(self) -> None:
        # One object a rule and site: identity tells them apart, and is quick.
        tables = {id(b.timetable): b.timetable for b in self.bindings}
        self._timetables = list(tables.values())
        numbers = {key: number for number, key in enumerate(tables)}
        self._timetable = np.array([numbers[id(b.timetable)] for b in self.bindings], np.int32)
        self._always = all(timetable.is_always for timetable in self._timetables)

    def _blank(self) -> Generation:
        several = len(self.channels) if len(self.channels) > 1 else 0
        return Generation(
            np.full(self.count, LONG_AGO),
            Course(
                blank_lanes(self.count, len(self.program.levels)),
                blank_courses(self.count),
                np.full((self.count, len(self.program.levels)), LONG_AGO),
                np.zeros(self.count, bool),
            ),
            [channel.operator.blank(self.count) for channel in self.channels],
            np.full((self.count, several), LONG_AGO),
            np.full((self.count, several), np.nan),
        )

    def generations(self) -> tuple[Generation, Generation, Generation]:
        """Return live, newer and older."""
        return (self.live, self.newer, self.older)

    def expect_since(self, since_us: int) -> None:
        """Let series that never spoke be silent since *since_us*, in every generation."""
        for generation in self.generations():
            for channel, state in zip(self.channels, generation.channels, strict=True):
                if channel.spec.kind == "silence":
                    state["previous"] = since_us
        self._refresh_due(np.arange(self.count), self.live.channels)

    # -- judging

    def screen(self, rows: IndexArray, shelf: Shelf) -> IndexArray:
        """Pass the bindings over that have nothing to say; return those that must be judged.

        Nearly all readings are within all limits, of bindings without an episode.  Where a group
        looks at plain values by plain comparisons, such a reading changes nothing but the moment
        it was seen, and that is noted here for all of them at once.
        """
        if not self._is_plain:
            return rows
        series = self.slot_series[rows, 0]
        taken = shelf.rows(series, None).good()
        busy = self.live.course.active[rows]
        frame = Frame([taken.value], self.params, rows[taken.owner])
        for level in self.program.levels:
            yes = level.yes(frame)
            if yes.any():
                busy[taken.owner[yes]] = True
        quiet = ~busy
        self.live.through_us[rows[quiet]] = shelf.last_us(series[quiet])
        tail = tails(taken.owner)
        tail &= quiet[taken.owner]
        self.live.course.seen_us[rows[taken.owner[tail]]] = taken.at_us[tail][:, None]
        return rows[busy]

    def judge(
        self,
        rows: IndexArray,
        source: Generation,
        shelf: Shelf | None,
        until_us: Int64Array,
        after_us: Int64Array | None = None,
    ) -> list[Happening]:
        """Judge the bindings *rows* (rising) from their state in *source* and make it live.

        *shelf* holds the readings to take in (none: time alone passes), *after_us* (m,) leaves out
        the earlier ones; *until_us* (m, slots) is how far time is known of each slot.  Nothing is
        changed if this raises.  The owner of a happening is a position in *rows*.
        """
        judged = []
        happenings: list[Happening] = []
        for part in self._parts(rows, shelf):
            after = None if after_us is None else after_us[part]
            state, found = self._judge_part(rows[part], source, shelf, until_us[part], after)
            judged.append((rows[part], state))
            if part.start:
                found = [replace(one, owner=one.owner + part.start) for one in found]
            happenings += found
        for some, state in judged:
            self._refresh_due(some, state.channels)
            self.live.put(some, state)
        return happenings

    def _parts(self, rows: IndexArray, shelf: Shelf | None) -> list[slice]:
        """Cut *rows* where they have much to take in: every reading of each costs memory."""
        if shelf is None:
            return [slice(0, len(rows))]
        taken = np.cumsum(shelf.count(self.slot_series[rows]).sum(axis=1))
        if not len(rows) or taken[-1] <= _MOST_TAKEN:
            return [slice(0, len(rows))]
        ends = np.flatnonzero(np.diff(taken // _MOST_TAKEN)) + 1
        return [slice(*ends) for ends in pairwise([0, *ends.tolist(), len(rows)])]

    def _judge_part(
        self,
        rows: IndexArray,
        source: Generation,
        shelf: Shelf | None,
        until_us: Int64Array,
        after_us: Int64Array | None,
    ) -> tuple[Generation, list[Happening]]:
        """Return the state after `judge`, and what happened."""
        state = source.take(rows)
        through = state.through_us
        streams = []
        for number, channel in enumerate(self.channels):
            taken = self._rows(channel, rows, shelf, after_us)
            if len(taken.owner):
                tail = tails(taken.owner)
                of = taken.owner[tail]
                through[of] = np.maximum(through[of], taken.at_us[tail])
            clock = Clock.at(over_slots(until_us[:, channel.slots], np.maximum))
            facts = channel.facts.take(rows)
            streams.append(channel.operator.run(state.channels[number], taken, clock, facts))
            np.maximum(through, clock.reached_us, out=through)
        owner, at_us, columns = self._joined(streams, state, rows)
        return state, self._judge_samples(rows, state, owner, at_us, columns)

    def _rows(
        self,
        channel: Channel,
        rows: IndexArray,
        shelf: Shelf | None,
        after_us: Int64Array | None,
    ) -> Rows:
        if shelf is None:
            empty = Stream.empty()
            return Rows(empty.owner, empty.at_us, empty.value, np.empty(0, bool))
        parts = [shelf.rows(self.slot_series[rows, slot], after_us) for slot in channel.slots]
        if len(parts) == 1:
            return parts[0]
        owner = np.concatenate([part.owner for part in parts])
        at_us = np.concatenate([part.at_us for part in parts])
        order = np.lexsort((at_us, owner))
        return Rows(
            owner[order],
            at_us[order],
            np.concatenate([part.value for part in parts])[order],
            np.concatenate([part.usable for part in parts])[order],
        )

    def _joined(
        self, streams: Sequence[Stream], state: Generation, rows: IndexArray
    ) -> tuple[IndexArray, Int64Array, list[FloatArray]]:
        """Return the samples with all streams' values there.

        A stream holds its last value for as long as the channel allows, and is NaN after that.
        """
        if len(streams) == 1:
            only = streams[0]
            return only.owner, only.at_us, [only.value]
        owner, at_us, places = _moments([streams[number] for number in self._sampled])
        place = dict(zip(self._sampled, places, strict=True))
        others = [number for number in range(len(streams)) if number not in place]
        following = _next_moments([streams[number] for number in others], owner, at_us)
        place |= zip(others, following, strict=True)
        head, tail = heads(owner), tails(owner)
        values = []
        for number, stream in enumerate(streams):
            own = place[number]
            # What is said after an owner's last sample counts for the next.
            later = np.append(owner, len(rows))[own] != stream.owner
            own, spoken = own[~later], stream.value[~later]
            said = np.zeros(len(owner), bool)
            said[own] = True
            value, moment = np.full(len(owner), np.nan), np.full(len(owner), LONG_AGO)
            value[own], moment[own] = spoken, stream.at_us[~later]
            mark = latest_mark(said | head)
            value = np.where(said[mark], value[mark], state.held[owner, number])
            moment = np.where(said[mark], moment[mark], state.held_us[owner, number])
            state.held[owner[tail], number] = value[tail]
            state.held_us[owner[tail], number] = moment[tail]
            state.held[stream.owner[later], number] = stream.value[later]
            state.held_us[stream.owner[later], number] = stream.at_us[later]
            holds = self.channels[number].holds_us[rows][owner]
            values.append(np.where(at_us - moment <= holds, value, np.nan))
        return owner, at_us, self._leaf_columns(values)

    def _leaf_columns(self, values: Sequence[FloatArray]) -> list[FloatArray]:
        """Return one column a leaf: (n,), or (n, members) where it has several."""
        return [
            values[channels[0]] if len(channels) == 1
            else np.stack([values[channel] for channel in channels], axis=1)
            for channels in self._leaf_channels
        ]  # fmt: skip

    def _judge_samples(
        self,
        rows: IndexArray,
        state: Generation,
        owner: IndexArray,
        at_us: Int64Array,
        columns: list[FloatArray],
    ) -> list[Happening]:
        """Run the samples through the levels."""
        if not len(owner):
            return []
        frame = Frame(columns, self.params, rows[owner])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            codes = np.stack([level.truth(frame).codes() for level in self.program.levels], axis=1)
            if self.program.value is None:
                value = beyond = np.full(len(owner), np.nan)
            else:
                value = self.program.value.values(frame)
                beyond = self.program.beyond(frame, value)
        inside = self._inside(rows, owner, at_us)
        if inside is not None:
            codes[~inside] = CLEAR
        judged = (codes != UNKNOWN).any(axis=1)
        samples = Samples(
            owner[judged], at_us[judged], codes[judged], value[judged], beyond[judged]
        )
        if not len(samples.owner):
            return []
        terms = Terms(
            self.terms.for_us[rows],
            self.terms.keep_us[rows],
            self.terms.severity[rows],
            self.terms.gap_us[rows],
            self.terms.step_us[rows],
        )
        return advance(state.course, samples, terms)

    def _inside(self, rows: IndexArray, owner: IndexArray, at_us: Int64Array) -> BoolArray | None:
        """Return whether each sample lies in its binding's timetable; None where all do.

        The value of a day stands at the midnight after it, and belongs to that day.
        """
        if self._always:
            return None
        if any(channel.spec.at_end for channel in self.channels):
            at_us = at_us - 1
        out = np.empty(len(owner), bool)
        numbers = self._timetable[rows][owner]
        for number, timetable in enumerate(self._timetables):
            mask = numbers == number
            if mask.any():
                out[mask] = timetable.holds(at_us[mask])
        return out

    def _refresh_due(self, rows: IndexArray, channels: Sequence[npt.NDArray[Any]]) -> None:
        if not self.by_time:
            return
        for number, channel in enumerate(self.channels):
            if channel.spec.by_time:
                state = channels[number]
                facts = channel.facts.take(rows)
                self.due_us[rows, number] = channel.operator.due_us(state, facts)

    # -- memory

    def checkpoint(self, rows: IndexArray, before_us: Int64Array) -> IndexArray:
        """Move the checkpoints of *rows* up where the newer one is before *before_us* (m,).

        Returns the rows whose checkpoints moved.
        """
        moved = rows[self.newer.through_us[rows] < before_us]
        if len(moved):
            self.older.copy_rows(moved, self.newer)
            self.newer.copy_rows(moved, self.live)
        return moved

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every array of state by name, each with one row a binding; not copies."""
        out: dict[str, npt.NDArray[Any]] = {"due_us": self.due_us}
        for name in ("live", "newer", "older"):
            for number, array in enumerate(getattr(self, name).columns()):
                out[f"{name}.{number}"] = array
        return out

    @cached_property
    def layout(self) -> str:
        """What two groups have in common that can hold each other's state."""
        sizes = [len(channel.slots) for channel in self.channels]
        return f"{self.program.shape} {sizes} {[a.dtype.descr for a in self.arrays().values()]}"

    def memory_us(self, row: int) -> int:
        """Return how long ago a reading may have been measured and matter at *row* still."""
        gap_us = int(self.terms.gap_us[row])
        step_us = int(self.terms.step_us[row])
        lasting = int(max(self.terms.for_us[row].max(), self.terms.keep_us[row].max()))
        streams = [
            channel.spec.memory_us() + 4 * int(channel.facts.interval_us[row])
            + int(channel.spec.intervals * channel.facts.interval_us[row])
            for channel in self.channels
        ]  # fmt: skip
        return max(streams) + lasting + step_us + (gap_us if gap_us < NEVER else 0)

    def settle(self, row: int, through_us: int, episode: Episode | None) -> None:
        """Let *row* be in *episode*, or in none, at *through_us*, and put its checkpoints there.

        The runs of its levels stay as they are; what fires follows from the episode's severity.
        """
        live = self.live
        live.through_us[row] = max(int(live.through_us[row]), through_us)
        lanes, one = live.course.lanes, live.course.courses
        severity = episode.severity if episode else 0
        was_open = one["open"][row]
        lanes["firing"][row] = self.terms.severity[row] <= severity
        one["open"][row] = episode is not None
        one["held"][row] = False
        one["severity"][row] = severity
        live.course.active[row] = episode is not None or (lanes["code"][row] == RAISE).any()
        lived = (
            episode is not None and bool(was_open) and one["start"][row] == episode.started_at_us
        )
        if episode is not None and not lived:
            one["start"][row] = episode.started_at_us
            one["lost"][row] = episode.unobserved_us
            one["peak"][row] = np.nan if episode.peak is None else episode.peak
            one["worst"][row] = self._beyond_of(row, episode.peak)
            if one["seen"][row] == LONG_AGO:
                one["seen"][row] = through_us
        for generation in (self.newer, self.older):
            generation.copy_rows(np.array([row]), live)

    def _beyond_of(self, row: int, peak: float | None) -> float:
        if peak is None:
            return float("nan")
        frame = Frame([], self.params, np.array([row]))
        return float(self.program.beyond(frame, np.array([peak]))[0])

    def bytes_per_binding(self) -> float:
        """Return how much memory one binding takes, in all arrays."""
        terms = self.terms
        arrays: list[npt.NDArray[Any]] = [self.slot_series, self.params, self.due_us]
        arrays += [self._timetable, self.numbers, terms.for_us, terms.keep_us, terms.severity]
        arrays += [terms.gap_us, terms.step_us]
        for channel in self.channels:
            facts = channel.facts
            arrays += [facts.interval_us, facts.scale, facts.zone, channel.holds_us]
        for generation in self.generations():
            arrays += generation.columns()
        return float(sum(array.nbytes for array in arrays) / max(self.count, 1))


def _moments(
    streams: Sequence[Stream],
) -> tuple[IndexArray, Int64Array, list[IndexArray]]:
    """Return each owner's moments at which any of *streams* says something, each once.

    With them, for each stream, the places of its rows among them.
    """
    if len(streams) == 1:
        return streams[0].owner, streams[0].at_us, [np.arange(len(streams[0].owner))]
    owner = np.concatenate([stream.owner for stream in streams])
    at_us = np.concatenate([stream.at_us for stream in streams])
    order = np.lexsort((at_us, owner))
    owner, at_us = owner[order], at_us[order]
    new = heads(owner)
    new[1:] |= at_us[1:] != at_us[:-1]
    place = np.empty(len(order), np.intp)
    place[order] = np.cumsum(new) - 1
    ends = np.cumsum([len(stream.owner) for stream in streams])
    return owner[new], at_us[new], np.split(place, ends[:-1])


def _next_moments(
    streams: Sequence[Stream], owner: IndexArray, at_us: Int64Array
) -> list[IndexArray]:
    """Return for each row of *streams* which moment is the first that is not before it.

    The moments are those of `_moments`; where an owner has none left, it is one of another owner,
    or one past the last.
    """
    # Numbered by their distinct times, owner and time fit into one number.
    times = np.unique(at_us)
    keys = owner * (len(times) + 1) + np.searchsorted(times, at_us)
    return [
        np.searchsorted(
            keys, stream.owner * (len(times) + 1) + np.searchsorted(times, stream.at_us)
        )
        for stream in streams
    ]
