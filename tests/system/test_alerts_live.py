"""Alerts of the whole service: told at once, never twice, through kills and outages."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from alerts.engine import Settings
from alerts.replay import replay
from alerts.rule import read_pack
from devices.quality import BAD_MASK
from storage.alerts import AlertStore, Wanted
from storage.judged import JudgedReadings
from storage.pool import Pool
from storage.registry import RegistryStore
from tests.rig.service import TOKEN, ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

S_US = 1_000_000
SITE = """
version: 1
packs: []
sites:
  - {{code: b, kind: base, sites: [{{code: h1, kind: greenhouse, crop: tomato}}]}}
broker: {{host: {host}, port: {port}, client_id: alerts-test}}
devices:
  - {{code: c, site: h1, interval: 1s, series: [{{quantity: air_temperature}}]}}
  - {{code: d, site: h1, interval: 1min, series: [{{quantity: air_temperature}}]}}
"""
PACK = """
pack: house
version: 1
layer: base
name: {en: House}
rules:
  - id: hot
    name: {en: Too hot}
    levels:
      warning: {when: air_temperature > 33 degC, for: 4s, clear: 31 degC}
      critical: {when: air_temperature > 40 degC, for: 2s}
  - id: frost
    name: {en: Frost}
    when: air_temperature < 2 degC
