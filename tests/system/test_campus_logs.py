"""Two campus logs of LoRaWAN uplinks, as their network servers delivered them, through the service.

Real broker, real database, the service in its own process.  12,614 messages of the Helium console
from one Elsys EMS on the Tour Perret and 9,786 events of ChirpStack 3 from one Wyres board on the
Saint-Eynard.  The second log is 9,418 uplinks and 368 status events (battery, link margin), which
bring no frame: these are refused as E-EVENT and kept.  What the logs hold that a collector stumbles
over:

* 1,983 of the first are frames that came before: sold by several hotspots, held by one for half an
  hour, delivered again after a silence of 48 days.  A frame is one measurement, at its first time.
* the device joined again, and its counter began anew: 992 counters name two frames.
* one frame of the second came twice, 10 ms apart.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.firmware_sims.measured import data_folder
from tests.rig.service import ServiceProcess

TOWER = "tourperret_ems_helium_2023.ndjson.gz"
MOUNTAIN = "sainteynard_32_chirpstack_v3.ndjson.gz"

pytestmark = [
    pytest.mark.system,
    pytest.mark.realdata,
    pytest.mark.timeout(300),
]

SITE = """
version: 1
sites:
  - {code: tower, kind: base, timezone: Europe/Paris}
  - {code: mountain, kind: base, timezone: Europe/Paris}
broker:
  host: 127.0.0.1
  port: PORT
  topics: ["helium/{device}/rx", "application/{app}/device/{device}/event/+"]
packs: []
devices:
  - code: ems
    site: tower
    interval: 30min
    address: A81758FFFE04B1C1
    payload: helium/elsys
    placement: outdoor
    max_age: 36500d
    ignore: [x, y, z, accMotion, digital, pulseAbs, waterleak]
    series:
      - {quantity: air_temperature, key: temperature}
      - {quantity: relative_humidity, key: humidity}
      - {quantity: battery_voltage, key: vdd, unit: mV}
  - code: board
    site: mountain
    interval: 1h
    address: d1d1e80000000032
    payload: chirpstack3-hex/wyres
    placement: outdoor
    max_age: 36500d
    series:
      - {quantity: air_temperature, key: temperature}
      - {quantity: air_pressure, key: pressure, unit: hPa}
      - {quantity: illuminance, key: light}
      - {quantity: battery_voltage, key: battery}
"""
# Series -> the name in the logged decoding, and how many of its units are one of ours.
LOGGED = {
    "ems.air_temperature": ("temperature", 1),
    "ems.relative_humidity": ("humidity", 1),
    "ems.battery_voltage": ("vdd", 1000),
    "board.air_temperature": ("temperature", 1),
    "board.air_pressure": ("pressure", 10),
    "board.illuminance": ("light", 1),
    "board.battery_voltage": ("battery", 1),
}


def _lines(name: str) -> list[bytes]:
    with gzip.open(data_folder("lorawan-campusiot-dev") / name) as file:
        return list(file)


def _messages() -> Iterator[tuple[str, bytes, int]]:
    """Every line of both logs with its topic, and how many readings are in it.

    ChirpStack's events have their time in ``publishedAt``; the authors of the log moved it to a
    field of their own, and here it goes back.
    """
    for line in _lines(TOWER):
        one = json.loads(line)
        yield f"helium/{one['dev_eui']}/rx", line, _count("ems", one["decoded"]["payload"])
    for line in _lines(MOUNTAIN):
        event = json.loads(line)
        kind = {"application/rx": "up", "application/status": "status"}[event["_topic"]]
        topic = f"application/1/device/{event['devEUI']}/event/{kind}"
        payload = json.dumps(event | {"publishedAt": event["_date"]}).encode()
        yield topic, payload, _count("board", _logged_by_board(event) if kind == "up" else {})


def _count(device: str, values: dict[str, float]) -> int:
    names = {name for code, (name, _) in LOGGED.items() if code.startswith(f"{device}.")}
    return len(names & values.keys())


def _tower() -> Iterator[tuple[int, tuple[object, ...], dict[str, float]]]:
    """(microseconds, which frame, the logged decoding) of each message of the tower."""
    for line in _lines(TOWER):
        one = json.loads(line)
        frame = (one["devaddr"], one["fcnt"], one["payload"])
        yield one["reported_at"] * 1000, frame, one["decoded"]["payload"]


def _mountain() -> Iterator[tuple[int, tuple[int, str], dict[str, float]]]:
    for line in _lines(MOUNTAIN):
        one = json.loads(line)
        if "object" in one:
            at = datetime.fromisoformat(one["_date"])
            frame = (one["fCnt"], one["data"])
            yield round(at.timestamp() * 1000) * 1000, frame, _logged_by_board(one)


def _logged_by_board(event: dict[str, Any]) -> dict[str, float]:
    values = dict(event["object"])
    if _has_dark_light(bytes.fromhex(event["data"])):
        values.setdefault("light", 0)  # the log leaves out what is zero
    return values


def _has_dark_light(frame: bytes) -> bool:
    """Whether the board's frame (type, length, value from byte 2 on) says that it is dark."""
    at = 2
    while at < len(frame):
        kind, length = frame[at], frame[at + 1]
        if kind == 0x06 and not any(frame[at + 2 : at + 2 + length]):
            return True
        at += 2 + length
    return False


