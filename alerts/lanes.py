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
    before,
    heads,
    latest_mark,
    tails,
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
    known = samples.codes[:, level] != UNKNOWN
    owner, at_us = samples.owner[known], samples.at_us[known]
    code = samples.codes[known, level]
    carried = course.lanes[samples.owner, level]
    firing, start = _known_lane(course, owner, at_us, code, terms, level)
    if known.all():
        return firing, code == RAISE, start
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
    head = heads(owner)
    state = course.lanes[:, level]
    carried = state[owner]
    passed = at_us - before(at_us, head, course.seen_us[owner, level])
    broken = passed > terms.gap_us[owner]
    speaks = np.minimum(passed, terms.step_us[owner])
    code_before = before(code, head, carried["code"])

    def run(which: np.int8, since: str) -> tuple[BoolArray, IndexArray, Int64Array]:
        """Return where the code is *which*, the row its run began in, and since when it lasts."""
        here = code == which
        begins = here & ((code_before != which) | broken)
        mark = latest_mark(begins | head)
        return here, mark, np.where(begins[mark], (at_us - speaks)[mark], carried[since])

    raising, mark, since = run(RAISE, "since")
    begins = raising & ((code_before != RAISE) | broken)
    start = np.where(begins[mark], at_us[mark], carried["start"])
    clearing, _, calm = run(CLEAR, "calm")
    fires = raising & (at_us - since >= terms.for_us[owner, level])
    stops = clearing & (at_us - calm >= terms.keep_us[owner, level])
    firing = _latched(fires, stops, head, carried["firing"])
    tail = tails(owner)
    of = owner[tail]
    course.seen_us[of, level] = at_us[tail]
    for name, values in (
        ("start", start), ("since", since), ("calm", calm), ("code", code),
        ("firing", firing),
    ):  # fmt: skip
        state[name][of] = values[tail]
    return firing, start


def _latched(on: BoolArray, off: BoolArray, head: BoolArray, carried: BoolArray) -> BoolArray:
    """Return on or off, whichever was last; at first what *carried* says."""
    mark = latest_mark(on | off | head)
    return np.where(on[mark], True, np.where(off[mark], False, carried))


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
    head = heads(owner)
    carried = courses[owner]
    fires, raises = np.logical_or.reduce(firing, axis=1), np.logical_or.reduce(raising, axis=1)
    is_open = _latched(fires, ~fires & ~raises, head, carried["open"])
    was_open = before(is_open, head, carried["open"])
    severity = np.where(is_open, _severity(firing, raising, terms.severity[owner]), 0)
    severity_before = before(severity, head, carried["severity"].astype(severity.dtype))
    opened = is_open & ~was_open
    earliest = np.where(firing, start, np.iinfo(np.int64).max).min(axis=1)
    mark = latest_mark(opened | head)
    start_us = np.where(opened[mark], earliest[mark], carried["start"])
    # An activity is what may become an episode: its worst value and its gaps are counted.
    seen_before = before(at_us, head, carried["seen"])
    gapped = at_us - seen_before > terms.gap_us[owner]
    active = is_open | raises
    was_active = before(active, head, course.active[owner])
    begins = active & (~was_active | (gapped & ~was_open))
    lost = np.where(gapped & was_open, at_us - seen_before, 0)
    story = _Activity(samples, courses, head, begins, lost)
    changed = opened | (was_open & ~is_open) | (severity != severity_before) | (gapped & was_open)
    happenings = [
        Happening(
            owner=int(owner[i]),
            at_us=int(at_us[i]),
            opened=bool(opened[i]),
            was_open=bool(was_open[i]),
            is_open=bool(is_open[i]),
            severity=int(severity[i]),
            severity_before=int(severity_before[i]),
            start_us=int(start_us[i]),
            gap_from_us=int(seen_before[i]) if gapped[i] and was_open[i] else None,
            value=float(samples.value[i]),
            peak=story.peak(i),
            lost_us=story.lost_us(i),
        )
        for i in np.flatnonzero(changed).tolist()
    ]
    tail = tails(owner)
    of = owner[tail]
    story.keep(courses, tail, of)
    for name, values in (
        ("seen", at_us), ("start", start_us), ("severity", severity), ("open", is_open),
        ("value", samples.value),
    ):  # fmt: skip
        courses[name][of] = values[tail]
    courses["held"][of] = False
    course.active[of] = active[tail]
    return happenings


