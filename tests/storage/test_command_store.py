"""Commands are kept stage by stage, and nothing of an earlier stage is ever lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ingest.modbus.command import CommandLedger, CommandRecord, Outcome
from storage.commands import CommandStore, KeptCommand
from storage.errors import DatabaseUnavailable, DataRefused
from storage.pool import Connection, Pool
from tests.storage.samples import us

AT = us(2025, 5, 1)
BEGUN = CommandRecord(
    "a" * 32, "mixer", 7, "ec_set_point", "mS/cm", "李伟", "苗期", AT, Outcome.BEGUN, 2.34
)
DONE = replace(BEGUN, outcome=Outcome.DONE, old=1.8, read_back=2.34, ended_at_us=AT + 250_000)
UNSURE = replace(BEGUN, outcome=Outcome.UNSURE, old=1.8, ended_at_us=AT + 9, text="E-MB-TIMEOUT")


@pytest.fixture
def store(pool: Pool) -> CommandStore:
    return CommandStore(pool)


def kept(record: CommandRecord) -> KeptCommand:
    names = KeptCommand.__dataclass_fields__
    return KeptCommand(**{name: getattr(record, name) for name in names})


async def test_a_command_is_listed_as_it_stands_and_both_stages_stay(store: CommandStore):
    ledger: CommandLedger = store
    await ledger.record(BEGUN)
    assert await store.list() == [kept(BEGUN)]
    await ledger.record(DONE)
    assert await store.list() == [kept(DONE)]
    assert await store.stages(BEGUN.id) == [kept(BEGUN), kept(DONE)]


async def test_a_stage_that_is_recorded_twice_is_one_row(store: CommandStore):
    for record in (BEGUN, BEGUN, DONE, DONE):
        await store.record(record)
    assert await store.stages(BEGUN.id) == [kept(BEGUN), kept(DONE)]


async def test_a_command_ends_once(store: CommandStore):
    await store.record(BEGUN)
    await store.record(UNSURE)
    with pytest.raises(DataRefused):
        await store.record(DONE)
    assert await store.list() == [kept(UNSURE)]


@pytest.mark.parametrize(
    "record",
    [
        replace(BEGUN, actor="a\0b"),
        replace(BEGUN, reason="\ud800"),
        replace(BEGUN, asked_at_us=2**63 - 1),
        replace(DONE, ended_at_us=None),  # an end without its time
        replace(BEGUN, ended_at_us=AT),  # a beginning with one
    ],
)
async def test_what_cannot_be_kept_raises_and_leaves_nothing(store: CommandStore, record):
    with pytest.raises(DataRefused):
        await store.record(record)
    assert await store.list() == []


async def test_pages_of_a_device_are_the_newest_first_and_miss_nothing(store: CommandStore):
    wanted = []
    for n in range(7):
        # Two of the same microsecond are told apart by their ids.
        record = replace(BEGUN, id=f"{n:032x}", asked_at_us=AT + n // 2)
        await store.record(record)
        await store.record(replace(record, id=f"{n + 100:032x}", device="other"))
        wanted.insert(0, kept(record))
    found: list[KeptCommand] = []
    while page := await store.list("mixer", 3, found[-1].id if found else None):
        found += page
    assert found == wanted
    assert len(await store.list(limit=100)) == 14
    assert await store.list("nobody") == []


async def test_without_a_database_the_beginning_is_not_kept_and_it_says_so():
    async with Pool("host=127.0.0.1 port=1", timeout_s=0.2) as pool:
        with pytest.raises(DatabaseUnavailable):
            await CommandStore(pool).record(BEGUN)


async def test_two_ends_at_once_leave_one(store: CommandStore, connection: Connection):
    await store.record(BEGUN)
    ends = await asyncio.gather(store.record(DONE), store.record(UNSURE), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [DataRefused]
    rows = await (await connection.execute("SELECT count(*) FROM commands")).fetchone()
    assert rows == (2,)
