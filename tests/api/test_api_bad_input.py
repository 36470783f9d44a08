"""Whatever is sent, the answer is a problem document that says what was wrong; never a 500."""

import json
import re
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.base import BEARER, TOKEN

ONE = "/api/v1/series/climate-1.air_temperature/readings"
MANY = "/api/v1/readings"
DAY = "start=2024-05-31T00:00:00Z&end=2024-06-01T00:00:00Z"


def assert_problem(response: httpx.Response, status: int, says: str = "") -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:greenhouse:problem:")
    assert body["request_id"] == response.headers["x-request-id"]
    assert says in json.dumps(body, ensure_ascii=False)
    assert "Traceback" not in response.text
    return body


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("start=2024-01-01T00:00:00+08:00&end=2024-01-02T00:00:00Z", "encode + as %2B"),
        ("start=2024-05-31T00:00:00", "zone is missing"),
        ("end=2024-05-31T00:00:00", "zone is missing"),
        ("start=2024-05-31", "neither hour nor zone"),
        ("start=1717113600", "seconds or milliseconds"),
        ("start=1717113600000", "seconds or milliseconds"),
        ("start=", "with its zone"),
        ("start=%00", "with its zone"),
        ("start=%F0%28%8C%28", "with its zone"),  # not UTF-8
        ("start=2024-06-01T00:00:00Z&end=2024-06-01T00:00:00Z", "an end after the start"),
        ("start=2024-06-02T00:00:00Z&end=2024-06-01T00:00:00Z", "an end after the start"),
        ("start=2024-06-02T00:00:00Z", "an end after the start"),  # the end is now
        ("start=2020-01-01T00:00:00Z&end=2024-01-01T00:00:00Z", "at most 400d"),
        (f"{DAY}&step=5m", "step"),
        (f"{DAY}&step=RAW", "step"),
        (f"{DAY}&agg=median", "some of mean"),
        (f"{DAY}&agg=maen", "mean"),
        (f"{DAY}&format=xlsx", "format"),
        (f"{DAY}&time=local", "time"),
        (f"{DAY}&gaps=perhaps", "true or false"),
        (f"{DAY}&max_points=0", "max_points"),
        (f"{DAY}&max_points=-1", "max_points"),
        (f"{DAY}&max_points=abc", "a whole number"),
        (f"{DAY}&max_points=1e30", "a whole number"),
        (f"{DAY}&max_points=NaN", "a whole number"),
        (f"{DAY}&max_points=10001", "up to 10000"),
        (f"{DAY}&max_points={'9' * 5000}", "whole number"),
        (f"{DAY}&max_points=5&max_points=6", "it once"),
        (f"{DAY}&start=2024-05-30T00:00:00Z", "it once"),
        (f"{DAY}&intervall=1h", "intervall"),
        (f"{DAY}&stepp=1h", "step"),  # the nearest word
        (f"{DAY}&{'x' * 500}=1", "this parameter"),
    ],
)
@pytest.mark.parametrize("path", [f"{ONE}?", f"{MANY}?series=climate-1.air_temperature&"])
async def test_a_query_that_cannot_be_meant_is_422_with_the_reason(base, path, query, says):
    async with base.client() as client:
        body = assert_problem(await client.get(path + query), 422, says)
    assert body["errors"]
    assert all(one["where"].startswith("query.") for one in body["errors"])


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/series/a%00b", 400, "NUL"),
        ("/api/v1/series/a%00b/readings", 400, "NUL"),
        ("/%00", 400, "NUL"),
        ("/static/%00", 400, "NUL"),
        ("/api/v1/series/climate-1.air_temprature/readings", 404, "climate-1.air_temperature"),
        ("/api/v1/series/climate-1.air_temprature", 404, "climate-1.air_temperature"),
        ("/api/v1/series/no-such", 404, "no series"),
        ("/api/v1/series/%20/readings", 404, "no series"),
        ("/api/v1/series/" + "x" * 5000, 404, "no series"),
        ("/api/v1/series/%E6%B8%A9%E5%AE%A4", 404, "温室"),
        ("/api/v1/series/%F0%28%8C%28", 404, "no series"),
        ("/api/v1/series/..%2f..%2fetc%2fpasswd", 404, "Not Found"),
        ("/api/v1/series/'; drop table readings; --", 404, "no series"),
        ("/api/v1/nothing", 404, "Not Found"),
        ("/api/v2/latest", 404, "Not Found"),
        ("/api/v1/latest/", 404, "Not Found"),
        ("/docs", 404, "Not Found"),
        ("/openapi.json", 404, "Not Found"),
        ("/static/../../services.py", 404, "Not Found"),
        ("/api/v1/readings", 422, "this parameter"),
        ("/api/v1/readings?series=", 422, "at least one series"),
        ("/api/v1/readings?series=,", 422, "at least one series"),
        ("/api/v1/readings?series=climate-1.co3", 422, "climate-1.co2"),
        ("/api/v1/readings?series=climate-1.co2&series=%00", 422, "a known series"),
        ("/api/v1/latest?site=hause-1", 422, "house-1"),
        ("/api/v1/latest?series=nope", 422, "a known series"),
        ("/api/v1/latest?limit=0", 422, "limit"),
        ("/api/v1/latest?limit=-1", 422, "limit"),
        ("/api/v1/latest?limit=1e30", 422, "limit"),
        ("/api/v1/latest?limit=abc", 422, "limit"),
        ("/api/v1/latest?limit=5&limit=5", 422, "it once"),
        ("/api/v1/latest?limit=1001", 422, "1000"),
        ("/api/v1/latest?offset=-1", 422, "offset"),
        ("/api/v1/latest?offset=99999999999999999999999", 422, "offset"),
        ("/api/v1/latest?unseen=maybe", 422, "true or false"),
        ("/api/v1/series?site=nowhere", 422, "a known site"),
        ("/api/v1/series?device=climat-1", 422, "climate-1"),
        ("/api/v1/series?quantity=air_temprature", 422, "air_temperature"),
        ("/api/v1/series?placement=roof", 422, "placement"),
        ("/api/v1/series?medium=fire", 422, "medium"),
        ("/api/v1/series?quantities=co2", 422, "quantity"),
        ("/api/v1/sites?site=%00", 422, "a known site"),
        ("/api/v1/sites?tree=yes-please", 422, "true or false"),
        ("/api/v1/devices?transport=mqtt", 422, "this parameter"),
        ("/api/v1/quantities?medium=fire", 422, "medium"),
        ("/api/v1/gaps?start=yesterday", 422, "with its zone"),
        ("/api/v1/dead-letters?before=abc", 422, "before"),
        ("/api/v1/dead-letters?before=%00", 422, "before"),
        ("/api/v1/dead-letters?code=%00", 422, "code"),
        ("/api/v1/dead-letters?source=%27", 422, "source"),
        ("/healthz?verbose=1", 422, "no parameters"),
        ("/metrics?name=x", 422, "no parameters"),
    ],
)
async def test_a_bad_path_or_filter_says_what_was_expected(base, path, status, says):
    async with base.client() as client:
        assert_problem(await client.get(path), status, says)


