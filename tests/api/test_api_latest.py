import math

import pytest

from api.schemas import LatestShape
from devices.quality import Quality
from tests.api.base import MINUTE_US, NOW_US

TEMPERATURE = "climate-1.air_temperature"


async def latest(base, **query):
    async with base.client() as client:
        response = await client.get("/api/v1/latest", params=query)
    assert response.status_code == 200, response.text
    rows = response.json()
    for row in rows:
        LatestShape.model_validate(row)  # what the description promises, no field more or less
        assert set(row) == set(LatestShape.model_fields)
    return rows


async def test_the_newest_reading_is_told_with_its_age_and_quality(base):
    base.memory.put(TEMPERATURE, NOW_US - 9_000_000, 20.0)
    base.memory.put(TEMPERATURE, NOW_US - 4_500_000, 21.5, int(Quality.STEP | Quality.SIMULATED))
    (row,) = await latest(base)
    assert row == {
        "series": TEMPERATURE,
        "name": {"zh": "空气温度", "en": "Air temperature"},
        "device": "climate-1",
        "quantity": "air_temperature",
        "channel": "",
        "site": "house-1",
        "site_name": {"zh": "一号温室", "en": "House 1"},
        "placement": "inside",
        "medium": "air",
        "observed_at": "2024-05-31T23:59:55.500Z",
        "received_at": "2024-05-31T23:59:55.700Z",
        "age_s": 4.5,
        "value": 21.5,
        "unit": "°C",
        "quality": "suspect",
        "quality_bits": int(Quality.STEP | Quality.SIMULATED),
        "quality_reasons": ["step", "simulated"],
        "stale": False,
        "interval_s": 10.0,
    }


@pytest.mark.parametrize(
    ("age_s", "stale"),
    [(0, False), (30, False), (30.000001, True), (3600, True), (-200, False)],
)
async def test_a_series_is_stale_after_three_of_its_intervals(base, age_s, stale):
    base.memory.put(TEMPERATURE, NOW_US - round(age_s * 1e6), 20.0)
    (row,) = await latest(base)
    assert row["stale"] is stale
    assert row["age_s"] == round(max(0, age_s), 3)


async def test_a_series_whose_device_said_that_it_went_away_is_stale_at_once(base):
    base.memory.put(TEMPERATURE, NOW_US - 2_000_000, 20.0)
    away = int(Quality.MISSING | Quality.COMMUNICATION)
    base.memory.put(TEMPERATURE, NOW_US - 1_000_000, math.nan, away)
    (row,) = await latest(base)
    assert (row["stale"], row["value"], row["quality"]) == (True, None, "bad")
    assert row["quality_reasons"] == ["missing", "communication"]


async def test_each_series_has_an_interval_of_its_own(base):
    for code in (TEMPERATURE, "climate-1.soil_moisture.north"):  # 10 s and 5 min
        base.memory.put(code, NOW_US - 10 * MINUTE_US, 20.0)
    assert [row["stale"] for row in await latest(base)] == [True, False]


async def test_a_sensor_without_a_value_is_null_and_bad_not_zero(base):
    base.memory.put(TEMPERATURE, NOW_US, math.nan, int(Quality.MISSING))
    (row,) = await latest(base)
    assert (row["value"], row["quality"], row["stale"]) == (None, "bad", False)


async def test_a_series_never_seen_is_listed_on_demand_and_counts_as_stale(base):
    assert await latest(base) == []
    rows = await latest(base, unseen="true")
    assert len(rows) == len(base.registry.series)
    assert all(row["stale"] and row["quality"] is None for row in rows)
    assert {row[name] for row in rows for name in ("observed_at", "value", "age_s")} == {None}


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ({"site": "house-1-north"}, ["climate-1.soil_moisture.north"]),
        ({"site": "house-nl"}, ["probe-nl.air_temperature"]),
        ({"site": "base-1", "series": "station.wind_speed,probe-nl.air_temperature"},
         ["station.wind_speed"]),
        ({"series": ["station.wind_speed", "climate-1.co2"]},
         ["climate-1.co2", "station.wind_speed"]),
    ],
)  # fmt: skip
async def test_a_site_means_everything_below_it(base, query, codes):
    rows = await latest(base, unseen="true", **query)
    assert [row["series"] for row in rows] == codes


async def test_a_site_above_holds_what_is_in_its_houses_and_zones(base):
    sites = {row["site"] for row in await latest(base, unseen="true", site="ganzhou")}
    assert sites == {"house-1", "house-1-north", "house-2", "base-1"}


async def test_a_long_list_comes_in_parts_that_link_to_the_next(base):
    seen, path = [], "/api/v1/latest?unseen=true&limit=4&site=zhangye"
    async with base.client() as client:
        while path:
            response = await client.get(path)
            seen += [row["series"] for row in response.json()]
            assert response.headers["x-total-count"] == str(len(base.registry.series))
            link = response.headers.get("link", "")
            path = link.partition("<")[2].partition(">")[0]
    assert seen == list(base.registry.series)
