"""Randomness that is a function of where one looks: the same seed and place give the same number.

Weather made of it can be asked for any moment, in any order, and answers the same each time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=4096)
def lattice(seed: int, stream: str, index: int) -> float:
    """Return a number in [-1, 1) that belongs to (*seed*, *stream*, *index*)."""
    digest = blake2b(f"{seed}\0{stream}\0{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2.0**63 - 1.0


def smooth(seed: int, stream: str, x: float) -> float:
    """Return a curve through the lattice, in [-1, 1], with a new value about every unit of *x*."""
    index = math.floor(x)
    share = x - index
    share = share * share * share * (share * (share * 6.0 - 15.0) + 10.0)
    low = lattice(seed, stream, index)
    return low + share * (lattice(seed, stream, index + 1) - low)
