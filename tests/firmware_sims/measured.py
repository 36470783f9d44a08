"""Where the measured series lie that some tests read; never in this repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firmware_sims.csv_replay import shipped_mapping

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
DATA = Path(os.environ.get("GREENHOUSE_DATA_DIR") or _BESIDE)


def data_folder(name: str) -> Path:
    """Return the folder of a data set, or skip the test that asks."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"no measured series here: {DATA} has no {name} (set GREENHOUSE_DATA_DIR)")
    return folder


def _finite(frame: pd.DataFrame, stamps: pd.Series, column: str) -> dict[int, float]:
    numbers = pd.to_numeric(frame[column], errors="coerce")
    there = np.isfinite(numbers) & stamps.notna()
    at_us = stamps[there].astype("int64")
    return dict(zip(at_us.tolist(), numbers[there].tolist(), strict=True))


def _in_us(local: pd.Series) -> pd.Series:
    """Wall time of Amsterdam to UTC microseconds; NaT in the hour that did not exist."""
    utc = local.dt.tz_localize("Europe/Amsterdam", nonexistent="NaT", ambiguous="raise")
    whole = utc.dt.tz_convert("UTC").dt.as_unit("us")
    return whole.dt.tz_localize(None)


def pandas_reading(name: str, folder: Path) -> dict[tuple[str, str], dict[int, float]]:
    """Read the files of mapping *name* by pandas alone: (device, key) -> UTC µs -> value."""
    out: dict[tuple[str, str], dict[int, float]] = {}
    for entry in shipped_mapping(name).files:
        frame = pd.read_csv(folder / entry.file, skipinitialspace=True, na_values=["NaN"])
        if entry.time.excel:
            seconds = (frame[entry.time.excel] * 86400).round().astype("int64")
            local = pd.Timestamp("1899-12-30") + pd.to_timedelta(seconds, unit="s")
        else:
            local = pd.to_datetime(frame.iloc[:, 0], errors="coerce")
        stamps = _in_us(local)
        for column in entry.columns:
            values = _finite(frame, stamps, column.column)
            if column.table:
                codes = {float(code): value for code, value in column.table.items()}
                values = {
                    at: codes[min(codes, key=lambda c: abs(c - v))] for at, v in values.items()
                }
            out[column.device, column.key] = values
    return out
