"""MQTT to TimescaleDB, end to end, against the raw binary COPY of the same rows in the same run.

Real mosquitto, real TimescaleDB, the service in its own process.  Three measurements:

* drain: the broker holds a full queue for the collector, as after an outage; from the first message
  to the last row.  The broker, the database and the service share the machine, nobody else does.
* live: a load process publishes as fast as the broker takes it, on the same machine.
* latency: 1,000 readings a second; from the time of publishing (the reading's own) to the moment at
  which a query sees the row.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg

from devices.reading import Batch
from firmware_sims.load import Load, site_file_text
from storage.migrate import migrate
from storage.pool import connect, hardened
from storage.readings import copy_readings
from tests.rig.backend import find_backend
from tests.rig.broker import Broker
from tests.rig.database import create_database, drop_database
from tests.rig.place import own_name
from tests.rig.process import free_port
from tests.rig.service import ServiceProcess

ROOT = Path(__file__).resolve().parents[2]

_BROKER = (
    "log_type none",  # the rig logs every packet
    "log_type information",
    "max_inflight_messages 65535",
    "max_queued_messages 5000000",
    "max_packet_size 65536",
)
_COPY_ROWS = 20_000


def say(text: str) -> None:
    """Tell progress; figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def private_broker() -> Iterator[Broker]:
    """Run a mosquitto with room for the whole load."""
    backend = find_backend()
    if backend is None:
        raise SystemExit("bench: no services here; see scripts/services")
    port = free_port()
    place = backend.make_place("broker", own_name(port), port)
    broker = Broker(backend, place, port, _BROKER)
    try:
        broker.start()
        yield broker
    finally:
        place.remove()


@contextlib.contextmanager
def fresh_database() -> Iterator[str]:
    """Make an empty database on the shared TimescaleDB."""
    server = os.environ["GREENHOUSE_TEST_DSN"]
    name = f"bench_{os.getpid()}_{time.monotonic_ns()}"
    create_database(server, name)
    try:
        yield re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", server)
    finally:
        drop_database(server, name)


