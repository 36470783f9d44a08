"""Dead letters come back byte for byte, once, and wait until they are replayed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.dead_letter import DeadLetter
from storage.dead_letters import DeadLetterStore
from storage.outcome import Outcome
from storage.pool import Connection, Pool
from tests.storage.samples import SECOND_US, us

AT = us(2025, 5, 1)
NOW = datetime(2025, 5, 2, tzinfo=UTC)


def _letters(n: int, code: str = "E-JSON", source: str = "mqtt") -> list[DeadLetter]:
    return [
        DeadLetter(source, "gh/h1/d1", f"{code}{k}".encode(), AT + k * SECOND_US, code, "broken")
        for k in range(n)
    ]


@pytest.fixture
def store(pool: Pool) -> DeadLetterStore:
    return DeadLetterStore(pool)


_topics = st.text(max_size=6) | st.binary(max_size=6).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
_codes = st.sampled_from(["E-JSON", "E-TIME"])


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    topic=_topics,
    payload=st.binary(max_size=40),
    at=st.integers(us(1970, 1, 1), us(2100, 1, 1)),
    code=_codes,
    flags=st.integers(0, 7),
)
async def test_any_arrival_comes_back_as_it_was_received(
    store: DeadLetterStore,
    connection: Connection,
    topic: str,
    payload: bytes,
    at: int,
    code: str,
    flags: int,
):
    """Topics of NUL and of bytes that are no UTF-8 too; the id stays the same."""
    await connection.execute("TRUNCATE dead_letters")
    letter = DeadLetter("mqtt", topic, payload, at, code, "said 'no'", flags)
    outcome = await store.put([letter])
    assert outcome.kind == "written"
    kept = await store.get(letter.id)
    assert kept is not None
    assert (kept.letter, kept.id) == (letter, letter.id)


async def test_a_reason_that_the_database_cannot_hold_is_shown_as_far_as_it_can(
    store: DeadLetterStore,
):
    letter = DeadLetter("mqtt", "gh/a", b"\0", AT, "E-NUL", "got 'a\0b' and \udcff")
    assert (await store.put([letter])).kind == "written"
    kept = await store.get(letter.id)
    assert kept is not None
    assert kept.letter.text.startswith("got 'a\N{REPLACEMENT CHARACTER}b' and ")


async def test_the_same_letter_is_kept_once(store: DeadLetterStore):
    letters = _letters(5)
    assert await store.put(letters) == Outcome("written", 5)
    assert await store.put(letters) == Outcome("written", 0, 5)
    assert await store.put([*letters, *_letters(6)]) == Outcome("written", 1, 10)
    assert len(await store.list(100)) == 6


async def test_nothing_to_keep_is_written(store: DeadLetterStore):
    assert await store.put([]) == Outcome("written")


async def test_a_letter_from_no_calendar_is_refused(store: DeadLetterStore):
    letter = DeadLetter("mqtt", "gh/a", b"", 2**63 - 1, "E-TIME", "")
    assert (await store.put([letter])).kind == "refused"


async def test_a_missing_table_is_misconfigured(store: DeadLetterStore, connection: Connection):
    await connection.execute("DROP TABLE dead_letters")
    outcome = await store.put(_letters(1))
    assert outcome.kind == "misconfigured"
    assert "dead_letters" in outcome.reason


async def test_no_server_is_unavailable():
    async with Pool("postgresql://nobody@127.0.0.1:1/none", timeout_s=0.2) as pool:
        assert (await DeadLetterStore(pool).put(_letters(1))).kind == "unavailable"


async def test_lists_are_newest_first_in_pages_and_by_reason(store: DeadLetterStore):
    await store.put([*_letters(7), *_letters(3, "E-TIME"), *_letters(2, "E-JSON", "http")])
    everything = await store.list(100)
    at = [kept.letter.received_at_us for kept in everything]
    assert at == sorted(at, reverse=True) and len(at) == 12
    pages = []
    before = None
    while page := await store.list(5, before=before):
        pages += page
        before = page[-1].id
    assert pages == everything
    assert len(await store.list(100, code="E-TIME")) == 3
    assert len(await store.list(100, code="E-JSON", source="http")) == 2
    assert await store.list(100, source="modbus") == []


async def test_a_stream_yields_each_waiting_letter_once_the_oldest_first(store: DeadLetterStore):
    letters = _letters(450)
    await store.put(letters[::-1])
    assert [kept.letter async for kept in store.stream()] == letters


async def test_letters_may_be_marked_while_they_are_streamed(store: DeadLetterStore):
    letters = _letters(450)
    await store.put(letters)
    seen = []
    async for kept in store.stream(code="E-JSON"):
        assert await store.mark_replayed([kept.id], NOW) == 1
        seen.append(kept.letter)
    assert seen == letters
    assert [kept async for kept in store.stream()] == []
    replayed = [kept async for kept in store.stream(replayed=True)]
    assert len(replayed) == 450
    assert {kept.replayed_at for kept in replayed} == {NOW}


async def test_a_letter_that_fails_again_waits_again(store: DeadLetterStore):
    letters = _letters(3)
    await store.put(letters)
    await store.mark_replayed([one.id for one in letters], NOW)
    assert await store.counts() == {}
    assert await store.put(letters[:1]) == Outcome("written", 0, 1)
    assert [kept.letter async for kept in store.stream()] == letters[:1]
    await store.mark_replayed([letters[1].id], None)
    assert [kept.letter async for kept in store.stream()] == letters[:2]


async def test_counts_are_of_waiting_letters_by_reason(store: DeadLetterStore):
    await store.put([*_letters(4), *_letters(2, "E-TIME")])
    await store.mark_replayed([_letters(1)[0].id], NOW)
    assert await store.counts() == {"E-JSON": 3, "E-TIME": 2}


async def test_a_letter_that_is_asked_for_is_wanted_until_it_is_handed_in(store: DeadLetterStore):
    letters = [*_letters(3), *_letters(2, "E-TIME"), *_letters(2, "E-JSON", "http")]
    await store.put(letters)
    assert await store.want(code="E-TIME") == 2
    assert await store.want(ids=[letters[0].id]) == 1
    assert await store.want(source="http") == 2
    assert await store.still_wanted() == 5
    wanted = await store.wanted(100)
    assert {kept.id for kept in wanted} == {one.id for one in [letters[0], *letters[3:]]}
    at = [kept.letter.received_at_us for kept in wanted]
    assert at == sorted(at)
    assert len(await store.wanted(2)) == 2
    await store.mark_replayed([kept.id for kept in wanted], NOW)
    assert await store.still_wanted() == 0
    assert await store.want(code="E-TIME") == 0, "a letter that was handed in does not wait"
    await store.mark_replayed([letters[3].id], None)
    assert [kept.id for kept in await store.wanted(9)] == [letters[3].id]


async def test_letters_of_one_topic_and_those_below_it_are_asked_for_until_a_moment(
    store: DeadLetterStore,
):
    def letter(topic: str, code: str = "E-ALIAS", later_us: int = 0) -> DeadLetter:
        return DeadLetter("mqtt", topic, topic.encode(), AT + later_us, code, "")

    wanted = [letter("s/g/NDATA/n"), letter("s/g/DDATA/n/d"), letter("s/g/DDATA/n/e", later_us=5)]
    others = [
        letter("s/g/NDATA/n2"),
        letter("s/g/DDATA/n2/d"),
        letter("s/g/DDATA/n/f", "E-TIME"),
        letter("s/g/DDATA/n/g", later_us=6),
    ]
    await store.put([*wanted, *others])
    assert await store.want_on("E-ALIAS", "s/g/NDATA/n", "s/g/DDATA/n/", AT + 5) == 3
    assert {kept.id for kept in await store.wanted(9)} == {one.id for one in wanted}


async def test_a_letter_that_is_not_kept_is_none(store: DeadLetterStore):
    assert await store.get("00") is None
    assert await store.mark_replayed(["00"], NOW) == 0
