"""The command line: ``greenhouse check | apply | run | demo | dead-letters | quantities``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from devices.errors import DocumentError
from devices.quantity import QUANTITIES
from devices.site_file import SiteFile, read_site_file
from greenhouse.settings import Settings, SettingsError, read_settings

# Exit codes: 0 done, 1 could not be done now, 2 something given to us is wrong.
WRONG = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="greenhouse-monitor", prog_name="greenhouse")
def main() -> None:
    """Monitoring for demonstration greenhouses."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read a site FILE and name every mistake in it."""
    site_file = load_site_file(file)
    registry = site_file.registry
    click.echo(
        f"{file}: {len(registry.sites)} sites, {len(registry.devices)} devices,"
        f" {len(registry.series)} series: nothing wrong"
    )


@main.command()
@click.option("--medium", help="Only those of one medium: air, soil, water, fertigation, weather.")
def quantities(medium: str | None) -> None:
    """List what can be measured, with units and physical limits."""
    rows = [
        (q.name, q.unit, f"{q.low:g}", f"{q.high:g}", q.medium.value, q.zh, q.en)
        for q in QUANTITIES.values()
        if medium in (None, q.medium.value)
    ]
    if not rows:
        _refuse(f"got medium {medium!r}, expected one of air, soil, water, fertigation, weather")
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)]
        click.echo("  ".join([*cells, row[5], row[6]]))


def load_site_file(file: Path) -> SiteFile:
    """Read and check *file*; print every mistake and end with code 2 when there is one."""
    try:
        return read_site_file(file.read_text("utf-8"), str(file))
    except DocumentError as error:
        count = len(error.mistakes)
        _refuse(f"{error}\n{count} mistake{'s' if count > 1 else ''} in {file}")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"{file}: cannot be read: {error}")


def load_settings() -> Settings:
    """Read the environment; print every mistake and end with code 2 when there is one."""
    try:
        return read_settings()
    except SettingsError as error:
        _refuse(str(error))


def _refuse(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(WRONG)
