"""Nothing that was promised is lost: the whole service in its own process, with real faults."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware_sims.load import Load, device_code, read_ledger, reading_value, site_file_text
from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

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


def base(tmp_path, dsn, load, broker, rules=True, **settings):
    text = site_file_text(load, broker.host, broker.port) + ("" if rules else "packs: []\n")
    return ServiceProcess(tmp_path / "service", dsn, text, **settings)


def test_five_kills_with_a_slow_database_lose_and_double_nothing(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker(*WIDE)
    hour_ms = 3_600_000
    begin_ms = time.time_ns() // 1_000_000 - 20 * hour_ms
    loads = [
        Load(
            server.host,
            server.port,
            10_000,
            readings=1,
            rate=5_000,
            start_ms=begin_ms + i * hour_ms,
        )
        for i in range(5)
    ]
    ledger = tmp_path / "ledger"
    chance = random.Random(7)
    with base(tmp_path, timescale_dsn, loads[0], server) as service:
        service.start_ready()
        slow_commits(timescale_dsn, 0.1)
        for load in loads:
            before = accepted(service)
            process = start_load(load, ledger)
            eventually(lambda before=before: accepted(service) > before, timeout_s=30)
            time.sleep(chance.uniform(0.0, 1.5))  # any moment is a moment to die
            service.kill()
            service.start_ready()
            finish_load(process)
        eventually(lambda: count(timescale_dsn) == 50_000, timeout_s=120, interval_s=0.5)
    assert account(timescale_dsn, ledger, ("air_temperature",)) == (0, 0)
    assert sum(1 for _ in read_ledger(ledger)) == 50_000


def test_a_minute_without_the_database_loses_nothing_and_is_drained(
    tmp_path, database_server, broker, eventually
):
    database, server = database_server(), broker(*WIDE)
    dsn = database.create_database("outage")
    ledger = tmp_path / "ledger"
    load = Load(server.host, server.port, 140_000, rate=2_000)
    # Bounded here is what waits for the database; twenty readings a second of each series, an hour
    # late, are much for rules to remember, and no base sends them.
    with base(tmp_path, dsn, load, server, rules=False) as service:
        service.start_ready()
        process = start_load(load, ledger)
        eventually(lambda: count(dsn) > 4_000, timeout_s=30)
        before_mb = service.memory_mb()
        database.stop("immediate")
        eventually(lambda: service.health_code() == 503, timeout_s=30)
        highest_mb = 0.0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            highest_mb = max(highest_mb, service.memory_mb())
            time.sleep(0.5)
        database.start()
        eventually(lambda: service.health_code() == 200, timeout_s=30)
        finish_load(process)
        rows = load.messages * load.readings
        eventually(lambda: count(dsn) == rows, timeout_s=60, interval_s=0.5)
        assert max(highest_mb, service.memory_mb()) < before_mb + 150
        assert service.get("/healthz")["spool"]["lag_s"] < 10
    assert account(dsn, ledger, ("air_temperature", "ppfd")) == (0, 0)


def test_what_is_measured_now_is_seen_while_the_backlog_drains(
    tmp_path, database_server, broker, eventually
):
    database, server = database_server(), broker(*WIDE)
    dsn = database.create_database("backlog")
    load = Load(server.host, server.port, 150_000)
    with base(tmp_path, dsn, load, server) as service:
        service.start_ready()
        slow_commits(dsn, 0.4)
        database.stop("fast")
        finish_load(start_load(load, tmp_path / "ledger"))
        eventually(lambda: accepted(service) == load.messages, timeout_s=60)
        service.kill()
        database.start()
        service.start_ready_soon()
        fresh = Load(server.host, server.port, 10, devices=10, client_id="fresh")
        options = ["--live", "--messages=10", "--devices=10", f"--port={fresh.port}"]
        command = [sys.executable, "-m", "firmware_sims.load", "--client-id=fresh", *options]
        began_ms = time.time() * 1000
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

        def fresh_is_there() -> bool:
            with psycopg.connect(dsn) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM readings WHERE observed_at >= to_timestamp(%s)",
                    (began_ms / 1000 - 0.001,),
                ).fetchone()
            return row is not None and row[0] == 40

        eventually(fresh_is_there, timeout_s=40)
        assert count(dsn) < load.messages * load.readings + 40, "the backlog was drained first"
        eventually(
            lambda: count(dsn) == load.messages * load.readings + 40, timeout_s=90, interval_s=0.5
        )


def test_a_broker_that_restarts_loses_nothing(tmp_path, timescale_dsn, broker, eventually):
    server = broker(*WIDE, persistence=True)
    load = Load(server.host, server.port, 30_000, rate=5_000)
    ledger = tmp_path / "ledger"
    with base(tmp_path, timescale_dsn, load, server) as service:
        service.start_ready()
        process = start_load(load, ledger)
        for _ in range(3):
            eventually(lambda: service.get("/healthz")["brokers"][0]["connected"], timeout_s=30)
            before = count(timescale_dsn)
            eventually(lambda before=before: count(timescale_dsn) > before, timeout_s=30)
            server.restart()
        finish_load(process)
        rows = load.messages * load.readings
        eventually(lambda: count(timescale_dsn) == rows, timeout_s=60, interval_s=0.2)
    assert account(timescale_dsn, ledger, ("co2",)) == (0, 0)


def test_a_full_spool_acknowledges_nothing_that_is_not_kept_and_recovers(
    tmp_path, database_server, broker, eventually
):
    database, server = database_server(), broker(*WIDE)
    dsn = database.create_database("full")
    load = Load(server.host, server.port, 120_000)
    ledger = tmp_path / "ledger"
    with base(tmp_path, dsn, load, server, SPOOL_MAX="10MB") as service:
        service.start_ready()
        database.stop("fast")
        finish_load(start_load(load, ledger))
        eventually(lambda: not service.get_health()["spool"]["accepting"], timeout_s=30)
        assert service.health_code() == 503
        service.kill()  # and on top of it: nothing in memory may have been promised
        database.start()
        service.start_ready()
        rows = load.messages * load.readings
        eventually(lambda: count(dsn) == rows, timeout_s=60, interval_s=0.2)
        eventually(lambda: service.get_health()["spool"]["accepting"], timeout_s=30)
    assert account(dsn, ledger, ("relative_humidity",)) == (0, 0)


def test_the_service_stops_in_order_and_leaves_nothing_unsaid(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 20_000, rate=5_000)
    ledger = tmp_path / "ledger"
    with base(tmp_path, timescale_dsn, load, server) as service:
        service.start_ready()
        process = start_load(load, ledger)
        eventually(lambda: count(timescale_dsn) > 1_000, timeout_s=30)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 5
        finish_load(process)
        service.start_ready()
        rows = load.messages * load.readings
        eventually(lambda: count(timescale_dsn) == rows, timeout_s=60, interval_s=0.2)
        log = service.log()
    assert account(timescale_dsn, ledger, ("ppfd",)) == (0, 0)
    assert "Traceback" not in log
    assert " error " not in log


def test_two_services_cannot_share_a_spool(tmp_path, timescale_dsn, broker):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 1)
    with (
        base(tmp_path, timescale_dsn, load, server) as first,
        base(tmp_path, timescale_dsn, load, server) as second,
    ):
        first.start_ready()
        second.start()
        assert second.wait() == 2
        assert "another process is using it" in second.log()


def test_readings_may_be_posted_while_the_database_is_away(
    tmp_path, database_server, broker, eventually
):
    database, server = database_server(), broker(*WIDE)
    dsn = database.create_database("posts")
    load = Load(server.host, server.port, 1, devices=1)
    with base(tmp_path, dsn, load, server) as service:
        service.start_ready()
        database.stop("fast")
        at_ms = time.time_ns() // 1_000_000
        body = {"device": "load-0000", "t": at_ms, "v": {"co2": 512.5}}
        assert service.post("/api/v1/readings", body) == 202
        service.kill()
        database.start()
        service.start_ready()
        eventually(lambda: stored(dsn) == {("load-0000", "co2", at_ms): 512.5}, timeout_s=20)


def test_dead_letters_are_read_again_after_the_site_file_was_mended(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 50, devices=5, readings=4)
    with base(tmp_path, timescale_dsn, load, server) as service:
        mended = service.site_file.read_text()
        service.site_file.write_text(mended.replace(", {quantity: co2}", ""))
        service.start_ready()
        finish_load(start_load(load, tmp_path / "ledger"))
        eventually(lambda: count(timescale_dsn) == 150, timeout_s=20)  # the rest of each message
        listed = service.command("dead-letters", "list", "--limit", "1")
        assert "E-KEY" in listed
        assert "waiting: E-KEY 50" in listed
        service.site_file.write_text(mended)
        assert "series: 5 created" in service.command("apply", str(service.site_file))
        eventually(lambda: "registry 2" in service.log(), timeout_s=20)
        assert "50 dead letters sent in again" in service.command("dead-letters", "replay")
        eventually(lambda: count(timescale_dsn) == 200, timeout_s=20)
        assert "waiting: none" in service.command("dead-letters", "list")
    assert account(timescale_dsn, tmp_path / "ledger", ("co2",)) == (0, 0)


def test_a_flood_of_nonsense_stops_nobody(tmp_path, timescale_dsn, broker, eventually):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 2_000, devices=10)
    chance = random.Random(3)
    with base(tmp_path, timescale_dsn, load, server) as service:
        service.start_ready()
        stop = threading.Event()
        flood = threading.Thread(target=_flood, args=(server.port, stop, chance))
        flood.start()
        try:
            finish_load(start_load(load, tmp_path / "ledger"))
            eventually(lambda: count(timescale_dsn) == 8_000, timeout_s=60, interval_s=0.2)
        finally:
            stop.set()
            flood.join()
        assert service.memory_mb() < 300
        metrics = service.metrics()
    assert metrics["greenhouse_dead_letters_total"] > 0
    assert account(timescale_dsn, tmp_path / "ledger", ("ppfd",)) == (0, 0)


def _flood(port: int, stop: threading.Event, chance: random.Random) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="nonsense")
    client.connect("127.0.0.1", port)
    client.loop_start()
    while not stop.is_set():
        for _ in range(20):
            payload = chance.randbytes(chance.randrange(0, 200))
            client.publish(f"gh/load/{chance.choice(['load-0001', 'nobody'])}", payload, qos=1)
        stop.wait(0.01)
    client.disconnect()
    client.loop_stop()