async def test_all_unknown_series_of_a_query_are_named_at_once(base):
    async with base.client() as client:
        response = await client.get("/api/v1/readings?series=a&series=climate-1.co2&series=b")
    body = assert_problem(response, 422)
    assert [one["got"] for one in body["errors"]] == ["'a'", "'b'"]


@pytest.mark.parametrize("path", [MANY, "/api/v1/latest"])
async def test_ten_thousand_series_in_one_query_are_refused(base, path):
    query = ",".join(str(number) for number in range(10_000))
    async with base.client() as client:
        assert_problem(await client.get(f"{path}?series={query}"), 422, "at most 200")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_method_that_a_route_does_not_have_is_405(base, method):
    async with base.client() as client:
        response = await client.request(method, MANY)
    assert_problem(response, 405)
    assert "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html", 406), ("image/png;q=1", 406), ("application/json;q=0", 406), ("*/*", 200),
     ("text/html, */*;q=0.1", 200), ("", 200), ("application/*", 200), ("text/csv;q=x", 406)],
)  # fmt: skip
async def test_a_form_that_nobody_can_give_is_406(base, accept, status):
    async with base.client() as client:
        response = await client.get(f"{ONE}?{DAY}", headers=BEARER | {"Accept": accept})
    assert response.status_code == status


# Bodies.

