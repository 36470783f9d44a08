import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.health import DatabaseHealth, Health
from devices.quality import Quality
from devices.registry import Registry
from tests.api.base import BEARER, MINUTE_US, NOW_US, instant_us

TEMPERATURE = "climate-1.air_temperature"
ONE = f"/api/v1/series/{TEMPERATURE}/readings"
HOUR_US = 60 * MINUTE_US
BAD = int(Quality.PHYSICAL_RANGE)


def span(start_us: int, end_us: int) -> dict[str, str]:
    return {
        "start": str(np.datetime64(start_us, "us")) + "Z",
        "end": str(np.datetime64(end_us, "us")) + "Z",
    }


async def ask(base, path=ONE, **query):
    async with base.client() as client:
        response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def fill(base, code=TEMPERATURE, *, hours=24, every_us=10_000_000, skip=lambda at: False):
    for at_us in range(NOW_US - hours * HOUR_US, NOW_US, every_us):
        if not skip(at_us):
            base.memory.put(code, at_us, math.sin(at_us / HOUR_US) * 5 + 20)


async def test_a_short_range_is_answered_raw(base):
    fill(base, hours=1)
    answer = await ask(base, **span(NOW_US - HOUR_US, NOW_US))
    (part,) = answer["series"]
    assert answer["step"] == "raw"
    assert part["points"] == len(part["value"]) == 360
    assert part["observed_at"][0] == "2024-05-31T23:00:00.000Z"
    assert (part["series"], part["unit"], part["site"]) == (TEMPERATURE, "°C", "house-1")
    assert set(part["quality"]) == {"good"}


async def test_a_day_is_answered_in_quarters_with_minimum_and_maximum(base):
    fill(base)
    answer = await ask(base)
    (part,) = answer["series"]
    assert answer["step"] == "15m"
    assert part["points"] == 96
    assert set(part) >= {"mean", "min", "max"}
    assert all(low <= mean <= high for low, mean, high in zip(
        part["min"], part["mean"], part["max"], strict=True))  # fmt: skip


async def test_a_peak_of_one_reading_survives_every_step(base):
    fill(base)
    base.memory.put(TEMPERATURE, NOW_US - 7 * HOUR_US + 1, 44.0)
    for step in ("raw", "1m", "15m", "1h", "1d"):
        answer = await ask(base, step=step)
        part = answer["series"][0]
        assert max(one for one in part.get("max", part.get("value")) if one is not None) == 44.0


async def test_raw_is_given_up_when_more_came_than_was_expected(base):
    fill(base, hours=1, every_us=1_000_000)  # ten times as often as described
    answer = await ask(base, **span(NOW_US - HOUR_US, NOW_US))
    assert answer["step"] == "1m"


async def test_gaps_of_raw_readings_are_rows_of_nulls(base):
    fill(base, hours=1, skip=lambda at: NOW_US - 30 * MINUTE_US < at < NOW_US - 20 * MINUTE_US)
    (part,) = (await ask(base, **span(NOW_US - HOUR_US, NOW_US)))["series"]
    assert part["value"].count(None) == part["quality"].count(None) == 1
    (bare,) = (await ask(base, **span(NOW_US - HOUR_US, NOW_US), gaps="false"))["series"]
    assert None not in bare["value"]
    assert len(bare["value"]) == len(part["value"]) - 1


async def test_gaps_of_rolled_readings_are_null_in_a_dense_grid(base):
    fill(base, skip=lambda at: NOW_US - 4 * HOUR_US <= at < NOW_US - 2 * HOUR_US)
    (part,) = (await ask(base, step="1h", agg="mean,count,valid_count"))["series"]
    assert part["points"] == 24
    assert [one is None for one in part["mean"]] == [False] * 20 + [True] * 2 + [False] * 2
    assert part["count"][20:22] == part["valid_count"][20:22] == [0, 0]
    (bare,) = (await ask(base, step="1h", gaps="false"))["series"]
    assert bare["points"] == 22


