"""What a question about readings is answered with, before it takes a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.columns import Columns
from api.steps import Step


class TimeForm(StrEnum):
    """How JSON and CSV write an instant."""

    ISO = "iso"
    EPOCH_MS = "epoch_ms"


@dataclass(frozen=True, slots=True)
class Answer:
    """Readings of several series at one resolution over [start, end)."""

    start_us: int
    end_us: int
    step: Step
    parts: Sequence[Columns]
