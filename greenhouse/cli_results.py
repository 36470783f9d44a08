"""``greenhouse results``: laboratory and manual results from files, and what is kept of them."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenhouse.console import load_settings, refuse, table, with_database

if TYPE_CHECKING:
    from devices.registry import Registry
    from storage.laboratory import Added, KeptResult

_FILE = click.Path(path_type=Path, dir_okay=False)
_LAST_US = 7_226_582_400_000_000  # 2199


@click.group()
def results() -> None:
    """Bring in laboratory results; see what is kept."""


@results.command("import")
@click.argument("file", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and keep nothing.")
@click.option("--by", help="Who brings them in; the name of the account if left out.")
def import_command(file: Path, dry_run: bool, by: str | None) -> None:
    """Keep the results in FILE, a CSV: all of them, or none with every mistake named."""
    from devices.sample_result import ResultsRefused, SampleResult, read_csv, read_results
    from storage.laboratory import LaboratoryStore
    from storage.pool import Pool
    from storage.registry import RegistryStore

    try:
        rows = read_csv(file.read_bytes())
    except OSError as error:
        refuse(f"{file}: cannot be read: {error}")
    except ResultsRefused as refusal:
        refuse(_told(file, refusal))
    now = datetime.now(UTC)
    name = by or getpass.getuser()

    async def work() -> Added | ResultsRefused:
        async with Pool(load_settings().dsn) as pool:
            registry: Registry = await RegistryStore(pool).load()
            try:
                found: list[SampleResult] = read_results(
                    rows, registry, round(now.timestamp() * 1e6)
                )
            except ResultsRefused as refusal:
                return refusal
            store = LaboratoryStore(pool)
            return await store.add(found, registry.series_ids, name, now, dry_run=dry_run)

    done = with_database(work())
    if isinstance(done, ResultsRefused):
        refuse(_told(file, done))
    would = "would be " if dry_run else ""
    click.echo(
        f"{file}: {would}{done.new} new, {done.corrected} corrected, {done.unchanged} known"
        f" already; {done.reviewed} reviewed, readings{' then' if dry_run else ' now'}"
    )


@results.command("list")
@click.option("--series", "chosen", multiple=True, help="Only this series; may be repeated.")
@click.option("--versions", is_flag=True, help="Every version, not only the newest of each.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
def list_command(chosen: tuple[str, ...], versions: bool, limit: int) -> None:
    """List what is kept, the newest sample first."""
    from devices.document import nearest
    from storage.laboratory import LaboratoryStore
    from storage.pool import Pool
    from storage.registry import RegistryStore

    async def work() -> list[KeptResult] | str:
        async with Pool(load_settings().dsn) as pool:
            known = (await RegistryStore(pool).load(include_retired=True)).series_ids
            for code in chosen:
                if code not in known:
                    like = nearest(code, known)
                    return f"no series {code!r}" + (f" (did you mean {like!r}?)" if like else "")
            ids = [known[code] for code in chosen] or None
            store = LaboratoryStore(pool)
            return await store.list(0, _LAST_US, limit, ids, versions=versions)

    found = with_database(work())
    if isinstance(found, str):
        refuse(found)
    if not found:
        click.echo("no results")
        return
    head = ("sampled at (UTC)", "series", "result", "version", "reviewer", "report", "method")
    click.echo(table(head, [_cells(one) for one in found], right=(3,)))


def _cells(kept: KeptResult) -> tuple[str, ...]:
    result = kept.result
    at = datetime.fromtimestamp(result.sampled_at_us / 1e6, UTC)
    return (
        f"{at:%Y-%m-%d %H:%M}",
        result.series,
        result.given,
        str(kept.version),
        result.reviewer or "(nobody yet)",
        result.report,
        result.method,
    )


def _told(file: Path, refusal: Exception) -> str:
    lines = [f"{file}: {line}" for line in str(refusal).splitlines()]
    count = len(lines)
    return "\n".join([*lines, f"{count} mistake{'s' if count > 1 else ''}; nothing was kept"])
