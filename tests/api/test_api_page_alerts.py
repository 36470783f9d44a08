"""The open alerts on the page: worst first, in words, quiet about what a larger cause explains."""

from __future__ import annotations

import re

import pytest

from api.instants import format_instant
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import AlertBase, MemoryDesk
from tests.api.base import BEARER, MINUTE_US, NOW_US, make_base

HOUSE_1 = "climate-1.air_temperature"
HOUSE_2 = "climate-2.air_temperature"
ACTOR = BEARER | {"X-Actor": b"Li Wei"}


@pytest.fixture
def base(tmp_path) -> AlertBase:
    """A base in which house 1 is hot and house 2 very hot."""
    base = AlertBase(**vars(make_base(open_loopback_reads=True)))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    base.desk.read(
        (HOUSE_1, NOW_US - 30 * MINUTE_US, [35] * 30), (HOUSE_2, NOW_US - 20 * MINUTE_US, [42] * 20)
    )
    return base


async def text_of(base, path="/?lang=en") -> str:
    async with base.client() as client:
        response = await client.get(path)
    assert response.status_code == 200
    return response.text


def lines(text: str) -> list[tuple[str, str]]:
    """Return class and text of every alert on the page."""
    found = re.findall(r'<li class="alert ([\w ]+)" data-alert="\w+">(.*?)</li>', text, re.S)
    return [(kind, " ".join(re.sub("<[^>]*>", " ", inner).split())) for kind, inner in found]


async def test_alerts_stand_above_the_values_worst_first_in_words(base):
    text = await text_of(base)
    assert text.index("data-alert=") < text.index("data-series=")
    (first, said), (second, _) = lines(text)
    assert (first, second) == ("critical", "warning")
    assert said.startswith("Critical") and "42" in said and "min ago" in said
    assert lines(await text_of(base, "/?lang=zh"))[0][1].startswith("严重")


async def test_a_site_shows_its_own_alerts_only(base):
    registry = base.registry
    house = registry.series[HOUSE_1].site
    assert [kind for kind, _ in lines(await text_of(base, f"/?lang=en&site={house}"))] == [
        "warning"
    ]


async def test_who_has_taken_an_alert_is_said_and_it_moves_down(base):
    async with base.client() as client:
        worst = (await client.get("/api/v1/alerts?severity=critical")).json()[0]
        path = f"/api/v1/alerts/{worst['id']}/acknowledge"
        assert (await client.post(path, json={}, headers=ACTOR)).status_code == 200
    (first, _), (second, said) = lines(await text_of(base))
    assert (first, second) == ("warning", "critical taken")
    assert said.endswith("taken by Li Wei")


async def test_what_is_silenced_is_counted_and_not_shown(base):
    until = format_instant(NOW_US + 60 * MINUTE_US)
    body = {"reason": "repair", "until": until, "sites": [base.registry.series[HOUSE_2].site]}
    async with base.client() as client:
        answer = await client.post("/api/v1/silences", json=body, headers=ACTOR)
        assert answer.status_code == 201, answer.text
    text = await text_of(base)
    assert [kind for kind, _ in lines(text)] == ["warning"]
    assert "1 behind a larger cause, silenced or shelved." in text


async def test_the_page_says_what_its_script_will_compare(base):
    text = await text_of(base)
    (asked,) = re.findall(r'data-alerts="([^"]*)"', text)
    (seen,) = re.findall(r'data-alerts-seen="([^"]*)"', text)
    async with base.client() as client:
        alerts = (await client.get(asked.replace("&amp;", "&"))).json()
    assert len(alerts) == 2
    assert seen == " ".join(sorted(f"{one['id']}-{one['version']}" for one in alerts))


async def test_a_page_without_alerts_to_ask_for_has_no_place_for_them(base):
    base.desk.away = True
    assert "data-alert" not in await text_of(base)
    base.desk = None
    assert "data-alert" not in await text_of(base)