"""


class Sensor:
    """A device that keeps its own time and says what it is told to."""

    def __init__(self, broker: Any, device: str) -> None:
        self.topic = f"gh/h1/{device}"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"sensor-{device}", protocol=paho.MQTTv5
        )
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def say(self, at_ms: int, value: float) -> None:
        """Publish one reading, and return when the broker has it."""
        payload = json.dumps({"t": at_ms, "v": {"air_temperature": value}})
        self._client.publish(self.topic, payload, qos=1).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class House:
    """The service with one house, and what to look at from outside."""

    def __init__(self, folder: Path, dsn: str, broker: Any) -> None:
        self.dsn = dsn
        text = SITE.format(host=broker.host, port=broker.port)
        self.service = ServiceProcess(folder / "service", dsn, text)
        packs = self.service.folder / "site.d" / "packs"
        packs.mkdir(parents=True)
        (packs / "house.yaml").write_text(PACK)
        self.sensors = [Sensor(broker, code) for code in ("c", "d")]

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        for sensor in self.sensors:
            sensor.close()
        if self.service.running:
            self.service.kill()

    def alerts(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.service.get(f"/api/v1/alerts{query}")
        return found

    def judging(self) -> bool:
        health = self.service.get_health()
        return bool(health.get("alerts", {}).get("judging")) and health["alerts"]["bindings"] > 0

    def waiting(self) -> int:
        """How many readings of long ago are about to be judged together."""
        return int(self.service.get_health()["alerts"]["waiting"])

    def judged(self) -> int:
        """How many readings were decoded, all of which the rules have heard by the next tick."""
        return int(self.service.metrics().get("greenhouse_readings_decoded_total", 0))

    def stored(self) -> int:
        try:
            with psycopg.connect(self.dsn) as connection:
                row = connection.execute("SELECT count(*) FROM readings").fetchone()
        except psycopg.Error:
            return 0
        return int(row[0]) if row else 0

    def kept(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement).fetchall()

    def history(self, alert: str) -> list[str]:
        record = self.service.get(f"/api/v1/alerts/{alert}")
        return [entry["kind"] for entry in record["history"]]


def say(figure: str) -> None:
    """Tell a measured figure (``pytest -s`` shows it)."""
    sys.stdout.write(f"{figure}\n")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _both(dsn: str, pack: str) -> tuple[list[Any], list[Any]]:
    """Return the episodes that the service kept, and those that a replay of its readings finds."""
    async with Pool(dsn) as pool:
        registry = await RegistryStore(pool).load()
        ids = list(registry.series_ids.values())
        until_us = (now_ms() + 3_600_000) * 1000
        history = await JudgedReadings(pool).span(ids, 0, until_us)
        kept = await AlertStore(pool).list(Wanted(1000))
    live = [one.alert.episode for one in kept]
    last_us = int(history.observed_at_us.max())
    found = replay(read_pack(pack, "house.yaml").rules, registry, history, last_us, Settings())
    return live, list(found)


def same_as_replay(dsn: str) -> int:
    """Assert that live and replay found the same, and return how many."""
    live, found = asyncio.run(_both(dsn, PACK))

    def key(episode: Any) -> tuple[str, str, int]:
        return episode.rule, episode.subject, episode.started_at_us

    def told(episode: Any) -> Any:
        """Return what readings did to it: that none came since depends on until when one looks."""
        return episode.before(episode.steps[-1].at_us) if episode.is_held else episode

    assert sorted(map(told, live), key=key) == sorted(map(told, found), key=key)
    return len(found)


def test_an_alert_is_told_within_a_second_of_the_reading_that_fires_it(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    with House(tmp_path, timescale_dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        sensor = house.sensors[0]
        begin = now_ms()
        # Each reading speaks for the second before it, so the fourth is the one that fires.
        for second in range(3):
            sensor.say(begin - 3000 + 1000 * second, 36.0)
        eventually(lambda: house.judged() >= 3, timeout_s=10)
        assert house.alerts() == []
        sent = time.monotonic()
        sensor.say(begin, 36.0)
        (alert,) = eventually(lambda: house.alerts("?open=true"), timeout_s=10, interval_s=0.005)
        say(f"reading to alert over HTTP: {time.monotonic() - sent:.3f} s")
        say(f"receipt to judgement: {house.service.get_health()['alerts']['lag_s']:.3f} s")
        assert (alert["rule"], alert["severity"]) == ("house.hot", "warning")
        assert house.history(alert["id"]) == ["pending", "fired"]
        # The order of events: what fired it was received before it was told, and not after.
        eventually(lambda: house.kept("SELECT id FROM alerts"), timeout_s=10)
        ((waited,),) = house.kept(
            "SELECT extract(epoch FROM e.recorded_at - r.received_at)::float8"
            " FROM alert_entries e, readings r WHERE e.kind = 'fired' AND r.observed_at = e.at"
        )
        say(f"receipt to firing in the history: {waited:.3f} s")
        assert waited >= 0
        eventually(lambda: house.kept("SELECT 1 FROM notices WHERE told = 'firing'"), timeout_s=10)
        sensor.say(begin + 1000, 30.0)
        eventually(lambda: house.history(alert["id"])[-1] == "resolved", timeout_s=10)
        # What people do is on record with their name, and read back.
        done = house.service.post(f"/api/v1/alerts/{alert['id']}/acknowledge", {"actor": "李伟"})
        assert done == 200
        eventually(
            lambda: house.kept("SELECT acknowledged_by FROM alerts") == [("李伟",)], timeout_s=10
        )
        assert same_as_replay(timescale_dsn) == 1
        metrics = house.service.metrics()
        assert metrics["greenhouse_alerts_transitions_total"] == 4
        # A process that only reads shows the same, and says who can change it.
        text = house.service.site_file.read_text("utf-8")
        with ServiceProcess(tmp_path / "reader", timescale_dsn, text) as reader:
            reader.start("--no-ingest")
            eventually(lambda: reader.health_code() == 200, timeout_s=40)
            seen = reader.get("/api/v1/alerts")
            assert [(one["id"], one["phase"]) for one in seen] == [(alert["id"], "resolved")]
            path = f"/api/v1/alerts/{alert['id']}/comment"
            assert reader.post(path, {"actor": "李伟", "note": "x"}) == 503
        assert house.service.stop() == 0


def test_a_kill_while_it_pends_and_while_it_fires_gives_one_alert_told_once(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    with House(tmp_path, timescale_dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        sensor = house.sensors[0]
        begin = now_ms() - 3000
        for second in range(3):
            sensor.say(begin + 1000 * second, 36.0)
        eventually(lambda: house.stored() == 3, timeout_s=10)
        house.service.kill()
        assert house.kept("SELECT 1 FROM alerts") == []
        sensor.say(begin + 3000, 36.0)  # while nobody listens; the broker keeps it
        house.service.start_ready()
        sensor.say(begin + 4000, 36.0)
        (alert,) = eventually(lambda: house.alerts("?open=true"), timeout_s=20)
        assert alert["started_at"] == house.alerts()[0]["started_at"]
        house.service.kill()
        sensor.say(begin + 5000, 41.0)
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        for second in (6, 7):
            sensor.say(begin + 1000 * second, 41.0)
        eventually(lambda: house.alerts("?severity=critical"), timeout_s=20)
        house.service.kill()
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        assert [one["id"] for one in house.alerts()] == [alert["id"]]
        eventually(
            lambda: house.history(alert["id"]) == ["pending", "fired", "severity"], timeout_s=10
        )
        eventually(lambda: len(house.kept("SELECT 1 FROM alert_entries")) == 3, timeout_s=10)
        told = house.kept("SELECT told, number FROM notices ORDER BY position")
        assert told == [("firing", 1), ("worse", 2)]
        ((started,),) = house.kept(
            "SELECT round(extract(epoch FROM started_at) * 1000) FROM alerts"
        )
        assert int(started) == begin
        assert same_as_replay(timescale_dsn) == 1


def test_an_outage_of_the_database_silences_nothing(tmp_path, database_server, broker, eventually):
    database, server = database_server(), broker()
    dsn = database.create_database("alerts")
    with House(tmp_path, dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        first, second = house.sensors
        first.say(now_ms(), 20.0)
        eventually(lambda: house.stored() == 1, timeout_s=10)
        database.stop("immediate")
        eventually(lambda: house.service.health_code() == 503, timeout_s=30)
        first.say(now_ms(), 1.0)
        (alert,) = eventually(lambda: house.alerts("?open=true"), timeout_s=20)
        assert alert["rule"] == "house.frost"
        assert house.service.get_health()["alerts"]["open"]["warning"] == 1
        # An action of a person is durable though the database is away.
        path = f"/api/v1/alerts/{alert['id']}/comment"
        assert house.service.post(path, {"actor": "李伟", "note": "heater is on"}) == 200
        house.service.kill()
        house.service.start_ready_soon()
        eventually(house.judging, timeout_s=40)
        (again,) = eventually(lambda: house.alerts("?open=true"), timeout_s=20)
        assert again["id"] == alert["id"]
        assert [comment["note"] for comment in again["comments"]] == ["heater is on"]
        second.say(now_ms(), 0.5)
        eventually(lambda: len(house.alerts("?open=true")) == 2, timeout_s=20)
        database.start()
        eventually(lambda: house.service.health_code() == 200, timeout_s=40)
        eventually(lambda: len(house.kept("SELECT 1 FROM alerts")) == 2, timeout_s=30)
        eventually(
            lambda: (
                house.kept(
                    "SELECT kind FROM alert_entries"
                    f" WHERE alert_id = '{alert['id']}' ORDER BY number"
                )
                == [("pending",), ("fired",), ("comment",)]
            ),
            timeout_s=20,
        )
        # Both stand in one house by one rule: one cause, told once.
        assert house.kept("SELECT told FROM notices") == [("firing",)]
        eventually(lambda: house.stored() == 3, timeout_s=20)
        assert same_as_replay(dsn) == 2


def test_what_is_stored_too_late_for_memory_is_judged_again_and_wakes_nobody(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    with House(tmp_path, timescale_dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        eventually(lambda: not house.service.get_health()["alerts"]["warming_up"], timeout_s=40)
        sensor = house.sensors[1]
        begin = now_ms() - 3_600_000
        # An hour of good readings up to now; then one minute of frost of long ago.
        for minute in range(60):
            sensor.say(begin + 60_000 * minute, 20.0)
            if minute % 15 == 14:
                eventually(lambda count=minute + 1: house.stored() == count, timeout_s=20)
                eventually(lambda: house.waiting() > 0, timeout_s=20)
                eventually(lambda: house.waiting() == 0, timeout_s=40)
        sensor.say(begin + 600_500, 1.0)
        (alert,) = eventually(lambda: house.alerts(), timeout_s=30)
        assert (alert["rule"], alert["open"]) == ("house.frost", False)
        eventually(lambda: house.kept("SELECT 1 FROM alerts"), timeout_s=10)
        record = house.service.get(f"/api/v1/alerts/{alert['id']}")
        assert [one["revised"] for one in record["history"]] == [True, True, True]
        assert house.kept("SELECT 1 FROM notices") == []
        assert house.service.metrics()["greenhouse_alerts_revisions_total"] >= 1
        assert same_as_replay(timescale_dsn) == 1


def test_a_pack_that_is_changed_is_judged_by_at_once_and_the_change_is_on_record(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker()
    with House(tmp_path, timescale_dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        sensor = house.sensors[0]
        for second in range(6):
            sensor.say(now_ms() - 6000 + 1000 * second, 30.0)
        eventually(lambda: house.stored() == 6, timeout_s=10)
        assert house.alerts() == []
        text = PACK.replace("33 degC", "25 degC").replace("31 degC", "24 degC")
        text = text.replace("version: 1", "version: 2")
        put(house.service, "/api/v1/packs/house", {"text": text, "actor": "李伟"})
        for second in range(6):
            sensor.say(now_ms() + 1000 * second, 30.0)
        (alert,) = eventually(lambda: house.alerts("?open=true"), timeout_s=20)
        assert alert["rule_version"] == 2
        changes = eventually(
            lambda: house.kept("SELECT actor, before IS NULL, after IS NULL FROM pack_changes"),
            timeout_s=10,
        )
        assert changes == [("李伟", False, False)]


def put(service: ServiceProcess, path: str, body: object) -> None:
    import urllib.request

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{service.url}{path}", headers=headers), timeout=20
    ) as answer:
        tag = answer.headers["ETag"]
    request = urllib.request.Request(
        f"{service.url}{path}",
        json.dumps(body).encode(),
        {**headers, "If-Match": tag},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status in (200, 201)


def test_a_value_that_no_air_can_have_alarms_nobody(tmp_path, timescale_dsn, broker, eventually):
    server = broker()
    with House(tmp_path, timescale_dsn, server) as house:
        house.service.start_ready()
        eventually(house.judging, timeout_s=30)
        sensor, begin = house.sensors[0], now_ms()
        for second in range(6):
            sensor.say(begin + 1000 * second, 500.0)
        eventually(lambda: house.stored() == 6, timeout_s=10)
        ((bad,),) = house.kept(f"SELECT count(*) FROM readings WHERE quality & {BAD_MASK} <> 0")
        assert bad == 6
        assert house.alerts() == []
        for second in range(6, 10):
            sensor.say(begin + 1000 * second, 36.0)
        (alert,) = eventually(lambda: house.alerts("?open=true"), timeout_s=20)
        assert alert["peak"] == 36.0
