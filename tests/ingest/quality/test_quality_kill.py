"""The judge over kill -9: no reading gets a mark that it should not have."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np

from devices.quality import Quality
from devices.reading import Batch
from ingest.decoder import Decoder
from ingest.quality.judge import Judge
from tests.ingest.house import CODECS, TOPIC, house
from tests.ingest.quality.quality_child import message

ROOT = Path(__file__).parents[3]
COUNT = 1800
KILLS = 3


def judged_at_once() -> dict[tuple[int, int], int]:
    """What one process that is never ended says of all messages."""
    registry = house()
    judge = Judge()
    judge.adopt(registry)
    batch = Decoder(registry, TOPIC, CODECS).decode([message(n) for n in range(COUNT)]).batch
    return by_key(judge.judge(batch))


def by_key(batch: Batch) -> dict[tuple[int, int], int]:
    keys = zip(batch.series_id.tolist(), batch.observed_at_us.tolist(), strict=True)
    return dict(zip(keys, batch.quality.tolist(), strict=True))


def start(folder: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ingest.quality.quality_child"]
    command += [str(folder), str(first), str(COUNT - first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_leaves_out_few_marks_and_adds_none(tmp_path):
    chance = random.Random(11)
    expected = judged_at_once()
    marks = (int(Quality.STEP), int(Quality.FLAT_LINE))
    assert all(any(bits & mark for bits in expected.values()) for mark in marks)
    first, kills = 0, 0
    while first < COUNT:
        last = None
        # Three times, somewhere in the next few hundred messages; then to the end.
        stop = first + chance.randrange(150, 400) if kills < KILLS else COUNT
        with start(tmp_path, first) as child:
            assert child.stdout is not None
            for line in child.stdout:
                last = int(line)
                if last >= stop:
                    child.kill()
                    kills += 1
                    break
        first = first if last is None else last + 1
    stored: dict[tuple[int, int], int] = {}
    for line in (tmp_path / "rows").read_text("ascii").splitlines():
        series, at_us, quality = json.loads(line)
        stored.setdefault((series, at_us), quality)
    assert stored.keys() == expected.keys()
    wrong = [key for key, bits in stored.items() if bits & ~expected[key]]
    assert wrong == []
    missing = np.array([bits != expected[key] for key, bits in stored.items()])
    assert kills == KILLS
    # A frozen value must prove itself anew where the last readings before a kill were not saved.
    steps = [
        key for key, bits in expected.items() if bits & marks[0] and not stored[key] & marks[0]
    ]
    assert len(steps) <= 2 * kills
    assert missing.mean() < 0.5
