"""Replays over HTTP: what is asked, what is refused, how much at once; any cut of history."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.binding import Surroundings
from alerts.replay import Replay, replay
from alerts.rule import read_pack
from api.replays import (
    Bounds,
    LimitRefused,
    Question,
    ReplayTooLarge,
    differences,
    replay_stored,
    with_limits,
)
from api.stretches import stretches
from devices.quality import Quality
from devices.reading import Batch
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import HOT, PACK, AlertBase, MemoryDesk
from tests.api.base import NOW_US, Memory, base_registry, make_base
from tests.api.test_alert_pack_routes import MINE, put
from tests.api.test_alert_routes import assert_problem

HOUSE_1 = "climate-1.air_temperature"
HOUSE_2 = "climate-2.air_temperature"
PATH = "/api/v1/alerts/replay"
DAY = 86_400_000_000
RULES = read_pack(PACK, "house.yaml").rules


def filled(memory: Memory, days: float = 2.0, step_s: int = 10) -> Batch:
    """Put a wave of every day into two houses, with doubts and holes; return it as one batch."""
    draw = np.random.default_rng(7)
    parts = []
    for code, high in ((HOUSE_1, 36.0), (HOUSE_2, 42.0)):
        at = np.arange(NOW_US - round(days * DAY), NOW_US, step_s * 1_000_000)
        at = at[draw.random(len(at)) > 0.02]
        phase = (at % DAY) / DAY * 2 * np.pi
        value = (high - 8 + 9 * np.sin(phase) + draw.normal(0, 0.3, len(at))).round(2)
        quality = np.where(draw.random(len(at)) < 0.02, int(Quality.CALIBRATION), 0)
        number = memory.registry.series_ids[code]
        batch = Batch.of([number] * len(at), at, at, value, quality)
        parts.append(batch)
        for row in zip(at.tolist(), value.tolist(), quality.tolist(), strict=True):
            memory.put(code, *row)
    return Batch.concatenate(parts)


@pytest.fixture
def base(tmp_path) -> AlertBase:
    base = AlertBase(**vars(make_base()))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    return base


async def post(base, body, **options):
    async with base.client(**options) as client:
        return await client.post(PATH, json=body)


# -- history in stretches


@given(
    rows=st.integers(1, 60),
    at=st.lists(
        st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 4_000)), max_size=80, unique=True
    ),
    bounds=st.tuples(st.integers(0, 4_000), st.integers(0, 4_000)),
)
async def test_stretches_are_the_whole_history_each_reading_once_in_order(rows, at, bounds):
    start, end = sorted(bounds)
    memory = Memory(base_registry())
    for number, second in at:
        memory.rows.setdefault(number, {})[second * 1_000_000] = (0, float(second), number)
    interval_s = {1: 10.0, 2: 600.0, 3: 0.5}
    found = [
        batch
        async for batch in stretches(memory, interval_s, start * 1_000_000, end * 1_000_000, rows)
    ]
    whole = Batch.concatenate(found)
    got = sorted(zip(whole.series_id.tolist(), whole.observed_at_us.tolist(), strict=True))
    assert got == sorted((n, s * 1_000_000) for n, s in at if start <= s < end)
    assert (np.diff(whole.observed_at_us) >= 0).all()
    assert whole.value.tolist() == (whole.observed_at_us / 1e6).tolist()
    assert whole.quality.tolist() == whole.series_id.tolist()
    edges = [(b.observed_at_us[0], b.observed_at_us[-1]) for b in found]
    assert all(one[1] < two[0] for one, two in pairwise(edges))


async def test_a_period_that_goes_on_is_not_judged_by_what_there_is_of_it():
    memory = Memory(base_registry())
    going_on = int(Quality.PROVISIONAL)
    memory.rows[1] = {0: (0, 1.0, 0), 1_000_000: (0, 2.0, going_on), 2_000_000: (0, 3.0, 1)}
    found = [batch async for batch in stretches(memory, {1: 10.0}, 0, 5_000_000)]
    assert Batch.concatenate(found).value.tolist() == [1.0, 3.0]


async def test_memory_holds_a_stretch_and_not_the_history(base):
    filled(base.memory, days=1.0)
    ids = {base.registry.series_ids[code]: 10.0 for code in (HOUSE_1, HOUSE_2)}
    sizes = [len(b) async for b in stretches(base.memory, ids, NOW_US - DAY, NOW_US, rows=1000)]
    assert sum(sizes) > 16_000
    assert max(sizes) <= 2500


async def test_a_series_that_speaks_more_often_than_it_should_is_cut_and_not_lost():
    memory = Memory(base_registry())
    for second in range(5_000):  # every second, where one in ten minutes is expected
        memory.rows.setdefault(1, {})[second * 1_000_000] = (0, 1.0, 0)
    sizes = [len(b) async for b in stretches(memory, {1: 600.0}, 0, 6_000_000_000, rows=10)]
    assert sum(sizes) == 5_000
    assert max(sizes) < 200


# -- the same as a replay of one batch


async def test_a_replay_of_what_is_stored_is_the_replay_of_its_readings(base):
    history = filled(base.memory)
    question = Question(RULES, NOW_US - 2 * DAY, NOW_US)
    answer = await replay_stored(question, base.registry, Surroundings(), base.memory)
    expected = replay(RULES, base.registry, history, NOW_US)
    assert answer.first.episodes == expected
    assert len(expected) > 4
    assert answer.readings == len(history)
    assert answer.series == 4  # two without a reading


async def test_only_the_subjects_of_some_sites_are_judged(base):
    history = filled(base.memory)
    question = Question(RULES, NOW_US - 2 * DAY, NOW_US, sites=frozenset({"house-2"}))
    answer = await replay_stored(question, base.registry, Surroundings(), base.memory)
    expected = replay(RULES, base.registry, history, NOW_US)
    assert answer.first.episodes == tuple(e for e in expected if e.site == "house-2")
    assert answer.first.episodes
    assert answer.readings == len(history) // 2 or answer.readings < len(history)


async def test_another_limit_is_judged_on_the_same_readings(base):
    history = filled(base.memory)
    other = with_limits(RULES, {"hot:warning": "35 degC"})
    question = Question(RULES, NOW_US - 2 * DAY, NOW_US, other=other)
    answer = await replay_stored(question, base.registry, Surroundings(), base.memory)
    assert answer.other is not None
    assert answer.other.episodes == replay(other, base.registry, history, NOW_US)
    assert answer.other.episodes != answer.first.episodes
    hot = differences(answer.first, answer.other, NOW_US)[0]
    assert (hot.rule, hot.other) == (HOT, HOT)
    assert hot.comparison.longer_s < 0


async def test_versions_correspond_by_code_then_by_word_then_alone(base):
    filled(base.memory, days=0.2)
    renamed = read_pack(PACK.replace("pack: house", "pack: newer"), "x").rules
    one = read_pack("pack: a\nversion: 1\nrules: [{id: b, when: co2 > 9 ppm}]", "x").rules
    for rules, pairs in (
        (renamed, [(f"house.{w}", f"newer.{w}") for w in ("hot", "damp", "by-sun")]),
        (one, [("house.hot", ""), ("house.damp", ""), ("house.by-sun", ""), ("", "a.b")]),
    ):
        question = Question(RULES, NOW_US - DAY, NOW_US, other=rules)
        answer = await replay_stored(question, base.registry, Surroundings(), base.memory)
        found = differences(answer.first, answer.other, NOW_US)
        assert [(d.rule, d.other) for d in found] == pairs
    question = Question(RULES[:1], NOW_US - DAY, NOW_US, other=one)
    answer = await replay_stored(question, base.registry, Surroundings(), base.memory)
    assert [(d.rule, d.other) for d in differences(answer.first, answer.other, 0)] == [(HOT, "a.b")]


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (Bounds(readings=1000), "more than 1000 readings"),
        (Bounds(seconds=0.0), "longer than 0 s"),
        (Bounds(episodes=2), "more than 2 alerts"),
    ],
)
async def test_a_replay_ends_at_its_bounds(base, bounds, says):
    filled(base.memory)
    question = Question(RULES, NOW_US - 2 * DAY, NOW_US)
    with pytest.raises(ReplayTooLarge, match=says):
        await replay_stored(question, base.registry, Surroundings(), base.memory, bounds)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"hat": "3 K"}, "did you mean hot"),
        ({"hot": "34 degC"}, "has levels; say which, as house.hot:warning"),
        ({"hot:info": "34 degC"}, "only warning, critical"),
        ({"damp": "96 degC"}, "the limit '96 degC' of house.damp"),
        ({"damp": "much"}, "the limit 'much'"),
    ],
)
def test_a_limit_that_cannot_be_changed_is_refused_with_the_reason(limits, says):
    with pytest.raises(LimitRefused, match=says):
        with_limits(RULES, limits)


# -- over HTTP


async def test_the_answer_says_how_often_when_and_how_long(base):
    filled(base.memory)
    limits = {"hot:warning": "35 degC"}
    response = await post(base, {"text": PACK, "since": "2d", "limits": limits, "episodes": 3})
    assert response.status_code == 200, response.text
    answer = response.json()
    expected = replay(RULES, base.registry, filled(Memory(base.registry)), NOW_US)
    assert answer["since"] == "2024-05-30T00:00:00.000Z"
    assert answer["until"] == "2024-06-01T00:00:00.000Z"
    assert answer["episode_count"] == len(expected)
    newest = max(expected, key=lambda e: e.started_at_us)
    assert answer["episodes"][0]["id"] == newest.id
    assert len(answer["episodes"]) == 3
    rules = {one["rule"]: one for one in answer["rules"]}
    assert list(rules) == [HOT, "house.damp", "house.by-sun"]
    hot = rules[HOT]
    assert hot["episodes"] == sum(e.rule == HOT for e in expected)
    assert hot["day"] + hot["night"] == hot["episodes"]
    assert sum(hot["by_severity"].values()) == hot["episodes"]
    assert 0 < hot["median_s"] <= hot["longest_s"] <= hot["total_s"]
    assert (rules["house.damp"]["episodes"], rules["house.damp"]["median_s"]) == (0, None)
    (changed, damp, sun) = answer["differences"]
    assert changed["kept"] + changed["lost"] == hot["episodes"]
    assert changed["longer_s"] < 0
    assert (damp["kept"], sun["gained"]) == (0, 0)
    assert answer["other"]["rules"][0]["total_s"] < hot["total_s"]


async def test_packs_are_replayed_by_name_shipped_and_own(base):
    filled(base.memory)
    assert (await put(base)).status_code == 201
    body = {"packs": ["mine", "tomato"], "since": "1d", "rules": ["mine.warm", "tomato.hot"]}
    answer = (await post(base, body | {"sites": ["base-1"], "per_subject": True})).json()
    assert {one["rule"] for one in answer["rules"]} == {"mine.warm", "tomato.hot"}
    assert {one["subject"] for one in answer["rules"]} == {f"series:{HOUSE_1}"}
    other = MINE.replace("28", "30")
    compared = (
        await post(base, {"packs": ["mine"], "since": "1d", "compare": {"text": other}})
    ).json()
    assert [one["rule"] for one in compared["differences"]] == ["mine.warm", "mine.sunny"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"packs": ["tomato"]}, "since"),
        ({"since": "1d"}, "got neither, expected either text or packs"),
        ({"since": "1d", "text": MINE, "packs": ["tomato"]}, "got both"),
        ({"since": "1d", "text": MINE.replace("degC", "ppm")}, "body.text:6:"),
        ({"since": "1d", "packs": ["tomatto"]}, "did you mean tomato?"),
        ({"since": "yesterday", "packs": ["tomato"]}, "or how long ago, such as 90d"),
        ({"since": "2024-06-01", "packs": ["tomato"]}, "a day alone"),
        ({"since": "500d", "packs": ["tomato"]}, "at most 400 days"),
        ({"since": "2025-06-01T00:00:00Z", "packs": ["tomato"]}, "before until and now"),
        ({"since": "1d", "until": "2d", "packs": ["tomato"]}, ""),
        ({"since": "1d", "packs": ["tomato"], "sites": ["base-9"]}, "did you mean base-1?"),
        ({"since": "1d", "packs": ["tomato"], "rules": ["hat"]}, "code of one of the rules"),
        ({"since": "1d", "packs": ["tomato"], "limits": {"hot": "3 K"}}, "has levels"),
        (
            {"since": "1d", "packs": ["tomato"], "limits": {"cold": "1 K"}, "compare": {}},
            "limits or compare",
        ),
        ({"since": "1d", "packs": ["tomato"], "compare": {}}, "body.compare: got neither"),
        ({"since": "1d", "packs": ["tomato"], "episodes": 5000}, "body.episodes"),
        ({"since": "1d", "packs": ["tomato"], "list": 3}, "unknown field `list`"),
        ({"since": "1d", "packs": ["../site"]}, "a known pack"),
    ],
)
async def test_a_replay_that_cannot_be_meant_is_refused_in_words(base, body, says):
    response = await post(base, body)
    if body.get("until") == "2d":  # two days before now, and one day before that
        assert response.json()["since"] == "2024-05-29T00:00:00.000Z"
        return
    assert_problem(response, 422, "invalid-replay", says)


async def test_one_replay_at_a_time_and_the_next_one_after_it(base):
    filled(base.memory, days=0.5)
    with base.replays.entered():
        busy = await post(base, {"packs": ["tomato"], "since": "1d"})
        assert_problem(busy, 429, "replay-busy", "one at a time")
        assert busy.headers["retry-after"] == "5"
    answers = await asyncio.gather(*(post(base, {"text": PACK, "since": "1d"}) for _ in range(3)))
    assert sorted(one.status_code for one in answers) == [200, 429, 429]
    assert (await post(base, {"text": PACK, "since": "1d"})).status_code == 200


async def test_a_replay_that_is_too_large_or_fails_frees_the_place(base):
    filled(base.memory, days=0.5)
    limits = replace(base.settings.limits, max_replay_readings=10)
    base.settings = replace(base.settings, limits=limits)
    large = await post(base, {"text": PACK, "since": "1d"})
    assert_problem(large, 422, "replay-too-large", "fewer sites")
    base.memory.away = True
    away = await post(base, {"text": PACK, "since": "1d"})
    assert_problem(away, 503, "database-unavailable")
    with base.replays.entered():
        pass


async def test_a_replay_leaves_the_loop_free(base, monkeypatch):
    """What computes does so in other threads; only the memory that stands in is on the loop."""
    filled(base.memory, days=0.5)
    threads: dict[str, set[int]] = {}

    def watched(name: str, call: Callable) -> Callable:
        def run(*arguments: object) -> object:
            threads.setdefault(name, set()).add(threading.get_ident())
            return call(*arguments)

        return run

    for name in ("__init__", "feed", "finish"):
        monkeypatch.setattr(Replay, name, watched(name, getattr(Replay, name)))
    answer = await post(base, {"text": PACK, "since": "12h"})
    assert answer.status_code == 200
    assert threads.keys() == {"__init__", "feed", "finish"}
    assert threading.get_ident() not in set().union(*threads.values())


async def test_replaying_is_reading(base):
    body = {"packs": ["tomato"], "since": "1d"}
    assert_problem(await post(base, body, headers={}), 401, "unauthorized")
    base.settings = replace(base.settings, open_loopback_reads=True)
    assert (await post(base, body, headers={})).status_code == 200
