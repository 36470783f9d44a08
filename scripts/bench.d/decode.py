"""Codecs beside json.loads and msgspec on the same bytes; quality and derived series.

Each codec reads one ordinary message of its kind, over and over.  ``ratio`` is its messages/s over
those of what no decoder in Python can do without:

    text            json.loads of the same bytes (and ``ratio_msgspec``: msgspec.json.decode)
    uplinks         json.loads, then base64 of the frame, then struct over its bytes
    bare frames     base64 and struct: how a frame gets to Python, and its bytes to numbers
    CBOR, Protobuf  cbor2.loads; the parser of Google's protobuf, which is C
    registers       struct over the registers

A ratio over 1 is quicker.  None of those looks at what the bytes mean: they check no key, no unit,
no time, no range, and give no error that tells the place.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec
import numpy as np

from devices.codecs.library import CODECS
from devices.codecs.mapped import MappingCodec
from devices.codecs.registers import Poll, Read, RegisterCodec, encode_poll
from devices.codecs.sample import Codec
from devices.derived_recipe import RECIPES, Setting
from devices.derived_series import Span, Track
from devices.mapping import read_mapping
from devices.profile_library import shipped_profile
from tests.devices.codecs.sparkplug_oracle import oracle
from tests.ingest.quality.quality_speed import quality_ms

Work = Callable[[], Any]

AT_MS = 1_772_352_000_000
READINGS = 10_000
_SOIL = bytes.fromhex("01756403671901046873057FF000")  # EM500-SMTC: battery, temperature, VWC, EC
_FRAMES = {
    "cayenne": bytes.fromhex("03670110026878016501F4"),
    "milesight-em500-smtc": _SOIL,
    "dragino-lse01": bytes.fromhex("0CE90D1F06E90A3D00D710"),
    "decentlab-dl-trs12": bytes.fromhex("02018f000308f4093c037f0b99"),
    "elsys": base64.b64decode("AQBGAlMDOw/9Bw4gCwAAAAANAA8AEgA="),
    "wyres": bytes.fromhex(
        "50270c048b920a000f040203fbba06010f0302d70904045f570100f00c000000000000000000a40108"
    ),
}
_MAPPING = """
mapping: bench
time: {path: ts, format: ms}
values:
  - {path: env.t, key: t, unit: °C}
  - {path: env.rh, key: rh}
  - {path: 'soil[0].vwc', key: vwc, scale: 0.1, sentinels: [-999]}
  - {path: 'soil[0].ec', key: ec}
