"""Brokers that restart, posts, mended site files, nonsense: all that comes in is accounted for."""

from __future__ import annotations

import random
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware_sims.load import Load
from tests.system.promised import WIDE, account, base, count, finish_load, start_load, stored

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


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
