"""The state machine of levels and episodes, for many bindings and many samples at once.

One *lane* is one level of one binding.  Its samples carry a code (raise, band, clear; unknown ones
are left out).  What the machine must find is simple said slowly:

    a run of raises begins after anything else, or after a gap
    a lane is set once a run of raises has lasted `for`, and reset once a run of clears has lasted
    `keep_firing`; otherwise it stays as it is
    an episode is open while a lane fires; it stays open while one still raises

Said for whole arrays: a run's first row is carried forward by a running maximum over positions, and
"set, reset, else as before" is the latest set or reset at or before each row.  Each segment's first
row takes what came before from the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.program import CLEAR, RAISE, UNKNOWN
from alerts.segments import (
    LONG_AGO,
    BoolArray,
    FloatArray,
    IndexArray,
    Int64Array,
    heads,
    held_from,
    latest_mark,
)

LANE = np.dtype(
    [
        ("start", "<i8"),  # first sample of the run of raises
        ("since", "<i8"),  # the same, less what that sample speaks for
        ("calm", "<i8"),  # since when the run of clears lasts
        ("code", "i1"),
        ("firing", "?"),
    ]
)
COURSE = np.dtype(
    [
        ("seen", "<i8"),  # last judged sample of any lane
        ("start", "<i8"),  # of the open episode
        ("lost", "<i8"),  # time in gaps since the present activity began
        ("worst", "<f8"),  # how far beyond the limit it has been, and with which value
        ("peak", "<f8"),
        ("value", "<f8"),
        ("severity", "i1"),
        ("open", "?"),
        ("held", "?"),
    ]
)


def blank_lanes(count: int, levels: int) -> npt.NDArray[Any]:
    """Return lanes (count, levels) that have never raised."""
    lanes = np.zeros((count, levels), LANE)
    lanes["code"] = CLEAR
    return lanes


def blank_courses(count: int) -> npt.NDArray[Any]:
    """Return the courses (count,) of bindings without an episode."""
    courses = np.zeros(count, COURSE)
    courses["seen"] = LONG_AGO
    courses["worst"] = courses["peak"] = courses["value"] = np.nan
    return courses


@dataclass(slots=True)
class Course:
    """Where m bindings stand: *lanes* (m, levels), *courses* (m,), and what is asked of all often.

    *seen_us* (m, levels): each level's last judged sample.  *active* (m,): a level raises or an
    episode is open; where nothing is active, what *lanes* and *courses* hold does not matter, as
    long as no lane's code is RAISE and none fires.
    """

    lanes: npt.NDArray[Any]
    courses: npt.NDArray[Any]
    seen_us: Int64Array
    active: BoolArray


@dataclass(frozen=True, slots=True)
class Terms:
    """What each of m bindings asks for: *for_us*, *keep_us*, *severity* (m, levels).

    *gap_us* (m,): samples further apart are not joined.  *step_us* (m,): the most that one sample
    speaks for.
    """

    for_us: Int64Array
    keep_us: Int64Array
    severity: npt.NDArray[np.int8]
    gap_us: Int64Array
    step_us: Int64Array


@dataclass(frozen=True, slots=True)
class Samples:
    """n judged samples, by owner and time: *codes* (n, levels), *value* and how *beyond* it is."""

    owner: IndexArray
    at_us: Int64Array
    codes: npt.NDArray[np.int8]
    value: FloatArray
    beyond: FloatArray


@dataclass(frozen=True, slots=True)
class Happening:
    """Something happened to an owner's course at one sample.

    *gap_from_us* is the sample before where a gap lies between and an episode was open, else None.
    *severity* 0 says that it is over.  *start_us*, *peak*, *lost_us* describe the episode then.
    """

    owner: int
    at_us: int
    opened: bool
    was_open: bool
    is_open: bool
    severity: int
    severity_before: int
    start_us: int
    gap_from_us: int | None
    value: float
    peak: float
    lost_us: int


def advance(course: Course, samples: Samples, terms: Terms) -> list[Happening]:
    """Take *samples* in; change *course* in place.

    Every owner in *samples* has at least one level known at each of its samples.  Returns what
    happened, by owner and time.
    """
    levels = course.lanes.shape[1]
    firing = np.empty((len(samples.owner), levels), bool)
    raising = np.empty_like(firing)
    start = np.empty((len(samples.owner), levels), np.int64)
    for level in range(levels):
        firing[:, level], raising[:, level], start[:, level] = _lane(course, level, samples, terms)
    return _courses(course, samples, terms, firing, raising, start)


def _lane(
    course: Course, level: int, samples: Samples, terms: Terms
) -> tuple[BoolArray, BoolArray, Int64Array]:
    """Advance one level; return firing, raising and the run's start at every sample."""
    codes = samples.codes[:, level]
    known = codes != UNKNOWN
    if known.all():
        firing, start = _known_lane(course, samples.owner, samples.at_us, codes, terms, level)
        return firing, codes == RAISE, start
    carried = course.lanes[samples.owner, level]
    owner, at_us, code = samples.owner[known], samples.at_us[known], codes[known]
    firing, start = _known_lane(course, owner, at_us, code, terms, level)
    # Where this level is unknown, it stays what it was at its last known sample.
    head = heads(samples.owner)
    mark = latest_mark(known | head)
    rank = np.maximum(np.cumsum(known) - 1, 0)
    from_known = known[mark]

    def spread(values: Any, before_any: Any) -> Any:
        if not len(values):
            return before_any
        return np.where(from_known, values[rank[mark]], before_any)

    return (
        spread(firing, carried["firing"]),
        spread(code == RAISE, carried["code"] == RAISE),
        spread(start, carried["start"]),
    )


