"""The floor plan is watched: what breaks it is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("alerts", "api", "devices", "firmware_sims", "greenhouse", "ingest", "storage")


@pytest.fixture
def copy(tmp_path):
    """The rooms' modules and the contracts, to be changed at will."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.y*ml"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder):
    # In a process of its own: the linter imports what it reads.
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_floor_plan_is_kept():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        # A lower floor looks up.
        ("devices/units.py", "import ingest.collector", "Imports go down the floors"),
        # Two rooms of one floor know each other.
        ("ingest/collector.py", "import storage.pool", "Imports go down the floors"),
        # A simulator decodes with the service's own decoder, and could agree with its mistakes.
        ("firmware_sims/__init__.py", "import devices.codecs", "Simulators know the vocabulary"),
        # A service room starts simulators.
        ("ingest/collector.py", "import firmware_sims", "Only the composition root starts"),
        # The vocabulary asks for the time.
        ("devices/units.py", "import time", "The vocabulary does no I/O"),
    ],
)
def test_break_of_the_floor_plan_is_named(copy, module, line, contract):
    path = copy / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint(copy)
    assert result.returncode == 1
    broken = [each for each in result.stdout.splitlines() if each.endswith("BROKEN")]
    assert any(each.startswith(contract) for each in broken), result.stdout
