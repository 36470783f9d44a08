"""Microseconds since 1970 and the database's instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

# The server counts microseconds from 2000-01-01 UTC.
SERVER_EPOCH_US = 946_684_800_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The years that Python, JSON and every client can write: 0001 to 9999.
FIRST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def instant(us: int) -> datetime:
    """Return *us* as an aware instant; times beyond the years 1 and 9999 become these."""
    return _EPOCH + timedelta(microseconds=clamped_us(us))


def clamped_us(us: int) -> int:
    """Return *us*, or the nearest time that lies in the years 1 to 9999."""
    return min(max(int(us), FIRST_US), LAST_US)


def microseconds(at: datetime) -> int:
    """Return the aware instant *at* as microseconds since 1970 UTC, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def fits(us: int) -> bool:
    """Whether *us* lies in the years 1 to 9999."""
    return FIRST_US <= us <= LAST_US


def out_of_range(us: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    """Whether any of *us* lies outside the years 1 to 9999."""
    return bool(len(us)) and bool(us.min() < FIRST_US or us.max() > LAST_US)