def _known_lane(
    course: Course,
    owner: IndexArray,
    at_us: Int64Array,
    code: npt.NDArray[np.int8],
    terms: Terms,
    level: int,
) -> tuple[BoolArray, Int64Array]:
    if not len(owner):
        return np.empty(0, bool), np.empty(0, np.int64)
    size = len(owner)
    first = np.flatnonzero(heads(owner))
    state = course.lanes[:, level]
    carried = state[owner[first]]
    passed = np.empty(size, np.int64)
    np.subtract(at_us[1:], at_us[:-1], out=passed[1:])
    passed[first] = at_us[first] - course.seen_us[owner[first], level]
    broken = passed > terms.gap_us[owner]
    code_before = np.empty_like(code)
    code_before[1:] = code[:-1]
    code_before[first] = carried["code"]

    def run(which: np.int8) -> tuple[BoolArray, IndexArray, BoolArray]:
        """Return where the code is *which*, where runs begin or segments do, and which of both."""
        here = code == which
        begins = here & ((code_before != which) | broken)
        marks = _marked(begins, first)
        return here, marks, begins[marks]

    def speaking(marks: IndexArray) -> Int64Array:
        """Return the time of some rows, less what each speaks for."""
        return np.asarray(at_us[marks] - np.minimum(passed[marks], terms.step_us[owner[marks]]))

    raising, marks, begins = run(RAISE)
    start_at = np.where(begins, at_us[marks], state["start"][owner[marks]])
    since_at = np.where(begins, speaking(marks), state["since"][owner[marks]])
    start, since = held_from(marks, start_at, size), held_from(marks, since_at, size)
    fires = raising & (at_us - since >= terms.for_us[owner, level])
    clearing, marks, begins = run(CLEAR)
    calm_at = np.where(begins, speaking(marks), state["calm"][owner[marks]])
    calm = held_from(marks, calm_at, size)
    stops = clearing & (at_us - calm >= terms.keep_us[owner, level])
    firing = _latched(fires, stops, first, carried["firing"])
    last = np.append(first[1:], size) - 1
    of = owner[last]
    course.seen_us[of, level] = at_us[last]
    for name, values in (
        ("start", start), ("since", since), ("calm", calm), ("code", code),
        ("firing", firing),
    ):  # fmt: skip
        state[name][of] = values[last]
    return firing, start


def _marked(mask: BoolArray, first: IndexArray) -> IndexArray:
    """Return the positions that *mask* has or *first* names, rising."""
    mask = mask.copy()
    mask[first] = True
    return np.flatnonzero(mask)