GOOD = {"t": 1717199990000, "v": {"air_temperature": 21.5}, "device": "climate-1"}
NESTED = b'{"v":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "E-EMPTY", "empty"),
        (b"   ", "E-EMPTY", "empty"),
        (b"{", "E-JSON", "byte 1"),
        (b'{"v": {"air_temperature": 1}}x', "E-JSON", "trailing data"),
        (b"null", "E-SHAPE", "null"),
        (b"[]", "E-SHAPE", "empty array"),
        (b"true", "E-SHAPE", "true"),
        (b'"21.5"', "E-SHAPE", "text"),
        (b"{}", "E-FIELD", "v: got nothing"),
        (b'{"v": {}}', "E-FIELD", "at least one reading"),
        (b'{"v": [1]}', "E-TYPE", "v: got an array"),
        (b'{"v": {"air_temperature": NaN}}', "E-NUM", "finite"),
        (b'{"v": {"air_temperature": Infinity}}', "E-NUM", "finite"),
        (b'{"v": {"air_temperature": 1e999}}', "E-NUM", "finite"),
        (b'{"v": {"air_temperature": "21.5"}}', "E-TYPE", "v.air_temperature"),
        (b'{"v": {"air_temperature": true}}', "E-TYPE", "v.air_temperature"),
        (b'{"v": {"air_temperature": 1}, "t": true}', "E-TYPE", "t: got true"),
        (b'{"v": {"air_temperature": 1}, "t": 1.5}', "E-TIME", "t: got 1.5"),
        (b'{"v": {"air_temperature": 1}, "t": "2024-05-31T23:59:50"}', "E-TIME", "no time zone"),
        (b'{"v": {"air_temperature": 1}, "device": 12}', "E-TYPE", "device"),
        (b'{"v": {"air_temperature": 1}, "device": "\\u0000"}', "E-NUL", "device"),
        (b'{"v": {"air_temperature": 1}, "device": "\\ud800"}', "E-UTF8", "device"),
        (b'{"v": {"\xff": 1}}', "E-UTF8", "byte 8"),
        ('{"v": {"air_temperature": 1}}'.encode("utf-16"), "E-UTF8", "UTF-16"),
        (b'[{"v": {"air_temperature": 1}}, 7]', "E-SHAPE", "[1]"),
        (NESTED, "E-DEPTH", "levels"),
        (json.dumps([GOOD] * 1001).encode(), "E-COUNT", "1001"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_422_with_code_and_place(base, body, code, says):
    async with base.client() as client:
        response = await client.post(
            MANY, content=body, headers=BEARER | {"Content-Type": "application/json"}
        )
    assert assert_problem(response, 422, says)["code"] == code
    assert base.inlet.arrivals == []


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"device": None}, "body.device", "the code of the device"),
        ({"device": "climat-1"}, "body.device", "climate-1"),
        ({"device": "x" * 5000}, "body.device", "a known device"),
        ({"device": "house-1"}, "body.device", "a known device"),  # a site, not a device
        ({"v": {"air_temprature": 1}}, "body.v", "air_temperature"),
        ({"v": {"co2": 400}}, "body.v", "CO2"),  # the key is not the quantity
        ({"v": {"CO2": 400, "x\ny": 1}}, "body.v", "a key of climate-1"),
        ({"t": 0}, "body.t", "at most 30d ago"),
        ({"t": -1}, "body.t", "at most 30d ago"),
        ({"t": 1717199990}, "body.t", "at most 30d ago"),  # seconds instead of milliseconds
        ({"t": 1717203600000}, "body.t", "at most 5min ahead"),
        ({"t": "2024-06-01T08:10:00+08:00"}, "body.t", "at most 5min ahead"),
    ],
)
async def test_readings_that_fit_no_series_are_422_and_nothing_is_kept(base, change, where, says):
    async with base.client() as client:
        body = assert_problem(await client.post(MANY, json=GOOD | change), 422, says)
        assert body["errors"][0]["where"] == where
        body = assert_problem(await client.post(MANY, json=[GOOD, GOOD | change]), 422, says)
        assert body["errors"][0]["where"] == where.replace("body.", "body.[1].")
    assert base.inlet.arrivals == []


async def test_every_mistake_of_a_post_is_named_at_once(base):
    posted = [GOOD | {"device": "a"}, GOOD, GOOD | {"v": {"b": 1, "c": 2}}]
    async with base.client() as client:
        body = assert_problem(await client.post(MANY, json=posted), 422)
    assert [one["got"] for one in body["errors"]] == ["'a'", "'b'", "'c'"]


async def test_a_value_that_its_unit_cannot_hold_is_refused(base):
    posted = GOOD | {"device": "climate-2", "v": {"illuminance": 1.7e308}}  # in klx
    async with base.client() as client:
        body = assert_problem(await client.post(MANY, json=posted), 422, "lx can hold")
    assert body["errors"][0]["where"] == "body.v.illuminance"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Content-Type": "text/plain"}, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "application/json"),
        ({"Content-Type": "application/jsonp"}, "application/json"),
        ({"Content-Type": "application/json; charset=gbk"}, "UTF-8"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "compressed"),
        ({}, "application/json"),
    ],
)
async def test_a_body_of_another_kind_is_415(base, headers, says):
    async with base.client() as client:
        response = await client.post(MANY, content=json.dumps(GOOD), headers=BEARER | headers)
    assert_problem(response, 415, says)


