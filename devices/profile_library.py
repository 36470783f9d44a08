"""The profiles that are shipped with the package, by name."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from devices.profile import Profile, read_profile


def _folder() -> Traversable:
    return files("devices") / "profiles"


@cache
def shipped_profile_names() -> tuple[str, ...]:
    """Return the names of all shipped profiles, sorted."""
    names = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def shipped_profile(name: str) -> Profile:
    """Return the shipped profile *name*; raise KeyError if there is none."""
    if name not in shipped_profile_names():
        raise KeyError(name)
    file = f"devices/profiles/{name}.yaml"
    return read_profile((_folder() / f"{name}.yaml").read_text("utf-8"), file)


def shipped_cases(name: str) -> str | None:
    """Return the text of the case file of profile *name*, None if it has none."""
    entry = _folder() / "cases" / f"{name}.yaml"
    return entry.read_text("utf-8") if entry.is_file() else None
