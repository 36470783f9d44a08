"""The calibration book over HTTP: what is entered, refused in which words, and shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import httpx
import pytest

from devices.calibration import Calibration, Ledger, Window
from devices.quality import Quality
from storage.calibrations import KeptCorrection
from tests.api.base import BEARER, MINUTE_US, NOW_US, Base, make_base

SERIES = "climate-1.air_temperature"
PATH = f"/api/v1/series/{SERIES}/calibrations"
LINE = {"from": "2024-05-31T00:00:00Z", "gain": 1.02, "offset": -0.3, "actor": "李伟"}
WINDOW = {
    "scope": "device",
    "code": "climate-1",
    "kind": "maintenance",
    "from": "2024-05-31T08:00:00+08:00",
    "to": "2024-05-31T09:00:00+08:00",
    "reason": "换滤膜",
    "actor": "li.wei",
}


@dataclass
class Book:
    """A book in memory; entries are in force at once, and applied when a test says so."""

    ledger: Ledger = field(default_factory=Ledger)
    done: list[KeptCorrection] = field(default_factory=list)

    async def add_calibration(self, entry: Calibration) -> Calibration:
        revision = self.ledger.revision + 1
        entry = replace(entry, id=revision, revision=revision, entered_us=NOW_US)
        lines = (*self.ledger.calibrations, entry)
        self.ledger = replace(self.ledger, calibrations=lines, revision=revision)
        return entry

    async def add_window(self, entry: Window) -> Window:
        revision = self.ledger.revision + 1
        entry = replace(entry, id=revision, revision=revision, entered_us=NOW_US)
        windows = (*self.ledger.windows, entry)
        self.ledger = replace(self.ledger, windows=windows, revision=revision)
        return entry

    async def corrections(self, series: str | None, limit: int) -> list[KeptCorrection]:
        return [one for one in self.done if series in (None, one.series)][:limit]

    def apply(self) -> None:
        self.ledger = replace(self.ledger, applied=self.ledger.revision)


@pytest.fixture
def base():
    return make_base()


@pytest.fixture
def book():
    return Book()


def client(base: Base, book: Book | None, **options) -> httpx.AsyncClient:
    app = base.shared_app()
    app.state.services = replace(base.services(), calibrations=book)
    return base.client(app=app, **options)


async def test_a_calibration_is_entered_and_shown(base, book):
    async with client(base, book) as http:
        answer = await http.post(PATH, json=LINE | {"due": "2024-11-30T00:00:00Z"})
        assert answer.status_code == 201, answer.text
        assert answer.json() == {
            "id": 1,
            "series": SERIES,
            "from": "2024-05-31T00:00:00.000Z",
            "gain": 1.02,
            "offset": -0.3,
            "points": [],
            "method": "",
            "reference": "",
            "note": "",
            "actor": "李伟",
            "entered_at": "2024-06-01T00:00:00.000Z",
            "due": "2024-11-30T00:00:00.000Z",
            "in_force": True,
            "overdue": False,
            "withdrawn": False,
            "applied": False,
        }
        book.apply()
        (listed,) = (await http.get("/api/v1/calibrations")).json()
        assert listed == answer.json() | {"applied": True}


async def test_pairs_of_raw_and_true_make_a_line(base, book):
    body = {"from": LINE["from"], "points": [[6.82, 7.0], [3.9, 4.0]], "actor": "Li"}
    async with client(base, book) as http:
        told = (await http.post(PATH, json=body)).json()
    assert told["gain"] == pytest.approx(3 / 2.92)
    assert told["gain"] * 3.9 + told["offset"] == pytest.approx(4.0)
    assert told["points"] == [[6.82, 7.0], [3.9, 4.0]]


async def test_the_latest_entry_counts_and_what_is_overdue_is_found(base, book):
    async with client(base, book) as http:
        await http.post(PATH, json=LINE | {"due": "2024-05-31T12:00:00Z"})
        await http.post(PATH, json=LINE | {"gain": 1.5})
        listed = (await http.get("/api/v1/calibrations")).json()
        assert [(one["gain"], one["in_force"], one["withdrawn"]) for one in listed] == [
            (1.5, True, False),
            (1.02, False, True),
        ]
        assert (await http.get("/api/v1/calibrations?overdue=true")).json() == []
        await http.delete("/api/v1/calibrations/2", headers={"x-actor": "Li"})
        await http.post(PATH, json=LINE | {"due": "2024-05-31T12:00:00Z"})
        answer = await http.get(f"/api/v1/calibrations?overdue=true&series={SERIES}")
        assert [one["overdue"] for one in answer.json()] == [True]
        assert answer.headers["X-Total-Count"] == "1"


async def test_a_withdrawn_calibration_stays_on_record(base, book):
    async with client(base, book) as http:
        await http.post(PATH, json=LINE)
        answer = await http.delete(
            "/api/v1/calibrations/1?note=wrong+buffer", headers={"x-actor": "Wang"}
        )
        assert answer.status_code == 200
        assert answer.json()["withdrawn"] is True
        assert book.ledger.current(SERIES, NOW_US) is None
        (kept,) = (await http.get("/api/v1/calibrations")).json()
        assert (kept["withdrawn"], kept["in_force"]) == (True, False)
        again = await http.delete("/api/v1/calibrations/1", headers={"x-actor": "Wang"})
        assert again.status_code == 404


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        ({"from": "2024-05-31"}, "body.from", "zone"),
        ({"from": "yesterday"}, "body.from", "a time with its zone"),
        ({"gain": 0}, "body", "a gain from"),
        ({"gain": -1}, "body", "a gain from"),
        ({"gain": 1e9}, "body", "a gain from"),
        ({"offset": 1e12}, "body", "thousand million"),
        ({"points": [[1, 2]]}, "body.points", "one of the two"),
        ({"gain": None, "offset": None}, "body", "gain, offset or points"),
        ({"gain": None, "offset": None, "points": [[1, 2], [1, 3]]}, "body", "different ones"),
        ({"gain": None, "offset": None, "points": [[1, 3], [2, 1]]}, "body", "a gain from"),
        ({"due": "2024-05-30T00:00:00Z"}, "body.due", "after from"),
        ({"actor": ""}, "body.actor", "the name of who does it"),
        ({"note": "a\x00b"}, "body.note", "without controls"),
        ({"gian": 2}, "body", "unknown field"),
        ({"gain": "2"}, "body.gain", "float"),
    ],
)
async def test_a_calibration_that_cannot_be_meant_is_refused(base, book, change, where, expected):
    async with client(base, book) as http:
        answer = await http.post(PATH, json=LINE | change)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["type"].endswith("invalid-calibration")
    (found,) = [one for one in problem["errors"] if one["where"] == where]
    assert expected in f"{found['expected']} {found['got']}"
    assert book.ledger == Ledger()


async def test_a_window_is_entered_listed_and_withdrawn(base, book):
    async with client(base, book) as http:
        answer = await http.post("/api/v1/quality-windows", json=WINDOW)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert (told["from"], told["to"]) == (
            "2024-05-31T00:00:00.000Z",
            "2024-05-31T01:00:00.000Z",
        )
        listed = await http.get("/api/v1/quality-windows?code=climate-1")
        assert listed.json() == [told]
        assert (await http.get("/api/v1/quality-windows?code=other")).json() == []
        gone = await http.delete("/api/v1/quality-windows/1", headers={"x-actor": "Li"})
        assert gone.status_code == 200
        assert (await http.get("/api/v1/quality-windows")).json() == []
        again = await http.delete("/api/v1/quality-windows/1", headers={"x-actor": "Li"})
        assert again.status_code == 404


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        ({"scope": "house"}, "body.scope", "one of series, device, site"),
        ({"kind": "repair"}, "body.kind", "one of calibration, maintenance, stopped"),
        ({"code": "climate-3"}, "body.code", "a known device"),
        ({"to": "2024-05-31T00:00:00Z"}, "body.to", "after from"),
        ({"to": "2026-05-31T00:00:00Z"}, "body.to", "within 400 days"),
    ],
)
async def test_a_window_that_cannot_be_meant_is_refused(base, book, change, where, expected):
    async with client(base, book) as http:
        answer = await http.post("/api/v1/quality-windows", json=WINDOW | change)
    assert answer.status_code == 422, answer.text
    (found,) = [one for one in answer.json()["errors"] if one["where"] == where]
    assert expected in found["expected"]
    assert book.ledger == Ledger()


async def test_readings_are_shown_as_the_device_sent_them(base, book):
    from_us = NOW_US - 60 * MINUTE_US
    await book.add_calibration(Calibration(SERIES, from_us, 2.0, 1.0, "Li"))
    book.apply()
    base.memory.put(SERIES, from_us - MINUTE_US, 20.0)
    base.memory.put(SERIES, from_us, 41.0)
    base.memory.put(SERIES, from_us + MINUTE_US, 30.0, int(Quality.MANUAL))
    span = "start=2024-05-31T22:00:00Z&end=2024-06-01T00:00:00Z&gaps=false"
    async with client(base, book) as http:
        path = f"/api/v1/series/{SERIES}/readings?{span}"
        plain = (await http.get(f"{path}&step=raw")).json()["series"][0]["value"]
        raw = (await http.get(f"{path}&uncalibrated=true")).json()
        both = await http.get(f"/api/v1/readings?series={SERIES}&{span}&uncalibrated=true")
        rolled = await http.get(f"{path}&uncalibrated=true&step=1h")
    assert plain == [20.0, 41.0, 30.0]
    assert raw["step"] == "raw"
    assert raw["series"][0]["value"] == [20.0, 20.0, 30.0]
    assert both.json()["series"][0]["value"] == [20.0, 20.0, 30.0]
    assert rolled.status_code == 422
    assert "step=raw" in rolled.json()["detail"]


async def test_corrections_are_listed(base, book):
    book.done = [
        KeptCorrection(2, 2, SERIES, NOW_US - MINUTE_US, 1 << 62, 17, None),
        KeptCorrection(1, 1, "station.wind_speed", -(1 << 62), NOW_US, 5, NOW_US),
    ]
    async with client(base, book) as http:
        both = (await http.get("/api/v1/corrections")).json()
        one = (await http.get(f"/api/v1/corrections?series={SERIES}")).json()
    assert [(each["from"], each["to"], each["finished_at"]) for each in both] == [
        ("2024-05-31T23:59:00.000Z", None, None),
        (None, "2024-06-01T00:00:00.000Z", "2024-06-01T00:00:00.000Z"),
    ]
    assert one == both[:1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("DELETE", "/api/v1/calibrations/1"),
        ("POST", "/api/v1/quality-windows"),
        ("DELETE", "/api/v1/quality-windows/1"),
    ],
)
async def test_nobody_writes_without_a_token(base, book, method, path):
    base.settings = replace(base.settings, open_loopback_reads=True)
    async with client(base, book, headers={}) as http:
        answer = await http.request(method, path)
    assert answer.status_code == 401
    assert BEARER["Authorization"] not in answer.text


async def test_a_series_nobody_knows_is_404_in_a_path_and_422_in_a_query(base, book):
    async with client(base, book) as http:
        path = await http.post("/api/v1/series/climate-1.air_temprature/calibrations", json=LINE)
        query = await http.get("/api/v1/calibrations?series=climate-9.co2")
    assert (path.status_code, query.status_code) == (404, 422)
    assert "air_temperature" in path.json()["detail"]


async def test_a_process_without_a_book_says_so(base):
    async with client(base, None) as http:
        answers = [
            await http.get("/api/v1/calibrations"),
            await http.get("/api/v1/corrections"),
            await http.post(PATH, json=LINE),
        ]
    assert {answer.status_code for answer in answers} == {503}
