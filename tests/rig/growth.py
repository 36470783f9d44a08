"""How time grows with what there is to do, measured in one go so that the machine cancels out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_TRIES = 7


def growth(work: Callable[[T], object], small: T, large: T) -> float:
    """Return how many times as long *work* takes with *large* as it does with *small*.

    The processor's time of this thread is measured, the least of several tries taken by turns, so
    others on the machine hardly show.  Ten times the input is near 10 for what is linear and near
    100 for what is quadratic: judge in the middle.
    """
    least = [float("inf"), float("inf")]
    for _ in range(_TRIES):
        for which, given in enumerate((small, large)):
            began = time.thread_time_ns()
            work(given)
            least[which] = min(least[which], time.thread_time_ns() - began)
    return least[1] / least[0]
