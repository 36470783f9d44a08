import pytest

from api.tokens import Tokens
from tests.api.base import BEARER, TOKEN, make_base

LATEST = "/api/v1/latest"
POST = {"t": 1717199990000, "v": {"air_temperature": 21.5}, "device": "climate-1"}


async def status(base, path=LATEST, *, peer="127.0.0.1", host="localhost:8000", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with base.client(peer, headers={"Host": host} | names) as client:
        return (await client.get(path)).status_code


@pytest.fixture
def open_base():
    return make_base(open_loopback_reads=True)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer \xff",  # not even ASCII
        "Bearer " + "x" * 10_000,
    ],
)
async def test_a_missing_or_garbled_token_is_401_with_the_scheme(base, authorization):
    async with base.client(headers={}) as client:
        headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
        response = await client.get(LATEST, headers=headers)
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="greenhouse"')
    assert ("invalid_token" in challenge) == bool(authorization)


@pytest.mark.parametrize("token", [TOKEN, "another-token"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_every_token_of_the_file_opens_reads(base, token, scheme):
    assert await status(base, authorization=f"{scheme} {token}") == 200


async def test_a_token_in_the_query_is_not_taken(base):
    assert await status(base, f"{LATEST}?access_token={TOKEN}") == 401


async def test_without_any_token_nobody_gets_in():
    assert not Tokens().accept("")
    assert not Tokens().accept("x")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "[::1]"]
)
async def test_reads_from_this_machine_are_open_where_they_were_opened(open_base, peer, host):
    assert await status(open_base, peer=peer, host=host) == 200


async def test_reads_from_this_machine_need_a_token_unless_they_were_opened(base):
    assert await status(base) == 401


@pytest.mark.parametrize(
    "peer", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.1", "", "unix", "fe80::1"]
)
async def test_reads_from_elsewhere_need_a_token_always(open_base, peer):
    assert await status(open_base, peer=peer) == 401
    assert await status(open_base, peer=peer, authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Anything",
        "Via",
        "X-Real-IP",
    ],
)
async def test_what_came_through_a_proxy_is_not_of_this_machine(open_base, header):
    assert await status(open_base, **{header: "127.0.0.1"}) == 401


async def test_a_proxy_cannot_make_a_stranger_local(open_base):
    assert await status(open_base, peer="10.0.0.7", **{"X-Forwarded-For": "127.0.0.1"}) == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
async def test_a_foreign_name_that_resolves_to_this_machine_is_refused(open_base, host):
    """DNS rebinding: a page of another site asks 127.0.0.1 under its own name."""
    assert await status(open_base, host=host) == 401


async def test_writes_need_a_token_wherever_they_come_from(open_base):
    async with open_base.client(headers={}) as client:
        refused = await client.post("/api/v1/readings", json=POST)
        taken = await client.post("/api/v1/readings", json=POST, headers=BEARER)
    assert (refused.status_code, taken.status_code) == (401, 202)
    assert len(open_base.inlet.arrivals) == 1


async def test_dead_letters_need_a_token_wherever_one_reads_from(open_base):
    assert await status(open_base, "/api/v1/dead-letters") == 401
    assert await status(open_base, "/api/v1/dead-letters", authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/sites", "/api/v1/devices", "/api/v1/series", "/api/v1/quantities", LATEST,
     "/api/v1/readings?series=climate-1.co2", "/api/v1/series/climate-1.co2",
     "/api/v1/series/climate-1.co2/readings", "/api/v1/gaps", "/api/v1/openapi.json", "/metrics",
     "/"],
)  # fmt: skip
async def test_every_read_needs_a_token(base, path):
    assert await status(base, path) == 401
    assert await status(base, path, authorization=f"Bearer {TOKEN}") == 200


async def test_every_documented_route_but_health_is_closed(base):
    """A route that is added later and forgets its door fails here."""
    documented = [
        (method.upper(), path.replace("{series}", "climate-1.co2"))
        for path, methods in base.shared_app().openapi()["paths"].items()
        for method in methods
    ]
    assert len(documented) > 40
    async with base.client(headers={}) as client:
        for method, path in documented:
            answer = await client.request(method, path)
            expected = 200 if path.startswith("/healthz") else 401
            assert answer.status_code == expected, (method, path)
