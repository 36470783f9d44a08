"""Unclaimed devices are gathered and kept within bounds; their letters are found by topic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.dead_letter import DeadLetter
from devices.topic import Strangers, Template
from devices.unclaimed import (
    MAX_BYTES,
    MAX_DEVICE_BYTES,
    MAX_DEVICES,
    MAX_SAMPLE_BYTES,
    MAX_TOPIC,
    MAX_TOPICS,
    Gathering,
    unclaimed_id,
)
from storage.dead_letters import DeadLetterStore
from storage.instant import instant
from storage.pool import Pool
from storage.unclaimed import Claim, UnclaimedStore
from tests.storage.samples import us

AT = us(2026, 1, 1)
NOW = instant(AT)
TEMPLATES = [Template.parse(text) for text in ("farm/{site}/{device}/{key}", "vendor/#")]


@pytest.fixture
def store(pool: Pool) -> UnclaimedStore:
    return UnclaimedStore(pool)


def letter(topic: str, payload: bytes = b"21.5", at_us: int = AT, code: str = "E-DEVICE"):
    return DeadLetter("mqtt", topic, payload, at_us, code, "nobody's")


def gathered(*letters: DeadLetter):
    gathering = Gathering(Strangers(TEMPLATES))
    for one in letters:
        gathering.note(one)
    return gathering.take()


def test_messages_of_one_device_are_one_entry_with_the_newest_of_each_topic():
    one, other = gathered(
        letter("farm/h1/n3/t", b"20"),
        letter("farm/h1/n3/rh", b"60", AT + 5_000_000),
        letter("farm/h1/n3/t", b"21", AT + 10_000_000),
        letter("vendor/x", b"{}"),
    )
    assert (one.pattern, one.site, one.device) == ("farm/h1/n3/{key}", "h1", "n3")
    assert (one.messages, one.bytes, one.last_at_us - one.first_at_us) == (3, 6, 10_000_000)
    assert {sample.topic: sample.payload for sample in one.samples} == {
        "farm/h1/n3/t": b"21",
        "farm/h1/n3/rh": b"60",
    }
    assert one.interval_s is None  # not yet
    (again,) = gathered(*(letter("farm/h1/n3/t", at_us=AT + 5_000_000 * n) for n in range(5)))
    assert again.interval_s == pytest.approx(5)
    assert (other.pattern, other.device, other.interval_s) == ("vendor/x", "", None)


@pytest.mark.parametrize(
    "other",
    [
        letter("gh/h1/a", code="E-JSON"),
        DeadLetter("modbus", "a", b"", AT, "E-DEVICE", ""),
    ],
)
def test_what_is_of_a_known_device_or_another_way_is_not_gathered(other):
    gathering = Gathering(Strangers(TEMPLATES))
    assert not gathering.note(other)
    assert gathering.take() == []


def test_a_flood_of_topics_does_not_fill_the_memory():
    gathering = Gathering(Strangers(TEMPLATES))
    for number in range(MAX_DEVICES + 500):
        gathering.note(letter(f"vendor/{number}", bytes(20_000)))
    found = gathering.take()
    assert len(found) == MAX_DEVICES
    assert gathering.dropped == 500
    assert sum(len(s.payload) for one in found for s in one.samples) <= MAX_BYTES


def test_a_flood_of_long_topics_does_not_fill_the_memory():
    gathering = Gathering(Strangers(TEMPLATES))
    assert gathering.note(letter("vendor/" + "x" * (MAX_TOPIC - 7)))
    assert not gathering.note(letter("vendor/" + "x" * (MAX_TOPIC - 6)))
    assert (len(gathering.take()), gathering.dropped) == (1, 1)


def test_one_device_with_many_topics_does_not_fill_the_memory():
    (one,) = gathered(*(letter(f"farm/h1/n3/{n}", bytes(40_000)) for n in range(MAX_TOPICS + 9)))
    assert one.messages == MAX_TOPICS + 9
    assert sum(len(sample.payload) for sample in one.samples) <= MAX_DEVICE_BYTES
    assert all(len(sample.payload) == MAX_SAMPLE_BYTES for sample in one.samples)
    assert not one.samples[0].is_whole


async def test_what_is_heard_again_is_added_up(store: UnclaimedStore):
    await store.note(gathered(letter("farm/h1/n3/t", b"20"), letter("vendor/x\ud800")), NOW)
    await store.note(gathered(letter("farm/h1/n3/rh", b"60", AT + 9)), NOW)
    await store.note(gathered(letter("farm/h1/n3/t", b"22", AT + 8)), NOW)
    one = await store.get(unclaimed_id("farm/h1/n3/{key}"))
    assert one is not None
    assert (one.messages, one.bytes, one.first_at_us, one.last_at_us) == (3, 6, AT, AT + 9)
    assert [(s.topic, s.payload) for s in one.samples] == [
        ("farm/h1/n3/rh", b"60"),
        ("farm/h1/n3/t", b"22"),
    ]
    assert [entry.device for entry in await store.list(10)] == ["n3", ""]
    assert await store.count() == 2
    assert await store.list(10, offset=2) == []
    assert await store.get("nobody") is None


async def test_a_flood_does_not_fill_the_table_nor_push_out_who_comes_again(pool: Pool):
    store = UnclaimedStore(pool, keep=10)
    for _ in range(2):
        await store.note(gathered(letter("farm/h1/n3/t")), NOW)
    for number in range(4):
        flood = [letter(f"vendor/{number}/{n}", at_us=AT + number) for n in range(50)]
        assert await store.note(gathered(*flood), NOW) == 50 - (9 if number == 0 else 0)
        assert await store.count() == 10
    assert await store.get(unclaimed_id("farm/h1/n3/{key}")) is not None


async def test_who_is_silent_for_a_month_is_forgotten(store: UnclaimedStore):
    await store.note(gathered(letter("vendor/old")), NOW)
    await store.note([], NOW + timedelta(days=31))
    assert await store.count() == 0


async def test_those_that_are_described_are_forgotten(store: UnclaimedStore):
    await store.note(gathered(letter("vendor/a"), letter("vendor/b")), NOW)
    found = {pattern: (one, topics) for one, pattern, topics in await store.topics()}
    assert found["vendor/a"][1] == ["vendor/a"]
    await store.forget([found["vendor/a"][0]])
    assert [one.pattern for one in await store.list(10)] == ["vendor/b"]


async def test_a_claim_says_who_wrote_what(store: UnclaimedStore):
    claim = Claim(
        "1" * 16, "vendor/a", "node", "李伟", AT, {"site.d/devices/node.yaml": "code: node"}
    )
    number = await store.begin_claim(claim)
    assert await store.claims("node") == [claim]
    await store.end_claim(number, 7)
    assert [one.revision for one in await store.claims()] == [7]
    assert await store.claims("other") == []


LONG = "vendor/" + "x" * 200
TOPICS = ["farm/h1/n3/t", "farm/h1/n3", "farm/h1/n3/a/b", "farm/h1/n33/t", "farm", "vendor/a_b%c",
          "vendor/aXbYc", r"vendor/a\b(", LONG + "1", LONG + "2", "温室/一"]  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    [
        "farm/h1/n3/{key}",
        "farm/#",
        "farm/+/n3/#",
        "vendor/a_b%c",
        r"vendor/a\b(",
        LONG + "1",
        "温室/+",
        "#",
        "{device}",
        "+/h1/n3",
    ],
)
async def test_letters_are_wanted_by_the_topics_that_a_template_means(pool: Pool, pattern: str):
    letters = DeadLetterStore(pool)
    await letters.put([letter(topic, topic.encode()) for topic in TOPICS])
    template = Template.parse(pattern)
    expected = {topic for topic in TOPICS if template.match(topic) is not None}
    assert await letters.want_topic(template) == len(expected)
    assert {kept.letter.topic for kept in await letters.wanted(100)} == expected
    assert await letters.want_topic(template) == 0


async def test_letters_that_were_handed_in_are_not_wanted_again(pool: Pool):
    letters = DeadLetterStore(pool)
    one = letter("vendor/a")
    await letters.put([one])
    await letters.mark_replayed([one.id], datetime.now(UTC))
    assert await letters.want_topic(Template.parse("vendor/a")) == 0


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.binary(max_size=9), st.integers(0, 99))))
def test_nothing_gathered_is_lost_in_the_counts(messages):
    found = gathered(*(letter(topic, payload, AT + at) for topic, payload, at in messages))
    assert sum(one.messages for one in found) == len(messages)
    assert sum(one.bytes for one in found) == sum(len(payload) for _, payload, _ in messages)
    assert len({one.id for one in found}) == len(found)
