"""The command line: ``greenhouse check | apply | run | demo | alerts | dead-letters | ...``.

A command imports the rooms that it needs when it is called: all of them take a second to load, and
``check`` needs none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from devices.document import nearest
from devices.quantity import QUANTITIES
from greenhouse.cli_alerts import alerts
from greenhouse.cli_calibrate import calibrate
from greenhouse.cli_derive import derive
from greenhouse.cli_devices import devices
from greenhouse.cli_results import results
from greenhouse.console import (
    UNDONE,
    load_own_packs,
    load_settings,
    load_site_file,
    refuse,
    with_database,
)
from greenhouse.logs import configure_logging
from greenhouse.settings import Settings, SettingsError, describe

if TYPE_CHECKING:
    from devices.bus import Bus
    from devices.profile import Profile
    from devices.site_file import SiteFile
    from greenhouse.service import Plan
    from storage.dead_letters import DeadLetterStore, KeptLetter
    from storage.registry import RegistryChanges

T = TypeVar("T")
_log = logging.getLogger(__name__)

_ASK_EVERY_S = 0.2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="greenhouse-monitor", prog_name="greenhouse")
def main() -> None:
    """Monitoring for demonstration greenhouses."""


main.add_command(alerts)
main.add_command(devices)
main.add_command(calibrate)
main.add_command(derive)
main.add_command(results)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read a site FILE and name every mistake in it, and in the packs of rules beside it."""
    from greenhouse.alerting.rules import rule_use, told_use
    from greenhouse.site_files import warnings

    site_file = load_site_file(file)
    packs = load_own_packs(file)
    registry = site_file.registry
    for warning in warnings(site_file):
        click.echo(f"{file}: look at this: {warning}", err=True)
    if uses := rule_use(site_file, packs):
        click.echo(f"{file}: rules in use: {told_use(uses)}")
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
        refuse(f"got medium {medium!r}, expected one of air, soil, water, fertigation, weather")
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)]
        click.echo("  ".join([*cells, row[5], row[6]]))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def apply(file: Path) -> None:
    """Bring the database to a site FILE: make its schema, register, retire what is gone."""
    from storage.migrate import migrate
    from storage.pool import Pool
    from storage.registry import RegistryStore

    site_file = load_site_file(file)
    settings = load_settings()

    async def work() -> RegistryChanges:
        await migrate(settings.dsn)
        async with Pool(settings.dsn) as pool:
            store = RegistryStore(pool)
            return await store.apply(site_file.registry, site_file.retention_s)

    changes = with_database(work())
    click.echo(f"{file}: {changes}" if changes else f"{file}: nothing to change")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--no-ingest", is_flag=True, help="Only answer HTTP; another process ingests.")
@click.option("--no-api", is_flag=True, help="Only ingest.")
def run(file: Path, no_ingest: bool, no_api: bool) -> None:
    """Run the service for a site FILE until it is told to stop."""
    import uvloop

    from greenhouse.service import Plan
    from ingest.collector import IngestError
    from storage.errors import StorageError

    if no_ingest and no_api:
        refuse("got --no-ingest and --no-api, expected at most one of them")
    site_file = load_site_file(file)
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    _log.info("settings: %s", describe(settings))
    plan = Plan(site_file, file, settings, ingest=not no_ingest, api=not no_api)

    def listening(port: int) -> None:
        _log.info("listening on http://%s:%d", settings.host, port)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(plan, listening))
    except BaseExceptionGroup as group:  # raised again whole where one of its causes is not known
        refuse("\n".join(_causes(group)))
    except (SettingsError, IngestError, StorageError) as error:
        refuse(str(error))


async def _until_signalled(plan: Plan, listening: Callable[[int], None]) -> None:
    """Run the service; SIGTERM and SIGINT stop it in order, a second one at once."""
    from greenhouse.service import run_service

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _log.warning("stopping at once; what is not stored stays in the spool")
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await run_service(plan, stop, listening)


