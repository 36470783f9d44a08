"""The routes over a real database, from a post to the answer, on both kinds of server."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import numpy as np
import pytest

from api.services import Services
from devices.codecs.json import JsonCodec
from devices.dead_letter import DeadLetter
from devices.gap import Gap
from devices.quality import Quality
from devices.reading import Batch
from devices.site_file import read_site_file
from ingest.decoder import Decoder
from storage.dead_letters import DeadLetterStore
from storage.gaps import GapStore
from storage.migrate import migrate
from storage.pool import Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.api.base import (
    BEARER,
    NOW_US,
    SITE_FILE,
    KeptInlet,
    Memory,
    make_base,
    stored_services,
)

TEMPERATURE = "climate-1.air_temperature"
DUTCH = "probe-nl.air_temperature"
S = 1_000_000
HOUR_US = 3_600 * S

Write = Callable[[Batch], None]


class Stack:
    """The application over a database, and what it was filled with, in memory."""

    def __init__(self, services: Services, pool: Pool, writer: ReadingWriter) -> None:
        self.services = services
        self.pool = pool
        self.registry = services.registry()
        self._writer = writer
        self.twin = Memory(self.registry)

    async def write(self, batch: Batch) -> None:
        """Write *batch* into the database and into the twin, which first come first served too."""
        assert (await self._writer.write(batch)).kind == "written"
        names = {number: code for code, number in self.registry.series_ids.items()}
        for one, at, received, value, quality in zip(
            batch.series_id.tolist(), batch.observed_at_us.tolist(),
            batch.received_at_us.tolist(), batch.value.tolist(), batch.quality.tolist(),
            strict=True,
        ):  # fmt: skip
            self.twin.put(names[one], at, value, quality, received)

    async def fill(self, seed: int) -> None:
        """Write three days of unsteady readings with gaps, doubts and missing values."""
        draw = np.random.default_rng(seed)
        for code in (TEMPERATURE, DUTCH):
            at = np.cumsum(draw.choice([10 * S, 60 * S, 7 * S + 123, 3 * HOUR_US], 2000,
                                       p=[0.5, 0.4, 0.09, 0.01]))  # fmt: skip
            at = at[at < 72 * HOUR_US] + NOW_US - 72 * HOUR_US
            value = draw.normal(20, 5, len(at)).round(2)
            quality = draw.choice([0, int(Quality.STEP), int(Quality.PHYSICAL_RANGE)], len(at),
                                  p=[0.9, 0.05, 0.05])  # fmt: skip
            missing = draw.random(len(at)) < 0.02
            value[missing] = np.nan
            quality[missing] = int(Quality.MISSING)
            number = self.registry.series_ids[code]
            await self.write(Batch.of([number] * len(at), at, at + S, value, quality))

    def client(self, twin: bool = False) -> httpx.AsyncClient:
        app = make_base().shared_app()
        services = replace(self.services, history=self.twin) if twin else self.services
        app.state.services = services
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER)

    async def get(self, path: str, **query: object) -> httpx.Response:
        async with self.client() as client:
            return await client.get(f"/api/v1{path}", params=query)


@pytest.fixture
async def stack(database_dsn: str) -> AsyncIterator[Stack]:
    await migrate(database_dsn)
    async with Pool(database_dsn) as pool, ReadingWriter(database_dsn) as writer:
        store = RegistryStore(pool)
        await store.apply(read_site_file(SITE_FILE, "base.yaml").registry, {})
        registry = await store.load()

        yield Stack(stored_services(registry, pool, KeptInlet()), pool, writer)


QUESTIONS = [
    {"step": "raw"},
    {"step": "raw", "gaps": "false"},
    {"step": "1m", "start": "2024-05-31T18:00:00Z"},
    {"step": "15m", "agg": "mean,min,max,first,last,sum,count,valid_count"},
    {"step": "1h", "agg": "mean,min,max,first,last,sum,count,valid_count"},
    {"step": "1h", "gaps": "false", "agg": "count"},
    {"step": "1d", "agg": "mean,min,max,first,last,sum,count,valid_count"},
    {"start": "2024-05-28T17:03:07Z", "end": "2024-05-31T21:00:01Z"},
    {"start": "2024-05-31T22:00:00Z"},
    {"max_points": "4"},
    {"format": "csv", "step": "15m"},
]


async def test_the_database_answers_what_its_twin_in_memory_answers(stack):
    await stack.fill(seed=2)
    for query in QUESTIONS:
        params = [("series", TEMPERATURE), ("series", DUTCH)]
        params += [("start", "2024-05-29T00:00:00Z")] if "start" not in query else []
        params += list(query.items())
        answers = []
        for twin in (False, True):
            async with stack.client(twin) as client:
                response = await client.get("/api/v1/readings", params=params)
            assert response.status_code == 200, (query, response.text)
            answers.append(response)
        assert_same(*answers)


def assert_same(real: httpx.Response, twin: httpx.Response) -> None:
    """Means and sums may differ in the last bits: the order of a sum is the database's own."""
    if real.headers["content-type"].startswith("text/csv"):
        real_rows, twin_rows = real.text.splitlines(), twin.text.splitlines()
        assert len(real_rows) == len(twin_rows) > 100
        return
    one, other = real.json(), twin.json()
    assert {**one, "series": 0} == {**other, "series": 0}
    for part, expected in zip(one["series"], other["series"], strict=True):
        assert part.keys() == expected.keys()
        for name in part:
            if name in ("mean", "sum"):
                assert [v is None for v in part[name]] == [v is None for v in expected[name]]
                assert [v for v in part[name] if v is not None] == pytest.approx(
                    [v for v in expected[name] if v is not None], rel=1e-12
                )
            else:
                assert part[name] == expected[name], name


