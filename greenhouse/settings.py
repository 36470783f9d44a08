"""Settings of the service: the only place that reads the environment.

Every setting has one name, ``GREENHOUSE_...``; a setting that is a secret is read from a file
named by ``..._FILE``.  Precedence: environment, then the default.  `read_settings` reports every
mistake in one go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from devices.document import nearest
from devices.duration import parse_duration_s

_PREFIX = "GREENHOUSE_"
_LEAST_SPOOL = 10 * 10**6


class SettingsError(Exception):
    """Some settings cannot be used; the message has one line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one service process needs to know beside the site file.

    *dsn* is a PostgreSQL connection string.  *spool_dir* must be on a local disk;
    *spool_max_bytes* bounds the spool, *spool_min_free_share* is the share of its disk that it
    leaves alone.  *tokens* are the bearer tokens that may write (and read from elsewhere).
    """

    dsn: str
    spool_dir: Path
    spool_max_bytes: int
    spool_min_free_share: float
    host: str
    port: int
    tokens: tuple[str, ...]
    open_loopback_reads: bool
    api_docs: bool
    log_level: str
    log_format: str
    stop_timeout_s: float
    dial_in_host: str
    dial_in_port: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: its default as written, how it is read, what it is for."""

    name: str
    default: str
    read: Callable[[str], Any]
    help: str

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return _PREFIX + self.name


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise ValueError("a share from 0 to below 1, such as 0.1")
    return value


def _bytes(text: str) -> int:
    units = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    number, unit = text[:-2].strip(), text[-2:]
    if unit not in units or not number.isdecimal():
        raise ValueError("a size such as 500MB or 2GB")
    size = int(number) * units[unit]
    if size < _LEAST_SPOOL:
        raise ValueError("at least 10MB: what a collector hands over at once must fit many times")
    return size


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return read


def _words(text: str) -> str:
    if not text:
        raise ValueError("text that is not empty")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting("DSN", "postgresql://127.0.0.1/greenhouse", _words,
            "database to keep everything in (or GREENHOUSE_DSN_FILE, a file with it)"),
    Setting("SPOOL_DIR", "data/spool", Path,
            "folder on a local disk where accepted messages lie until they are in the database"),
    Setting("SPOOL_MAX", "2GB", _bytes,
            "how large the spool may grow; when full, nothing more is acknowledged"),
    Setting("SPOOL_MIN_FREE", "0.05", _share,
            "share of the spool's disk that is left free"),
    Setting("HOST", "127.0.0.1", _words, "address that the HTTP service listens on"),
    Setting("PORT", "8000", _whole(0, 65535), "port of the HTTP service; 0 takes a free one"),
    Setting("TOKEN_FILE", "", str,
            "file with bearer tokens, one a line; without it nobody can write"),
    Setting("OPEN_LOOPBACK_READS", "false", _switch,
            "whether reads from this machine need no token; never behind a proxy on this machine"),
    Setting("API_DOCS", "false", _switch, "whether /docs is served"),
    Setting("LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"),
            "how much is logged"),
    Setting("LOG_FORMAT", "text", _one_of("text", "json"), "how it is logged"),
    Setting("STOP_TIMEOUT", "10s", parse_duration_s,
            "how long an orderly stop may take before what is left stays in the spool"),
    Setting("DIAL_IN_HOST", "127.0.0.1", _words,
            "address on which DTUs are awaited that connect to us"),
    Setting("DIAL_IN_PORT", "8899", _whole(0, 65535), "port on which they are awaited"),
)  # fmt: skip


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read all settings; raise `SettingsError` naming every variable that is wrong or unknown."""
    given = {
        name: text
        for name, text in (os.environ if environment is None else environment).items()
        if name.startswith(_PREFIX) and not name.startswith(("GREENHOUSE_TEST_", "GREENHOUSE_REQ"))
    }
    mistakes = [_unknown(name) for name in given if name not in _KNOWN]
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = given.get(setting.variable, setting.default)
        try:
            values[setting.name] = setting.read(text)
        except ValueError as error:
            mistakes.append(f"{setting.variable}: got {text!r}, expected {error}")
    if path := given.get("GREENHOUSE_DSN_FILE"):
        values["DSN"] = read_secret("GREENHOUSE_DSN_FILE", path, mistakes)
    token_file = values.get("TOKEN_FILE")
    tokens = read_secret("GREENHOUSE_TOKEN_FILE", token_file, mistakes) if token_file else ""
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return Settings(
        dsn=values["DSN"],
        spool_dir=values["SPOOL_DIR"],
        spool_max_bytes=values["SPOOL_MAX"],
        spool_min_free_share=values["SPOOL_MIN_FREE"],
        host=values["HOST"],
        port=values["PORT"],
        tokens=tuple(tokens.split()),
        open_loopback_reads=values["OPEN_LOOPBACK_READS"],
        api_docs=values["API_DOCS"],
        log_level=values["LOG_LEVEL"],
        log_format=values["LOG_FORMAT"],
        stop_timeout_s=values["STOP_TIMEOUT"],
        dial_in_host=values["DIAL_IN_HOST"],
        dial_in_port=values["DIAL_IN_PORT"],
    )


def setting_names() -> set[str]:
    """Return every environment variable that the service knows."""
    return set(_KNOWN)


# GREENHOUSE_DATA_DIR and GREENHOUSE_SERVICES_DIR belong to the scripts and the tests.
_KNOWN = {setting.variable for setting in SETTINGS} | {
    "GREENHOUSE_DSN_FILE",
    "GREENHOUSE_DATA_DIR",
    "GREENHOUSE_SERVICES_DIR",
    "GREENHOUSE_SERVICES_ROOT",
}


def _unknown(name: str) -> str:
    hint = nearest(name, _KNOWN)
    return f"{name}: no such setting" + (f" (did you mean {hint}?)" if hint else "")


def read_secret(variable: str, path: str, mistakes: list[str]) -> str:
    """Return the secret in *path*, noting in *mistakes* what is wrong with the file.

    Others on the machine must not be able to read it.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        mistakes.append(f"{variable}: cannot read {path!r}: {error}")
        return ""
    if mode & stat.S_IROTH:
        mistakes.append(f"{variable}: {path!r} is readable by everyone, expected mode 0600 or 0640")
    if not text:
        mistakes.append(f"{variable}: {path!r} is empty, expected the secret")
    return text


def describe(settings: Settings) -> str:
    """Return the settings for a log line, secrets left out."""
    hidden = {"dsn", "tokens"}
    shown = (
        f"{f.name}={getattr(settings, f.name)}" for f in fields(settings) if f.name not in hidden
    )
    return " ".join(shown)