def _expected() -> dict[str, dict[int, float]]:
    """Series -> microseconds -> value, each frame once, at the first time that it came with."""
    found: dict[str, dict[int, float]] = {code: {} for code in LOGGED}
    for device, log in (("ems", _tower()), ("board", _mountain())):
        seen = set()
        for at_us, frame, values in log:
            if frame in seen:
                continue
            seen.add(frame)
            for code, (name, per_unit) in LOGGED.items():
                if code.startswith(f"{device}.") and name in values:
                    found[code][at_us] = values[name] / per_unit
    return found


def _stored(dsn: str) -> dict[str, dict[int, float]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT d.code || '.' || s.quantity,"
            " (extract(epoch FROM r.observed_at) * 1000000)::bigint, r.value"
            " FROM readings r JOIN series s ON s.id = r.series_id"
            " JOIN devices d ON d.id = s.device_id WHERE d.code IN ('ems', 'board')"
        ).fetchall()
    found: dict[str, dict[int, float]] = {}
    for code, at_us, value in rows:
        found.setdefault(code, {})[at_us] = value
    return found


def _deliver(server, service, eventually, messages) -> int:
    """Publish in order, QoS 1, a thousand at a time, and wait until each thousand is stored.

    Nine months in half a minute is no stream that a service keeps up with, and while it drains a
    backlog beside what is fresh, frames do not come in their order.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="network-servers")
    client.max_inflight_messages_set(1000)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(server.host, server.port)
    client.loop_start()
    try:
        assert connected.wait(20)
        for start in range(0, len(messages), 1000):
            part = messages[start : start + 1000]
            stored = _stored_so_far(service) + sum(count for _, _, count in part)
            for topic, payload, _ in part:
                client.publish(topic, payload, qos=1)
            eventually(lambda until=stored: _stored_so_far(service) >= until, timeout_s=60)
    finally:
        client.disconnect()
        client.loop_stop()
    return len(messages)


def _is_same(one: tuple[str, bytes, int], other: tuple[str, bytes, int]) -> bool:
    """Whether two messages of the tower are one frame."""
    first, second = json.loads(one[1]), json.loads(other[1])
    return all(first[key] == second[key] for key in ("devaddr", "fcnt", "payload"))


def _stored_so_far(service: ServiceProcess) -> float:
    """How many readings were stored, those that were there already included."""
    words = ("readings_written", "readings_duplicate")
    metrics = service.metrics()
    return sum(value for name, value in metrics.items() if any(word in name for word in words))


def test_every_frame_of_two_campus_logs_is_stored_once_with_its_logged_values(
    tmp_path, timescale_dsn, broker, eventually
):
    server = broker("max_inflight_messages 1000", "max_queued_messages 100000")
    expected = _expected()
    assert len(expected["ems.air_temperature"]) == 10_629  # 12,614 - 1,983 - 2 without values
    with ServiceProcess(
        tmp_path / "service", timescale_dsn, SITE.replace("PORT", str(server.port))
    ) as service:
        service.start_ready()
        messages = list(_messages())
        # A restart in the middle of a frame's repeats.
        middle = next(n for n in range(6_000, 12_000) if _is_same(messages[n - 1], messages[n]))
        delivered = _deliver(server, service, eventually, messages[:middle])
        assert service.stop() == 0
        service.start_ready()
        delivered += _deliver(server, service, eventually, messages[middle:])
        assert delivered == 12_614 + 9_786
        _check(_stored(timescale_dsn), expected)
        # All of the tower again, as a network server that was restored from yesterday's copy.
        again = [message for message in messages if message[0].startswith("helium/")]
        _deliver(server, service, eventually, again)
        _check(_stored(timescale_dsn), expected)
        eventually(lambda: _letters(timescale_dsn) == {"E-EVENT": 368}, timeout_s=20)
        assert "Traceback" not in service.log()


def _letters(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT code, count(*) FROM dead_letters GROUP BY code")
        return dict(rows.fetchall())


def _check(stored: dict[str, dict[int, float]], expected: dict[str, dict[int, float]]) -> None:
    assert stored.keys() == expected.keys()
    for code, values in expected.items():
        assert stored[code].keys() == values.keys(), code
        for at_us, value in values.items():
            assert stored[code][at_us] == pytest.approx(value, rel=1e-12, abs=1e-12), (code, at_us)


def test_the_logs_hold_what_the_test_above_is_about():
    tower = [frame for _, frame, _ in _tower()]
    assert (len(tower), len(set(tower))) == (12_614, 10_631)
    sessions: dict[object, set[object]] = {}
    for address, counter, _ in tower:
        sessions.setdefault(counter, set()).add(address)
    assert sum(len(addresses) == 2 for addresses in sessions.values()) == 992
    mountain = [frame for _, frame, _ in _mountain()]
    assert (len(_lines(MOUNTAIN)), len(mountain), len(set(mountain))) == (9_786, 9_418, 9_417)
    # A frame in hexadecimal is often base64 as well, of other bytes: the codec has to be told.
    frames = [data for _, (_, data), _ in _mountain() if len(data) % 4 == 0]
    assert frames
    assert all(base64.b64decode(one, validate=True) != bytes.fromhex(one) for one in frames)