async def test_bad_readings_are_shown_and_are_in_no_mean(base):
    base.memory.put(TEMPERATURE, NOW_US - 3 * MINUTE_US, 20.0)
    base.memory.put(TEMPERATURE, NOW_US - 2 * MINUTE_US - 1, 500.0, BAD)
    base.memory.put(TEMPERATURE, NOW_US - MINUTE_US - 2, math.nan, int(Quality.MISSING))
    (raw,) = (await ask(base, step="raw", gaps="false"))["series"]
    assert raw["value"] == [20.0, 500.0, None]
    assert raw["quality"] == ["good", "bad", "bad"]
    assert raw["quality_bits"] == [0, BAD, int(Quality.MISSING)]
    (rolled,) = (await ask(base, step="1d", agg=["max", "count", "valid_count"]))["series"]
    assert (rolled["max"], rolled["count"], rolled["valid_count"]) == (
        [None, 20.0],  # the last 24 hours touch two days of the site
        [0, 3],
        [0, 1],
    )


async def test_days_begin_at_midnight_of_the_site(base):
    dutch = "probe-nl.air_temperature"
    query = {"step": "1d", "start": "2024-03-30T12:00:00Z", "end": "2024-04-01T12:00:00Z"}
    for at in ("2024-03-30T23:30:00Z", "2024-03-31T21:30:00Z", "2024-03-31T22:30:00Z"):
        base.memory.put(dutch, instant_us(at), 1.0)
    params = [("series", dutch), ("series", TEMPERATURE), ("agg", "count"), *query.items()]
    async with base.client() as client:
        answer = (await client.get("/api/v1/readings", params=params)).json()
    there, here = answer["series"]
    assert there["observed_at"] == [
        "2024-03-29T23:00:00.000Z",
        "2024-03-30T23:00:00.000Z",  # the clock goes forward on this day: it has 23 hours
        "2024-03-31T22:00:00.000Z",
    ]
    assert there["count"] == [0, 2, 1]
    assert here["observed_at"][0] == "2024-03-29T16:00:00.000Z"


async def test_several_series_share_one_step_and_keep_their_order(base):
    fill(base, hours=6)
    codes = ["station.wind_speed", TEMPERATURE, "station.wind_speed"]
    async with base.client() as client:
        response = await client.get("/api/v1/readings", params=[("series", one) for one in codes])
        comma = await client.get("/api/v1/readings", params={"series": ",".join(codes)})
    parts = response.json()["series"]
    assert [part["series"] for part in parts] == ["station.wind_speed", TEMPERATURE]
    assert {part["points"] for part in parts} == {96}
    assert comma.json()["series"] == parts


async def test_a_step_that_gives_too_much_names_the_maximum_and_a_step_that_fits(base):
    query = span(NOW_US - 60 * 24 * HOUR_US, NOW_US) | {"step": "1m"}
    async with base.client() as client:
        response = await client.get(ONE, params=query)
    body = response.json()
    assert response.status_code == 422
    assert "at most 10000 points" in body["detail"]
    assert body["errors"][0]["hint"] == "15m"
    assert (await ask(base, **(query | {"step": "15m"})))["series"][0]["points"] == 60 * 96


async def test_raw_readings_over_the_limit_are_refused_by_what_really_came(base):
    base.settings = replace(
        base.settings, limits=replace(base.settings.limits, max_total_points=100)
    )
    fill(base, hours=1)
    async with base.client() as client:
        one = await client.get(ONE, params=span(NOW_US - HOUR_US, NOW_US) | {"step": "raw"})
        two = await client.get(f"/api/v1/readings?series={TEMPERATURE},station.wind_speed&step=raw")
    assert (one.status_code, two.status_code) == (422, 422)
    assert one.json()["errors"][0]["hint"] == "1m"
    answer = await ask(base, **span(NOW_US - 10 * MINUTE_US, NOW_US), step="raw")
    assert answer["series"][0]["points"] == 60


