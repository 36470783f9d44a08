"""The state of an engine as bytes: arrays with a header, readable by a later version or refused.

The format is NumPy's own (``.npz``, no pickles) with one JSON header inside.  Whoever stores it
need not understand it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from alerts.episode import Episode
from alerts.errors import SnapshotError

FORMAT = 2


class BindingState(msgspec.Struct, frozen=True):
    """What a snapshot says of one binding beside its arrays: *group* and *row* say where they are.

    *versions* is its story, *untold_us* and *overdue_us* as in the engine, None where there is
    nothing.
    """

    fingerprint: str
    subject: str
    group: int
    row: int
    versions: list[Episode] = []
    untold_us: int | None = None
    overdue_us: int | None = None


class Header(msgspec.Struct, frozen=True):
    """What a snapshot says of the whole; *layouts* describes each group's arrays."""

    format: int
    horizon_us: int
    series: list[str]
    layouts: list[str]
    bindings: list[BindingState]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A header and its arrays by name."""

    header: Header
    arrays: Mapping[str, npt.NDArray[Any]]


def pack(snapshot: Snapshot) -> bytes:
    """Return *snapshot* as bytes."""
    header = np.frombuffer(msgspec.json.encode(snapshot.header), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=header, **snapshot.arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> Snapshot:
    """Return what *data* holds; raise `SnapshotError` if it is damaged or of another format."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = msgspec.json.decode(arrays.pop("header").tobytes(), type=Header)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as e:
        raise SnapshotError(f"not a snapshot of alert state: {e}") from e
    if header.format != FORMAT:
        raise SnapshotError(f"format {header.format}, expected {FORMAT}")
    return Snapshot(header, arrays)
