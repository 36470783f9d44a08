"""Rules and packs over HTTP: read, checked, written by one person at a time, and on record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from alerts.episode import RuleFailure
from alerts.pack_library import shipped_pack_names, shipped_pack_text, shipped_trials
from alerts.rule import read_pack
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import HOT, PACK, AlertBase, MemoryDesk
from tests.api.base import BEARER, make_base
from tests.api.test_alert_routes import assert_problem

ACTOR = BEARER | {"X-Actor": "李伟".encode()}
MINE = """
pack: mine
version: 1
name: {zh: 我的, en: Mine}
rules:
  - {id: warm, when: air_temperature > 28 degC, for: 5min, where: {site: house-1}}
  - {id: sunny, when: air_temperature > 30 degC, where: {site: house-nl}, schedule: {sun: day}}
"""
TRIALS = """
tests:
  - name: warm for ten minutes
    rules: [warm]
    start: 2026-06-01T12:00:00+08:00
    interval: 1min
    place: {house: house-1}
    series: {air_temperature: '20x2 29x9 20x3'}
    expect: []
"""
WRONG_TRIALS = TRIALS.replace("expect: []", "expect: [{rule: warm, started: 1min}]")


@pytest.fixture
def base(tmp_path) -> AlertBase:
    """A base with one pack in force, and none of its own."""
    base = AlertBase(**vars(make_base()))
    sites = [
        replace(one, latitude=None, longitude=None) if one.code == "house-nl" else one
        for one in base.registry.sites
    ]
    base.registry = replace(base.registry, sites=tuple(sites))
    base.folder = PackFolder(tmp_path / "site.d" / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    return base


async def get(base, path):
    async with base.client() as client:
        return await client.get(f"/api/v1{path}")


async def put(base, name="mine", text=MINE, trials=None, headers=ACTOR, **more):
    body = {"text": text, "trials": trials} | more
    async with base.client() as client:
        return await client.put(f"/api/v1/packs/{name}", json=body, headers=headers)


async def delete(base, name="mine", headers=ACTOR, query=""):
    async with base.client() as client:
        return await client.delete(f"/api/v1/packs/{name}{query}", headers=headers)


# -- rules


async def test_rules_say_where_they_are_judged_and_what_hinders_them(base):
    hot, damp, by_sun = (await get(base, "/rules")).json()
    assert hot == {
        "rule": HOT,
        "pack": "house",
        "version": 3,
        "layer": "base",
        "name": {"zh": "高温", "en": "Too hot"},
        "levels": [
            {
                "severity": "warning",
                "when": "air_temperature > 33 degC",
                "for_s": 20.0,
                "keep_firing_s": 0.0,
            },
            {
                "severity": "critical",
                "when": "air_temperature > 40 degC",
                "for_s": 10.0,
                "keep_firing_s": 0.0,
            },
        ],
        "per": None,
        "label": "advisory",
        "source": {"standard": "", "edition": "", "clause": "", "evidence": "", "text": ""},
        "limit_of": "",
        "hides": [],
        "group": "",
        "tell": ["operator"],
        "enabled": True,
        "runbook": {"zh": "开窗", "en": "Open the vents"},
        "bound": 3,
        "unbound": [],
        "failure": None,
    }
    assert damp["bound"] == 1
    assert by_sun["bound"] == 0
    (hindered,) = by_sun["unbound"]
    assert hindered["subject"] == "series:probe-nl.air_temperature"
    assert "coordinates" in hindered["reason"]


async def test_rules_are_filtered_and_cut_into_pages(base):
    first = await get(base, "/rules?limit=2&pack=house")
    assert [one["rule"] for one in first.json()] == [HOT, "house.damp"]
    assert first.headers["x-total-count"] == "3"
    assert (await get(base, "/rules?failed=true")).json() == []
    assert_problem(await get(base, "/rules?pack=hose"), 422, "invalid-query", "mean house?")


async def test_a_rule_that_raised_an_error_says_so(base):
    base.desk.engine.failures[HOT] = RuleFailure(HOT, "ValueError: so it is", 1)
    (failed,) = (await get(base, "/rules?failed=true")).json()
    assert failed["failure"]["reason"] == "ValueError: so it is"


async def test_bindings_name_series_and_the_milder_rules(base):
    strict = PACK.replace("pack: house", "pack: strict").replace("33", "32")
    limited = [
        text.replace("- id: hot", "- id: hot\n    limit_of: heat") for text in (PACK, strict)
    ]

    base.desk.packs = tuple(read_pack(text, "x") for text in limited)
    base.desk._build()
    answer = await get(base, "/rules/strict.hot/bindings?site=house-1")
    assert answer.json() == [
        {
            "rule": "strict.hot",
            "subject": "series:climate-1.air_temperature",
            "site": "house-1",
            "series": ["climate-1.air_temperature"],
            "label": "advisory",
            "stricter_than": [HOT],
        }
    ]
    assert (await get(base, f"/rules/{HOT}/bindings")).json() == []
    assert_problem(await get(base, "/rules/house.hat/bindings"), 404, "unknown-rule", "house.hot?")


# -- checking


async def check(base, body, **options):
    async with base.client(**options) as client:
        return await client.post("/api/v1/rules/check", json=body)


async def test_a_text_is_checked_and_nothing_of_it_is_kept(base):
    checked = (await check(base, {"text": MINE, "trials": TRIALS})).json()
    assert not checked["valid"]
    (failure,) = checked["failures"]
    assert (failure["line"], failure["test"]) == (9, "warm for ten minutes")
    assert "not expected" in failure["text"]
    assert [one["bound"] for one in checked["rules"]] == [1, 0]
    assert checked["rules"][1]["unbound"][0]["reason"].endswith("no coordinates")
    assert base.folder.names() == []
    right = TRIALS.replace("expect: []", "expect: [{rule: warm}]")
    assert (await check(base, {"text": MINE, "trials": right})).json()["valid"]


async def test_every_mistake_is_named_with_line_key_and_the_nearest_word(base):
    text = MINE.replace("air_temperature > 28 degC", "air_temperatur > 28 degC").replace(
        "schedule: {sun: day}", "schedule: {sun: noon}"
    )
    checked = (await check(base, {"text": text})).json()
    assert not checked["valid"]
    assert [(one["line"], one["key"]) for one in checked["mistakes"]] == [
        (6, "rules[0].when"),
        (7, "rules[1].schedule.sun"),
    ]
    assert checked["mistakes"][0]["hint"] == "air_temperature"
    trials = (await check(base, {"text": MINE, "trials": "tests: 3"})).json()
    assert trials["trial_mistakes"][0]["key"] == "tests"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: &a [*a]",
        "pack: x\nversion: 1\nrules: [{id: a, when: '" + "(" * 50_000 + "'}]",
        "pack: x\nversion: 1\nrules: [" + "{id: a}," * 3 + "]",
        "\0",
        "\ufeff",
    ],
)
async def test_a_text_that_is_meant_to_hurt_is_only_a_mistake(base, text):
    answer = await check(base, {"text": text})
    assert answer.status_code == 200, answer.text
    assert answer.json()["mistakes"]


async def test_checking_is_reading_and_bad_bodies_are_refused(base):
    assert_problem(await check(base, {"text": MINE}, headers={}), 401, "unauthorized")
    assert_problem(await check(base, {}), 422, "invalid-request", "text")
    assert_problem(await check(base, {"text": 3}), 422, "invalid-request", "body.text")
    assert_problem(await check(base, {"text": "x" * 300_000}), 422, "invalid-request")
    assert_problem(await check(base, {"text": "x" * 1_100_000}), 413, "body-too-large")
    async with base.client(headers=BEARER | {"Content-Type": "application/json"}) as client:
        half = await client.post("/api/v1/rules/check", content=b'{"text": "\\ud800"}')
    assert_problem(half, 422, "invalid-request")


# -- packs


async def test_the_shipped_packs_can_be_read_and_not_written(base):
    packs = (await get(base, "/packs")).json()
    assert [one["pack"] for one in packs] == list(shipped_pack_names())
    assert not any(one["in_force"] for one in packs)
    answer = await get(base, "/packs/tomato")
    tomato = answer.json()
    assert (tomato["text"], tomato["trials"]) == (
        shipped_pack_text("tomato"),
        shipped_trials("tomato"),
    )
    assert len(tomato["rules"]) == tomato["rule_count"] > 5
    assert tomato["rules"][0]["bound"] > 0  # where it would be judged
    etag = {"If-Match": answer.headers["etag"]}
    assert_problem(
        await put(base, "tomato", headers=ACTOR | etag), 409, "shipped-pack", "name of your own"
    )
    assert_problem(await delete(base, "tomato"), 409, "shipped-pack")
    assert_problem(await get(base, "/packs/tomatoes"), 404, "unknown-pack", "mean tomato?")
    assert_problem(await get(base, "/packs/..%2Fsite"), 404, "not-found")
    assert_problem(await get(base, "/packs/.hidden"), 422, "invalid-query", "path.pack")


async def test_a_pack_is_written_judged_at_once_and_on_record(base):
    trials = TRIALS.replace("expect: []", "expect: [{rule: warm}]")
    answer = await put(base, trials=trials, reason="早季")
    assert answer.status_code == 201, answer.text
    kept = answer.json()
    assert (kept["in_force"], kept["shipped"], kept["rules"][0]["bound"]) == (True, False, 1)
    assert (kept["text"], kept["trials"]) == (MINE, trials)
    assert base.folder.file("mine").read_text("utf-8") == MINE
    assert base.folder.trials_file("mine").read_text("utf-8") == trials
    assert "mine.warm" in base.desk.rules().rules()
    read = await get(base, "/packs/mine")
    assert read.json() == kept
    assert read.headers["etag"] == answer.headers["etag"]
    changed = await put(
        base, text=MINE.replace("28", "29"), headers=ACTOR | {"If-Match": answer.headers["etag"]}
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["trials"] is None
    assert not base.folder.trials_file("mine").exists()
    gone = await delete(
        base, headers=ACTOR | {"If-Match": changed.headers["etag"]}, query="?reason=over"
    )
    assert gone.status_code == 204
    assert "mine.warm" not in base.desk.rules().rules()
    changes = (await get(base, "/packs/mine/changes")).json()
    now = "2024-06-01T00:00:00.000Z"
    new = MINE.replace("28", "29")
    assert changes == [
        {"pack": "mine", "by": "李伟", "reason": "over", "at": now, "before": new, "after": None},
        {"pack": "mine", "by": "李伟", "reason": "", "at": now, "before": MINE, "after": new},
        {"pack": "mine", "by": "李伟", "reason": "早季", "at": now, "before": None, "after": MINE},
    ]
    assert_problem(await delete(base), 404, "unknown-pack")


async def test_of_two_people_who_saw_the_same_text_only_one_writes(base):
    assert_problem(await put(base, headers=ACTOR | {"If-Match": '"abc"'}), 412, "pack-changed")
    first = await put(base)
    assert_problem(await put(base, text=MINE + "# 2\n"), 409, "pack-exists", "If-Match")
    seen = ACTOR | {"If-Match": first.headers["etag"]}
    answers = await asyncio.gather(
        *(put(base, text=f"{MINE}# {n}\n", headers=seen) for n in range(5))
    )
    assert sorted(one.status_code for one in answers) == [200, 412, 412, 412, 412]
    (won,) = (one for one in answers if one.status_code == 200)
    assert base.folder.get("mine").text == won.json()["text"]
    assert_problem(await delete(base, headers=seen), 412, "pack-changed", "nothing was saved")
    assert len(base.desk.changes) == 2


@pytest.mark.parametrize(
    ("more", "slug", "says"),
    [
        ({"text": MINE.replace("28 degC", "28 ppm")}, "invalid-pack", "text:6:"),
        ({"text": MINE.replace("pack: mine", "pack: yours")}, "invalid-pack", "mine, the name"),
        ({"text": "rules: []"}, "invalid-pack", "text:1:"),
        ({"text": ":"}, "invalid-pack", "nothing was saved"),
        ({"trials": WRONG_TRIALS}, "trials-failed", "trials:9 warm for ten minutes"),
        ({"trials": "tests: []"}, "invalid-pack", "trials:1"),
        ({"actor": "somebody else"}, "invalid-request", "same name as in X-Actor"),
        ({"reason": "\x07"}, "invalid-request", "body.reason"),
        ({"layer": "base"}, "invalid-request", "unknown field"),
    ],
)
async def test_a_pack_with_mistakes_is_not_kept(base, more, slug, says):
    answer = await put(base, **({"text": MINE} | more))
    assert_problem(answer, 422, slug, says)
    assert base.folder.names() == []
    assert base.desk.changes == []


async def test_who_has_no_token_or_no_name_writes_no_pack(base):
    assert_problem(await put(base, headers=BEARER), 422, "invalid-request", "got nothing")
    assert_problem(await delete(base, headers=BEARER), 422, "invalid-request", "got nothing")
    base.settings = base.settings.__class__(open_loopback_reads=True)
    async with base.client(headers={"X-Actor": "li"}) as client:
        refused = await client.put("/api/v1/packs/mine", json={"text": MINE})
        gone = await client.delete("/api/v1/packs/mine")
        assert (await client.get("/api/v1/packs")).status_code == 200
    assert_problem(refused, 401, "unauthorized")
    assert_problem(gone, 401, "unauthorized")
    assert base.folder.names() == []


async def test_nothing_is_written_that_cannot_be_recorded(base):
    base.desk.keeps_nothing = True
    assert_problem(await put(base), 503, "alerts-not-kept", "nothing has changed")
    assert base.folder.names() == []
    base.desk.keeps_nothing = False
    base.folder.folder.parent.mkdir(parents=True)
    base.folder.folder.write_text("a file where the folder should be")
    assert_problem(await put(base), 503, "packs-unusable", "what was in force is in force")


async def test_a_pack_that_somebody_broke_by_hand_says_what_is_wrong(base):
    await put(base)
    base.folder.file("mine").write_text(MINE.replace("28 degC", "28 ppm"))
    await base.desk.reload()
    pack = (await get(base, "/packs/mine")).json()
    assert (pack["version"], pack["rules"], pack["in_force"]) == (None, [], False)
    assert pack["mistakes"][0]["line"] == 6
    listed = {one["pack"]: one for one in (await get(base, "/packs")).json()}
    assert listed["mine"]["rule_count"] == 0
    mended = await put(
        base, headers=ACTOR | {"If-Match": (await get(base, "/packs/mine")).headers["etag"]}
    )
    assert mended.json()["in_force"]
