"""Files that are written whole or not at all, and are there after a power cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

_MODE = 0o640


def write_new(files: Mapping[Path, str]) -> None:
    """Write all of *files*, which must not be there yet; where one fails none of them stays."""
    written: list[Path] = []
    try:
        for file, text in files.items():
            _write(file, text)
            written.append(file)
    except BaseException:  # interrupted too: all of them or none
        remove(written)
        raise


def remove(files: Iterable[Path]) -> None:
    """Remove those of *files* that are there."""
    for file in files:
        file.unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Its name does not end as the file's does: whoever lists the folder meanwhile passes it over.
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".new")
    draft = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="") as out:
            os.fchmod(number, _MODE)
            out.write(text)
            out.flush()
            os.fsync(number)
        draft.replace(file)
    except BaseException:  # interrupted too: a draft must not stay behind
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
