"""A load with a ledger of what the broker was given, against what the database holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg

from firmware_sims.load import Load, device_code, read_ledger, reading_value, site_file_text
from tests.rig.service import ServiceProcess

WIDE = ("max_inflight_messages 20000", "max_queued_messages 2000000")
ROOT = Path(__file__).parents[2]


def start_load(load: Load, ledger: Path) -> subprocess.Popen[str]:
    options = {
        "port": load.port,
        "messages": load.messages,
        "devices": load.devices,
        "readings": load.readings,
        "rate": load.rate,
        "start-ms": load.start_ms,
        "ledger": ledger,
    }
    command = [
        sys.executable,
        "-m",
        "firmware_sims.load",
        *(f"--{k}={v}" for k, v in options.items()),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finish_load(process: subprocess.Popen[str], timeout_s: float = 200) -> None:
    out, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, out


def stored(dsn: str) -> dict[tuple[str, str, int], float]:
    """Every row in the database, by device, quantity and moment in ms."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT s.device, s.quantity,"
            " round(extract(epoch FROM r.observed_at) * 1000)::bigint, r.value"
            " FROM readings r JOIN"
            " (SELECT series.id, devices.code AS device, series.quantity FROM series"
            "  JOIN devices ON devices.id = series.device_id) s ON s.id = r.series_id"
        ).fetchall()
    found = {(device, quantity, at_ms): value for device, quantity, at_ms, value in rows}
    assert len(found) == len(rows), "a reading stands in the database twice"
    return found


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
    return int(row[0]) if row else 0


def account(dsn: str, ledger: Path, quantities: tuple[str, ...]) -> tuple[int, int]:
    """Return (lost, altered): what the broker promised against what the database holds."""
    found = stored(dsn)
    lost = altered = 0
    for device, at_ms in read_ledger(ledger):
        for quantity in quantities:
            value = found.get((device_code(device), quantity, at_ms))
            lost += value is None
            altered += value is not None and value != reading_value(quantity, at_ms)
    return lost, altered


def slow_commits(dsn: str, seconds: float) -> None:
    """Make every statement that writes readings take *seconds* longer."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END$$"
        )
        connection.execute(
            "CREATE TRIGGER test_slow AFTER INSERT ON readings"
            " FOR EACH STATEMENT EXECUTE FUNCTION test_slow()"
        )


def accepted(service: ServiceProcess) -> float:
    """How many arrivals this process of the service has promised to keep."""
    return service.metrics().get("greenhouse_arrivals_accepted_total", 0.0)


def base(tmp_path, dsn, load, broker, **settings):
    text = site_file_text(load, broker.host, broker.port)
    return ServiceProcess(tmp_path / "service", dsn, text, **settings)