def _latched(on: BoolArray, off: BoolArray, first: IndexArray, carried: BoolArray) -> BoolArray:
    """Return on or off, whichever was last; at first what *carried* says of each segment."""
    marks = _marked(on | off, first)
    values = on[marks].copy()
    neither = np.flatnonzero(~on[marks] & ~off[marks])  # first rows that say nothing
    values[neither] = carried[np.searchsorted(first, marks[neither])]
    return np.asarray(held_from(marks, values, len(on)))


def _courses(
    course: Course,
    samples: Samples,
    terms: Terms,
    firing: BoolArray,
    raising: BoolArray,
    start: Int64Array,
) -> list[Happening]:
    """Advance the episodes of all owners by what their lanes do."""
    owner, at_us, courses = samples.owner, samples.at_us, course.courses
    first = np.flatnonzero(heads(owner))
    carried = courses[owner[first]]
    fires, raises = np.logical_or.reduce(firing, axis=1), np.logical_or.reduce(raising, axis=1)
    is_open = _latched(fires, ~fires & ~raises, first, carried["open"])
    was_open = _shifted(is_open, first, carried["open"])
    severity = np.zeros(len(owner), np.int8)
    rows = np.flatnonzero(is_open)
    severity[rows] = _severity(firing[rows], raising[rows], terms.severity[owner[rows]])
    severity_before = _shifted(severity, first, carried["severity"])
    seen_before = _shifted(at_us, first, carried["seen"])
    gapped = at_us - seen_before > terms.gap_us[owner]
    active = is_open | raises
    was_active = _shifted(active, first, course.active[owner[first]])
    # An activity is what may become an episode: its worst value and its gaps are counted.
    begins = active & (~was_active | (gapped & ~was_open))
    lost = np.where(gapped & was_open, at_us - seen_before, 0)
    opened = is_open & ~was_open
    story = _Activity(samples, course, first, begins, lost, opened, firing, start)
    changed = (is_open != was_open) | (severity != severity_before) | (gapped & was_open)
    happenings = [
        Happening(
            owner=int(owner[i]),
            at_us=int(at_us[i]),
            opened=bool(opened[i]),
            was_open=bool(was_open[i]),
            is_open=bool(is_open[i]),
            severity=int(severity[i]),
            severity_before=int(severity_before[i]),
            start_us=story.start_us(i),
            gap_from_us=int(seen_before[i]) if gapped[i] and was_open[i] else None,
            value=float(samples.value[i]),
            peak=story.peak(i),
            lost_us=story.lost_us(i),
        )
        for i in np.flatnonzero(changed).tolist()
    ]
    last = np.append(first[1:], len(owner)) - 1
    of = owner[last]
    story.keep(last, active)
    for name, values in (
        ("seen", at_us), ("severity", severity), ("open", is_open), ("value", samples.value),
    ):  # fmt: skip
        courses[name][of] = values[last]
    courses["held"][of] = False
    course.active[of] = active[last]
    return happenings


def _shifted(values: npt.NDArray[Any], first: IndexArray, carried: npt.NDArray[Any]) -> Any:
    """Return for each row the value of the row before it; at first rows, what was carried."""
    out = np.empty_like(values)
    out[1:] = values[:-1]
    out[first] = carried
    return out