def _severity(
    firing: BoolArray, raising: BoolArray, severity: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """Return the highest severity that fires, or else the lowest that raises.

    Levels stand in rising order, so the last column that fires is the highest.
    """
    highest = np.where(firing, severity, 0).max(axis=1)
    lowest = np.where(raising, severity, 127).min(axis=1)
    return np.asarray(np.where(highest > 0, highest, np.where(lowest < 127, lowest, 0)))


class _Activity:
    """Worst value and lost time of each owner's present activity, at any of its samples.

    Happenings are few, so their peaks are found one by one; what the state must keep is found for
    all owners at once.
    """

    def __init__(
        self,
        samples: Samples,
        courses: npt.NDArray[Any],
        head: BoolArray,
        begins: BoolArray,
        lost: Int64Array,
    ) -> None:
        self._samples = samples
        self._courses = courses.copy()
        self._begins = begins
        self._cut = begins | head
        self._first = latest_mark(self._cut)
        self._lost = np.concatenate([[0], np.cumsum(lost)])

    def _carries_on(self, position: Any) -> Any:
        """Return whether the activity at a row began before the first row of its segment."""
        return ~self._begins[self._first[position]]

    def _since_cut(self, position: Any) -> Any:
        return self._lost[position + 1] - self._lost[self._first[position]]

    def lost_us(self, position: int) -> int:
        """Return the time lost in gaps up to a row."""
        carried = self._courses["lost"][self._samples.owner[position]]
        return int(self._since_cut(position) + (carried if self._carries_on(position) else 0))

    def peak(self, position: int) -> float:
        """Return the worst value up to a row, NaN where none is known."""
        first = int(self._first[position])
        beyond = self._samples.beyond[first : position + 1]
        known = np.flatnonzero(~np.isnan(beyond))
        course = self._courses[self._samples.owner[position]]
        carried = course["worst"] if self._carries_on(position) else np.nan
        if not len(known):
            return float(course["peak"]) if not np.isnan(carried) else float("nan")
        best = known[np.argmax(beyond[known])]
        if not np.isnan(carried) and carried >= beyond[best]:
            return float(course["peak"])
        return float(self._samples.value[first + best])

    def keep(self, courses: npt.NDArray[Any], tail: BoolArray, of: IndexArray) -> None:
        """Put what the present activities have come to into *courses*."""
        cuts = np.flatnonzero(self._cut)
        beyond = self._samples.beyond
        worst = np.fmax.reduceat(beyond, cuts)
        group = np.cumsum(self._cut) - 1
        position = np.arange(len(beyond))
        is_best = beyond == worst[group]
        best = np.minimum.reduceat(np.where(is_best, position, len(beyond)), cuts)
        last = group[tail]
        rows = np.flatnonzero(tail)
        carries_on = self._carries_on(rows)
        old = np.where(carries_on, self._courses["worst"][of], np.nan)
        new = worst[last]
        take_new = ~np.isnan(new) & ~(old >= new)
        peak = self._samples.value[np.minimum(best[last], len(beyond) - 1)]
        keep_old = np.where(carries_on, self._courses["peak"][of], np.nan)
        courses["worst"][of] = np.where(take_new, new, old)
        courses["peak"][of] = np.where(take_new, peak, keep_old)
        carried = np.where(carries_on, self._courses["lost"][of], 0)
        courses["lost"][of] = self._since_cut(rows) + carried
