"""``greenhouse derive``: make derived series anew from what is stored."""

from __future__ import annotations

import time

import click

from greenhouse.console import load_settings, refuse, with_database

_REPORT_EVERY_S = 5.0


@click.command()
@click.option("--since", required=True, help="An instant, or how long ago: 2025-01-01T00:00Z, 90d.")
@click.option("--until", help="An instant, or how long ago; now if left out.")
@click.option("--series", "chosen", multiple=True, help="Only this derived series; repeatable.")
def derive(since: str, until: str | None, chosen: tuple[str, ...]) -> None:
    """Make derived series anew, a day at a time, with the formulas of this program.

    For history from before a series was derived, and after a formula's version changed. A running
    service takes part in it, and what arrives meanwhile comes first. What was begun goes on with
    the service, or with the next call, when this is interrupted.
    """
    from api.instants import moment_us

    now_us = time.time_ns() // 1000
    ends: list[int] = []
    for name, text in (("--since", since), ("--until", until or "0s")):
        try:
            ends.append(moment_us(text, now_us))
        except ValueError as error:
            refuse(f"{name}: got {text!r}, expected {error}")
    if ends[0] >= ends[1]:
        refuse(f"--since: got {since!r}, expected a moment before the end and before now")
    done = with_database(_derived(ends[0], ends[1], chosen))
    click.echo(f"{done} series are made anew")


async def _derived(since_us: int, until_us: int, chosen: tuple[str, ...]) -> int:
    from greenhouse.derivation_keeper import DerivationKeeper
    from greenhouse.derivation_plan import DerivationPlan
    from storage.derived import DerivedStore
    from storage.pool import Pool
    from storage.registry import RegistryStore

    async with Pool(load_settings().dsn) as pool:
        registry = await RegistryStore(pool).load()
        plan = DerivationPlan(registry)
        codes = {one.series.code: number for number, one in plan.bound.items()}
        if unknown := [code for code in chosen if code not in codes]:
            refuse(f"--series: got {unknown[0]!r}, expected one of {', '.join(sorted(codes))}")
        numbers = [codes[code] for code in chosen or codes]
        store = DerivedStore(pool)
        made = {number: how for number, how in plan.unlike({}).items() if number in set(numbers)}
        await store.record(made, since_us, until_us)
        keeper = DerivationKeeper(store, lambda: registry)
        said_s = time.monotonic()
        while await store.pending(1, redo=True):
            await keeper.step()
            if time.monotonic() - said_s > _REPORT_EVERY_S:
                said_s = time.monotonic()
                left = await store.pending(100_000, redo=True)
                days = sum(
                    (last - first) / 86_400e6
                    for one in left
                    for first, last in zip(one.first_us, one.last_us, strict=True)
                )
                click.echo(f"{days:.0f} days of series are left", err=True)
        return len(numbers)
