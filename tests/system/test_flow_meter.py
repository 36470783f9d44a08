"""Litres of the hour and the day from meters on a bus: round their end, through power cuts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from devices.profile import read_profile
from devices.profile_library import shipped_profile
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of
from tests.rig.service import ServiceProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SMALL = """
profile: small-meter
protocol: modbus
maker: test
model: pulse meter with a 16-bit count, 1 L a pulse
name: {zh: 小水表, en: Small meter}
sources: [{text: made for a test, evidence: M}]
blocks:
  - function: 4
    points:
      - {address: 0, type: uint16, unit: L, quantity: irrigation_volume, counter: {}}
"""
SITE = """
version: 1
sites:
  - code: h1
    kind: greenhouse
    area_m2: 100
    derived: [{{formula: irrigation_depth, inputs: {{irrigation_increase: {added}}}}}]
buses: [{{code: north, transport: tcp, addresses: ["127.0.0.1:{port}"], timeout: 200ms}}]
devices:
  - {{code: small, site: h1, transport: modbus, bus: north, unit: 1, interval: 500ms,
      profile: small-meter}}
  - {{code: large, site: h1, transport: modbus, bus: north, unit: 2, interval: 500ms,
      profile: generic-pulse-counter}}
"""
ADDED = {one: f"h1-derived.irrigation_increase.{one}" for one in ("small", "large")}


class Meter:
    """A meter that shows what flowed modulo its range; `power_cycle` begins anew."""

    def __init__(self, litres: float, wraps_at: float) -> None:
        self.flowed = 0.0
        self._shown = litres
        self._wraps_at = wraps_at

    def flow(self, litres: float) -> None:
        self.flowed += litres
        self._shown = (self._shown + litres) % self._wraps_at

    def power_cycle(self) -> None:
        self._shown = 0.0

    def truth(self, key: str, at_s: float) -> float:
        return self._shown


async def test_the_api_tells_the_litres_of_the_hour_and_the_day_that_flowed(
    tmp_path, timescale_dsn, eventually
):
    meters = {"small": Meter(65_500.0, 65_536.0), "large": Meter(10 * (2.0**32 - 5), 10 * 2.0**32)}
    profiles = [read_profile(SMALL, "small-meter.yaml"), shipped_profile("generic-pulse-counter")]
    slaves = [
        slave_of(profile, meter.truth, unit)
        for unit, (profile, meter) in enumerate(zip(profiles, meters.values(), strict=True), 1)
    ]
    folder = tmp_path / "service"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "small-meter.yaml").write_text(SMALL, "utf-8")
    async with ModbusBus(slaves, speech="tcp").listening() as port:
        text = SITE.format(port=port, added=ADDED["small"])
        with ServiceProcess(folder, timescale_dsn, text) as service:
            await asyncio.to_thread(service.start_ready)

            async def seen() -> None:
                """Wait until both meters were read as they stand, and what that adds is told."""

                async def told() -> bool:
                    # In a thread: the meters have to answer meanwhile.
                    found = await asyncio.to_thread(_litres, service, "1d")
                    return found == {code: meter.flowed for code, meter in meters.items()}

                await eventually(told, timeout_s=30, interval_s=0.2)

            async def shows(values: dict[str, float]) -> None:
                async def shown() -> bool:
                    return await asyncio.to_thread(_newest, service) == values

                await eventually(shown, timeout_s=30, interval_s=0.2)

            await shows({"small": 65_500.0, "large": 10 * (2.0**32 - 5)})
            for _ in range(10):  # round the end of both; the larger believes 50 L/s
                meters["small"].flow(10)
                meters["large"].flow(10)
                await asyncio.sleep(0.5)  # the flow's own pace
            await seen()
            for meter in meters.values():
                meter.power_cycle()
            await shows({"small": 0.0, "large": 0.0})
            await asyncio.to_thread(service.kill)
            for meter in meters.values():  # nobody hears of it until we are back
                meter.flow(40)
            await asyncio.to_thread(service.start_ready)
            await seen()
            meters["small"].flow(7)
            meters["large"].flow(10)
            await seen()
            hours = await asyncio.to_thread(_litres, service, "1h")
            catalogue = await asyncio.to_thread(
                service.get, "/api/v1/series/h1-derived.irrigation_depth"
            )
            health = await asyncio.to_thread(service.get_health)
            log = service.log()
    derived = health["derivations"]
    assert derived["series"] == len(ADDED) + 1  # what each added, and the depth
    assert (derived["lost"], derived["reason"], derived["failures"]) == ([], "", 0)
    assert derived["made"] > 0
    assert derived["lag_s"] < 30
    assert abs(derived["ran_us"] / 1e6 - datetime.now(UTC).timestamp()) < 60
    assert hours == {"small": 147.0, "large": 150.0}
    assert catalogue["derived"]["formula"] == "irrigation_depth"
    assert catalogue["derived"]["inputs"] == {"irrigation_increase": ADDED["small"]}
    assert catalogue["unit"] == "mm"
    assert "Traceback" not in log


def _newest(service: ServiceProcess) -> dict[str, float]:
    rows = service.get("/api/v1/latest?series=small.irrigation_volume,large.irrigation_volume")
    return {row["device"]: row["value"] for row in rows}


def _litres(service: ServiceProcess, step: str) -> dict[str, float]:
    """Return what the API says was added since yesterday, by meter."""
    start = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:00:00Z")
    found = {}
    for code, series in ADDED.items():
        answer = service.get(f"/api/v1/series/{series}/readings?step={step}&agg=sum&start={start}")
        found[code] = sum(value or 0.0 for value in answer["series"][0]["sum"])
    return found
