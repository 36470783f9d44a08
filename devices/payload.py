"""The names of payloads: what a site file may say of how a device's messages are read.

Names only, so that whoever reads a site file need not load a decoder.  The codec behind each name
is in `devices.codecs.library`, what it reads in docs/reference/payloads.md.
"""

from __future__ import annotations

SENML = ("senml", "senml-cbor")
MESSAGES = (
    "json",
    *SENML,
    "tasmota",
    "tasmota/asia-shanghai",
    "zigbee2mqtt",
    "value",
    "esphome",
    "sparkplug",
)
FRAMES = (
    "cayenne",
    "milesight-em300-th",
    "milesight-em300-di",
    "milesight-em500-smtc",
    "milesight-em500-co2",
    "milesight-em500-lgt",
    "milesight-em500-pp",
    "milesight-em500-swl",
    "milesight-em500-udl",
    "decentlab-dl-atm41",
    "decentlab-dl-par",
    "decentlab-dl-smtp",
    "decentlab-dl-trs12",
    "dragino-lse01",
    "dragino-lht65n",
    "elsys",
    "wyres",
)
SERVERS = ("chirpstack4", "chirpstack3", "chirpstack3-hex", "tts3", "helium")

PAYLOADS = (*MESSAGES, *FRAMES, *(f"{server}/{frame}" for server in SERVERS for frame in FRAMES))