def _causes(group: BaseExceptionGroup) -> list[str]:
    """Return one line for each known cause; raise the group again when one is not known."""
    from ingest.collector import IngestError
    from storage.errors import StorageError

    known, unknown = group.split((SettingsError, IngestError, StorageError))
    if unknown is not None:
        raise group
    found: list[str] = []
    for error in known.exceptions if known is not None else ():
        found += _causes(error) if isinstance(error, BaseExceptionGroup) else [str(error)]
    return found


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page; 8000 or a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Keep the data in this folder.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option("--scenario", default="small-base", show_default=True, help="What happens there.")
def demo(port: int | None, data: Path | None, no_browser: bool, scenario: str) -> None:
    """Show the whole service with a small simulated base; Ctrl-C ends it."""
    from greenhouse.demo.children import ChildError
    from greenhouse.demo.run import DemoOptions, run_demo

    options = DemoOptions(data, port, not no_browser, scenario)

    async def work() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run_demo(options, stop, lambda line: click.echo(line))

    configure_logging("warning", "text")
    try:
        asyncio.run(work())
    except ChildError as error:
        click.echo(str(error), err=True)
        sys.exit(UNDONE)


@main.group("dead-letters")
def dead_letters() -> None:
    """What was received and could not be read."""


@dead_letters.command("list")
@click.option("--code", help="Only those with this reason, such as E-JSON.")
@click.option("--source", help="Only those from mqtt, http or modbus.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def list_letters(code: str | None, source: str | None, limit: int) -> None:
    """List dead letters, the newest first, and count them by reason."""
    settings = load_settings()

    async def work(store: DeadLetterStore) -> tuple[list[KeptLetter], dict[str, int]]:
        return await store.list(limit, code, source), await store.counts()

    letters, counts = _with_letters(settings, work)
    for kept in letters:
        letter = kept.letter
        at = datetime.fromtimestamp(letter.received_at_us / 1e6, UTC).isoformat(" ", "seconds")
        state = "replayed" if kept.replayed_at else "waits"
        click.echo(f"{kept.id}  {at}  {letter.source} {letter.topic}  [{state}]")
        click.echo(f"    {letter.code} {letter.text}")
        click.echo(f"    {_excerpt(letter.payload)}")
    total = ", ".join(f"{code} {count}" for code, count in counts.items())
    click.echo(f"waiting: {total or 'none'}")


@dead_letters.command("replay")
@click.argument("ids", nargs=-1)
@click.option("--code", help="Only those with this reason.")
@click.option("--source", help="Only those from mqtt, http or modbus.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for the service.")
def replay_letters(ids: tuple[str, ...], code: str | None, source: str | None, wait: float) -> None:
    """Have the running service read dead letters again: those IDS, or all that wait."""
    settings = load_settings()

    async def work(store: DeadLetterStore) -> tuple[int, int]:
        asked = await store.want(code, source, ids or None)
        left = await store.still_wanted()
        for _ in range(round(wait / _ASK_EVERY_S)):
            if not left:
                break
            await asyncio.sleep(_ASK_EVERY_S)
            left = await store.still_wanted()
        return asked, left

    asked, left = _with_letters(settings, work)
    if left:
        click.echo(f"{asked} asked for, {left} still wait: is the service running?", err=True)
        sys.exit(UNDONE)
    click.echo(f"{asked} dead letters sent in again; those that fail again are listed again")


def _excerpt(payload: bytes) -> str:
    text = payload[:120].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown + (f" ... ({len(payload)} bytes)" if len(payload) > 120 else "")


def _with_letters(
    settings: Settings, work: Callable[[DeadLetterStore], Coroutine[None, None, T]]
) -> T:
    from storage.dead_letters import DeadLetterStore
    from storage.pool import Pool

    async def with_store() -> T:
        async with Pool(settings.dsn) as pool:
            return await work(DeadLetterStore(pool))

    return with_database(with_store())


@main.group()
def modbus() -> None:
    """Look at a Modbus bus of a site file by hand; gently, one request at a time."""


@modbus.command("read")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("bus")
@click.argument("unit", type=click.IntRange(0, 255))
@click.option("--profile", help="Show everything that this profile knows of the device.")
@click.option("--function", default=3, show_default=True, type=click.IntRange(1, 4))
@click.option("--address", type=click.IntRange(0, 65535), help="First address, counted from 0.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 2000))
@click.option("--orders", is_flag=True, help="Show pairs of registers in all four orders of bytes.")
@click.option("--timeout", default=1.0, show_default=True, help="Seconds to wait for a reply.")
def modbus_read_command(
    file: Path,
    bus: str,
    unit: int,
    profile: str | None,
    function: int,
    address: int | None,
    count: int,
    orders: bool,
    timeout: float,
) -> None:
    """Read registers of UNIT on BUS and show what they mean."""
    from ingest.modbus.request import ReadRequest
    from ingest.modbus.survey import lines_of, modbus_read, modbus_read_profile, opened

    site_file = load_site_file(file)
    chosen = _profile(site_file, profile) if profile else None
    if chosen is None and address is None:
        refuse("got neither --profile nor --address, expected one of them")

    async def work() -> list[str]:
        async with opened(_bus(site_file, bus), asyncio.get_running_loop().time()) as line:
            if address is None and chosen is not None:
                return lines_of(await modbus_read_profile(line, unit, chosen, timeout))
            request = ReadRequest(unit, function, address or 0, count)
            return lines_of(await modbus_read(line, [request], chosen, orders, timeout))

    for text in _on_the_bus(work()):
        click.echo(text)


@modbus.command("scan")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("bus")
@click.option("--first", default=1, show_default=True, type=click.IntRange(1, 247))
@click.option("--last", default=247, show_default=True, type=click.IntRange(1, 247))
@click.option("--timeout", default=0.3, show_default=True, help="Seconds to wait for a reply.")
def modbus_scan_command(file: Path, bus: str, first: int, last: int, timeout: float) -> None:
    """Find out which units answer on BUS, and which profiles fit them."""
    from devices.profile_library import shipped_profile, shipped_profile_names
    from ingest.modbus.survey import modbus_scan, opened

    site_file = load_site_file(file)
    own = {slave.profile.name: slave.profile for _, s in site_file.slaves.items() for slave in s}
    known = {name: shipped_profile(name) for name in shipped_profile_names()} | own

    async def work() -> int:
        found = 0
        async with opened(_bus(site_file, bus), asyncio.get_running_loop().time()) as line:
            units = range(first, last + 1)
            async for one in modbus_scan(line, units, list(known.values()), timeout):
                found += 1
                fits = [f"{fit.profile} {fit.plausible}/{fit.points}" for fit in one.fits[:5]]
                click.echo(f"unit {one.unit}: {', '.join(fits) or 'no profile fits'}")
        return found

    click.echo(f"{_on_the_bus(work())} units answered")


def _bus(site_file: SiteFile, code: str) -> Bus:
    for bus in site_file.buses:
        if bus.code == code:
            return bus
    known = ", ".join(bus.code for bus in site_file.buses) or "none: the file has no buses"
    refuse(f"got bus {code!r}, expected one of {known}")


def _profile(site_file: SiteFile, name: str) -> Profile:
    from devices.profile_library import shipped_profile, shipped_profile_names

    for slaves in site_file.slaves.values():
        for slave in slaves:
            if slave.profile.name == name:
                return slave.profile
    if name not in shipped_profile_names():
        hint = nearest(name, shipped_profile_names())
        refuse(f"got profile {name!r}, expected one that greenhouse profiles lists ({hint}?)")
    return shipped_profile(name)


def _on_the_bus(work: Coroutine[None, None, T]) -> T:
    """Run *work*; say in one line why the bus could not be asked."""
    from ingest.collector import IngestError

    try:
        return asyncio.run(work)
    except ValueError as error:  # a request that no device could be asked
        refuse(str(error))
    except IngestError as error:
        click.echo(f"the bus: {error}", err=True)
        sys.exit(UNDONE)


@main.command()
def profiles() -> None:
    """List the register profiles that are shipped, with what each reads."""
    from devices.profile_library import shipped_profile, shipped_profile_names

    for name in shipped_profile_names():
        profile = shipped_profile(name)
        click.echo(f"{name}  {profile.maker} {profile.model}: {profile.name_zh}, {profile.name_en}")
        keys = ", ".join(point.key for point in profile.series())
        click.echo(f"    {keys}")
        for _, caveat in profile.caveats:
            click.echo(f"    note: {caveat}")
