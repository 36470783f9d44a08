"""The words of the pages in both languages, and which language somebody reads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["zh", "en"]

LANGUAGES: tuple[Language, ...] = ("zh", "en")
_FILES: Mapping[Language, str] = {"zh": "zh_CN.toml", "en": "en.toml"}


@cache
def texts(language: Language) -> Mapping[str, str]:
    """Return every text of the pages in *language*."""
    path = files("api.dashboard") / "locales" / _FILES[language]
    return tomllib.loads(path.read_text("utf-8"))


def choose_language(asked: str | None, cookie: str | None, accept_language: str) -> Language:
    """Return the language somebody reads: what they asked for, chose before, or their browser says.

    Chinese where nothing is said.
    """
    for word in (asked, cookie):
        for language in LANGUAGES:
            if word == language:
                return language
    best: Language = "zh"
    weight = 0.0
    for part in accept_language.split(",")[:20]:
        name, _, parameters = part.strip().partition(";")
        primary = name.strip().lower().partition("-")[0]
        found = _weight(parameters)
        for language in LANGUAGES:
            if primary == language and found > weight:
                best, weight = language, found
    return best


def _weight(parameters: str) -> float:
    key, _, value = parameters.strip().partition("=")
    if key.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def age_text(age_s: float, words: Mapping[str, str]) -> str:
    """Return an age as people say it; `live.js` says it the same way."""
    for key, unit_s, until_s in (
        ("age_s", 1, 60),
        ("age_min", 60, 3600),
        ("age_h", 3600, 172_800),
        ("age_d", 86_400, float("inf")),
    ):
        if age_s < until_s:
            return words[key].replace("{n}", str(int(age_s // unit_s)))
    raise ValueError(f"not an age: {age_s}")
