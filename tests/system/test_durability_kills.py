"""What was promised outlives a kill, an orderly stop and a second service on the same spool."""

from __future__ import annotations

import random
import time

import pytest

from firmware_sims.load import Load, read_ledger
from tests.system.promised import (
    WIDE,
    accepted,
    account,
    base,
    count,
    finish_load,
    slow_commits,
    start_load,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


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
        assert time.monotonic() - began < 10  # then Docker would kill it
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
        assert second.wait(60) == 2
        assert "another process is using it" in second.log()
