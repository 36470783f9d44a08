"""Unknown devices over HTTP: who may see them, how a try and a claim are asked and refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from api.onboarding import (
    Claimed,
    ClaimNotWritten,
    Found,
    OnboardingRefused,
    Proposal,
    Tried,
    TriedReading,
    UnknownUnclaimed,
    Unreadable,
)
from devices.codecs.library import CODECS
from devices.errors import Mistake
from devices.guess import guess
from devices.quality import Quality
from devices.unclaimed import HeardMessage, Unclaimed
from storage.errors import DatabaseUnavailable
from tests.api.base import NOW_US, TOKEN, Base

ID = "0123456789abcdef"
PAYLOAD = b'{"a": {"wendu": "21.5"}}'
SAMPLE = HeardMessage("vendor/7", PAYLOAD, len(PAYLOAD), NOW_US - 1_000_000)
UNCLAIMED = Unclaimed(ID, "vendor/7", "", "", NOW_US - 61_000_000, NOW_US, 3, 72, (SAMPLE,))
DEVICE = {"code": "ax-7", "site": "house-1"}


@dataclass
class Desk:
    """What the routes ask; *error* is raised instead of an answer."""

    error: Exception | None = None
    asked: list[Any] = field(default_factory=list)
    many: int = 1

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Found], int]:
        one = Found(UNCLAIMED, guess(UNCLAIMED, CODECS))
        return [one] * max(0, min(limit, self.many - offset)), self.many

    async def get(self, unclaimed_id: str) -> Found:
        if self.error is not None and not isinstance(
            self.error, OnboardingRefused | ClaimNotWritten
        ):
            raise self.error
        if unclaimed_id != ID:
            raise UnknownUnclaimed(unclaimed_id)
        return Found(UNCLAIMED, guess(UNCLAIMED, CODECS))

    def proposed(
        self, found: Found, given: Mapping[str, Any], mapping: str, *, guessed: bool
    ) -> Proposal:
        return Proposal({**given, "guessed": guessed}, mapping)

    async def attempt(self, proposal: Proposal, samples: Sequence[HeardMessage]) -> Tried:
        self.asked.append((proposal, samples))
        if self.error is not None:
            raise self.error
        reading = TriedReading(
            "ax-7.co2", "co2", "", "co2", 9e9, "ppm", NOW_US, NOW_US, int(Quality.PHYSICAL_RANGE)
        )
        return Tried((reading,), (), (Unreadable("vendor/7", "E-KEY", "v: got…"),), 2, {"f": "t"})

    async def claim(self, found: Found, proposal: Proposal, actor: str) -> Claimed:
        self.asked.append((proposal, actor))
        if self.error is not None:
            raise self.error
        return Claimed("ax-7", ("ax-7.co2",), {"site.d/devices/ax-7.yaml": "…"}, 8, actor, 3)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def client(base: Base, desk: Desk) -> httpx.AsyncClient:
    app = base.shared_app()
    app.state.services = replace(base.services(), onboarding=desk)
    return base.client(app=app)


async def test_unknown_devices_are_listed_with_what_they_may_be_saying(client, desk):
    desk.many = 3
    async with client:
        answer = await client.get("/api/v1/unclaimed?limit=2")
    assert answer.headers["x-total-count"] == "3"
    assert answer.headers["link"] == '</api/v1/unclaimed?limit=2&offset=2>; rel="next"'
    one, _ = answer.json()
    assert one["sample"]["text"] == PAYLOAD.decode()
    assert base64.b64decode(one["sample"]["payload"]) == PAYLOAD
    assert one["interval_s"] == pytest.approx(30.5)
    assert one["formats"][0]["payload"] == "mapping/"
    assert [(v["quantity"], v["unit"]) for v in one["values"]] == [("air_temperature", "°C")]


async def test_one_is_told_with_a_description_to_start_from(client):
    async with client:
        one = (await client.get(f"/api/v1/unclaimed/{ID}")).json()
        missing = await client.get("/api/v1/unclaimed/fedcba9876543210")
        odd = await client.get("/api/v1/unclaimed/..%2fetc")
    assert "topic: vendor/7" in one["entry"]
    assert "path: a.wendu" in one["mapping"]
    assert (missing.status_code, missing.json()["type"]) == (
        404,
        "urn:greenhouse:problem:unknown-unclaimed",
    )
    assert odd.status_code in (404, 422)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/unclaimed"),
        ("GET", f"/unclaimed/{ID}"),
        ("POST", f"/unclaimed/{ID}/claim"),
        ("POST", "/profiles/try"),
    ],
)
async def test_without_a_token_nobody_sees_or_claims_anything(base, client, method, path):
    async with base.client(headers={}) as bare:
        answer = await bare.request(method, f"/api/v1{path}", json={})
    assert answer.status_code == 401
    await client.aclose()


async def test_a_process_without_the_site_file_says_so(base):
    async with base.client() as client:
        for path in ("/unclaimed", f"/unclaimed/{ID}"):
            answer = await client.get(f"/api/v1{path}")
            assert (answer.status_code, answer.json()["type"]) == (
                503,
                "urn:greenhouse:problem:not-onboarding",
            )


async def test_a_try_brings_its_own_messages_or_those_of_an_unclaimed_device(client, desk):
    own = {"topic": "vendor/8", "payload": base64.b64encode(b"\x00").decode()}
    text = {"topic": "vendor/9", "text": "温"}
    body = {"unclaimed": ID, "samples": [own, text], "device": DEVICE, "guessed": True}
    async with client:
        answer = await client.post("/api/v1/profiles/try", json=body)
        assert answer.status_code == 200, answer.text
        alone = await client.post(
            "/api/v1/profiles/try", json={"samples": [own], "payload": "json"}
        )
        assert alone.status_code == 200
        body = {"profile": "profile: x", "reads": [{"function": 3, "address": 0, "words": [1]}]}
        registers = await client.post("/api/v1/profiles/try", json=body)
        assert registers.status_code == 200
    (first, samples), (second, _), (third, none) = desk.asked
    assert (third.profile, third.reads, none) == (body["profile"], tuple(body["reads"]), [])
    assert first.entry == DEVICE | {"guessed": True}
    assert [(one.topic, one.payload) for one in samples] == [
        ("vendor/7", PAYLOAD),
        ("vendor/8", b"\x00"),
        ("vendor/9", "温".encode()),
    ]
    assert second == Proposal(None, "", "json")
    tried = answer.json()
    assert tried["readings"][0]["quality"] == "bad"
    assert tried["readings"][0]["quality_reasons"] == ["physical_range"]
    assert tried["unreadable"] == [{"topic": "vendor/7", "code": "E-KEY", "text": "v: got…"}]
    assert (tried["ignored_fields"], tried["files"]) == (2, {"f": "t"})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.samples"),
        ({"samples": [{"topic": "a"}]}, "body.samples[0]"),
        ({"profile": "profile: x"}, "body.reads"),
        ({"samples": [{"topic": "a", "text": "1", "payload": "MQ=="}]}, "body.samples[0]"),
        ({"samples": [{"topic": "a", "payload": "$"}]}, "body.samples[0].payload"),
        ({"samples": [{"topic": "", "text": ""}]}, "body.samples[0].topic"),
        ({"sample": []}, "body"),
        ({"unclaimed": ID, "device": []}, "body.device"),
        ([], "body"),
    ],
)
async def test_a_try_that_cannot_be_meant_is_refused(client, desk, body, where):
    async with client:
        answer = await client.post("/api/v1/profiles/try", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:greenhouse:problem:invalid-try"
    assert where in [error["where"] for error in problem["errors"]]
    assert desk.asked == []


MISTAKES = [
    Mistake("site.d/devices/ax-7.yaml", 2, 1, "site", "'h9'", "the code of a site above", "h1"),
    Mistake("site.yaml", 9, 3, "", "x", "y"),
]


@pytest.mark.parametrize(
    ("path", "slug"), [("/profiles/try", "try"), (f"/unclaimed/{ID}/claim", "claim")]
)
async def test_every_mistake_of_a_description_is_named(client, desk, path, slug):
    desk.error = OnboardingRefused(MISTAKES)
    body = {"device": DEVICE} | ({"unclaimed": ID} if slug == "try" else {"actor": "li.wei"})
    async with client:
        answer = await client.post(f"/api/v1{path}", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, f"urn:greenhouse:problem:{slug}-refused")
    assert problem["errors"] == [
        {
            "where": "site.d/devices/ax-7.yaml:2:1 site",
            "got": "'h9'",
            "expected": "the code of a site above",
            "hint": "h1",
        },
        {"where": "site.yaml:9:3", "got": "x", "expected": "y", "hint": ""},
    ]
    assert "nothing was" in problem["detail"]


async def test_a_claim_is_answered_with_what_was_written(client, desk):
    headers = {"Authorization": f"Bearer {TOKEN}".encode(), "X-Actor": "李伟".encode()}
    async with client:
        answer = await client.post(
            f"/api/v1/unclaimed/{ID}/claim",
            json={"device": DEVICE, "mapping": "mapping: m", "guessed": True},
            headers=headers,
        )
    assert answer.status_code == 201
    assert answer.json() == {
        "device": "ax-7",
        "series": ["ax-7.co2"],
        "files": {"site.d/devices/ax-7.yaml": "…"},
        "revision": 8,
        "actor": "李伟",
        "messages": 3,
    }
    assert desk.asked == [(Proposal(DEVICE | {"guessed": True}, "mapping: m"), "李伟")]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"device": DEVICE}, "body.actor"),
        ({"device": DEVICE, "actor": "a\nb"}, "body.actor"),
        ({"device": DEVICE, "actor": "x" * 121}, "body.actor"),
        ({"actor": "li.wei"}, "body"),
        ({"device": DEVICE, "actor": "li.wei", "force": True}, "body"),
    ],
)
async def test_a_claim_of_nobody_or_of_nothing_is_refused(client, desk, body, where):
    async with client:
        answer = await client.post(f"/api/v1/unclaimed/{ID}/claim", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:greenhouse:problem:invalid-claim")
    assert where in [error["where"] for error in problem["errors"]]
    assert desk.asked == []


async def test_a_claim_that_cannot_be_written_changes_nothing_and_says_so(client, desk):
    desk.error = ClaimNotWritten("Read-only file system")
    async with client:
        answer = await client.post(
            f"/api/v1/unclaimed/{ID}/claim", json={"device": DEVICE, "actor": "li.wei"}
        )
    assert (answer.status_code, answer.json()["type"]) == (
        507,
        "urn:greenhouse:problem:claim-not-written",
    )


async def test_while_the_database_is_away_nothing_is_claimed(client, desk):
    desk.error = DatabaseUnavailable("connection refused: a detail for the log")
    async with client:
        answer = await client.post(
            f"/api/v1/unclaimed/{ID}/claim", json={"device": DEVICE, "actor": "li.wei"}
        )
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "detail for the log" not in answer.text


@pytest.mark.parametrize("depth", [20, 900, 100_000])
@pytest.mark.parametrize("path", ["/profiles/try", f"/unclaimed/{ID}/claim"])
async def test_a_nest_without_end_is_refused(client, desk, path, depth):
    content = '{"device": {"a": ' + "[" * depth + "]" * depth + '}, "actor": "a"}'
    if path == "/profiles/try":
        content = content.replace('"actor": "a"', f'"unclaimed": "{ID}"')
    async with client:
        answer = await client.post(
            f"/api/v1{path}", content=content, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 422, answer.text
    assert desk.asked == []


async def test_a_body_beyond_all_reason_is_not_read(client):
    async with client:
        answer = await client.post(
            "/api/v1/profiles/try",
            content=json.dumps({"mapping": "x" * 600_000}),
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code == 413
