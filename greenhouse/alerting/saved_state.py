"""The engine's state in a file: what a start goes on from."""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from ingest.whole_file import write_whole

_log = logging.getLogger(__name__)

_MAGIC = b"GHALERT1"
_HEAD = struct.Struct(">8sqqI")  # the magic, two times, CRC of the rest


@dataclass(frozen=True, slots=True)
class SavedState:
    """*engine* is `Engine.snapshot` as it was at *at_us* by the clock.

    *horizon_us* is how far the engine was told that time had come.
    """

    at_us: int
    horizon_us: int
    engine: bytes


def write_state(file: Path, state: SavedState) -> None:
    """Write *state* durably in the place of the one before; raises OSError."""
    head = _HEAD.pack(_MAGIC, state.at_us, state.horizon_us, zlib.crc32(state.engine))
    write_whole(file, head + state.engine)


def read_state(file: Path) -> SavedState | None:
    """Return the state in *file*; None where there is none, or none that can be used."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.error("the state of alerts cannot be read: %s", error)
        return None
    if len(content) < _HEAD.size:
        _log.error("%s is no state of alerts", file)
        return None
    magic, at_us, horizon_us, crc = _HEAD.unpack_from(content)
    engine = content[_HEAD.size :]
    if magic != _MAGIC or zlib.crc32(engine) != crc:
        _log.error("%s is damaged, or of another version", file)
        return None
    return SavedState(at_us, horizon_us, engine)
