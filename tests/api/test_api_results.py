"""Results of samples over HTTP: whole or not at all, in two forms, paged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api.results import ResultShape
from devices.sample_result import SampleResult
from devices.site_file import read_site_file
from storage.laboratory import Added, KeptResult
from tests.api.base import BEARER, NOW_US, make_base

SITE = """
version: 1
sites: [{code: base, kind: base, name: {zh: 基地}, sites: [{code: h1, kind: greenhouse}]}]
devices:
  - {code: soil, site: h1, transport: http, payload: laboratory,
     series: [{quantity: soil_cadmium}, {quantity: soil_ph}]}
"""
CSV = "采样时间,地点,项目,结果,单位,审核人\n2024-03-01,h1,镉,0.21,mg/kg,李四\n"
ROWS = [{"sampled_at": "2024-03-01", "site": "h1", "item": "Cd", "value": 0.21, "unit": "mg/kg"}]
CADMIUM = "soil.soil_cadmium"


class Shelf:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.kept: list[KeptResult] = []
        self.asked: list[tuple] = []

    async def add(self, results, series_ids, by, now, *, dry_run=False):
        assert set(series_ids) >= {one.series for one in results}
        for one in [] if dry_run else results:
            self.kept.append(KeptResult(len(self.kept) + 1, one, 1, True, now, by))
        return Added(len(results), reviewed=sum(bool(one.reviewer) for one in results))

    async def list(
        self, since_us, until_us, limit, series_ids=None, before=None, *, versions=False
    ):
        self.asked.append((since_us, until_us, limit, series_ids, before, versions))
        return self.kept[:limit]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def lab(shelf):
    base = make_base()
    registry = read_site_file(SITE, "site.yaml").registry
    base.registry = replace(
        registry, series_ids={code: n for n, code in enumerate(registry.series, 1)}, revision=1
    )
    services = base.services
    base.services = lambda: replace(services(), results=shelf)
    return base


async def post(lab, body, kind="text/csv", actor="li.si", headers=BEARER, query=""):
    named = {} if actor is None else {"x-actor": actor}
    async with lab.client(headers={**headers, **named, "content-type": kind}) as client:
        if kind == "application/json":
            return await client.post(f"/api/v1/results{query}", json=body)
        return await client.post(f"/api/v1/results{query}", content=body)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
async def test_a_table_is_kept_with_the_name_of_who_brought_it(lab, shelf, encoding):
    answer = await post(lab, CSV.encode(encoding))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "new": 1, "corrected": 0, "unchanged": 0, "reviewed": 1, "dry_run": False,
    }  # fmt: skip
    [kept] = shelf.kept
    assert (kept.result.series, kept.result.value, kept.recorded_by) == (CADMIUM, 0.21, "li.si")
    assert kept.recorded_at == datetime.fromtimestamp(NOW_US / 1e6, UTC)


async def test_a_list_of_objects_says_the_same_as_a_table(lab, shelf):
    assert (await post(lab, ROWS, "application/json")).status_code == 200
    assert shelf.kept[0].result == SampleResult(
        CADMIUM, int(datetime(2024, 2, 29, 16, tzinfo=UTC).timestamp() * 1e6), 0.21, None,
        "0.21 mg/kg",
    )  # fmt: skip


async def test_a_dry_run_keeps_nothing(lab, shelf):
    answer = await post(lab, CSV.encode(), query="?dry_run=true")
    assert answer.json()["dry_run"] is True and shelf.kept == []


async def test_every_mistake_is_named_and_nothing_is_kept(lab, shelf):
    body = CSV + "2024-03-01,h11,镉,1,mg/kg,\n2024-03-01,h1,镉,x,mg/kg,\n"
    answer = await post(lab, body.encode())
    problem = answer.json()
    assert answer.status_code == 422 and problem["type"].endswith(":refused-results")
    assert [one["where"] for one in problem["errors"]] == ["row 3.site", "row 4.value"]
    assert problem["errors"][0]["hint"] == "h1"
    assert problem["detail"].endswith("1 more; nothing was kept")
    assert shelf.kept == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "slug"),
    [
        (b"", "text/csv", 422, "refused-results"),
        (b"\xff\xfe\x00", "text/csv", 422, "refused-results"),
        (b"{}", "application/json", 422, "refused-results"),
        (b"[]", "application/json", 422, "refused-results"),
        (b'[{"value": [1]}]', "application/json", 422, "refused-results"),
        (b'[{"valeu": 1}]', "application/json", 422, "refused-results"),
        (CSV.encode(), "text/plain", 415, "not-json"),
        (b"x" * 1_000_001, "text/csv", 413, "body-too-large"),
    ],
)
async def test_what_is_no_table_is_refused(lab, shelf, body, kind, status, slug):
    async with lab.client(headers={**BEARER, "x-actor": "a", "content-type": kind}) as client:
        answer = await client.post("/api/v1/results", content=body)
    assert answer.status_code == status and answer.json()["type"].endswith(f":{slug}")
    assert shelf.kept == []


async def test_nobody_posts_without_a_token_or_a_name(lab, shelf):
    assert (await post(lab, CSV.encode(), headers={})).status_code == 401
    assert (await post(lab, CSV.encode(), actor=None)).status_code == 422
    assert shelf.kept == []


async def test_results_are_shown_whole_and_in_pages(lab, shelf):
    await post(lab, (CSV + "2024-03-01,h1,pH,6.8,,\n").encode())
    async with lab.client() as client:
        answer = await client.get(
            "/api/v1/results?limit=1&versions=true&site=base&start=2024-01-01T00:00:00Z"
        )
        page = answer.json()
        everything = (await client.get("/api/v1/results")).json()
    assert 'rel="next"' in answer.headers["link"] and "before=1" in answer.headers["link"]
    assert set(page[0]) == set(ResultShape.model_fields)
    assert page[0] | {"id": 0} == everything[0] | {"id": 0}
    assert page[0]["sampled_at"] == "2024-02-29T16:00:00.000Z"
    assert (page[0]["unit"], page[0]["is_evidence"]) == ("mg/kg", True)
    assert everything[1]["is_evidence"] is False
    assert shelf.asked[0][2:] == (1, [1, 2], None, True)
    assert shelf.asked[1][3] is None


async def test_a_process_without_results_says_so(base):
    async with base.client() as client:
        answer = await client.get("/api/v1/results")
    assert answer.status_code == 503 and answer.json()["type"].endswith(":no-results")


async def test_a_sampled_place_takes_no_plain_readings(lab, shelf):
    async with lab.client(headers=BEARER) as client:
        answer = await client.post(
            "/api/v1/readings", json={"device": "soil", "v": {"soil_cadmium": 0.2}}
        )
    assert answer.status_code == 422
    assert "results of samples go to /api/v1/results" in answer.json()["detail"]
