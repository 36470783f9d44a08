"""A spool that holds much: what is measured now comes first, and a full one promises nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import psycopg
import pytest

from firmware_sims.load import Load
from tests.system.promised import (
    ROOT,
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
