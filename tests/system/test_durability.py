"""Nothing that was promised is lost: the whole service in its own process, with real faults."""

from __future__ import annotations

import time

import pytest

from firmware_sims.load import Load
from tests.system.promised import WIDE, account, base, count, finish_load, start_load

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def test_a_minute_without_the_database_loses_nothing_and_is_drained(
    tmp_path, database_server, broker, eventually
):
    database, server = database_server(), broker(*WIDE)
    dsn = database.create_database("outage")
    ledger = tmp_path / "ledger"
    load = Load(server.host, server.port, 140_000, rate=2_000)
    with base(tmp_path, dsn, load, server) as service:
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
