"""Where the measured series lie that some tests read; never in this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
DATA = Path(os.environ.get("GREENHOUSE_DATA_DIR") or _BESIDE)


def data_folder(name: str) -> Path:
    """Return the folder of a data set, or skip the test that asks."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"no measured series here: {DATA} has no {name} (set GREENHOUSE_DATA_DIR)")
    return folder
