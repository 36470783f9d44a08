"""What commands of the command line have in common: exit codes, what they read, tables."""

from __future__ import annotations

import asyncio
import sys
import unicodedata
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from devices.errors import DocumentError, Mistake
from greenhouse.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from devices.site_file import SiteFile
    from greenhouse.pack_folder import PackFolder

T = TypeVar("T")

# Exit codes: 0 done, 1 could not be done now, 2 something given to us is wrong.
UNDONE = 1
WRONG = 2


def refuse(text: str) -> NoReturn:
    """Say what is wrong with what was given, and end with code 2."""
    click.echo(text, err=True)
    sys.exit(WRONG)


def load_site_file(file: Path) -> SiteFile:
    """Read and check *file*; print every mistake and end with code 2 when there is one."""
    from greenhouse.site_files import read_site_files

    try:
        return read_site_files(file)
    except DocumentError as error:
        count = len(error.mistakes)
        refuse(f"{error}\n{count} mistake{'s' if count > 1 else ''} in {file}")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file}: cannot be read: {error}")


def load_own_packs(site_file: Path) -> PackFolder:
    """Read and check the own packs of *site_file*; print every mistake and end with code 2."""
    from greenhouse.pack_folder import PackFolder

    folder = PackFolder.of(site_file)
    mistakes: list[Mistake] = []
    folder.packs(mistakes)
    if mistakes:
        refuse(str(DocumentError(mistakes)))
    return folder


def load_settings() -> Settings:
    """Read the environment; print every mistake and end with code 2 when there is one."""
    try:
        return read_settings()
    except SettingsError as error:
        refuse(str(error))


def with_database(work: Coroutine[None, None, T]) -> T:
    """Run *work*; say in one line why the database did not let it."""
    from storage.errors import StorageError

    try:
        return asyncio.run(work)
    except StorageError as error:
        click.echo(f"the database: {error}", err=True)
        sys.exit(UNDONE)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return *rows* under *head* in columns as wide as they need; those of *right* end flush.

    A Chinese character takes two places on a terminal.
    """
    widths = [max(_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(_padded(cell, widths[i], i in right) for i, cell in enumerate(row)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _padded(text: str, width: int, flush: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if flush else text + space
