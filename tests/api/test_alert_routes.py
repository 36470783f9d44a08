"""Alerts over HTTP: who may, what is found, one page after the other, what is done about them."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from alerts.state import Action
from api.alerts import AlertsElsewhere
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import HOT, AlertBase, MemoryDesk
from tests.api.base import BEARER, MINUTE_US, NOW_US, make_base

HOUSE_1 = "climate-1.air_temperature"
HOUSE_2 = "climate-2.air_temperature"
NEWER = "probe-nl.air_temperature"
DAMP = "climate-1.relative_humidity"
ACTOR = BEARER | {"X-Actor": "李伟".encode()}
LIST = "/api/v1/alerts"


def ago(minutes: int) -> int:
    return NOW_US - minutes * MINUTE_US


@pytest.fixture
def base(tmp_path) -> AlertBase:
    """A base in which house 1 was hot and is again, house 2 is very hot, and the air damp."""
    base = AlertBase(**vars(make_base()))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    base.desk.read(
        (HOUSE_1, ago(60), [30] + [35] * 20 + [30] * 9 + [34] * 30),
        (HOUSE_2, ago(20), [42] * 20),
        (DAMP, ago(10), [97] * 10),
    )
    return base


async def get(base, path, **options) -> httpx.Response:
    async with base.client() as client:
        return await client.get(path, **options)


async def act(base, alert, action, body=None, **options) -> httpx.Response:
    headers = options.pop("headers", ACTOR)
    async with base.client() as client:
        return await client.post(f"{LIST}/{alert}/{action}", json=body or {}, headers=headers)


async def found(base, query="") -> list[dict]:
    response = await get(base, LIST + query)
    assert response.status_code == 200, response.text
    return response.json()


def assert_problem(response, status, slug, says=""):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:greenhouse:problem:{slug}"
    assert says in problem["detail"], problem["detail"]


# -- reading


async def test_the_list_is_by_start_and_says_everything_of_an_alert(base):
    damp, very_hot, hot, was_hot = await found(base)
    assert [one["rule"] for one in (damp, very_hot, hot, was_hot)] == ["house.damp"] + [HOT] * 3
    assert [one["phase"] for one in (very_hot, hot, was_hot)] == ["firing", "firing", "resolved"]
    assert very_hot == {
        "id": very_hot["id"],
        "version": 2,
        "rule": HOT,
        "rule_version": 3,
        "rule_name": {"zh": "高温", "en": "Too hot"},
        "label": "advisory",
        "severity": "critical",
        "worst": "critical",
        "phase": "firing",
        "open": True,
        "needs_attention": True,
        "held_back": None,
        "subject": f"series:{HOUSE_2}",
        "site": "house-2",
        "site_name": {"zh": "二号温室", "en": "House 2"},
        "started_at": "2024-05-31T23:40:00.000Z",
        "fired_at": very_hot["fired_at"],
        "resolved_at": None,
        "duration_s": 1200.0,
        "value": 42.0,
        "peak": 42.0,
        "unit": "°C",
        "coverage": very_hot["coverage"],
        "message": {"zh": "二号温室 气温 42.0 °C", "en": "House 2: air 42.0 °C"},
        "runbook": {"zh": "开窗", "en": "Open the vents"},
        "acknowledged": None,
        "assigned_to": "",
        "shelf": None,
        "closed": None,
        "comments": [],
        "replaces": "",
        "group": very_hot["group"],
    }


# query, how many of the four
FILTERS = [
    ("?open=true", 3),
    ("?open=false", 1),
    ("?attention=true", 4),
    ("?attention=false", 0),
    ("?phase=resolved", 1),
    ("?phase=resolved&phase=firing", 4),
    ("?severity=critical", 1),
    ("?severity=critical&severity=info", 2),
    ("?rule=house.hot", 3),
    ("?rule=*.damp", 1),
    ("?rule=tomato.*", 0),
    ("?site=house-1", 3),
    ("?site=house-2", 1),
    ("?site=ganzhou", 4),  # all below it
    ("?site=westland", 0),
    ("?subject=series:climate-2.air_temperature", 1),
    ("?until=2024-05-31T23:10:00Z", 1),  # began an hour ago, is over
    ("?since=2024-05-31T23:59:00Z", 3),  # what is open has no end
    ("?since=2024-05-31T23:05:00Z&until=2024-05-31T23:06:00Z", 1),  # touches
    ("?site=house-1&severity=warning&open=true", 1),
]


@pytest.mark.parametrize(("query", "count"), FILTERS)
async def test_filters_agree(base, query, count):
    assert len(await found(base, query)) == count


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?phase=fired", "'firing'"),
        ("?severity=bad", "'warning'"),
        ("?site=house-9", "did you mean house-2?"),
        ("?since=2024-06-01", "a day alone"),
        ("?since=2024-06-02T00:00:00Z&until=2024-06-01T00:00:00Z", "an end after since"),
        ("?after=1", "query.after"),
        ("?after=1-" + "g" * 32, "query.after"),
        ("?group=1", "query.group"),
        ("?limit=0", "query.limit"),
        ("?state=open", "one of"),
        ("?rule=%01", "plain letters"),
        ("?subject=" + "x" * 301, "plain letters"),
        ("?open=yes%20please", "query.open"),
    ],
)
async def test_a_filter_that_cannot_be_meant_is_refused(base, query, says):
    assert_problem(await get(base, LIST + query), 422, "invalid-query", says)


async def test_pages_stay_the_same_while_alerts_come_in(base):
    whole = [one["id"] for one in await found(base)]
    seen, url = [], f"{LIST}?limit=1"
    for minute in range(10):
        # Something newer fires before every page.
        base.desk.read((NEWER, ago(-10 * minute), [35] * 3 + [20]))
        response = await get(base, url)
        seen += [one["id"] for one in response.json()]
        if "next" not in response.links:
            break
        url = response.links["next"]["url"]
    assert seen[1:] == whole  # behind the one that was newest then
    assert len(await found(base)) > len(whole)


async def test_an_alert_is_told_with_its_whole_history(base):
    alert = (await found(base, "?phase=resolved"))[0]
    response = await get(base, f"{LIST}/{alert['id']}")
    record = response.json()
    history = record.pop("history")
    assert record == alert
    assert [line["kind"] for line in history] == ["pending", "fired", "resolved"]
    assert [line["number"] for line in history] == [1, 2, 3]
    assert history[2]["at"] == alert["resolved_at"]
    assert history[1]["severity"] == "warning"
    assert response.headers["etag"] == '"3"'


async def test_groups_gather_what_has_one_cause(base):
    groups = (await get(base, "/api/v1/alert-groups")).json()
    assert len(groups) == 3
    hot = next(one for one in groups if one["place"] == "house-1" and one["label"] == HOT)
    assert hot["place_name"]["en"] == "House 1"
    members = await found(base, f"?group={hot['id']}")
    assert sorted(one["id"] for one in members) == sorted(hot["members"])
    first = await get(base, "/api/v1/alert-groups?limit=2&open=true&site=ganzhou")
    second = await get(base, first.links["next"]["url"])
    assert len(first.json()) == 2
    assert [one["id"] for one in first.json() + second.json()] == [one["id"] for one in groups]


@pytest.mark.parametrize("path", ["", f"/{'0' * 32}"])
async def test_nobody_reads_without_a_token(base, path):
    async with base.client(headers={}) as client:
        assert_problem(await client.get(LIST + path), 401, "unauthorized")
        assert_problem(await client.get("/api/v1/alert-groups"), 401, "unauthorized")


async def test_an_alert_that_nobody_knows_is_404(base):
    assert_problem(await get(base, f"{LIST}/{'0' * 32}"), 404, "unknown-alert")
    assert_problem(await act(base, "0" * 32, "acknowledge"), 404, "unknown-alert")
    assert_problem(await get(base, f"{LIST}/nine"), 422, "invalid-query", "path.alert")


async def test_an_alert_whose_rule_is_gone_is_told_by_its_code(base):
    base.desk.packs = ()
    alert = (await found(base, "?site=house-2"))[0]
    assert alert["message"] == {"zh": HOT, "en": HOT}
    assert (alert["label"], alert["unit"]) == (None, "")


# -- acting


async def test_an_action_is_done_recorded_with_the_name_and_told(base):
    alert = (await found(base, "?site=house-2"))[0]
    response = await act(base, alert["id"], "acknowledge", {"note": "去看看"})
    assert response.status_code == 200, response.text
    after = response.json()
    now = "2024-06-01T00:00:00.000Z"
    assert after["acknowledged"] == {"by": "李伟", "at": now, "note": "去看看"}
    assert (after["version"], response.headers["etag"]) == (3, '"3"')
    assert after["held_back"] == "acknowledged"
    assert after["phase"] == "firing"
    line = (await get(base, f"{LIST}/{alert['id']}")).json()["history"][-1]
    assert (line["kind"], line["actor"], line["note"]) == ("acknowledge", "李伟", "去看看")


async def test_every_action_that_there_is_can_be_done(base):
    alert = (await found(base, "?site=house-2"))[0]["id"]
    done = [
        ("comment", {"note": "先看传感器"}),
        ("assign", {"to": "王芳", "note": "你在近处"}),
        ("shelve", {"until": "2024-06-01T02:00:00Z", "note": "repair"}),
        ("unshelve", {}),
        ("acknowledge", {}),
        ("unacknowledge", {"note": "too early"}),
    ]
    for action, body in done:
        response = await act(base, alert, action, body)
        assert response.status_code == 200, response.text
    over = (await found(base, "?phase=resolved"))[0]["id"]
    closed = await act(base, over, "close", {"note": "vents were stuck"})
    assert closed.json()["closed"]["note"] == "vents were stuck"
    assert not closed.json()["needs_attention"]
    assert {name for name, _ in done} | {"close"} == {action.value for action in Action}
    history = (await get(base, f"{LIST}/{alert}")).json()["history"]
    assert [line["kind"] for line in history[2:]] == [name for name, _ in done]
    assert history[3]["note"] == "王芳: 你在近处"


async def test_an_action_may_come_without_any_body(base):
    alert = (await found(base, "?site=house-2"))[0]["id"]
    async with base.client() as client:
        response = await client.post(f"{LIST}/{alert}/acknowledge", headers=ACTOR)
        # As curl -X POST sends it: without a word about a length.
        bare = client.build_request("POST", f"{LIST}/{alert}/unacknowledge", headers=ACTOR)
        del bare.headers["content-length"]
        taken_back = await client.send(bare)
    assert response.status_code == 200, response.text
    assert taken_back.status_code == 200, taken_back.text


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("unacknowledge", {}),  # is not
        ("unshelve", {}),
        ("close", {"note": "well"}),  # is open
        ("assign", {"to": ""}),  # is nobody's already
        ("shelve", {"until": "2024-05-01T00:00:00Z", "note": "past"}),
    ],
)
async def test_an_action_that_does_not_fit_is_409_with_the_reason(base, action, body):
    alert = (await found(base, "?site=house-2"))[0]
    refused = await act(base, alert["id"], action, body)
    assert_problem(refused, 409, "action-does-not-fit", "only one that is")
    assert (await found(base, "?site=house-2"))[0] == alert


async def test_of_two_people_who_saw_the_same_version_only_one_acts(base):
    alert = (await found(base, "?site=house-2"))[0]
    seen = ACTOR | {"If-Match": f'"{alert["version"]}"'}
    first = await act(base, alert["id"], "acknowledge", headers=seen)
    second = await act(base, alert["id"], "assign", {"to": "王芳"}, headers=seen)
    assert first.status_code == 200
    assert_problem(second, 412, "alert-changed", "nothing has changed")
    assert second.headers["etag"] == first.headers["etag"]
    again = await act(
        base, alert["id"], "assign", {"to": "王芳"},
        headers=ACTOR | {"If-Match": second.headers["etag"]},
    )  # fmt: skip
    assert again.json()["assigned_to"] == "王芳"


async def test_an_alert_that_became_worse_is_not_the_one_that_was_looked_at(base):
    alert = (await found(base, "?site=house-1&open=true&severity=warning"))[0]
    base.desk.read((HOUSE_1, NOW_US, [42] * 3))
    seen = ACTOR | {"If-Match": f'"{alert["version"]}"'}
    refused = await act(base, alert["id"], "acknowledge", headers=seen)
    assert_problem(refused, 412, "alert-changed")


@pytest.mark.parametrize("is_open", [False, True])
async def test_acting_needs_a_token_even_where_reads_are_open(base, is_open):
    alert = (await found(base, "?site=house-2"))[0]
    base.settings = replace(base.settings, open_loopback_reads=is_open)
    async with base.client(headers={}) as client:
        url = f"{LIST}/{alert['id']}/acknowledge"
        refused = await client.post(url, json={"actor": "li.wei"})
        wrong = await client.post(url, json={}, headers={"Authorization": "Bearer nope"})
        reading = await client.get(LIST)
    assert_problem(refused, 401, "unauthorized")
    assert_problem(wrong, 401, "unauthorized")
    assert reading.status_code == (200 if is_open else 401)
    assert (await found(base, "?site=house-2"))[0]["acknowledged"] is None


@pytest.mark.parametrize(
    ("action", "body", "says"),
    [
        ("acknowledge", {"actor": "  "}, "body.actor: got nothing"),
        ("acknowledge", {"actor": "x" * 121}, "1 to 120 characters"),
        ("acknowledge", {"actor": "li\nwei"}, "without controls"),
        ("acknowledge", {"actor": 7}, "body.actor"),
        ("acknowledge", {"actor": "li", "note": "a\x1b[2Jb"}, "body.note"),
        ("acknowledge", {"actor": "li", "note": "x" * 2001}, "body.note"),
        ("acknowledge", {"actor": "li", "to": "wang"}, "no such field in acknowledge"),
        ("acknowledge", {"actor": "li", "until": "x"}, "no such field in acknowledge"),
        ("acknowledge", {"actor": "li", "noted": "x"}, "unknown field `noted`"),
        ("comment", {"actor": "li", "note": " "}, "what there is to say"),
        ("close", {"actor": "li"}, "a closing note"),
        ("assign", {"actor": "li"}, "a name, or empty for nobody"),
        ("shelve", {"actor": "li", "until": "2024-06-02T00:00:00Z"}, "the reason"),
        ("shelve", {"actor": "li", "note": "x"}, "body.until: got nothing"),
        ("shelve", {"actor": "li", "note": "x", "until": "tomorrow"}, "a time with its zone"),
        ("shelve", {"actor": "li", "note": "x", "until": "2024-06-02T00:00:00"}, "zone"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused_in_words(base, action, body, says):
    alert = (await found(base, "?site=house-2"))[0]
    refused = await act(base, alert["id"], action, body, headers=BEARER)
    assert_problem(refused, 422, "invalid-action", says)
    assert (await found(base, "?site=house-2"))[0] == alert


async def test_what_is_no_action_is_refused(base):
    alert = (await found(base, "?site=house-2"))[0]["id"]
    assert_problem(await act(base, alert, "dismiss"), 422, "invalid-query", "'acknowledge'")
    odd = ACTOR | {"If-Match": '"yesterday"'}
    assert_problem(
        await act(base, alert, "acknowledge", headers=odd), 422, "invalid-query", "If-Match"
    )
    async with base.client() as client:
        url = f"{LIST}/{alert}/acknowledge"
        plain = await client.post(url, content=b"x", headers=ACTOR | {"Content-Type": "text/plain"})
        large = await client.post(url, json={"note": "x" * 20_000}, headers=ACTOR)
        broken = await client.post(
            url, content=b"{", headers=ACTOR | {"Content-Type": "application/json"}
        )
    assert_problem(plain, 415, "not-json")
    assert_problem(large, 413, "body-too-large")
    assert_problem(broken, 422, "invalid-action")


async def test_what_cannot_be_kept_is_503_and_nothing_has_changed(base):
    alert = (await found(base, "?site=house-2"))[0]
    base.desk.keeps_nothing = True
    refused = await act(base, alert["id"], "acknowledge")
    assert_problem(refused, 503, "alerts-not-kept", "nothing has changed")
    assert refused.headers["retry-after"] == "5"
    assert "detail for the log" not in refused.text
    base.desk.keeps_nothing = False
    assert (await found(base, "?site=house-2"))[0] == alert


async def test_a_process_that_only_reads_says_who_to_ask(base, monkeypatch):
    alert = (await found(base, "?site=house-2"))[0]

    async def elsewhere(*_):
        raise AlertsElsewhere

    monkeypatch.setattr(base.desk, "act", elsewhere)
    refused = await act(base, alert["id"], "acknowledge")
    assert_problem(refused, 503, "not-alerting", "ask the one that judges")
    assert "retry-after" not in refused.headers


async def test_without_a_database_or_a_desk_it_is_503(base):
    base.desk.away = True
    assert_problem(await get(base, LIST), 503, "database-unavailable")
    base.desk = None
    for path in (LIST, "/api/v1/alert-groups", "/api/v1/rules", "/api/v1/silences"):
        assert_problem(await get(base, path), 503, "not-alerting")
    assert_problem(await act(base, "0" * 32, "acknowledge"), 503, "not-alerting")
