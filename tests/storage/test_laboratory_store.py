"""Results of samples: every version stays, the newest reviewed one is the reading."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from devices.quality import Quality
from devices.registry import Registry
from devices.sample_result import SampleResult
from storage.grants import grant
from storage.history import History, Step
from storage.laboratory import Added, LaboratoryStore
from storage.pool import Connection, Pool
from storage.registry import RegistryStore
from tests.storage.samples import SECOND_US, registry, us

AT = us(2025, 5, 1)
NOW = datetime(2025, 5, 20, tzinfo=UTC)
CADMIUM, PH = "probe-0.soil_cadmium", "probe-0.soil_ph"
FOUND = SampleResult(
    CADMIUM, AT, 0.21, 0.01, "0.21 mg/kg", "GB/T 17141-1997", "所", "张三", "李四", "NJ-1"
)


def sampled() -> Registry:
    made = registry("UTC", quantities=("soil_cadmium", "soil_ph"))
    return Registry(made.sites, tuple(replace(one, payload="laboratory") for one in made.devices))


@pytest.fixture
async def ids(pool: Pool) -> dict[str, int]:
    store = RegistryStore(pool)
    await store.apply(sampled(), {})
    return dict((await store.load()).series_ids)


@pytest.fixture
def store(pool: Pool) -> LaboratoryStore:
    return LaboratoryStore(pool)


async def readings(pool: Pool, series_id: int) -> list[tuple[int, float, int]]:
    points = (await History(pool).raw([series_id], AT - 1, AT + 10**12, 99))[series_id]
    return list(
        zip(
            points.at_us.tolist(),
            points.value.tolist(),
            points.quality.tolist(),
            strict=True,
        )
    )


async def test_a_reviewed_result_is_a_reading_like_any_other(
    store: LaboratoryStore, pool: Pool, ids: dict[str, int]
):
    assert await store.add([FOUND], ids, "wang", NOW) == Added(1, reviewed=1)
    assert await readings(pool, ids[CADMIUM]) == [(AT, 0.21, int(Quality.MANUAL))]
    rolled = await History(pool).rolled([ids[CADMIUM]], AT, AT + 86_400 * SECOND_US, Step.DAY)
    assert rolled[ids[CADMIUM]].mean.tolist() == [0.21]
    [kept] = await store.list(AT, AT + 1, 9)
    assert kept.result == FOUND
    assert (kept.version, kept.is_newest, kept.recorded_by, kept.recorded_at) == (
        1, True, "wang", NOW,
    )  # fmt: skip


async def test_the_same_file_twice_is_harmless(store: LaboratoryStore, ids: dict[str, int]):
    await store.add([FOUND], ids, "wang", NOW)
    assert await store.add([FOUND], ids, "other", NOW) == Added(unchanged=1)
    assert len(await store.list(AT, AT + 1, 9, versions=True)) == 1


async def test_a_correction_is_a_new_version_and_the_reading_from_then_on(
    store: LaboratoryStore, pool: Pool, ids: dict[str, int]
):
    await store.add([FOUND], ids, "wang", NOW)
    better = replace(FOUND, value=0.31, given="0.31 mg/kg", note="稀释倍数更正")
    assert await store.add([better], ids, "li", NOW) == Added(corrected=1, reviewed=1)
    assert await readings(pool, ids[CADMIUM]) == [(AT, 0.31, int(Quality.MANUAL))]
    assert [one.result for one in await store.list(AT, AT + 1, 9)] == [better]
    every = await store.list(AT, AT + 1, 9, versions=True)
    assert [(one.version, one.result, one.is_newest) for one in every] == [
        (2, better, True),
        (1, FOUND, False),
    ]
    assert await store.add([FOUND], ids, "wang", NOW) == Added(unchanged=1)
    assert await readings(pool, ids[CADMIUM]) == [(AT, 0.31, int(Quality.MANUAL))], "not taken back"


async def test_what_nobody_reviewed_is_kept_and_is_no_reading(
    store: LaboratoryStore, pool: Pool, ids: dict[str, int]
):
    raw = replace(FOUND, reviewer="")
    assert await store.add([raw], ids, "wang", NOW) == Added(1)
    assert await readings(pool, ids[CADMIUM]) == []
    assert (await store.untold(9)).ids == ()
    assert await store.add([FOUND], ids, "li", NOW) == Added(corrected=1, reviewed=1)
    assert len(await readings(pool, ids[CADMIUM])) == 1
    doubt = replace(FOUND, value=0.5, reviewer="")
    assert await store.add([doubt], ids, "li", NOW) == Added(corrected=1)
    assert await readings(pool, ids[CADMIUM]) == [(AT, 0.21, int(Quality.MANUAL))]


async def test_below_the_limit_keeps_the_limit_and_reads_as_half_of_it(
    store: LaboratoryStore, pool: Pool, ids: dict[str, int]
):
    below = replace(FOUND, value=None, given="<0.01 mg/kg")
    await store.add([below], ids, "wang", NOW)
    [reading] = await readings(pool, ids[CADMIUM])
    assert reading == (AT, 0.005, int(Quality.MANUAL | Quality.BELOW_DETECTION))
    assert [one.result for one in await store.list(AT, AT + 1, 9)] == [below]


async def test_a_dry_run_tells_and_keeps_nothing(store: LaboratoryStore, ids: dict[str, int]):
    assert await store.add([FOUND], ids, "w", NOW, dry_run=True) == Added(1, reviewed=1)
    assert await store.list(AT, AT + 1, 9) == []
    assert await store.add([FOUND], ids, "w", NOW) == Added(1, reviewed=1)


async def test_rules_are_told_of_the_newest_reviewed_version_once(
    store: LaboratoryStore, ids: dict[str, int]
):
    better = replace(FOUND, value=0.31)
    ph = replace(FOUND, series=PH, value=6.8, detection_limit=None)
    await store.add([FOUND, ph], ids, "wang", NOW)
    await store.add([better], ids, "wang", NOW)
    untold = await store.untold(9)
    assert sorted(untold.batch.value.tolist()) == [0.31, 6.8]
    assert set(untold.batch.quality.tolist()) == {int(Quality.MANUAL)}
    await store.mark_told(untold.ids, NOW)
    assert (await store.untold(9)).ids == ()
    await store.add([replace(FOUND, value=0.4)], ids, "wang", NOW)
    assert (await store.untold(9)).batch.value.tolist() == [0.4]


async def test_two_at_once_make_two_versions(store: LaboratoryStore, ids: dict[str, int]):
    others = [replace(FOUND, value=float(n)) for n in range(6)]
    await asyncio.gather(*(store.add([one], ids, "wang", NOW) for one in others))
    every = await store.list(AT, AT + 1, 99, versions=True)
    assert [one.version for one in every] == [6, 5, 4, 3, 2, 1]


async def test_results_are_listed_in_pages(store: LaboratoryStore, ids: dict[str, int]):
    some = [replace(FOUND, sampled_at_us=AT + n * SECOND_US) for n in range(5)]
    await store.add([*some, replace(FOUND, series=PH, value=7.0)], ids, "wang", NOW)
    first = await store.list(AT, AT + 10**12, 2, [ids[CADMIUM]])
    second = await store.list(AT, AT + 10**12, 9, [ids[CADMIUM]], before=first[-1].id)
    assert [one.result for one in [*first, *second]] == some[::-1]
    assert len(await store.list(AT, AT + 1, 9)) == 2


async def test_nothing_is_kept_if_one_row_cannot_be(store: LaboratoryStore, ids: dict[str, int]):
    with pytest.raises(KeyError):
        await store.add([FOUND, replace(FOUND, series="nobody")], ids, "wang", NOW)
    assert await store.list(AT, AT + 1, 9) == []


async def test_the_writer_corrects_sampled_readings_and_no_others(
    dsn: str,
    pool: Pool,
    connection: Connection,
    users: dict[str, str],
):
    registered = RegistryStore(pool)
    await registered.apply(sampled(), {})
    ids = dict((await registered.load()).series_ids)
    await grant(dsn)
    async with Pool(users["writer"]) as writing:
        store = LaboratoryStore(writing)
        await store.add([FOUND], ids, "wang", NOW)
        await store.add([replace(FOUND, value=0.5)], ids, "wang", NOW)
        untold = await store.untold(9)
        await store.mark_told(untold.ids, NOW)
    assert [value for _, value, _ in await readings(pool, ids[CADMIUM])] == [0.5]
    probe = registry("UTC", quantities=("soil_cadmium", "soil_ph"))
    await registered.apply(probe, {})  # the device is no laboratory any more
    async with Pool(users["writer"]) as writing:
        await LaboratoryStore(writing).add([replace(FOUND, value=0.9)], ids, "wang", NOW)
    assert [value for _, value, _ in await readings(pool, ids[CADMIUM])] == [0.5]
    async with await psycopg.AsyncConnection.connect(users["reader"]) as reading:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await reading.execute(
                "SELECT put_sampled_readings('{1}', '{2025-01-01}', now(), '{1}', '{0}')"
            )
