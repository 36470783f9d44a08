"""The rules engine: batches and moments in, transitions out.  Pure: no clock, no I/O.

    engine = Engine(rules, registry, Settings())
    transitions = engine.feed(batch, now_us)      # whenever readings come
    transitions = engine.advance(now_us)          # every second or so, readings or not

What it promises is written in docs/decisions/0010-measured-time.md: at every moment the episodes it
has told of are those that its readings and the newest `now` give, whatever order they came in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.binding import Binding, Surroundings, Unbound, bind
from alerts.episode import Change, Episode, RuleFailure, Transition
from alerts.group import ABSENT, Group, Shelf
from alerts.lanes import Happening
from alerts.program import RAISE
from alerts.recent import Readings, RecentReadings
from alerts.rule import Rule
from alerts.segments import LONG_AGO, NEVER, BoolArray, IndexArray, Int64Array, over_slots
from alerts.snapshot import FORMAT, BindingState, Header, Snapshot, pack, unpack
from alerts.story import Story, news_of_revision, news_of_steps
from devices.reading import Batch
from devices.registry import Registry

_MOST_AT_ONCE = 50_000  # readings from memory that are judged again at once
_MOST_HISTORY = 10_000  # readings from far behind the clock that are judged again at once


@dataclass(frozen=True, slots=True)
class Settings:
    """How patient the engine is, in seconds; *since_us* and *surroundings* describe the place.

    *lateness_s*: readings late by no more than this are judged exactly.  *grace_s*: how long a
    silence or the end of an hour waits for readings on their way; less than *lateness_s*.
    *fresh_s*: an episode of a binding whose data are no older than this is told at once;
    *patience_s*: one found in older data is told after this if it is open still.  *since_us*: since
    when series are expected to speak; without it a series that never spoke is not silent.
    """

    lateness_s: float = 120.0
    grace_s: float = 30.0
    fresh_s: float = 300.0
    patience_s: float = 60.0
    since_us: int | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)

    def __post_init__(self) -> None:
        if not 0 <= self.grace_s < self.lateness_s:
            raise ValueError("grace_s must be less than lateness_s, and neither below 0")


@dataclass(frozen=True, slots=True)
class Overdue:
    """Readings that came too late to be judged from memory: stored history has to be looked at.

    *late_us* is the earliest moment about which something new is known, *memory_us* how long before
    a moment readings matter for it.
    """

    rule: str
    subject: str
    series_ids: tuple[int, ...]
    late_us: int
    memory_us: int

    def since_us(self, known: Iterable[Episode]) -> int:
        """Return from when on `Engine.revise` wants readings, beside the *known* episodes.

        An episode that was open at *late_us* is judged from its start, for the sake of its peak.
        """
        begin_us = self.late_us
        for episode in known:
            mine = episode.rule == self.rule and episode.subject == self.subject
            if mine and not _is_over_by(episode, self.late_us):
                begin_us = min(begin_us, episode.started_at_us)
        return begin_us - self.memory_us


@dataclass(frozen=True, slots=True)
class Pending:
    """A binding beyond a limit since *since_us*, which does not fire yet."""

    rule: str
    subject: str
    since_us: int


class Engine:
    """Judges *rules* on the series of *registry*; build a new one when either changes.

    State moves over with `snapshot` and `restore`.  *bindings* is what is judged, *unbound* what
    cannot be and why, *failures* the rules that raised an error and are out of use.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        registry: Registry,
        settings: Settings | None = None,
        bindings: Sequence[Binding] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.registry = registry
        self.unbound: list[Unbound] = []
        if bindings is None:
            bindings, self.unbound = bind(rules, registry, self.settings.surroundings)
        self.bindings: tuple[Binding, ...] = tuple(bindings)
        self.failures: dict[str, RuleFailure] = {}
        # Of a rule, not of each of its bindings: it is slow to make.
        self._fingerprints = {id(rule): rule.fingerprint for rule in _rules_of(self.bindings)}
        self._lateness_us = round(self.settings.lateness_s * 1e6)
        self._grace_us = round(self.settings.grace_s * 1e6)
        self._number_series()
        self._groups = self._grouped(self.bindings)
        self._horizon_us = int(LONG_AGO)
        self._recent = RecentReadings()
        self._forgotten_at_us = int(LONG_AGO)
        self._batch_shelf = Shelf(len(self._codes))
        self._recent_shelf = Shelf(len(self._codes))
        self._stories: dict[int, Story] = {}
        self._news: list[Transition] = []
        self._untold: dict[int, int] = {}
        self._overdue: dict[int, int] = {}
        if self.settings.since_us is not None:
            for group in self._groups:
                group.expect_since(self.settings.since_us)

    # -- building

    def _number_series(self) -> None:
        """Number the series that any rule looks at: 0, 1, 2 ... beside the registry's numbers."""
        used = {code for b in self.bindings for codes in b.leaves for code in codes}
        ids = self.registry.series_ids
        self._codes = sorted(used, key=lambda code: ids[code])
        self._dense = {code: number for number, code in enumerate(self._codes)}
        self._ids = np.array([ids[code] for code in self._codes], np.int64)
        largest = int(self._ids.max()) if len(self._ids) else 0
        self._number_of = np.full(largest + 2, -1, np.int32)
        self._number_of[self._ids] = np.arange(len(self._ids), dtype=np.int32)
        # One more, for slots without a series.
        self._newest_us = np.full(len(self._codes) + 1, LONG_AGO)

    def _grouped(self, bindings: Sequence[Binding]) -> list[Group]:
        shapes: dict[object, list[int]] = {}
        for number, binding in enumerate(bindings):
            sizes = tuple(len(codes) for codes in binding.leaves)
            shape = (binding.program.shape, sizes)
            shapes.setdefault(shape, []).append(number)
        self._home: dict[int, tuple[Group, int]] = {}
        groups = []
        for numbers in shapes.values():
            group = Group([bindings[n] for n in numbers], numbers, self.registry, self._dense)
            groups.append(group)
            self._home |= {number: (group, row) for row, number in enumerate(numbers)}
        return groups

    # -- what comes in

    def feed(self, batch: Batch, now_us: int) -> list[Transition]:
        """Judge the readings of *batch*, and what time has brought by *now_us*.

        Readings of series that no rule looks at are passed over; a reading that came before is
        harmless.
        """
        self._horizon_us = max(self._horizon_us, now_us)
        readings = self._admitted(batch)
        if len(readings):
            self._recent.add(readings)
            self._batch_shelf.put(readings)
            touched = self._batch_shelf.touched
            last = self._batch_shelf.last_us(touched)
            self._newest_us[touched] = np.maximum(self._newest_us[touched], last)
            for group in list(self._groups):
                self._guarded(group, self._take_in)
        return self._pass_time()

    def advance(self, now_us: int) -> list[Transition]:
        """Judge what time alone has brought by *now_us*: silences, ends of hours, holding."""
        self._horizon_us = max(self._horizon_us, now_us)
        return self._pass_time()

    def _admitted(self, batch: Batch) -> Readings:
        """Return the readings of *batch* that are new and looked at, by (series, time)."""
        number = self._number_of[np.clip(batch.series_id, -1, len(self._number_of) - 1)]
        readings = Readings(number, batch.observed_at_us, batch.value, batch.quality)
        wanted = number >= 0
        if not wanted.all():
            readings = readings.take(wanted)
        readings = readings.sorted().first_of_each()
        perhaps = readings.at_us <= self._newest_us[readings.series]
        if perhaps.any():
            known = np.zeros(len(readings), bool)
            known[perhaps] = self._recent.has(readings.take(perhaps))
            readings = readings.take(~known)
        return readings

    # -- judging

    def _guarded(self, group: Group, action: Callable[[Group], None]) -> None:
        """Do *action*; if it raises, find the rules that are to blame and go on without them.

        This is the one place where any error at all is caught: a rule must never stop another.
        """
        try:
            action(group)
        except Exception as error:  # whatever a rule raises: told in `failures`
            self._groups.remove(group)
            codes = list(dict.fromkeys(binding.rule.code for binding in group.bindings))
            if len(codes) == 1:
                reason = f"{type(error).__name__}: {error}"
                self.failures[codes[0]] = RuleFailure(codes[0], reason, self._horizon_us)
                return
            for code in codes:
                part = self._part(group, code)
                self._groups.append(part)
                self._guarded(part, action)

    def _part(self, group: Group, code: str) -> Group:
        """Return the bindings of one rule as a group of its own, with their state."""
        rows = np.array([r for r, b in enumerate(group.bindings) if b.rule.code == code], np.intp)
        numbers = group.numbers[rows].tolist()
        part = Group([group.bindings[r] for r in rows], numbers, self.registry, self._dense)
        for mine, theirs in zip(part.generations(), group.generations(), strict=True):
            mine.put(np.arange(len(rows)), theirs.take(rows))
        part.due_us[:] = group.due_us[rows]
        self._home |= {number: (part, row) for row, number in enumerate(numbers)}
        return part

    def _take_in(self, group: Group) -> None:
        """Judge the readings on the batch shelf in one group."""
        shelf = self._batch_shelf
        rows = np.flatnonzero(shelf.is_here(group.slot_series))
        if not len(rows):
            return
        first_us = over_slots(shelf.first_us(group.slot_series[rows]), np.minimum)
        late = first_us <= group.live.through_us[rows]
        if group.by_time:
            late |= self._comes_due_late(group, rows)
        in_order = rows[~late]
        hot = group.screen(in_order, shelf)
        if len(hot):
            happenings = group.judge(hot, group.live, shelf, self._until(group, hot))
            self._tell(group, hot, happenings)
        if late.any():
            self._note_overdue(group, rows[late])
            if self._keeps_too_much(group, rows[late]):
                self._let_go(group, rows[late])
            else:
                self._go_back(group, rows[late])
        self._checkpoint(group, rows)

    def _keeps_too_much(self, group: Group, rows: IndexArray) -> bool:
        """Return whether going back would mean to judge long history again with every batch.

        What a device was away with is judged from memory while it is little.  Much of it would cost
        the square of its size, and the memory for all of it.
        """
        series = np.unique(group.slot_series[rows])
        before_us = self._horizon_us - 3 * self._lateness_us
        return self._recent.count_before(series[series >= 0], before_us) > _MOST_HISTORY

    def _let_go(self, group: Group, rows: IndexArray) -> None:
        """Leave what came late to `revise`, judge the rest, and forget what was kept for it."""
        first_us = over_slots(self._batch_shelf.first_us(group.slot_series[rows]), np.minimum)
        for number, at_us in zip(group.numbers[rows].tolist(), first_us.tolist(), strict=True):
            self._overdue[number] = min(self._overdue.get(number, at_us), at_us)
        through_us = group.live.through_us[rows].copy()
        until = self._until(group, rows)
        happenings = group.judge(rows, group.live, self._batch_shelf, until, through_us)
        self._tell(group, rows, happenings)
        group.newer.copy_rows(rows, group.live)
        group.older.copy_rows(rows, group.live)
        self._forgotten_at_us = int(LONG_AGO)

    def _until(self, group: Group, rows: IndexArray) -> Int64Array:
        """Return (m, slots) how far time is known for each slot: by its own readings, or by now."""
        newest = self._newest_us[group.slot_series[rows]]
        return np.maximum(newest, self._horizon_us - self._grace_us)

    def _comes_due_late(self, group: Group, rows: IndexArray) -> BoolArray:
        """Return whether time brings something to a row from before what was judged there."""
        due = group.due_us[rows]
        known = self._until(group, rows)
        late = np.zeros(len(rows), bool)
        for number, channel in enumerate(group.channels):
            come = due[:, number] <= over_slots(known[:, channel.slots], np.maximum)
            late |= come & (due[:, number] <= group.live.through_us[rows])
        return late

    def _go_back(self, group: Group, rows: IndexArray) -> None:
        """Judge *rows* again, a part at a time, so that many of them take no more memory."""
        series = np.unique(group.slot_series[rows])
        parts = min(len(rows), 1 + self._recent.count(series[series >= 0]) // _MOST_AT_ONCE)
        for part in np.array_split(rows, parts):
            self._go_back_together(group, part)

    def _go_back_together(self, group: Group, rows: IndexArray) -> None:
        """Judge *rows* again from their older checkpoint, with all readings since then."""
        series = np.unique(group.slot_series[rows])
        self._recent_shelf.put(self._recent.of_series(series[series >= 0]))
        settled_us = group.older.through_us[rows]
        known_us = group.live.through_us[rows]
        happenings = group.judge(
            rows, group.older, self._recent_shelf, self._until(group, rows), settled_us
        )
        group.newer.copy_rows(rows, group.older)
        told = self._rewound(group, rows, settled_us)
        self._happen(group, rows, happenings)
        group.live.course.courses["held"][rows] = False
        self._hold(group, rows)
        for row, before, known in zip(rows.tolist(), told, known_us.tolist(), strict=True):
            story = self._stories.get(int(group.numbers[row]))
            if before or story:
                now = story.versions if story else []
                news = news_of_revision(before, now, self._horizon_us, known)
                self._publish(group, row, news)

    def _rewound(
        self, group: Group, rows: IndexArray, settled_us: Int64Array
    ) -> list[list[Episode]]:
        """Take the stories of *rows* back to their checkpoints; return what they had told."""
        out = []
        for number, settled in zip(group.numbers[rows].tolist(), settled_us.tolist(), strict=True):
            story = self._stories.get(number)
            out.append(list(story.versions) if story else [])
            if story:
                story.rewind(settled)
        return out

    def _note_overdue(self, group: Group, rows: IndexArray) -> None:
        """Remember the rows whose readings on the batch shelf are from before their checkpoints."""
        first_us = over_slots(self._batch_shelf.first_us(group.slot_series[rows]), np.minimum)
        too_late = first_us <= group.older.through_us[rows]
        numbers = group.numbers[rows[too_late]].tolist()
        for number, at_us in zip(numbers, first_us[too_late].tolist(), strict=True):
            self._overdue[number] = min(self._overdue.get(number, at_us), at_us)

    def _pass_time(self) -> list[Transition]:
        for group in list(self._groups):
            self._guarded(group, self._come_due)
        self._stand()
        self._forget()
        news, self._news = self._news, []
        return news

    def _come_due(self, group: Group) -> None:
        """Judge what is due in one group by the horizon less the grace."""
        known_us = self._horizon_us - self._grace_us
        if group.by_time:
            rows = np.flatnonzero((group.due_us <= known_us).any(axis=1))
            if len(rows):
                self._judge_due(group, rows)
        waiting = np.flatnonzero(group.live.course.courses["open"])
        held = self._hold(group, waiting) if len(waiting) else []
        for row, story in held:
            news = news_of_steps(story.versions[-1:], self._horizon_us, int(LONG_AGO))
            self._publish(group, row, list(news))

    def _judge_due(self, group: Group, rows: IndexArray) -> None:
        late = self._comes_due_late(group, rows)
        in_order = rows[~late]
        if len(in_order):
            until = self._until(group, in_order)
            happenings = group.judge(in_order, group.live, None, until)
            self._tell(group, in_order, happenings)
        if late.any():
            self._go_back(group, rows[late])
        self._checkpoint(group, rows)

    def _hold(self, group: Group, rows: IndexArray) -> list[tuple[int, Story]]:
        """Hold the open episodes of *rows* that have been without a sample for too long."""
        courses = group.live.course.courses
        waiting = rows[courses["open"][rows] & ~courses["held"][rows]]
        moment = courses["seen"][waiting] + group.terms.gap_us[waiting]
        over = moment <= self._horizon_us - self._grace_us
        held = waiting[over]
        courses["held"][held] = True
        # A reading from before the holding is late, like any that is before what has been judged.
        group.live.through_us[held] = np.maximum(group.live.through_us[held], moment[over])
        out = []
        for row, at_us in zip(held.tolist(), moment[over].tolist(), strict=True):
            story = self._stories[int(group.numbers[row])]
            story.hold(at_us)
            out.append((row, story))
        return out

    # -- memory of the recent past

    def _checkpoint(self, group: Group, rows: IndexArray) -> None:
        newest = over_slots(self._newest_us[group.slot_series[rows]], np.maximum)
        group.checkpoint(rows, np.minimum(newest, self._horizon_us) - self._lateness_us)

    def _forget(self) -> None:
        """Drop the readings and episodes that every binding has behind its older checkpoint."""
        if self._horizon_us - self._forgotten_at_us < self._lateness_us // 2:
            return
        self._forgotten_at_us = self._horizon_us
        keep_after = np.full(len(self._codes) + 1, NEVER)
        for group in self._groups:
            for slot in range(group.slot_series.shape[1]):
                np.minimum.at(keep_after, group.slot_series[:, slot], group.older.through_us)
        self._recent.forget(keep_after)
        for number, story in list(self._stories.items()):
            group, row = self._home[number]
            story.settle(int(group.older.through_us[row]))
            if not story.versions:
                del self._stories[number]

    # -- telling

    def _happen(self, group: Group, rows: IndexArray, happenings: Sequence[Happening]) -> set[int]:
        """Write *happenings* into the stories; return the rows concerned."""
        concerned = set()
        for happening in happenings:
            row = int(rows[happening.owner])
            number = int(group.numbers[row])
            story = self._stories.get(number)
            if story is None:
                gap_us = int(group.terms.gap_us[row])
                story = self._stories[number] = Story(self.bindings[number], gap_us)
            story.happen(happening)
            concerned.add(row)
        return concerned

    def _tell(self, group: Group, rows: IndexArray, happenings: Sequence[Happening]) -> None:
        """Tell what happened after all that was known."""
        told = {
            number: len(self._stories[number].versions)
            for number in {int(group.numbers[rows[h.owner]]) for h in happenings}
            if number in self._stories
        }
        for row in sorted(self._happen(group, rows, happenings)):
            number = int(group.numbers[row])
            versions = self._stories[number].versions[told.get(number, 0) :]
            news = news_of_steps(versions, self._horizon_us, int(LONG_AGO))
            self._publish(group, row, list(news))

    def _publish(self, group: Group, row: int, news: list[Transition]) -> None:
        """Decide who is to be woken by *news* of one binding, and put them out.

        Nobody is for an episode that is over.  For one that was found in old data and is open, the
        decision waits until the data have caught up with the clock.
        """
        number = int(group.numbers[row])
        waking = [
            position for position, transition in enumerate(news)
            if _is_waking(transition) and self._is_open(number, transition.episode.id)
        ]  # fmt: skip
        news = [replace(t, page=False) if t.page else t for t in news]
        if waking:
            if self._is_fresh(group, row):
                news[waking[-1]] = replace(news[waking[-1]], page=True)
                self._untold.pop(number, None)
            else:
                self._untold.setdefault(number, self._horizon_us)
        self._news += news

    def _is_open(self, number: int, episode: str) -> bool:
        story = self._stories.get(number)
        last = story.last if story else None
        return last is not None and last.is_open and last.id == episode

    def _is_fresh(self, group: Group, row: int) -> bool:
        age_us = self._horizon_us - int(group.live.through_us[row])
        return age_us <= self.settings.fresh_s * 1e6

    def _stand(self) -> None:
        """Tell of episodes that were found in old data and still stand."""
        patience_us = self.settings.patience_s * 1e6
        for number, noticed_us in list(self._untold.items()):
            story = self._stories.get(number)
            last = story.last if story else None
            if last is None or not last.is_open:
                del self._untold[number]
                continue
            group, row = self._home[number]
            if self._is_fresh(group, row) or self._horizon_us - noticed_us >= patience_us:
                del self._untold[number]
                self._news.append(
                    Transition(
                        Change.STANDS, last, last.steps[-1].at_us, self._horizon_us, page=True
                    )
                )

    def pending(self) -> list[Pending]:
        """Return the bindings that are beyond a limit and have not been for long enough."""
        out = []
        for group in self._groups:
            course = group.live.course
            for row in np.flatnonzero(course.active & ~course.courses["open"]).tolist():
                lanes = course.lanes[row]
                since_us = int(lanes["start"][lanes["code"] == RAISE].min())
                binding = group.bindings[row]
                out.append(Pending(binding.rule.code, binding.subject.key, since_us))
        return out

    @property
    def shapes(self) -> int:
        """How many groups the bindings are judged in."""
        return len(self._groups)

    def bytes_per_binding(self) -> float:
        """Return how much memory a binding takes, in arrays."""
        total = sum(group.bytes_per_binding() * group.count for group in self._groups)
        return total / max(len(self.bindings), 1)

    def episodes(self) -> list[Episode]:
        """Return the open episodes, and those that late readings may still change."""
        return [episode for story in self._stories.values() for episode in story.episodes]

    # -- state that outlives the process

    def snapshot(self) -> bytes:
        """Return the whole state as bytes, for `restore`."""
        arrays: dict[str, npt.NDArray[Any]] = {"newest_us": self._newest_us[:-1]}
        recent = self._recent.all()
        for name in ("series", "at_us", "value", "quality"):
            arrays[f"recent.{name}"] = getattr(recent, name)
        for number, group in enumerate(self._groups):
            arrays[f"{number}.slots"] = group.slot_series
            for name, array in group.arrays().items():
                arrays[f"{number}.{name}"] = array
        states = [
            self._state_of(binding, number, row, int(group.numbers[row]))
            for number, group in enumerate(self._groups)
            for row, binding in enumerate(group.bindings)
        ]
        layouts = [group.layout for group in self._groups]
        header = Header(FORMAT, self._horizon_us, self._codes, layouts, states)
        return pack(Snapshot(header, arrays))

    def _identity(self, binding: Binding) -> tuple[str, str]:
        """Return what stays the same over restarts while neither rule nor subject changes."""
        return (self._fingerprints[id(binding.rule)], binding.subject.key)

    def _state_of(self, binding: Binding, group: int, row: int, number: int) -> BindingState:
        story = self._stories.get(number)
        return BindingState(
            *self._identity(binding), group, row, story.versions if story else [],
            self._untold.get(number), self._overdue.get(number),
        )  # fmt: skip

    def restore(self, data: bytes) -> list[Transition]:
        """Take up the state in *data*, which an engine with other rules may have left.

        Bindings are found again by rule and subject.  Those that are new, or look at other series
        than before, begin with nothing and are `overdue`; open episodes of those that are gone are
        withdrawn, and returned.  Raises `SnapshotError` and changes nothing if *data* is no
        snapshot.
        """
        saved = unpack(data)
        self._horizon_us = max(self._horizon_us, saved.header.horizon_us)
        numbers = self._restore_readings(saved)
        theirs = [
            numbers[saved.arrays[f"{group}.slots"]].tolist()
            for group in range(len(saved.header.layouts))
        ]
        ours = {id(group): group.slot_series.tolist() for group in self._groups}
        mine = {self._identity(binding): number for number, binding in enumerate(self.bindings)}
        withdrawn = []
        moves: dict[int, list[tuple[BindingState, int, Group, int]]] = {}
        for state in saved.header.bindings:
            number = mine.get((state.fingerprint, state.subject), -1)
            group, row = self._home[number] if number >= 0 else (None, -1)
            if group is None or group.layout != saved.header.layouts[state.group]:
                withdrawn += [v for v in state.versions[-1:] if v.is_open and number < 0]
                continue
            if theirs[state.group][state.row] != ours[id(group)][row]:
                continue
            del mine[state.fingerprint, state.subject]
            moves.setdefault(state.group, []).append((state, number, group, row))
        for saved_group, members in moves.items():
            self._restore_group(saved, saved_group, members)
        for number in mine.values():
            self._overdue[number] = self._horizon_us
        return [
            Transition(Change.WITHDRAWN, e, self._horizon_us, self._horizon_us) for e in withdrawn
        ]

    def _restore_readings(self, saved: Snapshot) -> npt.NDArray[np.int32]:
        """Return the number here of each series there, -2 for strange ones, `ABSENT` at the end."""
        numbers = np.array(
            [self._dense.get(code, -2) for code in saved.header.series] + [ABSENT], np.int32
        )
        kept = np.flatnonzero(numbers >= 0)
        self._newest_us[numbers[kept]] = saved.arrays["newest_us"][kept]
        recent = Readings(
            *(saved.arrays[f"recent.{name}"] for name in ("series", "at_us", "value", "quality"))
        )
        if len(recent):
            recent = replace(recent, series=numbers[recent.series])
            self._recent.add(recent.take(recent.series >= 0).sorted())
        return numbers

    def _restore_group(
        self,
        saved: Snapshot,
        saved_group: int,
        members: Sequence[tuple[BindingState, int, Group, int]],
    ) -> None:
        group = members[0][2]
        sources = np.array([state.row for state, *_ in members], np.intp)
        rows = np.array([row for *_, row in members], np.intp)
        for name, array in group.arrays().items():
            array[rows] = saved.arrays[f"{saved_group}.{name}"][sources]
        for state, number, _, row in members:
            if state.versions:
                gap_us = int(group.terms.gap_us[row])
                self._stories[number] = Story(self.bindings[number], gap_us, list(state.versions))
            if state.untold_us is not None:
                self._untold[number] = state.untold_us
            if state.overdue_us is not None:
                self._overdue[number] = state.overdue_us

    # -- readings that came too late

    def overdue(self) -> list[Overdue]:
        """Return what `revise` is waited for; it stays until it is revised."""
        out = []
        for number, late_us in self._overdue.items():
            group, row = self._home[number]
            binding = self.bindings[number]
            codes = {code for codes in binding.leaves for code in codes}
            ids = tuple(sorted(self.registry.series_ids[code] for code in codes))
            memory_us = group.memory_us(row) + self._lateness_us
            out.append(Overdue(binding.rule.code, binding.subject.key, ids, late_us, memory_us))
        return out

    def trust(self) -> None:
        """Let nothing be overdue: there is no history that could be looked at."""
        self._overdue.clear()

    def revise(
        self, overdue: Sequence[Overdue], history: Batch, known: Sequence[Episode]
    ) -> list[Transition]:
        """Judge *overdue* again from stored *history*, and return what changes.

        *known* are the episodes that were stored of these rules and subjects and were not over by
        ``late_us``; *history* holds all readings of their series from ``since_us(known)`` on, in
        any order.  Nobody is paged for what is over.
        """
        wanted = {(one.rule, one.subject): one for one in overdue}
        numbers = [
            number for number in self._overdue
            if (self.bindings[number].rule.code, self.bindings[number].subject.key) in wanted
        ]  # fmt: skip
        for number in numbers:
            binding = self.bindings[number]
            one = wanted[binding.rule.code, binding.subject.key]
            told = {e.id: e for e in known if e.rule == one.rule and e.subject == one.subject}
            self._revise_one(number, one, history, told)
            del self._overdue[number]
        news, self._news = self._news, []
        return news

    def _revise_one(
        self, number: int, overdue: Overdue, history: Batch, told: dict[str, Episode]
    ) -> None:
        binding = self.bindings[number]
        story = self._stories.get(number)
        told = told | {episode.id: episode for episode in (story.episodes if story else [])}
        since_us = self.settings.since_us
        if since_us is not None and since_us < overdue.since_us(told.values()):
            since_us = None  # history does not reach back to where silence would begin
        past = Engine((), self.registry, replace(self.settings, since_us=since_us), [binding])
        wanted = np.isin(history.series_id, overdue.series_ids)
        readings = past._of_history(history.take(wanted), self._recent, self._dense)
        before = readings.observed_at_us < overdue.late_us
        for chunk in chunks_by_time(readings.take(before)):
            past.feed(chunk, int(chunk.observed_at_us.max()))
        past._settle(overdue.late_us, told.values())
        lived: dict[str, list[Episode]] = {}
        for chunk in chunks_by_time(readings.take(~before)):
            for news in past.feed(chunk, int(chunk.observed_at_us.max())):
                lived.setdefault(news.episode.id, []).append(news.episode)
        for news in past.advance(self._horizon_us):
            lived.setdefault(news.episode.id, []).append(news.episode)
        for episode in past.episodes():
            if episode.id not in lived:  # open since before, and nothing happened
                lived[episode.id] = [episode]
        old = [e for e in told.values() if not _is_over_by(e, overdue.late_us)]
        new = [version for versions in lived.values() for version in versions]
        group, row = self._home[number]
        self._adopt(past, number)
        self._publish(group, row, news_of_revision(old, new, self._horizon_us, self._horizon_us))

    def _of_history(
        self, history: Batch, recent: RecentReadings, dense: Mapping[str, int]
    ) -> Batch:
        """Return *history* and what another engine keeps of the same series, as one batch."""
        numbers = np.array([dense[code] for code in self._codes], np.int32)
        ids = {number: self.registry.series_ids[code] for code, number in dense.items()}
        kept = recent.of_series(np.sort(numbers))
        series_id = np.array([ids[number] for number in kept.series.tolist()], np.int32)
        return Batch.concatenate(
            [history, Batch(series_id, kept.at_us, kept.at_us, kept.value, kept.quality)]
        )

    def _settle(self, at_us: int, told: Iterable[Episode]) -> None:
        """Let what was *told* of the time before *at_us* be true of the one binding here.

        Its streams have been run up to here, but from an arbitrary beginning; so they are kept, and
        whether an episode is open is taken from what is known.
        """
        group, row = self._home[0]
        gap_us = int(group.terms.gap_us[row])
        self._stories.clear()
        opened = None
        for episode in told:
            known = episode.before(at_us)
            if known is None or not known.is_open:
                continue
            if known.is_held:
                known = replace(known, steps=known.steps[:-1])
            opened = known
            self._stories[0] = Story(self.bindings[0], gap_us, [opened])
        group.settle(row, at_us - 1, opened)

    def _adopt(self, past: Engine, number: int) -> None:
        """Take over the state of the one binding of *past*."""
        group, row = self._home[number]
        other, _ = past._home[0]
        for name, array in group.arrays().items():
            array[row] = other.arrays()[name][0]
        mine = {position: self._dense[code] for position, code in enumerate(past._codes)}
        kept = past._recent.all()
        kept = replace(kept, series=np.array([mine[s] for s in kept.series.tolist()], np.int32))
        self._recent.add(kept.take(~self._recent.has(kept.sorted())))
        touched = np.array(list(mine.values()), np.intp)
        self._newest_us[touched] = np.maximum(self._newest_us[touched], past._newest_us[:-1])
        self._stories.pop(number, None)
        if story := past._stories.get(0):
            self._stories[number] = story


def _rules_of(bindings: Iterable[Binding]) -> Iterable[Rule]:
    return {id(binding.rule): binding.rule for binding in bindings}.values()


def chunks_by_time(history: Batch, rows: int = 65_536) -> Iterator[Batch]:
    """Yield *history* in the order of time, in pieces of about *rows*; no moment is cut in two."""
    at_us = history.observed_at_us
    if len(at_us) and (at_us[1:] < at_us[:-1]).any():
        history = history.take(np.argsort(at_us, kind="stable"))
        at_us = history.observed_at_us
    start = 0
    while start < len(at_us):
        stop = min(start + rows, len(at_us))
        stop = int(np.searchsorted(at_us, at_us[stop - 1], "right"))
        yield history.take(slice(start, stop))
        start = stop


def _is_over_by(episode: Episode, at_us: int) -> bool:
    return episode.resolved_at_us is not None and episode.resolved_at_us < at_us


def _is_waking(transition: Transition) -> bool:
    """Tell whether a transition says that something has become worse."""
    episode = transition.episode
    if transition.change is Change.FIRED:
        return True
    if transition.change is Change.REVISED:
        return transition.page
    if transition.change is not Change.SEVERITY:
        return False
    before = [step.severity for step in episode.steps[:-1]]
    return bool(before) and episode.severity > before[-1]
