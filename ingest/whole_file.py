"""Files that are written whole or not at all, and are there after a power cut.

A draft beside the file is written, synced, and takes its place in one step.  The draft has one name
for each file, so that crashes leave one of them and not one each; who writes it locks it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

Content = bytes | memoryview

_MODE = 0o640


def write_whole(path: Path, content: Content, mode: int = _MODE) -> None:
    """Put *content* in the place of *path*, durably; raises OSError, *path* is then as it was.

    The folder must be there.  Several may write one file at once: the last one's content stays.
    """
    write_each_whole({path: content}, mode)


def write_each_whole(files: Mapping[Path, Content], mode: int = _MODE) -> None:
    """Do the same for each of *files*; quicker than one by one where they share a folder."""
    for path, content in files.items():
        _replace(path, content, mode)
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def write_new(files: Mapping[Path, str]) -> None:
    """Write all of *files*, which must not be there yet; where one fails none of them stays.

    Folders that are missing are made.
    """
    written: list[Path] = []
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text.encode())
            written.append(file)
    except BaseException:  # interrupted too: all of them or none
        remove(written)
        raise


def remove(files: Iterable[Path]) -> None:
    """Remove those of *files* that are there, durably and in this order."""
    for file in files:
        if file.exists():
            file.unlink(missing_ok=True)
            sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in *folder* are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _replace(path: Path, content: Content, mode: int) -> None:
    # Its name does not end as the file's does: whoever lists the folder meanwhile passes it over.
    draft = path.with_name(f".{path.name}.new")
    fd = _alone(draft)
    try:
        os.ftruncate(fd, 0)
        os.fchmod(fd, mode)
        with open(fd, "wb", closefd=False) as out:
            out.write(content)
        os.fsync(fd)
        draft.replace(path)
    except BaseException:  # interrupted too: a draft must not stay behind
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)  # and with it the lock


def _alone(draft: Path) -> int:
    """Return a descriptor of *draft* that nobody else writes to until it is closed."""
    while True:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        is_ours = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Who had the lock may have put this very file in its place, or removed it.
            is_ours = os.path.samestat(os.fstat(fd), draft.stat())
        except FileNotFoundError:
            pass  # then it was not ours
        finally:
            if not is_ours:
                os.close(fd)
        if is_ours:
            return fd
