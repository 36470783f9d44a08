"""Keys that nobody wants: named, or matched with ``*`` for any characters and ``?`` for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache


def ignored_by(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return what tells whether a key matches one of *patterns*; without any, none does.

    Only ``*`` and ``?`` mean more than themselves: keys may hold brackets (``temp[Cel]``).
    """
    return _test(tuple(patterns))


@lru_cache(maxsize=1024)
def _test(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    if not patterns:
        return lambda key: False
    match = re.compile("|".join(map(_expression, patterns)), re.DOTALL).fullmatch
    return lambda key: match(key) is not None


def _expression(pattern: str) -> str:
    """Write *pattern* as a regular expression whose time is linear in the key.

    What stands between two stars is taken where it comes first and never looked for again (an
    atomic group), which is right because the star behind it takes any rest.
    """
    first, *others = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    if not others:
        return f"(?:{first})"
    *inner, last = others
    return f"(?:{first}{''.join(f'(?>.*?{part})' for part in inner)}.*{last})"
