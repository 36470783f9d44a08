"""Writer and reader may do their work and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from alerts import episode as episodes
from alerts.state import begin
from devices.dead_letter import DeadLetter
from devices.gap import Gap
from devices.topic import Template
from devices.unclaimed import Unclaimed
from storage.alerts import AlertChanges, AlertStore, StoredAlert
from storage.commands import CommandStore, KeptCommand
from storage.dead_letters import DeadLetterStore
from storage.errors import DatabaseMisconfigured
from storage.gaps import GapStore
from storage.grants import grant
from storage.history import History, Step
from storage.pool import Pool, connect, hardened
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from storage.unclaimed import UnclaimedStore
from tests.storage.samples import HOUR_US, batch, registry, us

AT = us(2025, 5, 1)
BEGUN = KeptCommand(
    "a", "mixer", 1, "ec_set_point", "mS/cm", "li.wei", "", AT, "begun", 2.0, None, None, None, ""
)


async def test_the_writer_keeps_alerts_and_takes_no_line_of_their_history_away(
    dsn: str, users: dict[str, str]
):
    step = episodes.Step(AT, episodes.StepKind.FIRED, 2, 36.0, 36.0, 0)
    episode = episodes.Episode("a" * 32, "house.hot", 1, "series:a", "h1", AT, (step,))
    alert, entries = begin(episodes.Transition(episodes.Change.FIRED, episode, AT, AT))
    changes = AlertChanges([StoredAlert(alert)], entries=entries)
    async with Pool(users["writer"]) as writing:
        store = AlertStore(writing)
        await store.write(changes)
        await store.write(changes)
    async with Pool(users["reader"]) as reading:
        assert await AlertStore(reading).entries(alert.id) == entries
        with pytest.raises(DatabaseMisconfigured):
            await AlertStore(reading).write(changes)
    connection = await connect(users["writer"], autocommit=True)
    for statement in ("DELETE FROM alert_entries", "UPDATE alert_entries SET note = 'x'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement)
    await connection.close()


async def test_the_writer_writes_and_the_reader_reads(dsn: str, pool: Pool, users: dict[str, str]):
    await RegistryStore(pool).apply(registry("UTC"), {})
    readings = batch(1, [AT, AT + 1], [1.0, 3.0])
    async with ReadingWriter(users["writer"]) as writer:
        assert (await writer.write(readings)).inserted == 2
        assert (await writer.write(readings)).duplicates == 2
    letter = DeadLetter("mqtt", "a", b"", AT, "E-JSON", "")
    async with Pool(users["writer"]) as writing:
        letters, gaps = DeadLetterStore(writing), GapStore(writing)
        assert (await letters.put([letter])).inserted == 1
        assert await letters.mark_replayed([letter.id], datetime.now(UTC)) == 1
        assert (await letters.put([letter])).duplicates == 1
        gap = Gap("mqtt", AT, AT + 1, "session_lost", "")
        assert (await gaps.put([gap])).inserted == 1
        assert (await gaps.put([Gap("mqtt", AT, AT + 2, "session_lost", "")])).kind == "written"
        await CommandStore(writing).record(BEGUN)
        unclaimed = UnclaimedStore(writing)
        one = Unclaimed("1", "vendor/7", "", "", AT, AT, 1, 1, ())
        for _ in range(2):
            await unclaimed.note([one], datetime.fromtimestamp(AT / 1e6, UTC))
        assert await letters.want_topic(Template.parse("a")) == 1
        await unclaimed.forget(["1"])
        assert (await RegistryStore(writing).load()).series_ids
    async with Pool(users["reader"]) as reading:
        history = History(reading)
        assert len((await history.raw([1], AT, AT + 2, 9))[1]) == 2
        assert (await history.latest()).value.tolist() == [3.0]
        for step in Step:
            found = await history.rolled([1], AT - 24 * HOUR_US, AT + 1, step)
            assert found[1].mean.tolist() == [2.0]
        assert len(await DeadLetterStore(reading).list(9)) == 1
        assert len(await GapStore(reading).list(AT, AT + 9)) == 1
        assert await CommandStore(reading).list() == [BEGUN]
        assert (await RegistryStore(reading).load()).series_ids


async def test_neither_changes_what_was_measured_or_what_is_registered(users: dict[str, str]):
    forbidden = [
        "DELETE FROM readings",
        "UPDATE readings SET value = 0",
        "TRUNCATE readings",
        "UPDATE dead_letters SET payload = ''",
        "DELETE FROM dead_letters",
        "DELETE FROM gaps",
        "UPDATE commands SET actor = 'x'",
        "DELETE FROM commands",
        "UPDATE claims SET actor = 'x'",
        "DELETE FROM claims",
        "UPDATE series SET code = 'x'",
        "INSERT INTO migrations VALUES (1, 'x', 'x', 'x')",
        "DROP TABLE readings",
    ]
    for user in users.values():
        connection = await connect(hardened(user, "test"), autocommit=True)
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())
        await connection.close()


async def test_the_reader_writes_nothing(users: dict[str, str]):
    async with ReadingWriter(users["reader"]) as writer:
        assert (await writer.write(batch(1, [AT], [1.0]))).kind == "misconfigured"
    async with Pool(users["reader"]) as pool:
        letter = DeadLetter("mqtt", "a", b"", AT, "E-JSON", "")
        assert (await DeadLetterStore(pool).put([letter])).kind == "misconfigured"


async def test_granting_to_nobody_there_is_misconfigured(dsn: str):
    with pytest.raises(DatabaseMisconfigured, match="no_such_user"):
        await grant(dsn, reader="no_such_user")