def _severity(
    firing: BoolArray, raising: BoolArray, severity: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """Return the highest severity that fires, or else the lowest that raises.

    Levels stand in rising order, so the last column that fires is the highest.
    """
    highest = np.where(firing, severity, 0).max(axis=1, initial=0)
    lowest = np.where(raising, severity, 127).min(axis=1, initial=127)
    return np.asarray(np.where(highest > 0, highest, np.where(lowest < 127, lowest, 0)))


class _Activity:
    """Start, worst value and lost time of each owner's present activity, at any of its samples.

    Happenings are few, so their facts are found one by one; what the state must keep is found for
    all owners that are active at once.
    """

    def __init__(
        self,
        samples: Samples,
        course: Course,
        first: IndexArray,
        begins: BoolArray,
        lost: Int64Array,
        opened: BoolArray,
        firing: BoolArray,
        start: Int64Array,
    ) -> None:
        self._samples = samples
        self._kept = course.courses
        self._old = course.courses[samples.owner[first]]  # as it was, by segment
        self._segment = first
        self._begins = begins
        self._cuts = _marked(begins, first)
        self._lost = np.concatenate([[0], np.cumsum(lost)])
        self._opened = np.flatnonzero(opened)
        earliest = np.where(firing[self._opened], start[self._opened], np.iinfo(np.int64).max)
        self._starts = earliest.min(axis=1, initial=np.iinfo(np.int64).max)

    def _first_of(self, position: Any) -> Any:
        """Return the first row of the activity at a row, within its segment."""
        return self._cuts[np.searchsorted(self._cuts, position, "right") - 1]

    def _segment_of(self, position: Any) -> Any:
        return np.searchsorted(self._segment, position, "right") - 1

    def start_us(self, position: int) -> int:
        """Return when the episode at a row started."""
        segment = self._segment_of(position)
        place = int(np.searchsorted(self._opened, position, "right")) - 1
        if place >= 0 and self._opened[place] >= self._segment[segment]:
            return int(self._starts[place])
        return int(self._old["start"][segment])

    def lost_us(self, position: int) -> int:
        """Return the time lost in gaps up to a row."""
        first = self._first_of(position)
        carried = 0 if self._begins[first] else self._old["lost"][self._segment_of(position)]
        return int(self._lost[position + 1] - self._lost[first] + carried)

    def peak(self, position: int) -> float:
        """Return the worst value up to a row, NaN where none is known."""
        first = int(self._first_of(position))
        beyond = self._samples.beyond[first : position + 1]
        known = np.flatnonzero(~np.isnan(beyond))
        old = self._old[self._segment_of(position)]
        carried = np.nan if self._begins[first] else old["worst"]
        if not len(known):
            return float("nan") if np.isnan(carried) else float(old["peak"])
        best = known[np.argmax(beyond[known])]
        if not np.isnan(carried) and carried >= beyond[best]:
            return float(old["peak"])
        return float(self._samples.value[first + best])

    def keep(self, last: IndexArray, active: BoolArray) -> None:
        """Put what the activities that go on have come to into the state."""
        segment = np.flatnonzero(active[last])
        last = last[segment]
        if not len(last):
            return
        first = self._first_of(last)
        of = self._samples.owner[last]
        carries_on = ~self._begins[first]
        old = self._old[segment]
        carried = np.where(carries_on, old["lost"], 0)
        self._kept["lost"][of] = self._lost[last + 1] - self._lost[first] + carried
        place = np.minimum(np.searchsorted(self._opened, last, "right") - 1, len(self._opened) - 1)
        inside = (place >= 0) & (
            self._opened[place] >= self._segment[segment] if len(self._opened) else False
        )
        starts = self._starts[place] if len(self._opened) else old["start"]
        self._kept["start"][of] = np.where(inside, starts, old["start"])
        best = _best_rows(self._samples.beyond, first, last)
        new = self._samples.beyond[best]
        worst = np.where(carries_on, old["worst"], np.nan)
        peak = np.where(carries_on, old["peak"], np.nan)
        takes_new = ~np.isnan(new) & ~(worst >= new)
        self._kept["worst"][of] = np.where(takes_new, new, worst)
        self._kept["peak"][of] = np.where(takes_new, self._samples.value[best], peak)


def _best_rows(beyond: FloatArray, first: IndexArray, last: IndexArray) -> IndexArray:
    """Return the first row with the largest value of each stretch, both ends included."""
    count = last - first + 1
    begin = np.cumsum(count) - count
    rows = np.repeat(first - begin, count) + np.arange(int(count.sum()))
    values = beyond[rows]
    best = np.repeat(np.fmax.reduceat(values, begin), count)
    unseen = len(beyond)
    found = np.minimum.reduceat(np.where(values == best, rows, unseen), begin)
    return np.asarray(np.where(found == unseen, first, found))
