"""The file in which the judge's state outlives the process, beside the spool.

It is written now and then while
readings come, and at the end; only then does it say that nothing was judged after it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.whole_file import write_whole

_COMPLETE = "complete"


class StateUnreadable(ValueError):
    """The file is there and does not hold what it should."""


class StateFile:
    """One file of named arrays; both calls block on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[dict[str, npt.NDArray[Any]], bool] | None:
        """Return (what was saved, whether it was complete), None where nothing was saved.

        Raises `StateUnreadable` for junk and OSError where the disk cannot.
        """
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                columns = {name: archive[name] for name in archive.files}
            return columns, bool(columns.pop(_COMPLETE)[0])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise StateUnreadable(f"{self.path} is not what we wrote: {error}") from error

    def save(self, columns: dict[str, npt.NDArray[Any]], *, complete: bool) -> int:
        """Keep *columns* over a loss of power; return the size.  Raises OSError."""
        content = io.BytesIO()
        arrays: dict[str, Any] = {**columns, _COMPLETE: np.array([complete])}
        np.savez(content, **arrays)
        write_whole(self.path, content.getbuffer())
        return len(content.getbuffer())