async def test_a_large_body_is_413_before_a_byte_of_it_is_read(base):
    sent = 0

    async def body():
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000

    headers = BEARER | {"Content-Type": "application/json"}
    async with base.client() as client:
        announced = await client.post(
            MANY, content=body(), headers=headers | {"Content-Length": "60000000"}
        )
        assert_problem(announced, 413, "1000000 bytes")
        assert sent == 0
        endless = await client.post(MANY, content=body(), headers=headers)
        assert_problem(endless, 413, "1000000 bytes")
        assert sent <= 1002


async def test_nobody_hears_why_without_a_token(base):
    async with base.client(headers={}) as client:
        for path in (ONE, "/api/v1/series/nope", "/api/v1/latest?limit=0", "/api/v1/openapi.json"):
            response = await client.get(path)
            assert_problem(response, 401)
            assert response.headers["www-authenticate"].startswith("Bearer")
        response = await client.post(MANY, content=b"{")
        assert_problem(response, 401)
    assert TOKEN not in response.text


async def test_an_error_of_ours_is_a_500_that_says_nothing_but_its_number(base, caplog):
    async def broken(series_ids=None):
        raise RuntimeError("a secret detail")

    base.memory.latest = broken
    async with base.client() as client:
        response = await client.get("/api/v1/latest")
    body = assert_problem(response, 500)
    assert "secret" not in response.text
    assert body["request_id"] in caplog.text
    assert "a secret detail" in caplog.text


NASTY = [
    *("", "0", "-1", "1e309", "NaN", "null", "true", "9" * 400, "f" * 32),
    *("\x00", "\ud7ff", "😀" * 50, "'", '"', "%", "+", "," * 300, "\r\nX: y"),
    *("../..", "<script>", "{{7*7}}", "a,b", "raw", "1d", "csv", "air"),
    *("climate-1.co2", "house-1"),
    *("2024-06-01T00:00:00Z", "2024-05-31T00:00:00Z", "9999-12-31T23:59:59Z"),
]


# What the base of these tests does not keep, and how each of its routes says so.
_NOT_HELD = {
    "not-alerting": ("alerts", "alert-groups", "silences", "rules", "packs"),
    "not-onboarding": ("unclaimed", "profiles/try"),
    "no-results": ("results",),
    "not-calibrating": (
        "calibrations",
        "quality-windows",
        "corrections",
        "series/{series}/calibrations",
    ),
    "not-commanding": ("devices/{device}/commands",),
}


def not_held(path: str) -> str:
    """Return the problem by which the documented *path* says that it is not kept; "" if it is."""
    for problem, routes in _NOT_HELD.items():
        for route in routes:
            if f"{path}/".startswith(f"/api/v1/{route}/"):
                return problem
    return ""


async def test_a_process_says_of_each_thing_that_it_does_not_keep_it(base):
    said = {}
    async with base.client() as client:
        for path, methods in base.shared_app().openapi()["paths"].items():
            if "get" in methods and "{" not in path:
                answer = await client.get(path)
                if answer.status_code >= 500:
                    said[path] = assert_problem(answer, 503, "this process ")["type"]
    asked = [*said]
    assert said == {path: f"urn:greenhouse:problem:{not_held(path)}" for path in asked}
    assert [path.removeprefix("/api/v1/") for path in asked] == [
        *("alerts", "alert-groups", "silences", "rules", "unclaimed", "results"),
        *("calibrations", "quality-windows", "corrections"),
    ]


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_mixture_of_parameters_is_ever_an_error_of_ours(base, data):
    app = base.shared_app()
    paths = app.openapi()["paths"]
    template = data.draw(st.sampled_from([*paths]))
    method = data.draw(st.sampled_from([*paths[template]]))
    known = app.state.operations[paths[template][method]["operationId"]].parameters
    word = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))
    named = st.sampled_from([*known, "nonsense"])
    params = data.draw(st.lists(st.tuples(named, word), max_size=4))
    path = re.sub(r"\{\w+\}", lambda _: quote(data.draw(word), safe=""), template)
    async with base.client() as client:
        response = await client.request(method, path, params=params)
    if response.status_code >= 400:
        body = assert_problem(response, response.status_code)
        if response.status_code >= 500:
            assert response.status_code == 503
            assert body["type"] == f"urn:greenhouse:problem:{not_held(template)}"
