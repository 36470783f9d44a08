"""Silences over HTTP: who may, what is wrong with one, and what it holds back."""

from __future__ import annotations

import pytest

from alerts.book import Because
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import AlertBase, MemoryDesk
from tests.api.base import BEARER, MINUTE_US, NOW_US, make_base
from tests.api.test_alert_routes import assert_problem

LIST = "/api/v1/silences"
BODY = {
    "actor": "li.wei",
    "reason": "换棚膜",
    "until": "2024-06-01T04:00:00+00:00",
    "rules": ["house.*"],
    "sites": ["base-1"],
}


@pytest.fixture
def base(tmp_path) -> AlertBase:
    """A base in which house 2 is very hot."""
    base = AlertBase(**vars(make_base()))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    base.desk.read(("climate-2.air_temperature", NOW_US - 5 * MINUTE_US, [42] * 5))
    return base


async def post(base, body=BODY, **options):
    async with base.client() as client:
        return await client.post(LIST, json=body, **options)


async def held_back(base) -> str | None:
    async with base.client() as client:
        return (await client.get("/api/v1/alerts")).json()[0]["held_back"]


async def test_a_silence_is_answered_listed_and_holds_back_until_it_is_ended(base):
    assert await held_back(base) is None
    response = await post(base)
    assert response.status_code == 201, response.text
    silence = response.json()
    assert silence == {
        "id": silence["id"],
        "by": "li.wei",
        "reason": "换棚膜",
        "from": "2024-06-01T00:00:00.000Z",
        "until": "2024-06-01T04:00:00.000Z",
        "rules": ["house.*"],
        "sites": ["base-1"],
        "subjects": [],
        "worst": "critical",
        "is_over": False,
        "ended_by": "",
        "ended_note": "",
    }
    assert await held_back(base) == Because.SILENCED
    async with base.client() as client:
        assert (await client.get(LIST)).json() == [silence]
        one = f"{LIST}/{silence['id']}"
        nameless = await client.delete(one)
        ended = await client.delete(
            f"{one}?note=done", headers=BEARER | {"X-Actor": "王芳".encode()}
        )
        again = await client.delete(one, headers=BEARER | {"X-Actor": "x"})
        now = (await client.get(LIST)).json()
        ever = (await client.get(f"{LIST}?past=true")).json()
    assert_problem(nameless, 422, "invalid-silence", "got nothing")
    assert ended.json() == silence | {
        "until": "2024-06-01T00:00:00.000Z",
        "is_over": True,
        "ended_by": "王芳",
        "ended_note": "done",
    }
    assert_problem(again, 409, "action-does-not-fit")
    assert (now, ever) == ([], [ended.json()])
    assert await held_back(base) is None


async def test_a_silence_of_what_is_not_as_bad_lets_the_worst_through(base):
    assert (await post(base, BODY | {"worst": "warning"})).status_code == 201
    assert await held_back(base) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"actor": ""}, "body.actor: got nothing"),
        ({"reason": " "}, "why nobody is to be told"),
        ({"reason": "a\x00b"}, "without controls"),
        ({"until": "tomorrow"}, "body.until"),
        ({"until": "2024-05-01T00:00:00Z"}, "after now"),
        ({"until": "2034-05-01T00:00:00Z"}, "within 400 days"),
        ({"from": "2024-06-01T05:00:00Z"}, "after from"),
        ({"from": "noon"}, "body.from"),
        ({"rules": [], "sites": []}, "no matcher"),
        ({"sites": ["base-9"]}, "did you mean base-1?"),
        ({"rules": ["x" * 201]}, "body.rules"),
        ({"rules": ["a\nb\x07"]}, "without controls"),
        ({"rules": "house.hot"}, "body.rules"),
        ({"worst": "bad"}, "body.worst"),
        ({"for": "2h"}, "unknown field `for`"),
    ],
)
async def test_a_silence_that_cannot_be_meant_is_refused_in_words(base, change, says):
    assert_problem(await post(base, BODY | change), 422, "invalid-silence", says)
    assert base.desk.silences_ == {}


async def test_a_silence_needs_a_token_and_a_name(base):
    async with base.client(headers={}) as client:
        assert_problem(await client.post(LIST, json=BODY), 401, "unauthorized")
        assert_problem(await client.delete(f"{LIST}/{'0' * 32}"), 401, "unauthorized")
        assert_problem(await client.get(LIST), 401, "unauthorized")
    base.settings = base.settings.__class__(open_loopback_reads=True)
    async with base.client(headers={}) as client:
        assert_problem(await client.post(LIST, json=BODY), 401, "unauthorized")
        assert (await client.get(LIST)).status_code == 200


async def test_a_silence_that_cannot_be_kept_is_503_and_there_is_none(base):
    base.desk.keeps_nothing = True
    assert_problem(await post(base), 503, "alerts-not-kept", "nothing has changed")
    assert await held_back(base) is None


async def test_what_nobody_began_cannot_be_ended(base):
    async with base.client(headers=BEARER | {"X-Actor": "li"}) as client:
        assert_problem(await client.delete(f"{LIST}/{'0' * 32}"), 404, "unknown-silence")
        assert_problem(await client.delete(f"{LIST}/nine"), 422, "invalid-query", "path.silence")