async def test_what_is_posted_comes_out_again_in_the_unit_of_the_quantity(stack):
    posted = [
        {"t": NOW_US // 1000 - 20_000, "v": {"air_temperature": 68.0}, "device": "climate-2"},
        {"t": "2024-06-01T07:59:50+08:00", "v": {"air_temperature": None}, "device": "climate-2"},
        {"t": NOW_US // 1000, "v": {"air_temperature": 1e6}, "device": "climate-2"},
    ]
    async with stack.client() as client:
        assert (await client.post("/api/v1/readings", json=posted)).status_code == 202
    decoded = Decoder(stack.registry, "gh/{site}/{device}", {"json": JsonCodec()}).decode(
        stack.services.inlet.arrivals
    )
    assert decoded.letters == []
    await stack.write(decoded.batch)
    answer = (await stack.get("/series/climate-2.air_temperature/readings",
                              start="2024-05-31T23:00:00Z", end="2024-06-01T01:00:00Z",
                              step="raw")).json()  # fmt: skip
    (part,) = answer["series"]
    assert part["value"] == [pytest.approx(20.0), None, pytest.approx((1e6 - 32) / 1.8)]
    assert part["quality"] == ["good", "bad", "bad"]
    (row,) = (await stack.get("/latest", site="house-2")).json()
    assert row["quality_reasons"] == ["physical_range"]
    assert (row["unit"], row["stale"]) == ("°C", False)


async def test_the_newest_reading_is_the_one_measured_last_not_received_last(stack):
    number = stack.registry.series_ids[TEMPERATURE]
    await stack.write(Batch.of([number], [NOW_US - 5 * S], [NOW_US - 4 * S], [21.0], [0]))
    await stack.write(Batch.of([number], [NOW_US - 500 * S], [NOW_US], [5.0], [0]))
    rows = (await stack.get("/latest")).json()
    assert [(row["series"], row["value"], row["stale"]) for row in rows] == [
        (TEMPERATURE, 21.0, False)
    ]
    for query in ({"site": "ganzhou"}, {"series": TEMPERATURE}):
        assert (await stack.get("/latest", **query)).json() == rows


async def test_a_series_that_holds_nan_is_answered_with_null(stack):
    number = stack.registry.series_ids[TEMPERATURE]
    await stack.write(Batch.of([number], [NOW_US - 5 * S], [NOW_US], [math.nan], [1]))
    for path in (f"/series/{TEMPERATURE}/readings", "/latest"):
        response = await stack.get(path)
        assert response.status_code == 200
        assert "NaN" not in response.text


async def test_gaps_are_those_that_touch_the_range(stack):
    gaps = [Gap("mqtt:broker", NOW_US - hours * HOUR_US, NOW_US - hours * HOUR_US + S,
                "disconnected", "the link was cut") for hours in (1, 30)]  # fmt: skip
    await GapStore(stack.pool).put(gaps)
    assert [one["started_at"] for one in (await stack.get("/gaps")).json()] == [
        "2024-05-31T23:00:00.000Z"
    ]
    both = await stack.get("/gaps", start="2024-05-30T00:00:00Z")
    assert len(both.json()) == 2


async def test_dead_letters_come_newest_first_in_pages_whatever_they_hold(stack):
    letters = [
        DeadLetter(
            "mqtt", "gh/house-1/=cmd|' /C calc'", b"\xff\x00{" * 3000, NOW_US, "E-UTF8", "x"
        ),
        DeadLetter("mqtt", "gh/\udcff\x00/x", b"{", NOW_US - 1, "E-JSON", "syntax at byte 1"),
        DeadLetter("http", "climate-1", b"", NOW_US - 2, "E-EMPTY", "payload is empty"),
    ]
    await DeadLetterStore(stack.pool).put(letters)
    async with stack.client() as client:
        first = await client.get("/api/v1/dead-letters?limit=2")
        assert first.status_code == 200, first.text
        link = first.headers["link"].partition("<")[2].partition(">")[0]
        rest = await client.get(link)
        one = await client.get("/api/v1/dead-letters?code=E-JSON")
        other = await client.get("/api/v1/dead-letters?source=http")
    assert [one["code"] for one in first.json()] == ["E-UTF8", "E-JSON"]
    assert [one["code"] for one in rest.json()] == ["E-EMPTY"]
    assert "link" not in rest.headers
    assert (len(one.json()), len(other.json())) == (1, 1)
    large = first.json()[0]
    assert (large["size_bytes"], large["payload_is_whole"]) == (9000, False)
    assert large["replayed_at"] is None


async def test_no_question_reaches_the_database_that_it_would_refuse(stack):
    far = "start=2199-12-01T00:00:00Z&end=2199-12-31T00:00:00Z"
    paths = [
        "/dead-letters?before=%00",
        "/dead-letters?code=%00",
        "/latest?site=%00",
        "/series?device=%00",
        "/gaps?start=1970-01-01T00:00:00Z&end=1970-01-02T00:00:00Z",
        f"/series/{TEMPERATURE}/readings?{far}",
    ]
    async with stack.client() as client:
        statuses = [(await client.get(f"/api/v1{path}")).status_code for path in paths]
    assert statuses == [422, 422, 422, 422, 200, 200]