"""
_NAMED = """
mapping: bench
samples: records
time: {path: at, format: iso}
named: {path: values, name: n, value: v}
ignore: [rssi]
"""


@dataclass(frozen=True)
class Case:
    """One codec with a message, and what it is held against."""

    name: str
    codec: Codec
    payload: bytes
    beside: str
    other: Work
    is_text: bool = False


def _text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _gateways(name: str) -> list[dict[str, object]]:
    return [
        {
            name: f"6a7e111a1000000{n}",
            "rssi": -97 - n,
            "snr": 7.5,
            "channel": n,
            "location": {"latitude": 38.93, "longitude": 100.45, "altitude": 1482.0},
            "metadata": {"region_common_name": "CN470", "region_config_id": "cn470_10"},
        }
        for n in range(2)
    ]


def _uplinks(frame: bytes) -> dict[str, dict[str, Any]]:
    data = base64.b64encode(frame).decode()
    at = "2026-03-01T08:00:00.123456789+00:00"
    device = {"deviceName": "soil-3", "devEui": "24e124126a148401", "applicationName": "base-1"}
    sent = {"frequency": 486300000, "modulation": {"lora": {"bandwidth": 125000}}}
    return {
        "chirpstack4": {
            "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
            "time": at,
            "deviceInfo": device,
            "devAddr": "00189440",
            "dr": 5,
            "fCnt": 1143,
            "fPort": 85,
            "data": data,
            "object": {"temperature": 28.0, "moisture": 57.5},
            "rxInfo": _gateways("gatewayId"),
            "txInfo": sent,
        },
        "chirpstack3": {
            "deviceName": "soil-3",
            "devEUI": "JOEkEmoUhAE=",
            "rxInfo": _gateways("gatewayID"),
            "txInfo": sent,
            "adr": True,
            "fCnt": 1143,
            "fPort": 85,
            "data": data,
            "publishedAt": at,
        },
        "tts3": {
            "end_device_ids": {"device_id": "soil-3", "dev_eui": "24E124126A148401"},
            "received_at": at,
            "uplink_message": {
                "session_key_id": "AYfg8rhha5n+FWx0ZaAprA==",
                "f_port": 85,
                "f_cnt": 1143,
                "frm_payload": data,
                "decoded_payload": {"temperature": 28.0, "moisture": 57.5},
                "rx_metadata": _gateways("gateway_id"),
                "settings": {"data_rate": {"lora": {"bandwidth": 125000}}},
                "received_at": at,
            },
        },
        "helium": {
            "name": "soil-3",
            "devaddr": "07000048",
            "decoded": {"payload": {"temperature": 28.0}},
            "payload": data,
            "fcnt": 1143,
            "port": 85,
            "reported_at": AT_MS,
            "hotspots": _gateways("id"),
        },
    }


def _texts() -> Iterator[tuple[str, Codec, bytes]]:
    named = {"air_temperature": 21.5, "relative_humidity": 63.2, "co2": 812, "soil_moisture.2": 31}
    base = {"bn": "urn:dev:h1:", "bt": AT_MS / 1000, "n": "t", "u": "Cel", "v": 21.5}
    others = [("rh", "%RH", 63.2), ("co2", "ppm", 812), ("vwc", "%", 31)]
    records = [base, *({"n": n, "u": u, "v": v} for n, u, v in others)]
    yield "json", CODECS["json"], _text({"t": AT_MS, "v": named})
    yield "senml", CODECS["senml"], _text(records)
    tasmota = {"Time": "2026-03-01T16:00:00", "AM2301": {"Temperature": 21.5, "Humidity": 63.2}}
    yield "tasmota", CODECS["tasmota/asia-shanghai"], _text(tasmota | {"TempUnit": "C"})
    zigbee = {"temperature": 21.5, "humidity": 63.2, "soil_moisture": 31, "battery": 97}
    zigbee |= {"linkquality": 120, "last_seen": AT_MS}
    yield "zigbee2mqtt", CODECS["zigbee2mqtt"], _text(zigbee)
    plain = {"ts": AT_MS, "env": {"t": 21.5, "rh": 63.2}, "soil": [{"vwc": 310, "ec": 1.2}]}
    mapped = MappingCodec(read_mapping(_MAPPING, "bench.yaml"))
    yield "mapping", mapped, _text(plain | {"rssi": -71, "fw": "1.2.3"})
    values = [{"n": n, "v": v} for n, v in (("t", 21.5), ("rh", 63.2), ("vwc", 31), ("rssi", -71))]
    rows = [{"at": f"2026-03-01T08:0{n}:00Z", "values": values} for n in range(5)]
    listed = MappingCodec(read_mapping(_NAMED, "bench.yaml"))
    yield "mapping_of_a_list", listed, _text({"records": rows})


def cases() -> Iterator[Case]:
    """Every codec that differs from the others, with an ordinary message."""
    for name, codec, payload in _texts():
        yield Case(name, codec, payload, "json.loads", lambda p=payload: json.loads(p), True)
    for server, event in _uplinks(_SOIL).items():
        payload = _text(event)
        yield Case(
            server,
            CODECS[f"{server}/milesight-em500-smtc"],
            payload,
            "json.loads, base64, struct",
            _uplink_floor(payload, base64.b64encode(_SOIL), len(_SOIL)),
            True,
        )
    for name, frame in _FRAMES.items():
        yield Case(name, CODECS[name], frame, "base64, struct", _frame_floor(frame))
    yield from _binaries()


def _frame_floor(frame: bytes) -> Work:
    text, layout = base64.b64encode(frame), struct.Struct(f"{len(frame)}B")
    return lambda: layout.unpack(base64.b64decode(text))


def _uplink_floor(payload: bytes, text: bytes, size: int) -> Work:
    layout = struct.Struct(f"{size}B")

    def work() -> Any:
        event = json.loads(payload)
        return event, layout.unpack(base64.b64decode(text))

    return work


def _binaries() -> Iterator[Case]:
    labels = {-2: "urn:dev:h1:", -3: AT_MS / 1000, 0: "t", 1: "Cel", 2: 21.5}
    others = [("rh", "%RH", 63.2), ("co2", "ppm", 812), ("vwc", "%", 31)]
    packed = cbor2.dumps([labels, *({0: n, 1: u, 2: v} for n, u, v in others)])
    yield Case(
        "senml-cbor", CODECS["senml-cbor"], packed, "cbor2.loads", lambda: cbor2.loads(packed)
    )
    message_type = oracle()
    message = message_type(timestamp=AT_MS, seq=7)
    for name, value in (("t", 21.5), ("rh", 63.2), ("co2", 812.0), ("vwc", 31.0)):
        message.metrics.add(name=name, timestamp=AT_MS, datatype=10, double_value=value)
    born = message.SerializeToString()
    yield Case(
        "sparkplug", CODECS["sparkplug"], born, "protobuf", lambda: message_type.FromString(born)
    )
    yield Case("value", CODECS["value"], b"21.5", "float", lambda: float(b"21.5"))
    profile = shipped_profile("renke-rs-ws-n01")
    points = profile.blocks[0].points
    start, end = min(one.address for one in points), max(one.end for one in points)
    data = bytes.fromhex("0266") * (end - start)
    read = Read(points[0].function, start, end - start, AT_MS * 1000, data)
    poll = encode_poll(Poll("h4-air", profile.unit, (read,)))
    layout = struct.Struct(f">{end - start}h")
    yield Case("modbus", RegisterCodec(profile), poll, "struct", lambda: layout.unpack(data))


def rates(works: list[Work], spell_s: float) -> list[float]:
    """Return calls a second of each of *works*, the best of five spells in turns.

    In turns, and by the processor time of this process, so that others on the machine weigh little.
    """
    counts = []
    for work in works:
        work()
        began, count = time.process_time(), 0
        while time.process_time() - began < spell_s / 5:
            work()
            count += 1
        counts.append(max(count, 1))
    best = [0.0] * len(works)
    for _ in range(5):
        for index, (work, count) in enumerate(zip(works, counts, strict=True)):
            began = time.process_time()
            for _ in range(count):
                work()
            best[index] = max(best[index], count / (time.process_time() - began))
    return best


def measure(case: Case, spell_s: float) -> dict[str, Any]:
    """Return the figures of one codec."""
    decode, payload = case.codec.decode, case.payload
    samples = decode(payload)
    works: list[Work] = [lambda: decode(payload), case.other]
    if case.is_text:
        works.append(lambda: msgspec.json.decode(payload))
    ours, other, *more = rates(works, spell_s)
    figures: dict[str, Any] = {
        "messages_per_s": round(ours),
        "ratio": round(ours / other, 3),
        "beside": case.beside,
        "beside_per_s": round(other),
        "bytes": len(payload),
        "readings": sum(len(sample.values) for sample in samples),
    }
    if more:
        figures["msgspec_per_s"] = round(more[0])
        figures["ratio_msgspec"] = round(ours / more[0], 3)
    return figures


def derived_ms(repeats: int = 30) -> tuple[float, int]:
    """Return the median processor milliseconds for what derives from 10,000 readings, and how many.

    5,000 each of temperature and humidity of one house, every 10 s; every recipe that needs nothing
    else, with quality, as a span of history is made.
    """
    inputs = ("air_temperature", "relative_humidity")
    count = READINGS // len(inputs)
    at_us = AT_MS * 1000 + np.arange(count, dtype=np.int64) * 10_000_000
    turn = np.linspace(0, 20 * np.pi, count)
    quality = np.zeros(count, np.int32)
    tracks = [
        Track(at_us, 22 + 6 * np.sin(turn), quality),
        Track(at_us + 1, 65 - 20 * np.sin(turn), quality),
    ]
    followers = [
        recipe.build(Setting(inputs, (10.0, 10.0), recipe.quantity(inputs[0]), {}, "Asia/Shanghai"))
        for recipe in RECIPES.values()
        if tuple(slot.name for slot in recipe.inputs) == inputs and not recipe.parameters
    ]
    span = Span(int(at_us[0]), int(at_us[-1]) + 2)
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        made = [one.made(tracks, span, span.end_us, 0) for one in followers]
        spent.append(time.process_time() - began)
    assert all(len(one.track) >= count - 1 for one in made)
    return statistics.median(spent) * 1e3, len(followers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--spell", type=float, default=0.15, help="seconds a spell of a codec")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for case in cases():
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        figures[case.name] = measure(case, arguments.spell)
    figures["quality_ms"] = round(quality_ms(), 3)
    spent, series = derived_ms()
    figures["derived_ms"] = round(spent, 3)
    figures["derived_series"] = series
    if arguments.json:
        print(json.dumps(figures))
        return
    head = ("codec", "messages/s", "readings", "bytes", "ratio", "beside", "its/s", "msgspec/s")
    print("{:22} {:>11} {:>9} {:>6} {:>6}  {:28} {:>11} {:>10}".format(*head))
    for name, one in figures.items():
        if isinstance(one, dict):
            msgspec_per_s = f"{one['msgspec_per_s']:,}" if "msgspec_per_s" in one else ""
            print(
                f"{name:22} {one['messages_per_s']:11,} {one['readings']:9} {one['bytes']:6}"
                f" {one['ratio']:6.2f}  {one['beside']:28} {one['beside_per_s']:11,}"
                f" {msgspec_per_s:>10}".rstrip()
            )
    print(f"{'quality_ms':22} {figures['quality_ms']:11.2f} below 5, for 10,000 readings")
    print(
        f"{'derived_ms':22} {figures['derived_ms']:11.2f} below 5, for 10,000 readings"
        f" that make {series} series"
    )


if __name__ == "__main__":
    main()
