import pytest

from devices.quantity import QUANTITIES
from tests.api.base import some_gap


async def get(base, path):
    async with base.client() as client:
        response = await client.get(f"/api/v1{path}")
    assert response.status_code == 200, response.text
    return response.json()


async def test_sites_are_a_flat_list_or_a_tree(base):
    flat = await get(base, "/sites")
    (city,) = await get(base, "/sites?tree=true")
    assert [one["code"] for one in flat][:4] == ["zhangye", "ganzhou", "base-1", "house-1"]
    assert [one["code"] for one in city["sites"]] == ["ganzhou", "westland"]
    house = city["sites"][0]["sites"][0]["sites"][0]
    assert house["name"] == {"zh": "一号温室", "en": "House 1"}
    assert (house["kind"], house["area_m2"], house["crop"]) == ("greenhouse", 3200, "tomato")
    assert (house["latitude"], house["timezone"]) == (38.9, "Asia/Shanghai")
    assert [one["code"] for one in house["sites"]] == ["house-1-north"]
    assert all(one["sites"] is None for one in flat)


async def test_a_tree_may_begin_anywhere(base):
    (base_1,) = await get(base, "/sites?tree=true&site=base-1")
    assert [one["code"] for one in base_1["sites"]] == ["house-1", "house-2"]


async def test_devices_name_their_series(base):
    devices = await get(base, "/devices?site=house-1")
    assert [one["device"] for one in devices] == ["climate-1"]
    assert devices[0]["name"] == {"zh": "气候站", "en": "Climate node"}
    assert devices[0]["series"][:2] == ["climate-1.air_temperature", "climate-1.relative_humidity"]
    assert len(await get(base, "/devices")) == 4


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 10),
        ("?site=house-1", 4),
        ("?site=house-1-north", 1),
        ("?device=station", 3),
        ("?quantity=air_temperature", 3),
        ("?quantity=air_temperature&site=ganzhou", 2),
        ("?placement=outdoor", 3),
        ("?placement=root_zone", 0),
        ("?medium=soil", 1),
        ("?medium=soil&device=station", 0),
        ("?limit=3", 3),
        ("?limit=3&offset=9", 1),
        ("?offset=50", 0),
    ],
)
async def test_series_are_those_that_all_filters_agree_on(base, query, count):
    assert len(await get(base, f"/series{query}")) == count


async def test_a_series_tells_what_is_stored_and_what_the_device_sends(base):
    one = await get(base, "/series/climate-2.air_temperature")
    assert (one["unit"], one["device_unit"], one["key"]) == ("°C", "°F", "air_temperature")
    assert (one["interval_s"], one["timezone"]) == (10.0, "Asia/Shanghai")
    channel = await get(base, "/series/climate-1.soil_moisture.north")
    assert channel["name"] == {
        "zh": "土壤体积含水率 north",
        "en": "Soil moisture (volumetric) north",
    }


async def test_the_vocabulary_is_told_with_units_names_and_limits(base):
    listed = await get(base, "/quantities")
    assert [one["quantity"] for one in listed] == list(QUANTITIES)
    (first,) = [one for one in listed if one["quantity"] == "air_temperature"]
    assert (first["unit"], first["ucum"], first["low"], first["high"]) == ("°C", "Cel", -50, 70)
    assert first["name"] == {"zh": "空气温度", "en": "Air temperature"}
    water = await get(base, "/quantities?medium=water")
    assert {one["medium"] for one in water} == {"water"}


async def test_gaps_are_told_with_their_reason(base):
    base.gaps.things.append(some_gap())
    assert await get(base, "/gaps") == [
        {
            "source": "mqtt:broker",
            "started_at": "2024-05-31T23:59:00.000Z",
            "ended_at": "2024-06-01T00:00:00.000Z",
            "reason": "session_lost",
            "text": "the broker forgot us",
        }
    ]
