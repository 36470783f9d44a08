"""Packs that people wrote, in ``<site>.d/packs/`` beside the site file, one file each.

They are in force as long as they lie there; a rule can be put on the shelf by ``enabled: false``.
Trials lie in ``trials/`` below, under the pack's name, as those of the shipped packs do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from alerts.pack_library import read_own_pack, shipped_pack
from alerts.rule import Pack
from api.alerts import OwnPack
from devices.errors import DocumentError, Mistake
from ingest.whole_file import remove, write_whole

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def own_folder(site_file: Path) -> Path:
    """Return the folder beside *site_file* whose files the API may change."""
    return site_file.with_suffix(".d")


def packs_in_force(
    shipped: Sequence[str], folder: PackFolder, mistakes: list[Mistake]
) -> tuple[Pack, ...]:
    """Return the *shipped* packs of these names and all own ones of *folder*.

    What is wrong with an own one goes to *mistakes*, and the pack is left out.
    """
    return (*(shipped_pack(name) for name in shipped), *folder.packs(mistakes))


class PackFolder:
    """A `api.alerts.PackShelf` in *folder*, which need not be there before the first pack is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def of(site_file: Path) -> PackFolder:
        """Return the folder of the packs that belong to *site_file*."""
        return PackFolder(own_folder(site_file) / "packs")

    def names(self) -> list[str]:
        """Return the names of all own packs, sorted."""
        return sorted(
            file.stem for file in self.folder.glob("*.yaml") if _NAME.fullmatch(file.stem)
        )

    def get(self, name: str) -> OwnPack | None:
        """Return the pack *name*, None where there is none."""
        text = _read(self.file(name))
        if text is None:
            return None
        trials = _read(self.trials_file(name))
        return OwnPack(name, text, trials, _tag(text, trials))

    def put(self, name: str, text: str, trials: str | None) -> OwnPack:
        """Write the pack durably, whole or not at all, in the place of one with its name.

        Of its two files the trials go first: what a crash between them leaves is the old pack with
        trials that it may fail, and never a pack that nobody tried.
        """
        if trials is not None:
            _write(self.trials_file(name), trials)
        _write(self.file(name), text)
        if trials is None:
            remove([self.trials_file(name)])
        return OwnPack(name, text, trials, _tag(text, trials))

    def remove(self, name: str) -> None:
        """Delete the pack with its trials; nothing happens where there is none."""
        remove([self.file(name), self.trials_file(name)])

    def packs(self, mistakes: list[Mistake]) -> list[Pack]:
        """Return every own pack that can be used; what is wrong with others goes to *mistakes*."""
        found = []
        for file in sorted(self.folder.glob("*.yaml")):
            try:
                found.append(read_own_pack(file.read_text("utf-8"), str(file), file.stem))
            except DocumentError as error:
                mistakes += error.mistakes
            except (OSError, UnicodeDecodeError) as error:
                mistakes.append(Mistake(str(file), 1, 1, "", str(error), "a readable text file"))
        return found

    def file(self, name: str) -> Path:
        """Return where the pack *name* lies; raise ValueError for what is no name of a pack."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a pack")
        return self.folder / f"{name}.yaml"

    def trials_file(self, name: str) -> Path:
        """Return where the trials of the pack *name* lie."""
        return self.folder / "trials" / self.file(name).name


def _tag(text: str, trials: str | None) -> str:
    content = text.encode() + (b"" if trials is None else b"\0" + trials.encode())
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _read(file: Path) -> str | None:
    """Return a file as it lies there, ends of lines too; what is no UTF-8 shows as U+FFFD."""
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode(), 0o644)
