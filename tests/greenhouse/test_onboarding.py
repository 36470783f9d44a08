"""Claims against a real database and a real folder: all or nothing, and on record."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.onboarding import ClaimNotWritten, OnboardingRefused, Proposal, UnknownUnclaimed
from devices.codecs.library import CODECS
from devices.dead_letter import DeadLetter
from devices.topic import Strangers, Template
from devices.unclaimed import Gathering, HeardMessage, unclaimed_id
from greenhouse.doorstep import Doorstep
from greenhouse.onboarding import Onboarding
from greenhouse.site_files import Codecs, read_site_files
from ingest.counters import Counters
from ingest.pipeline import DecoderSource
from storage.dead_letters import DeadLetterStore
from storage.errors import DatabaseUnavailable
from storage.migrate import migrate
from storage.pool import Pool
from storage.registry import RegistryStore
from storage.unclaimed import UnclaimedStore
from tests.greenhouse.test_site_files import PROFILE

AT_US = time.time_ns() // 10**9 * 1_000_000  # who was heard long ago is forgotten
SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: 127.0.0.1, topics: ["gh/{site}/{device}", "vendor/#"]}
devices:
  - {code: known, site: h1, series: [{quantity: co2}]}
"""
ENTRY = {
    "code": "ax-7",
    "site": "h1",
    "payload": "mapping/ax",
    "topic": "vendor/7",
    "series": [{"quantity": "air_temperature", "key": "t"}],
}
MAPPING = "mapping: ax\ntime: {path: h.ts, format: s}\nvalues: [{path: d.wd, key: t, unit: °C}]\n"
PAYLOAD = json.dumps({"h": {"ts": AT_US // 1_000_000 - 10}, "d": {"wd": "21.5"}}).encode()


def letter(topic: str = "vendor/7", payload: bytes = PAYLOAD, at_us: int = AT_US) -> DeadLetter:
    return DeadLetter("mqtt", topic, payload, at_us, "E-DEVICE", "nobody's")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "site.yaml"
    made.write_text(SITE)
    return made


@pytest.fixture
async def pool(plain_dsn: str):
    await migrate(plain_dsn)
    async with Pool(plain_dsn) as made:
        yield made


@pytest.fixture
async def desk(file: Path, pool: Pool) -> Onboarding:
    site_file = read_site_files(file)
    await RegistryStore(pool).apply(site_file.registry, site_file.retention_s)
    gathering = Gathering(Strangers([Template.parse("vendor/#")]))
    gathering.note(letter())
    await UnclaimedStore(pool).note(gathering.take(), datetime.fromtimestamp(AT_US / 1e6, UTC))
    return Onboarding(file, pool)


async def the_one(desk: Onboarding):
    (found,), total = await desk.list(10, 0)
    assert total == 1
    return found


def files_in(folder: Path) -> set[str]:
    return {
        str(one.relative_to(folder))
        for one in folder.rglob("*")
        if one.is_file() and one.name != ".lock"
    }


async def test_a_claim_writes_registers_and_records(desk, file, pool):
    found = await the_one(desk)
    assert await desk.get(found.unclaimed.id) == found
    claimed = await desk.claim(found, Proposal(ENTRY, MAPPING), "李伟")
    assert files_in(file.parent) == {
        "site.yaml",
        "site.d/devices/ax-7.yaml",
        "site.d/mappings/ax.yaml",
    }
    assert (file.parent / "site.d/mappings/ax.yaml").read_text() == MAPPING
    assert (claimed.device, claimed.series, claimed.waiting) == (
        "ax-7",
        ("ax-7.air_temperature",),
        1,
    )
    registry = await RegistryStore(pool).load()
    assert list(registry.device) == ["known", "ax-7"]
    assert registry.revision == claimed.revision
    assert read_site_files(file).registry.device["ax-7"] == registry.device["ax-7"]
    (claim,) = await UnclaimedStore(pool).claims("ax-7")
    assert (claim.actor, claim.revision, dict(claim.files)) == (
        "李伟",
        claimed.revision,
        dict(claimed.files),
    )


async def test_a_try_shows_the_readings_and_saves_nothing(desk, file, pool):
    found = await the_one(desk)
    tried = await desk.attempt(Proposal(ENTRY, MAPPING), found.unclaimed.samples)
    (reading,) = tried.readings
    assert (reading.series, reading.value, reading.unit) == ("ax-7.air_temperature", 21.5, "°C")
    assert (reading.observed_at_us, reading.received_at_us) == (AT_US - 10_000_000, AT_US)
    assert set(tried.files) == {"site.d/devices/ax-7.yaml", "site.d/mappings/ax.yaml"}
    assert files_in(file.parent) == {"site.yaml"}
    assert list((await RegistryStore(pool).load()).device) == ["known"]


async def test_a_try_without_a_device_shows_the_payloads_own_keys(desk):
    sample = HeardMessage("x", b'{"v": {"co2": 500, "x": null}, "fw": 1}', 40, AT_US)
    tried = await desk.attempt(Proposal(payload="json"), [sample])
    assert {value.key: value.quantity for value in tried.values} == {"co2": "co2", "x": ""}
    assert tried.ignored_fields == 1
    bad = replace(sample, payload=b"{")
    (unreadable,) = (await desk.attempt(Proposal(payload="json"), [bad])).unreadable
    assert unreadable.code == "E-JSON"
    mapped = await desk.attempt(Proposal(mapping=MAPPING), [replace(sample, payload=PAYLOAD)])
    assert [value.value for value in mapped.values] == [21.5]


async def test_a_register_profile_is_tried_on_answers(desk):
    frame = {"request": "01 03 00 00 00 01 84 0A", "reply": "01 03 02 FF DD 38 2D"}
    for reads in ([frame], [{"function": 3, "address": 0, "words": [0xFFDD]}]):
        tried = await desk.attempt(Proposal(profile=PROFILE, reads=tuple(reads)), [])
        (value,) = tried.values
        assert (value.key, value.value, value.quantity, value.unit) == (
            "soil_temperature",
            -3.5,
            "soil_temperature",
            "°C",
        )
    wrong = ({"function": 9, "address": 0, "words": []}, frame | {"reply": "01 03 04 FF DD 38 2D"})
    with pytest.raises(OnboardingRefused) as refused:
        await desk.attempt(Proposal(profile=PROFILE, reads=wrong), [])
    assert {one.key for one in refused.value.mistakes} == {
        "[0].function",
        "[0].words",
        "[1].reply",
    }
    with pytest.raises(OnboardingRefused, match="profile:2:1"):
        await desk.attempt(
            Proposal(profile=PROFILE.replace("profile:", "profil:"), reads=wrong), []
        )


async def test_a_message_of_another_topic_is_told_as_such(desk):
    sample = HeardMessage("vendor/8", PAYLOAD, len(PAYLOAD), AT_US)
    tried = await desk.attempt(Proposal(ENTRY, MAPPING), [sample])
    assert tried.readings == ()
    assert [one.code for one in tried.unreadable] == ["E-DEVICE"]


MISTAKES = [
    ({"site": "h9"}, MAPPING, "site.d/devices/ax-7.yaml:2:1 site: got 'h9'"),
    ({"seris": []}, MAPPING, "got 'seris'"),
    ({"code": "known"}, MAPPING, "a code that no other device has"),
    ({"code": "../../etc/x"}, MAPPING, "a code for the device"),
    ({"code": None}, MAPPING, "a code for the device"),
    ({"topic": "gh/h1/known"}, MAPPING, "a topic that device known does not have"),
    ({"topic": "vendor/8"}, MAPPING, "what makes vendor/7 the topics of the device"),
    ({}, MAPPING.replace("mapping: ax", "mapping: ../x"), "a code for the mapping"),
    ({}, MAPPING.replace("path: d.wd", "path: 'd['"), "site.d/mappings/ax.yaml:3"),
    ({}, "a: [", "valid YAML"),
    ({}, "[]", "a code for the mapping"),
    ({"payload": "mapping/bx"}, MAPPING, "payload: got 'mapping/bx'"),
]


async def test_a_claim_with_a_mistake_changes_nothing(desk, file, pool):
    found = await the_one(desk)
    for change, mapping, said in MISTAKES:
        with pytest.raises(OnboardingRefused) as refused:
            await desk.claim(found, Proposal({**ENTRY, **change}, mapping), "li.wei")
        assert said in str(refused.value)
        assert str(file.parent) not in str(refused.value)
        assert files_in(file.parent) == {"site.yaml"}
    assert list((await RegistryStore(pool).load()).device) == ["known"]
    assert await UnclaimedStore(pool).claims() == []


async def test_what_the_database_cannot_hold_is_refused_as_a_mistake(desk, file):
    found = await the_one(desk)
    for entry, mapping in (
        ({**ENTRY, "name": {"en": "a\0b"}}, MAPPING),
        (
            {**ENTRY, "series": [{"quantity": "air_temperature", "key": "a\0"}]},
            MAPPING.replace("key: t", 'key: "a\\0"'),
        ),
    ):
        with pytest.raises(OnboardingRefused, match="text that the database can hold"):
            await desk.claim(found, Proposal(entry, mapping), "li.wei")
        assert files_in(file.parent) == {"site.yaml"}


async def test_what_is_there_already_is_never_written_over(desk, file):
    found = await the_one(desk)
    home = file.parent / "site.d" / "mappings"
    home.mkdir(parents=True)
    own = "mapping: ax\nvalues: [{path: a}]\n"
    (home / "ax.yaml").write_text(own)
    with pytest.raises(OnboardingRefused, match="the mapping to be a new one"):
        await desk.claim(found, Proposal(ENTRY, MAPPING), "li.wei")
    assert (home / "ax.yaml").read_text() == own


async def test_a_mistake_elsewhere_in_the_site_file_is_named_and_stops_a_claim(desk, file):
    found = await the_one(desk)
    file.write_text(SITE.replace("co2", "co22"))
    with pytest.raises(OnboardingRefused, match=r"^site\.yaml:\d+:\d+ devices\[0\]"):
        await desk.claim(found, Proposal(ENTRY, MAPPING), "li.wei")


async def test_files_are_taken_back_when_the_database_fails_in_between(desk, file, monkeypatch):
    found = await the_one(desk)

    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(RegistryStore, "apply", fail)
    with pytest.raises(DatabaseUnavailable):
        await desk.claim(found, Proposal(ENTRY, MAPPING), "li.wei")
    assert files_in(file.parent) == {"site.yaml"}


async def test_a_folder_that_cannot_be_written_to_is_told(desk, file, pool):
    found = await the_one(desk)
    (file.parent / "site.d").write_text("a file stands where the folder should be")
    with pytest.raises(ClaimNotWritten):
        await desk.claim(found, Proposal(ENTRY, MAPPING), "li.wei")
    assert list((await RegistryStore(pool).load()).device) == ["known"]


async def test_two_claims_at_once_both_stand(file, pool, desk):
    found = await the_one(desk)
    entries = [
        {**ENTRY, "code": f"n{n}", "topic": t, "payload": "json"}
        for n, t in enumerate(("vendor/7", "vendor/+/{any}"))
    ]
    other = replace(found, unclaimed=replace(found.unclaimed, samples=()))
    await asyncio.gather(
        Onboarding(file, pool).claim(found, Proposal(entries[0]), "a"),
        Onboarding(file, pool).claim(other, Proposal(entries[1]), "b"),
    )
    assert set((await RegistryStore(pool).load()).device) == {"known", "n0", "n1"}


async def test_who_is_claimed_twice_is_refused_the_second_time(desk):
    found = await the_one(desk)
    await desk.claim(found, Proposal(ENTRY, MAPPING), "a")
    with pytest.raises(OnboardingRefused, match="the device to be a new one"):
        await desk.claim(found, Proposal(ENTRY, MAPPING), "b")


async def test_what_was_guessed_fills_what_is_not_said(desk):
    found = await the_one(desk)
    given = {"code": "ax-7", "site": "h1", "interval": "5s"}
    whole = desk.proposed(found, given, "", guessed=True)
    assert whole.entry is not None
    assert (whole.entry["payload"], whole.entry["topic"], whole.entry["interval"]) == (
        "mapping/ax-7",
        "vendor/7",
        "5s",
    )
    assert whole.mapping.startswith("mapping: ax-7\n")
    (reading,) = (await desk.attempt(whole, found.unclaimed.samples)).readings
    assert reading.value == 21.5
    plain = desk.proposed(found, given, "", guessed=False)
    assert plain == Proposal({**given, "topic": "vendor/7"}, "")
    own = desk.proposed(found, given | {"address": "AA"}, MAPPING, guessed=True)
    assert own.entry is not None
    assert (own.entry.get("topic"), own.entry["address"], own.mapping) == (None, "AA", MAPPING)


async def test_one_that_is_gone_is_told(desk):
    with pytest.raises(UnknownUnclaimed):
        await desk.get("0" * 16)


class Door:
    """A doorstep with its decoders and its stores."""

    def __init__(self, file: Path, pool: Pool) -> None:
        self.file, self.pool = file, pool
        site_file = read_site_files(file)
        self.decoders = DecoderSource(site_file.broker.templates, Codecs(CODECS, site_file))
        self.letters = DeadLetterStore(pool)
        self.counters = Counters()
        self.step = Doorstep(self.letters, pool, self.decoders, self.counters)

    async def adopt(self) -> None:
        site_file = read_site_files(self.file)
        self.decoders.prepare(site_file.broker.templates, Codecs(CODECS, site_file))
        self.step.use(site_file.broker.templates)
        await self.decoders.adopt(await RegistryStore(self.pool).load())


async def test_letters_of_a_claimed_device_are_read_again_and_its_note_goes(desk, file, pool):
    door = Door(file, pool)
    await door.adopt()
    await door.step.put([letter(), letter(at_us=AT_US + 1), letter("vendor/9", b"{}")])
    await door.step.flush()
    await door.step.settle()
    assert await door.letters.still_wanted() == 0
    await desk.claim(await desk.get(unclaimed_id("vendor/7")), Proposal(ENTRY, MAPPING), "a")
    await door.adopt()
    await door.step.settle()
    wanted = await door.letters.wanted(10)
    assert [kept.letter.topic for kept in wanted] == ["vendor/7", "vendor/7"]
    assert [one.pattern for one in await UnclaimedStore(pool).list(9)] == ["vendor/9"]
    assert door.counters.unclaimed_messages == 3


async def test_one_claim_takes_in_all_topics_that_its_device_has(desk, file, pool):
    door = Door(file, pool)
    await door.adopt()
    await door.step.put([letter("vendor/n/temp", b"21.5"), letter("vendor/n/rh", b"60")])
    await door.step.flush()
    entry = {
        "code": "n",
        "site": "h1",
        "payload": "value",
        "topic": "vendor/n/{key}",
        "series": [{"quantity": "air_temperature", "key": "temp"}],
    }
    await desk.claim(await desk.get(unclaimed_id("vendor/n/rh")), Proposal(entry), "a")
    await door.adopt()
    await door.step.settle()
    wanted = {kept.letter.topic for kept in await door.letters.wanted(10)}
    assert wanted == {"vendor/n/temp", "vendor/n/rh"}
    assert [one.pattern for one in await UnclaimedStore(pool).list(9)] == ["vendor/7"]


async def test_a_letter_that_comes_to_be_kept_after_the_claim_is_read_again_too(desk, file, pool):
    door = Door(file, pool)
    await desk.claim(await the_one(desk), Proposal(ENTRY, MAPPING), "a")
    await door.adopt()
    await door.step.settle()
    late = letter(at_us=AT_US + 5)  # decoded before the claim, stored after it
    assert (await door.step.put([late, letter("vendor/9")])).kind == "written"
    assert [kept.id for kept in await door.letters.wanted(10)] == [late.id]
    await door.step.flush()
    assert [one.pattern for one in await UnclaimedStore(pool).list(9)] == ["vendor/9"]


async def test_while_the_database_is_away_nothing_noted_is_forgotten(file, pool, monkeypatch):
    door = Door(file, pool)
    await door.step.put([letter("vendor/9")])

    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as away:
        away.setattr(UnclaimedStore, "note", fail)
        with pytest.raises(DatabaseUnavailable):
            await door.step.flush()
    await door.step.put([letter("vendor/9", at_us=AT_US + 1)])
    await door.step.flush()
    await door.step.flush()
    (one,) = await UnclaimedStore(pool).list(9)
    assert one.messages == 2
