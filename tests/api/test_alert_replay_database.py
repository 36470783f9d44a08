"""Replays of what a real database holds: over HTTP and on the command line, on both servers."""

from __future__ import annotations

import asyncio
import csv
import io

import numpy as np
import pytest
from click.testing import CliRunner

from alerts.binding import Surroundings
from alerts.replay import replay, summarise
from alerts.rule import read_pack
from api.instants import format_instant
from api.replays import Question, replay_stored
from devices.quality import Quality
from devices.reading import Batch
from devices.site_file import read_site_file
from greenhouse.cli import main
from storage.history import History
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.api.base import BEARER, NOW_US, SITE_FILE, make_base, stored_services

DAY = 86_400_000_000
START = NOW_US - 5 * DAY
TEXT = """
pack: try
version: 1
rules:
  - id: hot
    levels:
      warning: {when: air_temperature > 33 degC, for: 5min, clear: 31 degC}
      critical: {when: air_temperature > 40 degC, for: 1min, clear: 38 degC}
  - {id: mean, when: air_temperature mean over PT1H > 32 degC}
  - {id: hour, when: air_temperature mean over each hour > 32 degC}
  - {id: damp-and-warm, when: air_temperature > 29 degC and relative_humidity > 84 %, for: 10min}
  - {id: silent, when: no data for 30 intervals}
"""
RULES = read_pack(TEXT, "try.yaml").rules
WAYS = [
    ("climate-1.air_temperature", 10, 28.0, 9.0),
    ("climate-1.relative_humidity", 60, 80.0, 12.0),
    ("climate-2.air_temperature", 30, 34.0, 9.0),
    ("probe-nl.air_temperature", 300, 25.0, 12.0),
]


def measured(registry) -> Batch:
    """Return five days of four series: waves with noise, holes, bad and missing values."""
    draw = np.random.default_rng(11)
    parts = []
    for code, step_s, middle, height in WAYS:
        at = np.arange(START, NOW_US, step_s * 1_000_000)
        at = at[draw.random(len(at)) > 0.05]
        hole = START + DAY + draw.integers(0, DAY)
        at = at[(at < hole) | (at > hole + 3 * 3_600_000_000)]
        value = middle + height * np.sin(at % DAY / DAY * 2 * np.pi) + draw.normal(0, 1, len(at))
        quality = np.where(draw.random(len(at)) < 0.03, int(Quality.CALIBRATION), 0)
        missing = draw.random(len(at)) < 0.02
        value[missing], quality[missing] = np.nan, int(Quality.MISSING)
        number = registry.series_ids[code]
        parts.append(Batch.of([number] * len(at), at, at + 500_000, value.round(2), quality))
    return Batch.concatenate(parts)


async def _filled(dsn: str):
    """Migrate, register and fill; return (registry, what was written)."""
    await migrate(dsn)
    async with Pool(dsn) as pool, ReadingWriter(dsn) as writer:
        store = RegistryStore(pool)
        await store.apply(read_site_file(SITE_FILE, "base.yaml").registry, {})
        registry = await store.load()
        batch = measured(registry)
        order = np.random.default_rng(3).permutation(len(batch))  # arrival is not measurement
        for part in np.array_split(order, 5):
            assert (await writer.write(batch.take(part))).kind == "written"
        return registry, batch


@pytest.fixture
async def filled(database_dsn: str):
    registry, batch = await _filled(database_dsn)
    return database_dsn, registry, batch


def told(episodes):
    """Return what a row of CSV and an entry of the answer have in common, by id or place."""
    return sorted(
        (e.rule, e.subject, format_instant(e.started_at_us), format_instant(e.fired_at_us),
         None if e.resolved_at_us is None else format_instant(e.resolved_at_us), e.peak)
        for e in episodes
    )  # fmt: skip


async def test_history_and_http_and_the_command_line_say_the_same_as_the_engine(filled, tmp_path):
    dsn, registry, batch = filled
    expected = replay(RULES, registry, batch, NOW_US)
    assert {e.rule for e in expected} == {rule.code for rule in RULES}

    async with Pool(dsn) as pool:
        history = History(pool)
        question = Question(RULES, START, NOW_US)
        answer = await replay_stored(question, registry, Surroundings(), history)
        assert answer.first.episodes == expected
        assert answer.readings == len(batch)

        services = stored_services(registry, pool)
        app = make_base().shared_app()
        app.state.services = services
        async with make_base().client(app=app, headers=BEARER) as client:
            body = {"text": TEXT, "since": format_instant(START), "episodes": 1000}
            http = (await client.post("/api/v1/alerts/replay", json=body)).json()
    assert http["episode_count"] == len(expected)
    assert sorted(one["id"] for one in http["episodes"]) == sorted(one.id for one in expected)
    summaries = {one.rule: one for one in summarise(expected, registry, NOW_US)}
    for row in http["rules"]:
        one = summaries[row["rule"]]
        assert (row["episodes"], row["day"], row["night"]) == (one.episodes, one.day, one.night)
        assert (row["median_s"], row["longest_s"]) == (one.median_s, one.longest_s)

    file = tmp_path / "try.yaml"
    file.write_text(TEXT, "utf-8")
    said = await asyncio.to_thread(
        _run, dsn, "replay", file, "--since", format_instant(START),
        "--until", format_instant(NOW_US), "--csv",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    table = list(csv.DictReader(io.StringIO(said.stdout)))
    rows = sorted(
        (row["rule"], row["subject"], row["started_at"], row["fired_at"],
         row["resolved_at"] or None, float(row["peak"]) if row["peak"] else None)
        for row in table
    )  # fmt: skip
    assert rows == told(expected)


async def test_the_tables_of_the_command_line(filled, tmp_path):
    dsn, registry, batch = filled
    file = tmp_path / "try.yaml"
    file.write_text(TEXT, "utf-8")
    span = ("--since", format_instant(START), "--until", format_instant(NOW_US))
    said = await asyncio.to_thread(
        _run, dsn, "replay", file, *span, "--rule", "hot", "--limit", "hot:critical=43degC",
        "--site", "ganzhou",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    expected = [
        e
        for e in replay(RULES, registry, batch, NOW_US)
        if e.rule == "try.hot" and e.site != "house-nl"
    ]
    lines = said.output.splitlines()
    assert lines[0].startswith("2024-05-27 08:00 to 2024-06-01 08:00 (5.0 days): ")  # China's clock
    assert lines[1].split()[:4] == ["rule", "on", "alerts", "severity"]
    assert lines[2].split()[:3] == ["try.hot", "2", str(len(expected))]
    assert "the other version, on the same readings:" in lines
    assert lines[-1].startswith(f"try.hot: {len(expected)} stay, 0 go, 0 come; ")
    chinese = await asyncio.to_thread(
        _run, dsn, "replay", file, *span, "--rule", "hot", "--lang", "zh", "--per-subject"
    )
    assert "规则" in chinese.output
    assert "series:climate-2.air_temperature" in chinese.output
    shipped = await asyncio.to_thread(_run, dsn, "replay", "tomato", *span, "--compare", file)
    assert shipped.exit_code == 0, shipped.output
    assert "tomato.hot → try.hot: " in shipped.output
    site = await asyncio.to_thread(_run, dsn, "replay", "tomato", *span, "--site", "ganzho")
    assert site.exit_code == 2
    assert "(ganzhou?)" in site.output


def _run(dsn: str, *words: object):
    return CliRunner().invoke(
        main, ["alerts", *map(str, words)], env={"GREENHOUSE_DSN": dsn}, catch_exceptions=False
    )
