"""The how-to of replays: its rule, its trials and its tables, on measured slabs."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alerts.binding import Surroundings
from alerts.rule import read_pack
from alerts.trial import run_trials
from api.replays import Question, replay_stored, with_limits
from devices.site import Placement, SiteKind
from greenhouse.replay_report import Report
from storage.history import Points
from tests.alerts import places
from tests.firmware_sims.measured import data_folder

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "try-a-rule.md").read_text("utf-8")
RULE, TRIALS = (
    re.sub("^   ", "", block, flags=re.M)
    for block in re.findall(r"^   ```yaml\n(.*?)^   ```$", PAGE, re.M | re.S)
)
VERSION_2 = RULE.replace("version: 1", "version: 2").replace(
    "for: 30min", "for: 30min\n    clear: 5.5 dS/m"
)
SINCE, UNTIL = (
    round(datetime.fromisoformat(text).timestamp() * 1e6)
    for text in ("2019-12-16T00:00:00+01:00", "2020-05-30T00:00:00+02:00")
)


@pytest.mark.parametrize("text", [RULE, VERSION_2], ids=["version 1", "version 2"])
def test_the_trials_of_the_page_come_out_on_both_versions(text):
    assert run_trials(TRIALS, "trials/slab.yaml", read_pack(text, "slab.yaml").rules) == []
    assert PAGE.count("1 packs, 2 tests: nothing wrong") == 1


class Slabs:
    """Both slabs of the Reference grower, answered as `storage.history.History` answers."""

    def __init__(self) -> None:
        file = data_folder("agc2-tomato-dev") / "Reference" / "GrodanSens.csv.gz"
        table = pd.read_csv(file, skipinitialspace=True)
        table.columns = [name.strip() for name in table.columns]
        seconds = (table["%time"].astype(float) * 86_400).round().astype("int64")
        wall = pd.to_datetime(seconds - 25_569 * 86_400, unit="s")
        utc = wall.dt.tz_localize("Europe/Amsterdam", nonexistent="NaT", ambiguous="NaT")
        self.points = {}
        for number in (1, 2):
            values = pd.to_numeric(table[f"EC_slab{number}"], errors="coerce")
            known = values.notna() & utc.notna()
            at_us = utc[known].dt.as_unit("us").astype("int64").to_numpy()
            at_us, first = np.unique(at_us, return_index=True)
            value = values[known].to_numpy(float)[first]
            self.points[number] = Points(at_us, value, np.zeros(len(value), np.int32))

    async def raw(self, series_ids, start_us, end_us, limit):
        found = {}
        for one in series_ids:
            points = self.points[one]
            begin, end = np.searchsorted(points.at_us, [start_us, end_us])
            part = slice(begin, min(end, begin + limit))
            found[one] = Points(points.at_us[part], points.value[part], points.quality[part])
        return found


def shown(command: str) -> list[str]:
    """Return what the page shows below *command*, without how long it took."""
    blocks = re.findall(r"^   ```\n(.*?)^   ```$", PAGE, re.M | re.S)
    (block,) = (one for one in blocks if one.startswith(f"   $ {command}"))
    lines = [re.sub("^   ", "", line) for line in block.splitlines()[1:]]
    return [re.sub(r"in [\d.]+ s$", "", line) for line in lines]


@pytest.mark.realdata
async def test_the_tables_of_the_page_are_what_the_measured_slabs_give():
    house = places.site(
        "h", SiteKind.GREENHOUSE, None, timezone="Europe/Amsterdam", at=(52.03, 4.53)
    )
    root = Placement.ROOT_ZONE
    slabs = [
        places.device(code, "h", places.series(code, "pore_water_ec", "h", 300, placement=root))
        for code in ("slab-1", "slab-2")
    ]
    registry = places.registry([house], slabs)
    rules = read_pack(RULE, "slab.yaml").rules
    span = " --since 2019-12-16T00:00:00+01:00 --until 2020-05-30T00:00:00+02:00"
    ways = {
        f"greenhouse alerts replay slab.yaml{span} --per-subject": None,
        f"greenhouse alerts replay slab.yaml{span} --limit ec=7dS/m": with_limits(
            rules, {"ec": "7dS/m"}
        ),
        f"greenhouse alerts replay slab.yaml{span} --compare slab-2.yaml": read_pack(
            VERSION_2, "slab-2.yaml"
        ).rules,
    }
    history = Slabs()
    for command, other in ways.items():
        question = Question(rules, SINCE, UNTIL, None, other)
        answer = await replay_stored(question, registry, Surroundings(), history)
        texts = list(Report(answer, registry, "en").texts("--per-subject" in command))
        said = "\n".join(texts).splitlines()
        assert [re.sub(r"in [\d.]+ s$", "", line) for line in said] == shown(command), command
