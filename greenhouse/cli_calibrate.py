"""``greenhouse calibrate``: lines of series and windows without measurement, entered by hand."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from devices.calibration import (
    Calibration,
    CalibrationError,
    Scope,
    Window,
    WindowKind,
    check_line,
    line_through,
)
from devices.document import nearest
from devices.duration import parse_duration_s
from greenhouse.console import UNDONE, load_settings, refuse, table, with_database

if TYPE_CHECKING:
    from devices.registry import Registry
    from storage.calibrations import CalibrationStore

T = TypeVar("T")
_ASK_EVERY_S = 0.2
_MOST_ACTOR = 120
_WHEN = "An instant with its zone (2025-01-01T08:00+08:00), or how long ago (3d)."


@click.group()
def calibrate() -> None:
    """Enter calibrations and windows without measurement; what lies in the past is corrected."""


@calibrate.command("series")
@click.argument("series")
@click.option("--from", "from_", default="0s", help=f"Since when it holds; now. {_WHEN}")
@click.option("--gain", type=float, help="value = raw x gain + offset; 1 if left out.")
@click.option("--offset", type=float, help="In the quantity's unit; 0 if left out.")
@click.option("--point", "points", multiple=True, help="A pair raw=true instead; repeatable.")
@click.option("--due", help="When the next one is due: an instant, or in how long (180d).")
@click.option("--method", default="", help="How it was done: two-point, side by side.")
@click.option("--reference", default="", help="What it was compared with: buffer 7.00, a meter.")
@click.option("--note", default="", help="Anything else worth knowing.")
@click.option("--by", help="Who did it; who is logged in, if left out.")
@click.option("--wait", default=0.0, show_default=True, help="Seconds to wait until it is done.")
def calibrate_series(
    series: str,
    from_: str,
    gain: float | None,
    offset: float | None,
    points: tuple[str, ...],
    due: str | None,
    method: str,
    reference: str,
    note: str,
    by: str | None,
    wait: float,
) -> None:
    """Put SERIES on a line from a moment on: by gain and offset, or by pairs raw=true."""
    now_us = time.time_ns() // 1000
    line = _line(gain, offset, points)
    entry = Calibration(
        series,
        _moment("--from", from_, now_us),
        *line,
        _actor(by),
        method=method,
        reference=reference,
        note=note,
        due_us=None if due is None else _due(due, now_us),
        points=tuple(_pair(one) for one in points),
    )
    if entry.due_us is not None and entry.due_us <= entry.from_us:
        refuse(f"--due: got {due!r}, expected a moment after --from")

    async def work(store: CalibrationStore, registry: Registry) -> int:
        if series not in registry.series_ids:
            hint = nearest(series, registry.series_ids)
            refuse(f"got series {series!r}, expected one that is registered ({hint or 'none'}?)")
        entered = await store.add_calibration(entry)
        return await _applied(store, entered.revision, wait)

    _done(_with_book(work), wait)
    click.echo(f"{series}: value = raw x {line[0]:.9g} + {line[1]:.9g}")


@calibrate.command("window")
@click.argument("scope", type=click.Choice([one.value for one in Scope]))
@click.argument("code")
@click.argument("kind", type=click.Choice([one.value for one in WindowKind]))
@click.option("--from", "from_", required=True, help=_WHEN)
@click.option("--to", default="0s", help=f"Its end; now. {_WHEN}")
@click.option("--reason", default="", help="What was going on.")
@click.option("--by", help="Who says so; who is logged in, if left out.")
@click.option("--wait", default=0.0, show_default=True, help="Seconds to wait until it is done.")
def window(
    scope: str, code: str, kind: str, from_: str, to: str, reason: str, by: str | None, wait: float
) -> None:
    """Say that a series, device or site CODE was not measuring for a while."""
    now_us = time.time_ns() // 1000
    start_us, end_us = _moment("--from", from_, now_us), _moment("--to", to, now_us)
    if start_us >= end_us:
        refuse(f"--to: got {to!r}, expected a moment after --from")
    entry = Window(Scope(scope), code, WindowKind(kind), start_us, end_us, _actor(by), reason)

    async def work(store: CalibrationStore, registry: Registry) -> int:
        known = {"series": registry.series, "device": registry.device, "site": registry.site}
        if code not in known[scope]:
            hint = nearest(code, known[scope])
            refuse(f"got {scope} {code!r}, expected one that is registered ({hint or 'none'}?)")
        entered = await store.add_window(entry)
        return await _applied(store, entered.revision, wait)

    _done(_with_book(work), wait)
    click.echo(f"{scope} {code}: {kind}")


@calibrate.command("list")
@click.option("--series", help="Only those of this series.")
@click.option("--overdue", is_flag=True, help="Only those whose successor is due.")
def list_calibrations(series: str | None, overdue: bool) -> None:
    """List calibrations, those in force marked with *, and windows."""
    from api.calibrations import calibration_shapes, window_shape

    async def work(store: CalibrationStore, registry: Registry) -> list[list[str]]:
        ledger = await store.ledger()
        rows = [
            [
                str(one.id),
                ("*" if one.in_force else "") + ("!" if one.overdue else ""),
                one.series,
                one.from_[:19],
                f"x {one.gain:.9g} + {one.offset:.9g}",
                (one.due or "")[:10],
                one.actor,
                "withdrawn" if one.withdrawn else one.method,
            ]
            for one in calibration_shapes(ledger, time.time_ns() // 1000)
            if series in (None, one.series) and (one.overdue or not overdue)
        ]
        if series is None and not overdue:
            rows += [
                [
                    str(one.id),
                    one.kind.value,
                    one.code,
                    one.from_[:19],
                    one.to[:19],
                    "",
                    one.actor,
                    one.reason,
                ]
                for one in (window_shape(each, ledger) for each in ledger.windows_in_force())
            ]
        return rows

    rows = _with_book(work)
    head = ("id", "", "series or code", "from", "line or end", "due", "by", "how or why")
    click.echo(table(head, rows) if rows else "nothing is entered")


def _line(gain: float | None, offset: float | None, points: tuple[str, ...]) -> tuple[float, float]:
    given = gain is not None or offset is not None
    if given == bool(points):
        refuse("got both or neither of a line and points, expected --gain/--offset or --point")
    try:
        if points:
            return line_through([_pair(one) for one in points])
        line = (1.0 if gain is None else gain, offset or 0.0)
        check_line(*line)
        return line
    except CalibrationError as error:
        refuse(str(error))


def _pair(text: str) -> tuple[float, float]:
    raw, equals, true = text.partition("=")
    try:
        if equals:
            return float(raw), float(true)
    except ValueError:
        pass
    refuse(f"--point: got {text!r}, expected raw=true, such as 6.82=7.00")


def _moment(name: str, text: str, now_us: int) -> int:
    from api.instants import moment_us

    try:
        return moment_us(text, now_us)
    except ValueError as error:
        refuse(f"{name}: got {text!r}, expected {error}")


def _due(text: str, now_us: int) -> int:
    """Return when something is due; a duration counts from now on."""
    try:
        return now_us + round(parse_duration_s(text) * 1e6)
    except ValueError:
        return _moment("--due", text, now_us)


def _actor(by: str | None) -> str:
    name = (by or getpass.getuser()).strip()
    if not 0 < len(name) <= _MOST_ACTOR or not name.isprintable():
        refuse(f"--by: got {name!r}, expected a name of 1 to {_MOST_ACTOR} characters")
    return name


async def _applied(store: CalibrationStore, revision: int, wait_s: float) -> int:
    """Return how many entries up to *revision* are not carried out when the waiting is over."""
    applied = (await store.state())[1]
    for _ in range(round(wait_s / _ASK_EVERY_S)):
        if applied >= revision:
            break
        await asyncio.sleep(_ASK_EVERY_S)
        applied = (await store.state())[1]
    return max(0, revision - applied)


def _done(left: int, wait_s: float) -> None:
    if left and wait_s:
        click.echo("entered, but not carried out yet: is the service running?", err=True)
        raise SystemExit(UNDONE)
    click.echo("entered and carried out" if not left else "entered; the service carries it out")


def _with_book(work: Callable[[CalibrationStore, Registry], Awaitable[T]]) -> T:
    from storage.calibrations import CalibrationStore
    from storage.pool import Pool
    from storage.registry import RegistryStore

    settings = load_settings()

    async def with_store() -> T:
        async with Pool(settings.dsn) as pool:
            registry = await RegistryStore(pool).load(include_retired=True)
            return await work(CalibrationStore(pool), registry)

    return with_database(with_store())
