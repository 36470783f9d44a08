"""The packs that are shipped with the package, by name, and their trials; and those people add."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from alerts.rule import Pack, read_pack
from devices.document import load
from devices.errors import DocumentError


def _folder() -> Traversable:
    return files("alerts") / "packs"


@cache
def shipped_pack_names() -> tuple[str, ...]:
    """Return the names of all shipped packs, sorted."""
    names = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def shipped_pack(name: str) -> Pack:
    """Return the shipped pack *name*; raise KeyError if there is none."""
    if name not in shipped_pack_names():
        raise KeyError(name)
    return read_pack(shipped_pack_text(name), f"alerts/packs/{name}.yaml")


def shipped_pack_text(name: str) -> str:
    """Return the text of the shipped pack *name*, for people to read and copy."""
    return (_folder() / f"{name}.yaml").read_text("utf-8")


def shipped_trials(name: str) -> str | None:
    """Return the text of the trials of pack *name*, None if it has none."""
    entry = _folder() / "trials" / f"{name}.yaml"
    return entry.read_text("utf-8") if entry.is_file() else None


def read_own_pack(text: str, file: str, name: str) -> Pack:
    """Check a pack that people wrote, which lies under *name*; *file* only names places.

    Raises `DocumentError`: beside what `read_pack` finds, where the pack calls itself otherwise, or
    as a shipped one.  Codes of rules begin with the pack's, and two rules of one code would be one.
    """
    pack = read_pack(text, file)
    if pack.code != name:
        mistake = load(text, file).mistake(("pack",), pack.code, f"{name}, the name it lies under")
        raise DocumentError([mistake])
    if name in shipped_pack_names():
        expected = "a name that no shipped pack has; copy it under a name of your own"
        raise DocumentError([load(text, file).mistake(("pack",), name, expected)])
    return pack
