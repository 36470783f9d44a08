"""Commands over HTTP: who may, what is refused in which words, what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import httpx
import pytest

from api.commands import CommandDeskClosed, CommandEndNotKept, CommandNotKept
from ingest.modbus.command import (
    CommandRecord,
    Outcome,
    PointNotWritable,
    ValueOutOfRange,
    WriteCommand,
    WritesOff,
)
from storage.errors import DatabaseUnavailable
from tests.api.base import BEARER, NOW_US, Base, make_base

PATH = "/api/v1/devices/climate-1/commands"
BODY = {"key": "ec_set_point", "value": 2.344, "actor": "li.wei", "reason": "苗期"}
RECORD = CommandRecord(
    "a" * 32, "climate-1", 7, "ec_set_point", "mS/cm", "li.wei", "苗期", NOW_US, Outcome.DONE,
    2.34, 1.8, 2.34, NOW_US + 250_000,
)  # fmt: skip


@dataclass
class Desk:
    """A desk that remembers what it was told, and answers *record* or raises *error*."""

    record: CommandRecord = RECORD
    error: Exception | None = None
    told: list[WriteCommand] = field(default_factory=list)

    async def write(self, command: WriteCommand) -> CommandRecord:
        self.told.append(command)
        if self.error is not None:
            raise self.error
        return self.record


@dataclass
class Shelf:
    """Kept commands in memory; *away* stops it."""

    kept: list[CommandRecord] = field(default_factory=list)
    asked: list[tuple] = field(default_factory=list)
    away: bool = False

    async def list(self, device, limit, before):
        if self.away:
            raise DatabaseUnavailable("connection refused")
        self.asked.append((device, limit, before))
        return [one for one in self.kept if device in (None, one.device)][:limit]


@dataclass
class CommandBase(Base):
    """The small base with a desk for commands."""

    desk: Desk | None = field(default_factory=Desk)
    shelf: Shelf | None = field(default_factory=Shelf)

    def services(self):
        return replace(super().services(), commands=self.desk, command_shelf=self.shelf)


@pytest.fixture
def base() -> CommandBase:
    return CommandBase(**vars(make_base()))


async def post(base, body=BODY, path=PATH, **options) -> httpx.Response:
    async with base.client() as client:
        return await client.post(path, json=body, **options)


def assert_problem(response, status, slug, says=""):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:greenhouse:problem:{slug}"
    assert says in problem["detail"], problem["detail"]


async def test_a_command_is_answered_with_its_record(base):
    response = await post(base)
    assert response.status_code == 200, response.text
    assert response.json() == {
        "id": "a" * 32,
        "device": "climate-1",
        "unit": 7,
        "key": "ec_set_point",
        "quantity_unit": "mS/cm",
        "actor": "li.wei",
        "reason": "苗期",
        "asked_at": "2024-06-01T00:00:00.000Z",
        "ended_at": "2024-06-01T00:00:00.250Z",
        "outcome": "done",
        "new": 2.34,
        "old": 1.8,
        "read_back": 2.34,
        "text": "",
    }
    assert base.desk.told == [WriteCommand("climate-1", "ec_set_point", 2.344, "li.wei", "苗期")]


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_command_needs_a_token_even_where_reads_are_open(base, is_open):
    base.settings = replace(base.settings, open_loopback_reads=is_open)
    async with base.client(headers={}) as client:
        refused = await client.post(PATH, json=BODY)
        wrong = await client.post(PATH, json=BODY, headers={"Authorization": "Bearer nope"})
    assert_problem(refused, 401, "unauthorized")
    assert_problem(wrong, 401, "unauthorized")
    assert base.desk.told == []


@pytest.mark.parametrize("name", ["li.wei", "李伟", " 李　伟 ", "x" * 120, "值" * 120])
async def test_the_name_of_who_commands_may_come_in_a_header(base, name):
    body = {"key": "ec_set_point", "value": 2}
    response = await post(base, body, headers=BEARER | {"X-Actor": name.encode()})
    assert response.status_code == 200, response.text
    assert base.desk.told[0].actor == name.strip()


async def test_the_same_name_twice_is_one_and_two_names_are_refused(base):
    same = await post(base, headers=BEARER | {"X-Actor": "li.wei"})
    other = await post(base, headers=BEARER | {"X-Actor": "wang.fang"})
    assert same.status_code == 200
    assert_problem(other, 422, "invalid-command", "the same name as in X-Actor")
    assert len(base.desk.told) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"actor": ""}, "body.actor: got nothing, expected the name of who does it"),
        ({"actor": "  "}, "body.actor: got nothing"),
        ({"actor": "x" * 121}, "1 to 120 characters"),
        ({"actor": "li\nwei"}, "without controls"),
        ({"actor": "li\0wei"}, "without controls"),
        ({"actor": 7}, "body.actor"),
        ({"reason": "a\x1b[2Jb"}, "body.reason"),
        ({"reason": "x" * 1001}, "body.reason"),
        ({"value": "2"}, "body.value"),
        ({"value": True}, "body.value"),  # a switch is 0 or 1
        ({"value": None}, "body.value"),
        ({"key": ""}, "body.key"),
        ({"key": "x" * 121}, "body.key"),
        ({"keys": "ec"}, "unknown field `keys`"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused_in_words(base, change, says):
    assert_problem(await post(base, BODY | change), 422, "invalid-command", says)
    assert base.desk.told == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"key": "a"}', b'{"value": NaN}'])
async def test_what_is_no_command_at_all_is_refused(base, body):
    async with base.client() as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post(PATH, content=body, headers=headers)
    assert_problem(response, 422, "invalid-command", "nothing was sent")
    assert base.desk.told == []


async def test_a_name_in_no_known_coding_is_refused(base):
    response = await post(base, headers=BEARER | {"X-Actor": b"\xc0\xee"})  # GBK
    assert_problem(response, 422, "invalid-command", "UTF-8")


async def test_a_large_body_and_one_that_is_not_json_are_refused_as_anywhere(base):
    assert_problem(await post(base, BODY | {"reason": "x" * 20_000}), 413, "body-too-large")
    async with base.client() as client:
        plain = await client.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"})
    assert_problem(plain, 415, "not-json")


async def test_an_unknown_device_is_404_with_the_nearest_one(base):
    response = await post(base, path="/api/v1/devices/climat-1/commands")
    assert_problem(response, 404, "unknown-device", "did you mean climate-1?")
    assert base.desk.told == []


@pytest.mark.parametrize("refusal", [WritesOff, PointNotWritable, ValueOutOfRange])
async def test_a_command_that_is_not_allowed_is_409_with_the_reason(base, refusal):
    base.desk.error = refusal("climate-1: so it is")
    says = "climate-1: so it is; nothing was sent"
    assert_problem(await post(base), 409, refusal.kind, says)


@pytest.mark.parametrize(
    ("outcome", "slug", "says"),
    [
        (Outcome.FAILED, "command-failed", "failed: E-MB-EXC-2 illegal address"),
        (Outcome.UNSURE, "command-unsure", "look at the device"),
    ],
)
async def test_what_the_device_did_not_do_is_502_with_the_id_of_the_record(
    base, outcome, slug, says
):
    base.desk.record = replace(RECORD, outcome=outcome, text="E-MB-EXC-2 illegal address")
    response = await post(base)
    assert_problem(response, 502, slug, says)
    assert RECORD.id in response.json()["detail"]


async def test_without_a_record_nothing_is_sent_and_it_may_be_tried_again(base):
    base.desk.error = CommandNotKept("a detail for the log")
    response = await post(base)
    assert_problem(response, 503, "command-not-kept", "nothing was sent")
    assert response.headers["retry-after"] == "5"
    assert "a detail" not in response.text


async def test_an_end_that_was_not_kept_is_told_and_nobody_is_asked_to_try_again(base):
    base.desk.error = CommandEndNotKept(RECORD)
    response = await post(base)
    assert_problem(response, 503, "command-end-not-kept", "was done, but")
    assert "retry-after" not in response.headers


async def test_a_process_that_polls_nothing_or_stops_takes_no_commands(base):
    base.desk.error = CommandDeskClosed()
    assert_problem(await post(base), 503, "not-commanding", "stopping")
    base.desk = base.shelf = None
    assert_problem(await post(base), 503, "not-commanding", "polls no bus")
    async with base.client() as client:
        assert_problem(await client.get("/api/v1/commands"), 503, "not-commanding")


async def test_commands_are_listed_in_pages_for_who_may_read(base):
    base.shelf.kept = [replace(RECORD, id=f"{n:032x}") for n in range(3)]
    async with base.client() as client:
        page = await client.get("/api/v1/commands?device=climate-1&limit=2")
        await client.get(page.links["next"]["url"])
        last = await client.get("/api/v1/commands")
    assert [one["id"][-1] for one in page.json()] == ["0", "1"]
    assert len(last.json()) == 3
    assert "link" not in last.headers
    assert base.shelf.asked == [
        ("climate-1", 2, None), ("climate-1", 2, f"{1:032x}"), (None, 100, None)
    ]  # fmt: skip
    async with base.client(headers={}) as client:
        assert (await client.get("/api/v1/commands")).status_code == 401


async def test_a_slip_in_the_device_is_told_and_one_that_is_gone_is_found(base):
    base.shelf.kept = [replace(RECORD, device="long-gone")]
    async with base.client() as client:
        slip = await client.get("/api/v1/commands?device=climat-1")
        gone = await client.get("/api/v1/commands?device=long-gone")
        never = await client.get("/api/v1/commands?device=climate-1")
    assert_problem(slip, 422, "invalid-query", "did you mean climate-1?")
    assert len(gone.json()) == 1
    assert never.json() == []


async def test_a_list_without_a_database_is_503(base):
    base.shelf.away = True
    async with base.client() as client:
        assert_problem(await client.get("/api/v1/commands"), 503, "database-unavailable")
