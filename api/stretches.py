"""Stored readings in the order of time, a stretch at a time: memory holds one and no more."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping

import numpy as np

from api.history import RawHistory
from devices.quality import Quality
from devices.reading import Batch
from storage.history import Points

ROWS = 200_000  # of a stretch, about
_SHORTEST_US = 1_000_000
_LONGEST_US = 400 * 86_400_000_000
_SPARE = 64  # readings of a series beyond what its interval lets expect


async def stretches(
    history: RawHistory,
    interval_s: Mapping[int, float],
    start_us: int,
    end_us: int,
    rows: int = ROWS,
) -> AsyncIterator[Batch]:
    """Yield all readings in [start, end) of the series of *interval_s* (expected interval by id).

    Each batch is later than the one before it and in the order of time; about *rows* long, at most
    a few times that where series bring more than their intervals say.  Readings are as stored, bad
    ones with their quality; what a period that goes on has come to so far is left out.  May raise
    `storage.errors.DatabaseUnavailable`.
    """
    ids = sorted(interval_s)
    if not ids:
        return
    width_us = _bounded(rows / sum(1e-6 / one for one in interval_s.values()))
    shortest_s = min(interval_s.values())
    while start_us < end_us:
        until_us = min(start_us + width_us, end_us)
        limit = math.ceil(2e-6 * (until_us - start_us) / shortest_s) + _SPARE
        found = await history.raw(ids, start_us, until_us, limit)
        cut = [points.at_us[-1] for points in found.values() if len(points) == limit]
        if cut:
            # A series that gave as many as were asked for may have more: all end where it does.
            until_us = int(min(cut)) + 1
        batch = _batch(found, until_us)
        if len(batch):
            yield batch
        start_us = until_us
        if len(batch) < rows // 2 and not cut:
            width_us = _bounded(width_us * 2)
        elif len(batch) > rows:
            width_us = _bounded(width_us / 2)


def _bounded(width_us: float) -> int:
    return round(min(max(width_us, _SHORTEST_US), _LONGEST_US))


def _batch(found: Mapping[int, Points], until_us: int) -> Batch:
    """Return the readings before *until_us* by time; when they were received does not matter."""
    ends = {one: int(np.searchsorted(points.at_us, until_us)) for one, points in found.items()}
    if not any(ends.values()):
        return Batch.empty()
    at_us = np.concatenate([points.at_us[: ends[one]] for one, points in found.items()])
    batch = Batch(
        np.repeat(np.array(list(ends), np.int32), list(ends.values())),
        at_us,
        at_us,
        np.concatenate([points.value[: ends[one]] for one, points in found.items()]),
        np.concatenate([points.quality[: ends[one]] for one, points in found.items()]),
    )
    # A period that goes on is told, not judged: rules do not hear what it has come to so far.
    batch = batch.take(batch.quality & Quality.PROVISIONAL == 0)
    return batch.take(np.argsort(batch.observed_at_us, kind="stable"))
