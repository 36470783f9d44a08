"""Derived series in the catalogue, and closed to whoever posts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.quality import Quality
from devices.site_file import read_site_file
from tests.api.base import NOW_US, SITE_FILE, Base, Memory, make_base

DERIVED = "house-1-derived.vapour_pressure_deficit"


@pytest.fixture
def base() -> Base:
    area = "                area_m2: 3200\n"
    name = "name: {zh: 水汽压差, en: VPD}"
    derived = f"                derived: [{{formula: vapour_pressure_deficit, {name}}}]\n"
    text = SITE_FILE.replace(area, area + derived, 1)
    registry = read_site_file(text, "base.yaml").registry
    numbers = {code: 7 + at for at, code in enumerate(registry.series)}
    made = make_base()
    made.registry = replace(registry, series_ids=numbers)
    made.memory = Memory(made.registry)
    return made


async def test_a_derived_series_tells_formula_version_source_and_inputs(base: Base):
    async with base.client() as client:
        one = (await client.get(f"/api/v1/series/{DERIVED}")).json()
        all_ = (await client.get("/api/v1/series")).json()
        device = (await client.get("/api/v1/devices?site=house-1")).json()[-1]
    assert one["derived"] == {
        "formula": "vapour_pressure_deficit",
        "version": 1,
        "source": "FAO-56 eq. 11",
        "inputs": {
            "air_temperature": "climate-1.air_temperature",
            "relative_humidity": "climate-1.relative_humidity",
        },
        "parameters": {},
    }
    assert (one["name"]["zh"], one["unit"], one["interval_s"]) == ("水汽压差", "kPa", 10.0)
    assert [row["series"] for row in all_ if row["derived"]] == [DERIVED]
    assert (device["device"], device["transport"]) == ("house-1-derived", "derived")


async def test_it_is_read_rolled_up_and_exported_like_any_other(base: Base):
    for n in range(10):
        base.memory.put(DERIVED, NOW_US - (n + 1) * 10_000_000, 1.0, int(Quality.PROVISIONAL))
    async with base.client() as client:
        (latest,) = (await client.get(f"/api/v1/latest?series={DERIVED}")).json()
        path = f"/api/v1/series/{DERIVED}/readings?step=1h&agg=sum,count"
        (part,) = (await client.get(path)).json()["series"]
        csv = (await client.get(f"{path}&format=csv")).text
    assert (latest["value"], latest["quality"], latest["unit"]) == (1.0, "good", "kPa")
    assert latest["quality_reasons"] == ["provisional"]
    assert sum(value or 0 for value in part["sum"]) == sum(part["count"]) == 10
    assert "sum" in csv.splitlines()[0]


async def test_nobody_posts_what_is_derived(base: Base):
    body = {"device": "house-1-derived", "v": {"vapour_pressure_deficit": 0.5}}
    async with base.client() as client:
        response = await client.post("/api/v1/readings", json=body)
    assert response.status_code == 422
    assert "a device that measures" in response.text
    assert not base.inlet.arrivals
