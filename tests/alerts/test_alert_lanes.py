"""Levels and episodes over many bindings at once, beside one binding and one sample at a time."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from alerts.lanes import Course, Samples, Terms, advance, blank_courses, blank_lanes
from alerts.program import BAND, CLEAR, RAISE, UNKNOWN
from alerts.segments import LONG_AGO
from alerts.story import Story
from tests.alerts.reference import _Binding
from tests.alerts.told import Told

OWNERS = 4
WORDS = {int(RAISE): "raise", int(BAND): "band", int(CLEAR): "clear", int(UNKNOWN): "unknown"}


class Slow(_Binding):
    """The reference on samples that are judged already: rows of (codes, value, beyond)."""

    def __init__(self, levels, gap, step, rows):
        self.binding = SimpleNamespace(
            rule=SimpleNamespace(levels=levels),
            program=SimpleNamespace(levels=tuple(range(len(levels)))),
        )
        self.streams = [(None, gap, step, None)]
        self.known_us = -math.inf
        self.rows = rows

    def samples(self):
        return self.rows

    def code(self, level, row, at):
        return WORDS[row[0][level]]

    def shown(self, row):
        return row[1], row[2]


def world(seed):
    """Levels and terms of each owner, and its samples."""
    rng = random.Random(seed)
    count = rng.randrange(1, 4)
    levels, gaps, steps, rows = [], [], [], []
    for _ in range(OWNERS):
        durations = [0, 0, 3, 7, 15]
        levels.append([
            SimpleNamespace(for_us=rng.choice(durations), keep_us=rng.choice(durations), severity=s)
            for s in range(1, count + 1)
        ])  # fmt: skip
        gaps.append(rng.choice([5, 12, 2**62]))
        steps.append(rng.choice([0, 2, 4]))
        at, own, codes = 100, [], [int(CLEAR)] * count
        for _ in range(rng.randrange(60)):
            at += rng.choice([1, 2, 3, 4, 9, 20])
            # Codes last for a while, or nothing would ever have lasted long enough.
            codes = [
                code
                if rng.random() < 0.6
                else int(rng.choice([RAISE, RAISE, BAND, CLEAR, UNKNOWN]))
                for code in codes
            ]
            if all(code == UNKNOWN for code in codes):
                codes[0] = int(CLEAR)
            value = math.nan if rng.random() < 0.1 else float(rng.randrange(9))
            own.append((at, (tuple(codes), value, value)))
        rows.append(own)
    return rng, levels, gaps, steps, rows


def fast(rng, levels, gaps, steps, rows, most):
    """The episodes of each owner, whose samples come at most *most* at once."""
    course = Course(
        blank_lanes(OWNERS, len(levels[0])),
        blank_courses(OWNERS),
        np.full((OWNERS, len(levels[0])), LONG_AGO),
        np.zeros(OWNERS, bool),
    )
    terms = Terms(
        np.array([[level.for_us for level in each] for each in levels], np.int64),
        np.array([[level.keep_us for level in each] for each in levels], np.int64),
        np.array([[level.severity for level in each] for each in levels], np.int8),
        np.array(gaps, np.int64),
        np.array(steps, np.int64),
    )
    stories = [
        Story(
            SimpleNamespace(
                rule=SimpleNamespace(code="r", version=1),
                subject=SimpleNamespace(key=str(owner), site="h"),
                identity=("r", str(owner)),
            ),
            gaps[owner],
        )
        for owner in range(OWNERS)
    ]
    taken = [0] * OWNERS
    while any(taken[owner] < len(rows[owner]) for owner in range(OWNERS)):
        part = []
        for owner in range(OWNERS):
            size = rng.randrange(most + 1)
            part += [(owner, *row) for row in rows[owner][taken[owner] : taken[owner] + size]]
            taken[owner] += size
        samples = Samples(
            np.array([row[0] for row in part], np.intp),
            np.array([row[1] for row in part], np.int64),
            np.array([row[2][0] for row in part], np.int8).reshape(len(part), len(levels[0])),
            np.array([row[2][1] for row in part], np.float64),
            np.array([row[2][2] for row in part], np.float64),
        )
        if not part:
            continue
        for happening in advance(course, samples, terms):
            stories[happening.owner].happen(happening)
    told = Told()
    told.episodes = {(e.subject, e.id): e for story in stories for e in story.episodes}
    return told.as_tuples()


@pytest.mark.parametrize(("most", "worlds"), [(2, 15), (7, 25), (60, 60)])
def test_episodes_of_many_bindings_are_those_of_each_by_itself(most, worlds):
    episodes = gapped = severe = 0
    for seed in range(worlds):
        rng, levels, gaps, steps, rows = world(seed)
        expected = {}
        for owner in range(OWNERS):
            found = Slow(levels[owner], gaps[owner], steps[owner], rows[owner]).episodes()
            if found:
                expected["r", str(owner)] = found
        assert fast(rng, levels, gaps, steps, rows, most) == expected
        kinds = [step[1] for each in expected.values() for e in each for step in e[5]]
        episodes += kinds.count("fired")
        gapped += kinds.count("held")
        severe += kinds.count("severity")
    assert min(episodes, gapped, severe) > worlds
