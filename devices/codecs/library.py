"""Every payload that a device may be said to send, by the name that the site file gives it.

A name is what brings the values (``json``, ``senml``, ``tasmota``) or, for LoRaWAN, the device's
frame (``milesight-em500-smtc``) behind the network server that passes it on
(``chirpstack4/milesight-em500-smtc``).  The bare name of a frame is for a gateway that publishes
the bytes as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from zoneinfo import ZoneInfo

from devices.codecs.cayenne import CayenneCodec
from devices.codecs.chirpstack import ChirpStack3Codec, ChirpStack4Codec
from devices.codecs.helium import HeliumCodec
from devices.codecs.json import JsonCodec
from devices.codecs.lorawan import decentlab, milesight
from devices.codecs.lorawan.dragino import DraginoLht65nCodec, DraginoLse01Codec
from devices.codecs.lorawan.elsys import ElsysCodec
from devices.codecs.lorawan.frame import DeviceFrame
from devices.codecs.lorawan.wyres import WyresCodec
from devices.codecs.sample import Codec
from devices.codecs.senml import SenmlCborCodec, SenmlCodec
from devices.codecs.sparkplug import SparkplugCodec
from devices.codecs.tasmota import TasmotaCodec
from devices.codecs.tts import TheThingsStack3Codec
from devices.codecs.uplink import Encoding
from devices.codecs.value import ValueCodec
from devices.codecs.zigbee2mqtt import Zigbee2MqttCodec

_SERVERS: Mapping[str, Callable[[DeviceFrame], Codec]] = {
    "chirpstack4": ChirpStack4Codec,
    "chirpstack3": ChirpStack3Codec,
    "chirpstack3-hex": partial(ChirpStack3Codec, encoding=Encoding.HEX),
    "tts3": TheThingsStack3Codec,
    "helium": HeliumCodec,
}


def _frames() -> dict[str, DeviceFrame]:
    frames: dict[str, DeviceFrame] = {"cayenne": CayenneCodec()}
    for model in milesight.MODELS:
        frames[f"milesight-{model}"] = milesight.MilesightCodec(model)
    for model in decentlab.MODELS:
        frames[f"decentlab-{model}"] = decentlab.DecentlabCodec(model)
    frames["dragino-lse01"] = DraginoLse01Codec()
    frames["dragino-lht65n"] = DraginoLht65nCodec()
    frames["elsys"] = ElsysCodec()
    frames["wyres"] = WyresCodec()
    return frames


def _codecs() -> dict[str, Codec]:
    codecs: dict[str, Codec] = {
        "json": JsonCodec(),
        "senml": SenmlCodec(),
        "senml-cbor": SenmlCborCodec(),
        "tasmota": TasmotaCodec(),
        "tasmota/asia-shanghai": TasmotaCodec(ZoneInfo("Asia/Shanghai")),
        "zigbee2mqtt": Zigbee2MqttCodec(),
        "value": ValueCodec(),
        "esphome": ValueCodec(),  # its topics say what a value is
        "sparkplug": SparkplugCodec(),
    }
    frames = _frames()
    codecs |= frames
    for server, envelope in _SERVERS.items():
        codecs |= {f"{server}/{name}": envelope(frame) for name, frame in frames.items()}
    return codecs


CODECS: Mapping[str, Codec] = MappingProxyType(_codecs())
"""Payload name -> codec, ``json`` first."""
