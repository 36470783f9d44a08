"""The project's own JSON payload, as firmware writes it.

One sample is ``{"t": ms since 1970 UTC, "v": {key: number or null}}``; several are a list of these.
Written here and read in `devices.codecs` by other code, so that the two cannot agree on a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from firmware_sims.sample import Sample

# Firmware has small transmit buffers; these also stay below what a collector must take (1,000
# samples, 1,000 readings, 64 KiB a message).
MOST_SAMPLES = 250
MOST_READINGS = 800
MOST_BYTES = 48_000
_BYTES_A_SAMPLE = 32
_BYTES_A_READING = 24  # beside its key


def encode(samples: Sequence[Sample]) -> bytes:
    """Return one message: a single object for one sample, a list for more.

    Numbers are written with all their digits.  Raises ValueError for a value that is not finite and
    for no samples at all: neither is JSON that firmware sends.
    """
    if not samples:
        raise ValueError("a message without samples")
    objects = [{"t": sample.stamp_us // 1000, "v": dict(sample.values)} for sample in samples]
    content = objects[0] if len(objects) == 1 else objects
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def packed(samples: Iterable[Sample], most_samples: int = MOST_SAMPLES) -> Iterator[list[Sample]]:
    """Yield *samples* in order as lists that each fit one message."""
    pack: list[Sample] = []
    readings = size = 0
    for sample in samples:
        more = len(sample.values)
        more_size = _size(sample)
        full = len(pack) >= most_samples or readings + more > MOST_READINGS
        if pack and (full or size + more_size > MOST_BYTES):
            yield pack
            pack, readings, size = [], 0, 0
        pack.append(sample)
        readings += more
        size += more_size
    if pack:
        yield pack


def _size(sample: Sample) -> int:
    keys = sum(len(key.encode()) for key in sample.values)
    return _BYTES_A_SAMPLE + keys + _BYTES_A_READING * len(sample.values)
