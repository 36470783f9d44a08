"""Packs and their trials on the disk, found from either side, and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alerts.pack_library import (
    read_own_pack,
    shipped_pack,
    shipped_pack_names,
    shipped_trials,
)
from alerts.rule import Pack, read_pack
from alerts.trial import run_trials
from devices.document import load
from devices.errors import DocumentError
from greenhouse.pack_folder import PackFolder

_TRIALS = "trials"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many *tests* there were; a line for each mistake and each test that did not come out."""

    tests: int = 0
    mistakes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """A pack and its trials, neither read yet; *trials* returns None where there are none.

    Both may raise `DocumentError`, OSError and UnicodeDecodeError.
    """

    name: str
    file: str
    pack: Callable[[], Pack]
    trials: Callable[[], str | None]

    def run(self) -> Outcome:
        """Read both and run the tests."""
        try:
            pack, text = self.pack(), self.trials()
            if text is None:
                return Outcome()
            failures = run_trials(text, self.file, pack.rules)
            return Outcome(len(load(text, self.file).data["tests"]), (), tuple(map(str, failures)))
        except DocumentError as error:
            return Outcome(0, tuple(map(str, error.mistakes)))
        except (OSError, UnicodeDecodeError) as error:
            return Outcome(0, (f"{self.name}: cannot be read: {error}",))


def shipped_pack_trials() -> list[Trial]:
    """Return the trials of all shipped packs."""
    return [_shipped(name) for name in shipped_pack_names()]


def _shipped(name: str) -> Trial:
    file = f"alerts/packs/trials/{name}.yaml"
    return Trial(name, file, lambda: shipped_pack(name), lambda: shipped_trials(name))


def own_trials(site_file: Path) -> list[Trial]:
    """Return the trials of the packs that belong to *site_file*."""
    folder = PackFolder.of(site_file)
    return [
        _between(folder.file(name), folder.trials_file(name), own=True) for name in folder.names()
    ]


def trial_of(file: Path) -> Trial:
    """Return the trial that *file* belongs to: the pack, or the tests of the pack above them.

    Tests in a folder ``trials`` without a pack of their name above it are those of the shipped one.
    """
    if file.parent.name != _TRIALS:
        return _between(file, file.parent / _TRIALS / file.name)
    pack = file.parent.parent / file.name
    if not pack.exists() and file.stem in shipped_pack_names():
        return Trial(
            str(file), str(file), lambda: shipped_pack(file.stem), lambda: file.read_text("utf-8")
        )
    return _between(pack, file)


def _between(pack: Path, trials: Path, own: bool = False) -> Trial:
    def read() -> Pack:
        text = pack.read_text("utf-8")
        return read_own_pack(text, str(pack), pack.stem) if own else read_pack(text, str(pack))

    return Trial(
        str(pack), str(trials), read, lambda: trials.read_text("utf-8") if trials.exists() else None
    )
