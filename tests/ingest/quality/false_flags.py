"""Print, for each measured series, how many readings of its clean stretches are marked.

.venv/bin/python -m tests.ingest.quality.false_flags
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from devices.quality import reasons
from ingest.quality.judge import Judge
from tests.ingest.quality.real_series import TABLES, Real, Table, cut, real


@dataclass(frozen=True)
class Flags:
    """What the judge said of one series: counts of rows, and of reasons, on both kinds of rows."""

    table: str
    series: str
    clean: int
    marked: int
    why: dict[str, int]
    odd: int
    odd_why: dict[str, int]

    @property
    def rate(self) -> float:
        """Share of clean readings that are marked."""
        return self.marked / max(1, self.clean)

    def __str__(self) -> str:
        clean = f"{self.clean:6d} clean, {self.marked:3d} marked = {100 * self.rate:.3f} % "
        why = ", ".join(f"{name} {count}" for name, count in self.why.items())
        odd_why = ", ".join(f"{name} {count}" for name, count in self.odd_why.items())
        odd = f"; {self.odd} odd: {odd_why or 'nothing'}" if self.odd else ""
        return f"{self.table:20s} {self.series:28s} {clean}{why}{odd}"


def judged(found: Real) -> np.ndarray:
    """Return the quality of all rows of *found*, judged as they came."""
    judge = Judge()
    judge.adopt(found.registry)
    return np.concatenate([judge.judge(part).quality for part in cut(found.batch)])


def flags(table: Table) -> Iterator[Flags]:
    """Yield what the judge says of each series of *table*."""
    found = real(table)
    quality = judged(found)
    for number, code in found.codes.items():
        own = found.batch.series_id == number
        clean, odd = own & found.clean, own & ~found.clean
        yield Flags(
            table.name,
            code,
            int(clean.sum()),
            int(np.count_nonzero(quality[clean])),
            _why(quality[clean]),
            int(odd.sum()),
            _why(quality[odd]),
        )


def _why(quality: np.ndarray) -> dict[str, int]:
    marks = int(np.bitwise_or.reduce(quality))
    return {one.name: int(np.count_nonzero(quality & int(one.bit))) for one in reasons(marks)}


def main() -> None:
    """Print all of them, and the worst."""
    every = [one for table in TABLES for one in flags(table)]
    for one in every:
        sys.stdout.write(f"{one}\n")
    worst = max(every, key=lambda one: one.rate)
    sys.stdout.write(f"worst: {worst.table} {worst.series} {100 * worst.rate:.3f} %\n")


if __name__ == "__main__":
    main()
