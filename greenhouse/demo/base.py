"""The demo's site file: the shipped small base, a house on a Modbus line, and this run's ports."""

from __future__ import annotations

from firmware_sims.modbus_house import UNITS
from firmware_sims.scenario import shipped_site_file
from greenhouse.demo.broker import EmbeddedBroker
from greenhouse.demo.children import ChildError

HOST = "127.0.0.1"
_BROKER = "  host: 127.0.0.1\n  port: 1883\n"
_AFTER_THE_SITES = "\nbroker:\n"  # the tree of sites ends with the houses
_HOUSE = """\
              - code: h4
                kind: greenhouse
                name: {zh: 4号育苗温室(Modbus), en: Seedling house 4 (Modbus)}
                area_m2: 480
                crop: tomato
"""
_DEVICES = {
    "renke-rs-ws-n01": ("h4-air", "inside", "{zh: 4号温室温湿度变送器, en: Air transmitter}"),
    "aiav-co2": ("h4-co2", "inside", "{zh: 4号温室二氧化碳变送器, en: CO2 transmitter}"),
    "apogee-sq-422x": ("h4-light", "inside", "{zh: 4号温室光量子传感器, en: Quantum sensor}"),
    "zts-3000-tr-ecws-n01": ("h4-soil", "root_zone", "{zh: 4号温室土壤探头, en: Soil probe}"),
    "generic-fertigation-unit": ("h4-mixer", "inside", "{zh: 4号温室水肥机, en: Fertigation unit}"),
}
_BUS = """\

buses:
  - code: h4-line
    transport: rtu_over_tcp
    addresses: ["{host}:{port}"]
    writes: true  # off unless it says so; set-points of h4-mixer can be tried here
"""


def demo_site_text(broker: EmbeddedBroker, modbus_port: int) -> str:
    """Return the site file; raises `ChildError` when the shipped one is not what we know."""
    text = shipped_site_file("small-base")
    for line in (_BROKER, _AFTER_THE_SITES):
        if text.count(line) != 1:
            raise ChildError(f"the shipped site file should hold this once: {line.strip()}")
    own = f'  host: {HOST}\n  port: {broker.port}\n  protocol: "{broker.protocol}"\n'
    text = text.replace(_BROKER, own).replace(_AFTER_THE_SITES, _HOUSE + _AFTER_THE_SITES)
    devices = "".join(_device(unit, profile) for unit, profile in UNITS.items())
    return text.rstrip("\n") + "\n" + devices + _BUS.format(host=HOST, port=modbus_port)


def _device(unit: int, profile: str) -> str:
    code, placement, name = _DEVICES[profile]
    return (
        f"\n  - code: {code}\n    site: h4\n    name: {name}\n    transport: modbus\n"
        f"    bus: h4-line\n    unit: {unit}\n    profile: {profile}\n"
        f"    placement: {placement}\n    interval: 10s\n"
    )
