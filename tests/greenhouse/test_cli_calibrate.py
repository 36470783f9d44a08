"""``greenhouse calibrate``: what it enters, what it refuses, what it lists."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from devices.calibration import Ledger, Scope, WindowKind
from greenhouse.cli import main
from storage.calibrations import CalibrationStore
from storage.migrate import migrate
from storage.pool import Pool
from storage.registry import RegistryStore
from tests.ingest.house import house

CODE = "h1-climate.air_temperature"


@pytest.fixture
def dsn(database_dsn: str, monkeypatch) -> str:
    async def prepare() -> None:
        await migrate(database_dsn)
        async with Pool(database_dsn) as pool:
            await RegistryStore(pool).apply(house(), {})

    asyncio.run(prepare())
    monkeypatch.setenv("GREENHOUSE_DSN", database_dsn)
    return database_dsn


def run(*arguments: str):
    return CliRunner().invoke(main, ["calibrate", *arguments])


def ledger(dsn: str) -> Ledger:
    async def read() -> Ledger:
        async with Pool(dsn) as pool:
            return await CalibrationStore(pool).ledger()

    return asyncio.run(read())


def test_a_calibration_by_points_is_entered_with_who_and_how(dsn: str):
    found = run(
        "series",
        CODE,
        "--from=2026-01-01T08:00+08:00",
        "--point=0.4=0.0",
        "--point=36.4=37.0",
        "--due=90d",
        "--by=李伟",
        "--method=two-point",
        "--reference=ice",
    )
    assert found.exit_code == 0, found.output
    (entry,) = ledger(dsn).calibrations
    assert entry.from_us == 1_767_225_600_000_000
    assert (entry.actor, entry.method, entry.reference) == ("李伟", "two-point", "ice")
    assert entry.gain * 36.4 + entry.shift == pytest.approx(37.0)
    assert entry.due_us is not None and entry.due_us > entry.from_us
    listed = run("list")
    assert CODE in listed.output and "李伟" in listed.output
    assert "nothing is entered" in run("list", "--overdue").output


def test_a_window_is_entered(dsn: str):
    found = run("window", "site", "h1", "maintenance", "--from=2h", "--by=Li", "--reason=wash")
    assert found.exit_code == 0, found.output
    (entry,) = ledger(dsn).windows
    assert (entry.scope, entry.code, entry.kind) == (Scope.SITE, "h1", WindowKind.MAINTENANCE)
    assert 7199e6 < entry.end_us - entry.start_us < 7201e6
    assert "wash" in run("list").output


def test_what_nobody_carries_out_is_told(dsn: str):
    found = run("series", CODE, "--offset=0.5", "--by=Li", "--wait=0.4")
    assert found.exit_code == 1
    assert "is the service running?" in found.output
    assert len(ledger(dsn).calibrations) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("series", "h1-climate.air_temprature", "--offset=1"), "h1-climate.air_temperature?"),
        (("series", CODE), "--gain/--offset or --point"),
        (("series", CODE, "--gain=1", "--point=1=2"), "--gain/--offset or --point"),
        (("series", CODE, "--gain=-1"), "a gain from"),
        (("series", CODE, "--point=12"), "expected raw=true"),
        (("series", CODE, "--point=1=2", "--point=1=3"), "different ones"),
        (("series", CODE, "--offset=1", "--from=2026-01-01"), "a day alone"),
        (("series", CODE, "--offset=1", "--due=2020-01-01T00:00Z"), "after --from"),
        (("window", "device", "h1-clima", "stopped", "--from=1h"), "h1-climate?"),
        (("window", "device", "h1-climate", "stopped", "--from=1h", "--to=2h"), "after --from"),
    ],
)
def test_what_cannot_be_meant_is_refused(dsn: str, arguments, told):
    found = run(*arguments, "--by=Li")
    assert found.exit_code == 2, found.output
    assert told in found.output
    assert ledger(dsn) == Ledger()