async def test_a_table_may_be_longer_than_what_a_screen_draws(base):
    base.settings = replace(
        base.settings, limits=replace(base.settings.limits, max_total_points=100)
    )
    fill(base, hours=1)
    async with base.client() as client:
        response = await client.get(ONE, params={"step": "raw", "format": "csv"})
    assert response.text.count("\r\n") == 361


async def test_no_step_fits_where_one_point_is_asked_of_a_year(base):
    async with base.client() as client:
        response = await client.get(
            ONE, params=span(NOW_US - 8760 * HOUR_US, NOW_US) | {"max_points": "10"}
        )
    assert response.status_code == 422
    assert "at most 10 points" in response.json()["detail"]


@given(
    span_s=st.integers(1, 400 * 86_400),
    back_s=st.integers(0, 10**8),
    max_points=st.integers(2, 3000),
    codes=st.lists(
        st.sampled_from([TEMPERATURE, "station.wind_speed", "probe-nl.air_temperature",
                         "climate-1.soil_moisture.north"]),
        min_size=1, unique=True),
    at_s=st.lists(st.integers(0, 400 * 86_400), max_size=80),
)  # fmt: skip
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_answer_is_longer_than_allowed_and_every_grid_is_dense(
    base, span_s, back_s, max_points, codes, at_s
):
    end_us = NOW_US - back_s * 1_000_000
    start_us = end_us - span_s * 1_000_000
    base.memory.rows.clear()
    for at in at_s:
        base.memory.put(codes[0], start_us + at % span_s * 1_000_000, float(at))
    params = [("series", one) for one in codes] + [("max_points", str(max_points))]
    async with base.client() as client:
        response = await client.get(
            "/api/v1/readings", params=params + list(span(start_us, end_us).items())
        )
    if response.status_code == 422:
        assert span_s > (max_points - 2) * 86_400 - 7200  # not even days fit
        return
    answer = response.json()
    for part in answer["series"]:
        columns = [one for one in part.values() if isinstance(one, list)]
        assert {len(one) for one in columns} == {part["points"]}
        assert part["points"] <= max_points
        at = np.array([one[:-1] for one in part["observed_at"]], "datetime64[us]").astype(np.int64)
        assert (np.diff(at) > 0).all()
        width = {"1m": 60, "15m": 900, "1h": 3600}.get(answer["step"])
        if width:
            assert (np.diff(at) == width * 1_000_000).all()
            assert at[0] <= start_us < at[0] + width * 1_000_000
            assert at[-1] < end_us <= at[-1] + width * 1_000_000
    total = sum(part["points"] for part in answer["series"])
    assert total <= base.settings.limits.max_total_points


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ({}, "*/*", "application/json"),
        ({"format": "csv"}, "application/json", "text/csv"),  # what is asked for wins
        ({}, "text/csv", "text/csv"),
        ({}, "text/csv;q=0.4, application/json;q=0.5", "application/json"),
        ({}, "text/csv, application/json", "application/json"),  # JSON wins a tie
        ({}, "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ({"format": "arrow"}, "*/*", "application/vnd.apache.arrow.stream"),
        ({"format": "parquet"}, "*/*", "application/vnd.apache.parquet"),
        ({}, "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),  # a browser
    ],
)
async def test_the_form_is_what_was_asked_for_or_preferred(base, query, accept, media_type):
    fill(base, hours=1)
    async with base.client() as client:
        response = await client.get(ONE, params=query, headers=BEARER | {"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type
    attached = response.headers.get("content-disposition", "")
    assert attached.startswith("attachment;") == (media_type != "application/json")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Accept" in response.headers["vary"]


async def test_all_forms_say_the_same(base):
    fill(base, hours=1, skip=lambda at: at % HOUR_US > 40 * MINUTE_US)
    base.memory.put(TEMPERATURE, NOW_US - HOUR_US + 5, 99.0, BAD)
    query = span(NOW_US - HOUR_US, NOW_US) | {"step": "raw"}
    async with base.client() as client:
        got = {
            form: (await client.get(ONE, params=query | {"format": form})).content
            for form in ("json", "csv", "arrow", "parquet")
        }
    (part,) = json.loads(got["json"])["series"]
    rows = list(csv.DictReader(io.StringIO(got["csv"].decode())))
    tables = [
        pa.ipc.open_stream(got["arrow"]).read_all(),
        pq.read_table(pa.BufferReader(got["parquet"])),
    ]
    assert [float(row["value"]) if row["value"] else None for row in rows] == part["value"]
    assert [row["observed_at"] for row in rows] == part["observed_at"]
    assert [row["quality"] or None for row in rows] == part["quality"]
    for table in tables:
        assert table.column("value").to_pylist() == part["value"]
        assert table.column("quality").to_pylist() == part["quality"]
        instants = np.array([one[:-1] for one in part["observed_at"]], "datetime64[us]")
        assert (
            table.column("observed_at").cast(pa.int64()).to_pylist()
            == instants.astype(np.int64).tolist()
        )


async def test_a_file_is_named_after_what_it_holds(base):
    async with base.client() as client:
        response = await client.get(ONE, params={"format": "csv", "step": "1h", "bom": "true"})
    assert response.headers["content-disposition"] == (
        'attachment; filename="climate-1.air_temperature_2024-05-31_1h.csv"'
    )
    assert response.content.startswith(b"\xef\xbb\xbf")


async def test_instants_may_be_milliseconds(base):
    base.memory.put(TEMPERATURE, NOW_US - 1_000_000, 1.0)
    (part,) = (await ask(base, time="epoch_ms", step="raw"))["series"]
    assert part["observed_at"] == [NOW_US // 1000 - 1000]


async def test_a_question_without_times_is_about_the_last_day(base):
    answer = await ask(base)
    assert (answer["start"], answer["end"]) == (
        "2024-05-31T00:00:00.000Z",
        "2024-06-01T00:00:00.000Z",
    )


async def test_times_with_another_zone_mean_the_same_moments(base):
    plain = await ask(base, start="2024-05-31T20:00:00Z")
    shifted = await ask(base, start="2024-06-01T04:00:00+08:00")
    assert plain == shifted


async def test_a_database_that_is_away_is_503_with_the_time_to_come_back(base, caplog):
    base.memory.away = True
    async with base.client() as client:
        for path in (ONE, "/api/v1/latest", f"/api/v1/readings?series={TEMPERATURE}"):
            response = await client.get(path)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["type"].endswith(":database-unavailable")
            assert "connection refused" not in response.text
    assert "connection refused: a detail for the log" in caplog.text


async def test_nothing_is_called_unknown_before_the_registry_was_ever_read(base):
    base.registry = Registry()
    base.health = Health("1", DatabaseHealth(reachable=False))
    posted = {"v": {"air_temperature": 21.5}, "device": "climate-1"}
    async with base.client() as client:
        for response in (await client.get(ONE), await client.post("/api/v1/readings", json=posted)):
            assert response.status_code == 503
            assert response.json()["type"].endswith(":registry-unknown")
            assert int(response.headers["retry-after"]) > 0
        base.health = Health("1", DatabaseHealth(reachable=True))
    async with base.client() as client:
        assert (await client.get(ONE)).status_code == 404


async def test_readings_of_a_retired_series_can_still_be_asked_for(base):
    fill(base, hours=1)
    archive = base.registry
    devices = tuple(one for one in archive.devices if one.code != "climate-1")
    app = base.shared_app()
    app.state.services = replace(
        base.services(), registry=lambda: replace(archive, devices=devices), archive=lambda: archive
    )
    async with base.client(app=app) as client:
        assert (await client.get(ONE)).json()["series"][0]["points"] == 96
        assert (await client.get(f"/api/v1/series/{TEMPERATURE}")).status_code == 200
        listed = {one["series"] for one in (await client.get("/api/v1/series")).json()}
        latest = {one["series"] for one in (await client.get("/api/v1/latest")).json()}
    assert TEMPERATURE not in listed | latest
