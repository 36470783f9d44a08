import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.health import (
    BrokerHealth,
    BusDeviceHealth,
    BusHealth,
    Condition,
    DatabaseHealth,
    DerivationHealth,
    EdgeHealth,
    Health,
    SpoolHealth,
    condition,
)
from tests.api.base import BEARER, make_base

UP = DatabaseHealth(True, "timescaledb_apache")
DOWN = DatabaseHealth(False, "", "connection refused")
SPOOL = SpoolHealth(accepting=True, lag_s=0.4, size_bytes=5000)
FULL = SpoolHealth(accepting=False, lag_s=900, size_bytes=2_000_000_000, reason="disk full")
SLOW = SpoolHealth(accepting=True, lag_s=61, size_bytes=5000)
HEARD, GONE = BrokerHealth("main", True), BrokerHealth("main", False, "connection refused")


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (Health("1", UP), Condition.OK),  # a process that only reads
        (Health("1", UP, SPOOL, (HEARD,)), Condition.OK),
        (Health("1", UP, SPOOL, (HEARD, GONE)), Condition.DEGRADED),
        (Health("1", UP, SLOW, (HEARD,)), Condition.DEGRADED),
        (Health("1", UP, SPOOL, derivations=DerivationHealth(5, lag_s=59)), Condition.OK),
        (Health("1", UP, SPOOL, derivations=DerivationHealth(5, lag_s=61)), Condition.DEGRADED),
        (Health("1", UP, SPOOL, derivations=DerivationHealth(reason="x")), Condition.DEGRADED),
        (Health("1", UP, SPOOL, derivations=DerivationHealth(lost=("a",))), Condition.DEGRADED),
        (Health("1", UP, FULL, (HEARD,)), Condition.UNAVAILABLE),
        (Health("1", DOWN, SPOOL, (HEARD,)), Condition.UNAVAILABLE),
        (Health("1", DOWN, FULL, (GONE,)), Condition.UNAVAILABLE),
    ],
)
async def test_health_is_the_worst_that_any_part_stands_for(base, health, expected):
    assert condition(health) is expected
    base.health = health
    async with base.client() as client:
        whole, ready, live = [
            await client.get(path) for path in ("/healthz", "/healthz/ready", "/healthz/live")
        ]
    status = 503 if expected is Condition.UNAVAILABLE else 200
    assert (whole.status_code, ready.status_code, live.status_code) == (status, status, 200)
    assert whole.json()["status"] == ready.json()["status"] == expected
    assert live.json() == {"status": "ok"}


async def test_health_tells_its_parts_only_to_who_may_read(base):
    base.health = Health("1.2.3", UP, SPOOL, (GONE,))
    async with base.client(headers={}) as client:
        assert (await client.get("/healthz")).json() == {"status": "degraded"}
        assert (await client.get("/healthz", headers=BEARER)).json() == {
            "status": "degraded",
            "version": "1.2.3",
            "database": {"reachable": True, "edition": "timescaledb_apache", "reason": ""},
            "spool": {"accepting": True, "lag_s": 0.4, "size_bytes": 5000, "reason": ""},
            "brokers": [{"name": "main", "connected": False, "reason": "connection refused"}],
            "buses": [],
            "edges": [],
            "alerts": None,
            "calibrations": None,
            "derivations": None,
        }


async def test_an_edge_node_that_is_away_is_told_and_counted(base):
    edges = (EdgeHealth("g/gw", True, 5), EdgeHealth("g/gw/d", False, 7, "silent"))
    base.health = Health("1.2.3", UP, SPOOL, edges=edges)
    async with base.client() as client:
        told = (await client.get("/healthz")).json()
        text = (await client.get("/metrics")).text
    assert told["status"] == "degraded"
    assert told["edges"][1] == {
        "address": "g/gw/d",
        "online": False,
        "since_us": 7,
        "reason": "silent",
    }
    assert 'greenhouse_edge_online{address="g/gw"} 1.0' in text
    assert 'greenhouse_edge_online{address="g/gw/d"} 0.0' in text


async def test_how_derived_series_follow_is_told_and_counted(base):
    derived = DerivationHealth(4000, ("h1.vpd",), "", 2.5, 3, 17, 1_700_000_000_000_000, 99, 2)
    base.health = Health("1.2.3", UP, SPOOL, derivations=derived)
    async with base.client() as client:
        told = (await client.get("/healthz")).json()
        text = (await client.get("/metrics")).text
    assert told["derivations"] == {
        "series": 4000,
        "lost": ["h1.vpd"],
        "reason": "",
        "lag_s": 2.5,
        "waiting": 3,
        "redo": 17,
        "ran_us": 1_700_000_000_000_000,
        "made": 99,
        "failures": 2,
    }
    for line in ("lost 1.0", "lag_seconds 2.5", "waiting 3.0", "redo 17.0", "failures_total 2.0"):
        assert f"greenhouse_derivations_{line}" in text


