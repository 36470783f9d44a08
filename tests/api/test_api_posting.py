import asyncio
import json
from dataclasses import replace

import msgspec
import pytest

from devices.codecs.json import JsonCodec
from devices.codecs.sample import MAX_PAYLOAD_BYTES
from tests.api.base import BEARER, NOW_US

PATH = "/api/v1/readings"
JSON = BEARER | {"Content-Type": "application/json"}


def moment(device="climate-1", t=1717199990000, **values):
    return {"t": t, "v": values or {"air_temperature": 21.5, "CO2": None}, "device": device}


async def test_202_means_that_the_inlet_has_it_byte_for_byte(base):
    body = b' {"v" : {"air_temperature": 2.150e1}, "device":"climate-1", "fw": "1.2"}\n'
    async with base.client() as client:
        response = await client.post(PATH, content=body, headers=JSON)
    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "messages": 1, "ignored": 1}
    (arrival,) = base.inlet.arrivals
    assert (arrival.source, arrival.topic, arrival.payload) == ("http", "climate-1", body)
    assert arrival.received_at_us == NOW_US


async def test_a_list_may_hold_several_devices_and_times(base):
    posted = [moment(), moment("station", t="2024-06-01T07:59:00+08:00", wind_speed=3.1), moment()]
    async with base.client() as client:
        response = await client.post(PATH, json=posted)
    assert response.json() == {"accepted": 5, "messages": 3, "ignored": 0}
    (arrival,) = base.inlet.arrivals
    assert json.loads(arrival.payload) == posted
    assert arrival.topic == ""


async def test_a_long_post_is_cut_between_messages_into_payloads_of_ordinary_size(base):
    posted = [moment(air_temperature=one + 1 / 3) | {"note": "x" * 400} for one in range(300)]
    body = b"\xef\xbb\xbf" + json.dumps(posted, indent=1).encode()
    async with base.client() as client:
        response = await client.post(PATH, content=body, headers=JSON)
    assert response.json()["accepted"] == 300
    payloads = [arrival.payload for arrival in base.inlet.arrivals]
    assert len(payloads) == 3
    assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES
    assert [one for payload in payloads for one in json.loads(payload)] == posted
    decoded = [sample for payload in payloads for sample in JsonCodec().decode(payload)]
    assert [sample.values["air_temperature"] for sample in decoded] == [
        one + 1 / 3 for one in range(300)
    ]


async def test_a_message_larger_than_a_payload_is_refused(base):
    body = msgspec.json.encode(moment() | {"note": "x" * 70_000})
    async with base.client() as client:
        response = await client.post(PATH, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["code"] == "E-SIZE"
    assert base.inlet.arrivals == []


async def test_a_full_spool_is_503_with_the_time_to_come_back_and_no_inner_detail(base):
    base.inlet.full = True
    async with base.client() as client:
        response = await client.post(PATH, json=moment())
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["type"].endswith(":spool-full")
    assert "secret" not in response.text


async def test_a_process_that_only_reads_says_so(base):
    app = base.shared_app()
    app.state.services = replace(base.services(), inlet=None)
    async with base.client(app=app) as client:
        response = await client.post(PATH, json=moment())
    assert response.status_code == 503


async def test_posting_works_while_the_database_is_away(base):
    base.memory.away = True
    async with base.client() as client:
        assert (await client.post(PATH, json=moment())).status_code == 202


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "APPLICATION/JSON", 'application/json;charset="UTF-8"'],
)
async def test_json_may_be_announced_in_any_of_its_ways(base, kind):
    async with base.client() as client:
        response = await client.post(
            PATH, content=json.dumps(moment()), headers=BEARER | {"Content-Type": kind}
        )
    assert response.status_code == 202


async def test_a_body_that_stops_coming_ends_with_408(base):
    limits = replace(base.settings.limits, body_timeout_s=0.05)
    base.settings = replace(base.settings, limits=limits)

    async def stalled():
        yield b'{"v": '
        await asyncio.Event().wait()

    async with base.client() as client:
        response = await client.post(PATH, content=stalled(), headers=JSON)
    assert response.status_code == 408
    assert response.json()["type"].endswith(":slow-body")