def run_load(load: Load, *options: str) -> subprocess.Popen[str]:
    """Start the load in a process of its own."""
    arguments = {
        "port": load.port,
        "messages": load.messages,
        "devices": load.devices,
        "readings": load.readings,
        "rate": load.rate,
    }
    words = [f"--{name}={value}" for name, value in arguments.items()]
    command = [sys.executable, "-m", "firmware_sims.load", *words, *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> None:
    """Wait for a load, and fail when it failed."""
    out, _ = process.communicate(timeout=600)
    say(f"    load: {out.strip()}")
    if process.returncode:
        raise SystemExit("bench: the load failed")


def written(service: ServiceProcess) -> tuple[float, float]:
    """Return how many arrivals were received and how many rows are in the database."""
    found = service.metrics()
    rows = sum(
        value
        for name, value in found.items()
        if "readings_written" in name or "readings_duplicate" in name
    )
    received = sum(value for name, value in found.items() if "arrivals_received" in name)
    return received, rows


def time_until_written(service: ServiceProcess, rows: int, timeout_s: float = 300.0) -> float:
    """Return the seconds from before the first arrival to after the last row."""
    deadline = time.monotonic() + timeout_s
    began = time.monotonic()
    while time.monotonic() < deadline:
        before = time.monotonic()
        received, done = written(service)
        if not received:
            began = before
        if done >= rows:
            return time.monotonic() - began
        time.sleep(0.02)
    raise SystemExit(f"bench: {done:.0f} of {rows} rows after {timeout_s} s\n{service.log()}")


def peak_mb(service: ServiceProcess) -> float:
    """Return the highest resident memory that the service ever had."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) / 1000 if match else float("nan")


def cpu_s(service: ServiceProcess) -> float:
    """Return the processor time that the service has used."""
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_drain(folder: Path, messages: int, readings: int) -> dict[str, float]:
    """Let the service take a queue that the broker has filled for it."""
    with private_broker() as broker, fresh_database() as dsn:
        load = Load(broker.host, broker.port, messages, readings=readings)
        text = site_file_text(load, broker.host, broker.port)
        with ServiceProcess(folder, dsn, text) as service:
            service.start_ready()
            service.stop()
            finished(run_load(load))
            service.start_ready_soon()
            seconds = time_until_written(service, messages * readings)
            figures = {
                "messages_per_s": messages / seconds,
                "readings_per_s": messages * readings / seconds,
                "peak_mb": peak_mb(service),
                "cpu_us_per_message": cpu_s(service) / messages * 1e6,
            }
            service.stop()
        figures["copy_rows_per_s"] = asyncio.run(copy_rate(dsn))
        return figures


async def copy_rate(dsn: str) -> float:
    """Return rows/s of binary COPY alone, of the very rows that were ingested, into their table.

    The rows are read back, the table emptied, and the COPY repeated in batches like the service's.
    """
    await migrate(dsn)
    connection = await connect(hardened(dsn, "bench", statement_timeout_s=0))
    async with connection:
        cursor = await connection.execute(
            "SELECT series_id, extract(epoch FROM observed_at) * 1000000,"
            " extract(epoch FROM received_at) * 1000000, value, quality FROM readings"
            " ORDER BY received_at, observed_at, series_id"
        )
        rows = await cursor.fetchall()
        columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
        batch = Batch(
            columns[0].astype(np.int32),
            columns[1].astype(np.int64),
            columns[2].astype(np.int64),
            columns[3],
            columns[4].astype(np.int32),
        )
        parts = [
            batch.take(slice(at, at + _COPY_ROWS)).sorted_unique()[0]
            for at in range(0, len(batch), _COPY_ROWS)
        ]
        await connection.commit()
        rates = []
        for _ in range(2):
            await connection.execute("TRUNCATE readings")
            await connection.commit()
            started = time.perf_counter()
            for part in parts:
                await copy_readings(connection, part)
                await connection.commit()
            rates.append(len(batch) / (time.perf_counter() - started))
        return statistics.mean(rates)


def measure_live(folder: Path, messages: int) -> dict[str, float]:
    """Publish and ingest at the same time."""
    with private_broker() as broker, fresh_database() as dsn:
        load = Load(broker.host, broker.port, messages)
        text = site_file_text(load, broker.host, broker.port)
        with ServiceProcess(folder, dsn, text) as service:
            service.start_ready()
            process = run_load(load)
            seconds = time_until_written(service, messages * load.readings)
            finished(process)
            return {
                "live_messages_per_s": messages / seconds,
                "live_readings_per_s": messages * load.readings / seconds,
                "live_peak_mb": peak_mb(service),
            }


def measure_latency(folder: Path, seconds: int) -> dict[str, float]:
    """Publish 250 messages of four readings a second and look when each can be queried."""
    with private_broker() as broker, fresh_database() as dsn:
        load = Load(broker.host, broker.port, 250 * seconds, rate=250.0)
        text = site_file_text(load, broker.host, broker.port)
        with ServiceProcess(folder, dsn, text) as service, psycopg.connect(dsn) as watcher:
            watcher.autocommit = True
            service.start_ready()
            process = run_load(load, "--live")
            delays = watch(watcher, load.messages * load.readings, seconds + 60)
            finished(process)
        delays.sort()

        def at(share: float) -> float:
            return delays[min(len(delays) - 1, int(share * len(delays)))]

        return {
            "p50_ms": at(0.50),
            "p95_ms": at(0.95),
            "p99_ms": at(0.99),
            "latency_readings_per_s": 1000.0,
        }


def watch(watcher: psycopg.Connection, rows: int, timeout_s: float) -> list[float]:
    """Return for each row the milliseconds from its own time to when a query first saw it."""
    delays: list[float] = []
    seen: set[tuple[int, int]] = set()
    deadline = time.monotonic() + timeout_s
    while len(delays) < rows and time.monotonic() < deadline:
        found = watcher.execute(
            "SELECT series_id, (extract(epoch FROM observed_at) * 1000)::bigint FROM readings"
            " WHERE observed_at > now() - interval '3 seconds'"
        ).fetchall()
        now_ms = time.time() * 1000
        for key in found:
            if key not in seen:
                seen.add(key)
                delays.append(now_ms - key[1])
        time.sleep(0.005)
    return delays


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--seconds", type=int, default=20, help="of the latency run")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="greenhouse-bench-") as name:
        folder = Path(name)
        say("draining a full queue, four readings a message ...")
        figures |= measure_drain(folder / "four", arguments.messages, 4)
        figures["ratio"] = figures["readings_per_s"] / figures["copy_rows_per_s"]
        say("draining a full queue, one reading a message ...")
        single = measure_drain(folder / "single", arguments.messages, 1)
        figures["messages_per_s_single"] = single["messages_per_s"]
        figures["cpu_us_per_message_single"] = single["cpu_us_per_message"]
        say("publishing and ingesting at the same time ...")
        figures |= measure_live(folder / "live", arguments.messages // 2)
        say("latency at 1,000 readings/s ...")
        figures |= measure_latency(folder / "latency", arguments.seconds)
        figures["peak_mb"] = max(figures["peak_mb"], single["peak_mb"], figures["live_peak_mb"])
    limits = {
        "ratio": ("at least", 0.5),
        "messages_per_s_single": ("at least", 50_000),
        "p99_ms": ("below", 1_000),
        "peak_mb": ("below", 300),
    }
    if arguments.json:
        print(json.dumps({key: round(value, 3) for key, value in figures.items()}))
        return
    for key, value in figures.items():
        wanted = " {} {:g}".format(*limits[key]) if key in limits else ""
        print(f"{key:28} {value:14,.2f}{wanted}")


if __name__ == "__main__":
    main()
