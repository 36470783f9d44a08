"""Rules on measured series: slab EC of three growers, air of six stations, against pandas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from alerts.engine import Engine, Settings
from alerts.pack_library import shipped_pack
from alerts.replay import compare, replay, summarise, with_limit
from alerts.rule import Severity, read_pack
from devices.reading import Batch
from devices.site import Placement, SiteKind
from tests.alerts import places
from tests.alerts.told import Told
from tests.firmware_sims.measured import data_folder

pytestmark = pytest.mark.realdata

SLAB = """
pack: slab
version: 1
rules:
  - {id: ec, when: soil_ec > 6 dS/m, for: 30min}
"""


# -- slab EC, five minutes a reading


def slab(team):
    """Return (registry, history) of the first slab; missing readings are left out."""
    table = pd.read_csv(
        data_folder("agc2-tomato-dev") / team / "GrodanSens.csv.gz", skipinitialspace=True
    )
    table.columns = [name.strip() for name in table.columns]
    # Excel serials of wall clock in Europe/Amsterdam, five decimals: to the second, then to UTC.
    seconds = (table["%time"].astype(float) * 86_400).round().astype("int64")
    wall = pd.to_datetime(seconds - 25_569 * 86_400, unit="s")
    utc = wall.dt.tz_localize("Europe/Amsterdam", nonexistent="NaT", ambiguous="NaT")
    values = pd.to_numeric(table["EC_slab1"], errors="coerce")
    known = values.notna() & utc.notna()
    at_us = utc[known].dt.as_unit("us").astype("int64").to_numpy()
    value = values[known].to_numpy(float)
    registry = places.registry(
        [places.site("h", SiteKind.GREENHOUSE, None, timezone="Europe/Amsterdam", at=(52.0, 4.5))],
        [places.device("g", "h", places.series("g", "soil_ec", "h", 300))],
    )
    count = len(at_us)
    batch = Batch(np.ones(count, np.int32), at_us, at_us, value, np.zeros(count, np.int32))
    return registry, batch


def half_hours_above(batch, limit=6.0):
    """Runs of readings above *limit* of at least half an hour, by pandas; a run ends at a gap.

    A reading of a series of five minutes speaks for five minutes: six of them are half an hour.
    """
    frame = pd.DataFrame({"at": batch.observed_at_us, "above": batch.value > limit})
    cut = (frame["above"] != frame["above"].shift()) | (frame["at"].diff() > 15 * places.MINUTE)
    runs = frame[frame["above"]].groupby(cut.cumsum()[frame["above"]])["at"]
    lasted = runs.last() - runs.first() + 5 * places.MINUTE
    return int((lasted >= 30 * places.MINUTE).sum())


# team, stretches above the limit (SOURCE.md of the data), alerts
TEAMS = [("Reference", 30, 29), ("AICU", 0, 0), ("TheAutomators", 31, 31)]


@pytest.mark.parametrize(("team", "stretches", "alerts"), TEAMS)
def test_slab_ec_above_six_for_half_an_hour(team, stretches, alerts):
    registry, history = slab(team)
    until_us = int(history.observed_at_us[-1])
    episodes = replay(read_pack(SLAB, "x").rules, registry, history, until_us)
    assert half_hours_above(history) == stretches
    assert len(episodes) == alerts
    # What a plain count splits at a gap in the data stays one alert, held while nothing was known.
    held = sum(step.kind.value == "returned" for e in episodes for step in e.steps)
    assert len(episodes) + held == stretches
    assert all(episode.peak > 6.0 for episode in episodes)


def test_what_another_limit_would_have_done_at_the_reference_grower():
    registry, history = slab("Reference")
    until_us = int(history.observed_at_us[-1])
    (rule,) = read_pack(SLAB, "x").rules
    counts = {}
    for limit in ("5 dS/m", "6 dS/m", "7 dS/m"):
        episodes = replay([with_limit(rule, Severity.WARNING, limit)], registry, history, until_us)
        counts[limit] = len(episodes)
        (summary,) = summarise(episodes, registry, until_us)
        assert summary.day + summary.night == summary.episodes == len(episodes)
        assert summary.median_s <= summary.longest_s
    assert counts["5 dS/m"] > 0
    assert counts["7 dS/m"] < counts["6 dS/m"]
    old = replay([rule], registry, history, until_us)
    new = replay([with_limit(rule, Severity.WARNING, "7 dS/m")], registry, history, until_us)
    change = compare(old, new, until_us)
    assert len(change.kept) == len(new)  # whatever is above seven is above six
    assert change.gained == ()
    assert len(change.lost) == len(old) - len({before.id for before, _ in change.kept})
    assert change.longer_s < 0


def test_a_live_run_over_real_readings_is_the_replay():
    registry, history = slab("TheAutomators")
    until_us = int(history.observed_at_us[-1])
    rules = read_pack(SLAB, "x").rules
    live, told = Engine(rules, registry, Settings()), Told()
    for start in range(0, len(history), 97):
        part = history.take(slice(start, start + 97))
        told.take(live.feed(part, int(part.observed_at_us[-1]) + 2_000_000))
    replayed = Told()
    replayed.episodes = {e.id: e for e in replay(rules, registry, history, until_us)}
    assert told.as_tuples() == replayed.as_tuples()


# -- air of six stations, an hour a reading

STATIONS = ("Aotizhongxin", "Changping", "Dongsi", "Huairou", "Shunyi", "Tiantan")
COLUMNS = {"so2": "SO2", "no2": "NO2", "co": "CO", "o3": "O3", "pm10": "PM10", "pm2_5": "PM2.5"}
LIMITS = {  # of GB 3095-2026, transition
    "so2-hour": 500, "so2-day": 150, "no2-hour": 200, "no2-day": 80, "co-hour": 10, "co-day": 4,
    "o3-hour": 200, "o3-eight-hours": 160, "pm10-day": 120, "pm2_5-day": 60,
}  # fmt: skip


def station(name):
    """Return hourly values by local time; CO in mg/m³ like its limit."""
    file = data_folder("beijing-air-dev") / f"PRSA_Data_{name}_20130301-20170228.csv.gz"
    table = pd.read_csv(file, na_values="NA")
    table.index = pd.to_datetime(table[["year", "month", "day", "hour"]])
    values = table[list(COLUMNS.values())].rename(columns={v: k for k, v in COLUMNS.items()})
    values["co"] = values["co"] / 1000.0
    return values


def air(values):
    """Return (registry, history, until_us) of one station."""
    outdoor = Placement.OUTDOOR
    registry = places.registry(
        [places.site("b", SiteKind.BASE, None, at=(40.0, 116.4))],
        [places.device("s", "b", *(places.series("s", q, "b", 3600, placement=outdoor)
                                   for q in COLUMNS))],
    )  # fmt: skip
    utc = values.index.tz_localize("Asia/Shanghai").as_unit("us").asi8
    parts = []
    for number, quantity in enumerate(COLUMNS, start=1):
        known = values[quantity].notna().to_numpy()
        at_us, count = utc[known], int(known.sum())
        parts.append(
            Batch(np.full(count, number, np.int32), at_us, at_us,
                  values[quantity].to_numpy()[known], np.zeros(count, np.int32))
        )  # fmt: skip
    return registry, Batch.concatenate(parts), int(utc[-1]) + places.HOUR


def by_pandas(values):
    """Return for each rule the valid values of its periods, by the instant at which they end."""
    out = {}
    for quantity in COLUMNS:
        hours = values[quantity]
        out[f"{quantity}-hour"] = hours.dropna().shift(1, freq="h")
        days = hours.resample("D")
        mean, count = days.mean(), days.count()
        out[f"{quantity}-day"] = mean[count >= 20].shift(1, freq="D")
    eights = values["o3"].rolling(8, min_periods=6).mean()
    inside = eights[eights.index.hour >= 7]  # windows that begin and end in the same day
    largest = inside.resample("D").max().dropna()
    out["o3-eight-hours"] = largest.shift(1, freq="D")
    return out


def transition_rules():
    """The rules of the transition values, as if they had held in the years of the data."""
    return [
        dataclasses.replace(rule, valid_from=None, valid_to=None)
        for rule in shipped_pack("gb3095-2026").rules
        if rule.enabled and not rule.code.endswith("-final")
    ]


@pytest.mark.parametrize("name", STATIONS)
def test_hours_and_days_over_the_air_standard_are_those_of_pandas(name):
    values = station(name)
    registry, history, until_us = air(values)
    episodes = replay(transition_rules(), registry, history, until_us)
    limits = {rule.code: rule.limit_of for rule in transition_rules()}
    valid = by_pandas(values)
    for code, measure in limits.items():
        over = valid[measure] > LIMITS[measure]
        ends = over.index.tz_localize("Asia/Shanghai").as_unit("us").asi8
        begins = over & ~over.shift(fill_value=False)
        finishes = ~over & over.shift(fill_value=False)
        mine = [e for e in episodes if e.rule == code]
        assert [e.started_at_us for e in mine] == ends[begins.to_numpy()].tolist(), code
        closed = [e.resolved_at_us for e in mine if not e.is_open]
        assert closed == ends[finishes.to_numpy()].tolist(), code
        if mine:
            peak = max(e.peak for e in mine)
            assert peak == pytest.approx(valid[measure].max(), abs=1e-6)


def test_the_six_stations_had_so_many_periods_over_the_limits():
    """The table of docs/reference/rules.md; the counts are pandas' own."""
    counts = {
        measure: [int((by_pandas(station(name))[measure] > limit).sum()) for name in STATIONS]
        for measure, limit in LIMITS.items()
    }
    table = (places.REPOSITORY / "docs/reference/rules.md").read_text("utf-8")
    for measure, row in counts.items():
        cells = " | ".join(f"{count:,}" for count in row)
        assert f"| {measure} | {LIMITS[measure]} | {cells} |" in table