async def test_a_bus_and_a_dead_device_on_it_are_told_and_counted(base):
    devices = (BusDeviceHealth("soil-1", "up"), BusDeviceHealth("soil-2", "down", "silent"))
    bus = BusHealth("north", True, "", devices, {"requests": 12})
    base.health = Health("1.2.3", UP, SPOOL, (), (bus,))
    async with base.client() as client:
        told = (await client.get("/healthz")).json()
        text = (await client.get("/metrics")).text
    assert told["status"] == "degraded"
    assert told["buses"][0]["devices"][1] == {
        "device": "soil-2",
        "state": "down",
        "reason": "silent",
    }
    assert 'greenhouse_bus_device_up{bus="north",device="soil-2"} 0.0' in text
    assert 'greenhouse_bus_device_up{bus="north",device="soil-1"} 1.0' in text
    assert 'greenhouse_bus_events_total{bus="north",event="requests"} 12.0' in text


async def test_metrics_hold_counters_state_requests_and_process():
    base = make_base()
    base.health = Health("1.2.3", UP, SPOOL, (GONE,))
    base.counters.arrivals_accepted["http"] = 7
    base.counters.dead_letters["E-JSON"] = 2
    base.counters.readings_written = 1234
    app = base.app()
    async with base.client(app=app) as client:
        for path in ("/api/v1/series/climate-1.co2", "/api/v1/series/nope", "/nowhere", "/"):
            await client.get(path)
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(response.text)
        for one in family.samples
    }
    assert samples["greenhouse_arrivals_accepted_total", (("source", "http"),)] == 7
    assert samples["greenhouse_dead_letters_total", (("code", "E-JSON"),)] == 2
    assert samples["greenhouse_readings_written_total", ()] == 1234
    assert samples["greenhouse_database_up", ()] == 1
    assert samples["greenhouse_spool_lag_seconds", ()] == 0.4
    assert samples["greenhouse_broker_connected", (("broker", "main"),)] == 0
    assert samples["process_resident_memory_bytes", ()] > 0

    def requests(route, status):
        labels = (("method", "GET"), ("route", route), ("status", status))
        return samples["greenhouse_http_requests_total", labels]

    assert requests("/api/v1/series/{series}", "200") == 1
    assert requests("/api/v1/series/{series}", "404") == 1
    assert requests("unmatched", "404") == 1
    assert requests("/", "200") == 1
    # the name of a series must not become a metric of its own
    assert "climate-1" not in response.text


async def test_every_answer_carries_an_id_and_the_security_headers(base):
    ids = set()
    async with base.client() as client:
        for path in ("/", "/api/v1/sites", "/api/v1/nope", "/%00", "/healthz", "/metrics"):
            headers = (await client.get(path)).headers
            ids.add(headers["x-request-id"])
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
    assert len(ids) == 6


async def test_another_origin_is_never_allowed(base):
    headers = BEARER | {"Origin": "https://evil.example"}
    asked = headers | {"Access-Control-Request-Method": "POST"}
    async with base.client(headers=headers) as client:
        preflight = await client.options("/api/v1/readings", headers=asked)
        response = await client.get("/api/v1/sites")
    assert preflight.status_code == 405
    for answer in (preflight, response):
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_large_answers_are_compressed_where_that_is_wanted(base):
    async with base.client() as client:
        plain = await client.get("/api/v1/quantities", headers={"Accept-Encoding": "identity"})
        small = await client.get("/api/v1/quantities", headers={"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert small.json() == plain.json()
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 3


async def test_no_token_is_ever_logged(base, caplog):
    caplog.set_level(logging.DEBUG)
    base.memory.away = True
    async with base.client() as client:
        await client.get("/api/v1/latest")
        await client.get("/api/v1/latest", headers={"Authorization": "Bearer secret-guess"})
    assert "a-long-and-random-token" not in caplog.text
    assert "secret-guess" not in caplog.text


async def test_the_reference_page_is_served_only_where_it_is_wanted(base):
    async with base.client() as client:
        assert (await client.get("/docs")).status_code == 404
    wanted = make_base(docs=True)
    async with wanted.client() as client:
        response = await client.get("/docs")
        assert response.status_code == 200
        assert "/api/v1/series/{series}/readings" in response.text
        assert "http://" not in response.text
        assert "https://" not in response.text
        assert (await client.get("/docs", headers={"Authorization": ""})).status_code == 401


async def test_without_the_page_there_is_none():
    bare = make_base(page=False)
    async with bare.client() as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.get("/api/v1/sites")).status_code == 200
