"""The calibration book in the database, and what it does to readings that lie there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.calibration import (
    Calibration,
    Change,
    Ledger,
    Line,
    Scope,
    Timeline,
    Window,
    WindowKind,
    changes,
)
from devices.quality import Quality
from devices.reading import Batch
from storage.calibrations import CalibrationStore, refresh_rollups
from storage.errors import DataRefused
from storage.history import History, Step
from storage.migrate import schema_edition
from storage.pool import Connection, Pool
from storage.readings import ReadingWriter
from storage.registry import RegistryStore
from tests.storage.samples import DAY_US, HOUR_US, MINUTE_US, batch, registry, us

START = us(2025, 5, 1)
CODE = "probe-0.air_temperature"
LIMITS = {1: (-50.0, 70.0)}


@pytest.fixture
async def store(pool: Pool) -> CalibrationStore:
    await RegistryStore(pool).apply(registry("UTC", "Asia/Shanghai"), {})
    return CalibrationStore(pool)


def line(from_us: int, gain: float = 1.0, shift: float = 0.0, **fields) -> Calibration:
    return Calibration(CODE, from_us, gain, shift, "Li Wei", **fields)


async def carry_out(store: CalibrationStore, pool: Pool, steps: int | None = None) -> None:
    """What the service does after an entry; *steps* ends it in the middle, as a crash would."""
    if not await store.planned():
        book = await store.ledger()
        known = await RegistryStore(pool).load()
        old = Timeline.build(book.until(book.applied), known)
        found = list(changes(old, Timeline.build(book, known)))
        await store.plan(book.revision, found, LIMITS)
        if not found:
            await store.finish(book.revision)
    while steps is None or steps > 0:
        if await store.correct() is None:
            break
        steps = None if steps is None else steps - 1


async def write(dsn: str, readings: Batch) -> None:
    async with ReadingWriter(dsn) as writer:
        assert (await writer.write(readings)).kind == "written"


async def stored(pool: Pool, series_id: int = 1):
    return (await History(pool).raw([series_id], START - DAY_US, START + 400 * DAY_US, 100_000))[
        series_id
    ]


async def test_the_book_is_read_as_it_was_written(store: CalibrationStore):
    entry = line(START, 1.02, -0.3, method="two-point", reference="ice and 37 °C", note="wiped")
    entry = await store.add_calibration(
        Calibration(
            **{
                name: getattr(entry, name)
                for name in entry.__slots__
                if name not in ("due_us", "points")
            },
            due_us=START + 90 * DAY_US,
            points=((0.3, 0.0), (36.57, 37.0)),
        )
    )
    window = await store.add_window(
        Window(Scope.SITE, "base-0", WindowKind.MAINTENANCE, START, START + HOUR_US, "李", "换膜")
    )
    ended = await store.add_window(
        Window(
            Scope.SITE,
            "base-0",
            WindowKind.MAINTENANCE,
            START,
            START + 1,
            "李",
            replaces=window.id,
            withdrawn=True,
        )
    )
    book = await store.ledger()
    assert book == Ledger((entry,), (window, ended), 3, 0)
    assert await store.state() == (3, 0)
    assert book.windows_in_force() == []
    assert book.until(2).windows_in_force() == [window]


async def test_a_series_that_is_not_there_cannot_be_calibrated(store: CalibrationStore):
    with pytest.raises(DataRefused, match="is not in the registry"):
        await store.add_calibration(Calibration("x.y", START, 1.0, 0.0, "Li"))
    assert await store.state() == (0, 0)


async def test_a_back_dated_calibration_corrects_what_is_stored(
    store: CalibrationStore, pool: Pool, dsn: str, connection: Connection
):
    """Three weeks of readings, several pieces; another series and what lies before stay."""
    at = list(range(START, START + 21 * DAY_US, 6 * HOUR_US))
    value = [20.0 + n % 5 for n in range(len(at))]
    value[3] = float("nan")
    quality = [0] * len(at)
    quality[5] = int(Quality.MANUAL)
    await write(dsn, batch(1, at, value, quality))
    await write(dsn, batch(2, at, value))
    since = START + 2 * DAY_US
    await store.add_calibration(line(since, 2.0, 22.0))
    await carry_out(store, pool)
    found = await stored(pool)
    raw = np.array(value)
    expected = np.where(np.array(at) >= since, raw * 2.0 + 22.0, raw)
    expected[5] = raw[5]
    assert np.array_equal(found.value, expected, equal_nan=True)
    # 24 on the new line is 70, which is possible; the bit is set only beyond.
    beyond = expected > 70.0
    assert (found.quality & int(Quality.PHYSICAL_RANGE) != 0).tolist() == beyond.tolist()
    assert np.array_equal((await stored(pool, 2)).value, raw, equal_nan=True)
    assert await store.state() == (1, 1)
    (noted,) = await store.corrections(CODE, 9)
    assert (noted.revision, noted.start_us, noted.finished_us is not None) == (1, since, True)
    assert noted.readings == sum(one >= since for one in at)
    spans = await (
        await connection.execute("SELECT series_ids, first_us FROM changed_spans")
    ).fetchall()
    assert {tuple(ids) for ids, _ in spans} == {(1,)}
    assert min(first[0] for _, first in spans) == since


async def test_a_correction_that_ends_in_the_middle_goes_on_and_corrects_nothing_twice(
    store: CalibrationStore, pool: Pool, dsn: str
):
    at = list(range(START, START + 40 * DAY_US, DAY_US))
    await write(dsn, batch(1, at, [10.0] * len(at)))
    await store.add_calibration(line(START, 1.0, 1.0))
    await carry_out(store, pool, steps=2)
    middle = (await stored(pool)).value
    assert 0 < np.count_nonzero(middle == 11.0) < len(at)
    # Another entry comes before the first is carried out.
    await store.add_calibration(line(START + 20 * DAY_US, 1.0, 5.0))
    await carry_out(store, pool)
    assert (await stored(pool)).value.tolist() == [11.0] * 40
    assert await store.state() == (2, 1)
    await carry_out(store, pool)
    assert (await stored(pool)).value.tolist() == [11.0] * 20 + [15.0] * 20
    assert await store.state() == (2, 2)
    await carry_out(store, pool)
    assert (await stored(pool)).value.tolist() == [11.0] * 20 + [15.0] * 20


async def test_a_withdrawn_calibration_is_taken_back_out(
    store: CalibrationStore, pool: Pool, dsn: str
):
    at = list(range(START, START + DAY_US, HOUR_US))
    value = [0.1 * n for n in range(len(at))]
    await write(dsn, batch(1, at, value))
    await store.add_calibration(line(START, 1.7, 0.3))
    await carry_out(store, pool)
    assert (await stored(pool)).value[1] == 0.1 * 1.7 + 0.3
    await store.add_calibration(line(START, withdrawn=True))
    await carry_out(store, pool)
    assert np.abs((await stored(pool)).value - value).max() < 1e-14
    assert await store.state() == (2, 2)


async def test_a_window_that_is_entered_afterwards_marks_and_unmarks_what_is_stored(
    store: CalibrationStore, pool: Pool, dsn: str
):
    at = list(range(START, START + DAY_US, HOUR_US))
    own = int(Quality.CALIBRATION | Quality.STEP)  # a bit that the device itself had sent stays
    await write(dsn, batch(1, at, [10.0] * 24, [own if n == 3 else 0 for n in range(24)]))
    window = await store.add_window(
        Window(
            Scope.DEVICE,
            "probe-0",
            WindowKind.MAINTENANCE,
            START + 2 * HOUR_US,
            START + 5 * HOUR_US,
            "Li",
        )
    )
    await carry_out(store, pool)
    mark = int(Quality.MAINTENANCE)
    expected = [mark if n in (2, 4) else mark | own if n == 3 else 0 for n in range(24)]
    assert (await stored(pool)).quality.tolist() == expected
    hours = (await History(pool).rolled([1], START, START + DAY_US, Step.HOUR))[1]
    assert hours.valid_count.tolist() == [0 if n in (2, 3, 4) else 1 for n in range(24)]
    await store.add_window(
        Window(
            Scope.DEVICE,
            "probe-0",
            WindowKind.MAINTENANCE,
            START,
            START + 1,
            "Li",
            replaces=window.id,
            withdrawn=True,
        )
    )
    await carry_out(store, pool)
    assert (await stored(pool)).quality.tolist() == [own if n == 3 else 0 for n in range(24)]


async def test_what_deleted_readings_came_to_moves_with_the_line(
    store: CalibrationStore, pool: Pool, connection: Connection
):
    at = np.datetime64(START, "us").item()
    await connection.execute(
        "INSERT INTO kept_1h (series_id, bucket, count, valid_count, sum, min, max, first, last)"
        " VALUES (1, %(at)s::timestamptz, 4, 3, 30, 5, 15, 7, 8),"
        " (1, %(at)s::timestamptz - INTERVAL '1 hour', 4, 3, 30, 5, 15, 7, 8)",
        {"at": f"{at}+00"},
    )
    await store.add_calibration(line(START, 2.0, 1.0))
    await carry_out(store, pool)
    rows = await (
        await connection.execute(
            "SELECT sum, min, max, first, last FROM kept_1h ORDER BY bucket DESC"
        )
    ).fetchall()
    assert rows == [(63.0, 11.0, 31.0, 15.0, 17.0), (30.0, 5.0, 15.0, 7.0, 8.0)]


async def test_refreshing_says_whether_there_is_anything_to_refresh(
    store: CalibrationStore, dsn: str, connection: Connection
):
    has_any = (await schema_edition(connection)).has_continuous_aggregates
    assert await refresh_rollups(dsn, START, START + DAY_US) is has_any


async def test_the_database_calculates_as_the_judge_does(
    store: CalibrationStore, connection: Connection
):
    """To the last bit, for a first calibration; the way of a live reading and of a stored one."""
    rng = np.random.default_rng(5)
    value = rng.normal(20, 30, 500)
    gain, shift = 1.0 + rng.normal(0, 0.1), rng.normal(0, 2)
    row = await (
        await connection.execute(
            "SELECT array_agg(on_line(v, 1, 0, %s, %s) ORDER BY n)"
            " FROM unnest(%s::float8[]) WITH ORDINALITY AS t (v, n)",
            [gain, shift, value.tolist()],
        )
    ).fetchone()
    assert row is not None
    assert row[0] == (value * gain + shift).tolist()


@given(
    raw=st.floats(-1e6, 1e6),
    gain=st.floats(0.001, 1000),
    shift=st.floats(-1e6, 1e6),
)
def test_the_raw_value_is_recovered_within_its_bound(raw: float, gain: float, shift: float):
    known = registry("UTC")
    known = type(known)(known.sites, known.devices, {CODE: 1})
    book = Ledger((line(START, gain, shift, revision=1),), (), 1)
    timeline = Timeline.build(book, known)
    at = np.array([START - 1, START], np.int64)
    value = np.array([raw, raw * gain + shift])
    found = timeline.raw(1, at, value, np.zeros(2, np.int32))
    assert found[0] == raw
    assert abs(found[1] - raw) <= 2.0**-50 * (abs(raw) + abs(shift / gain))


def test_changes_are_the_stretches_on_which_two_books_differ():
    known = registry("UTC")
    known = type(known)(known.sites, known.devices, {CODE: 1})
    first = line(START, 2.0, revision=1)
    second = line(START + DAY_US, 3.0, revision=2, due_us=START + 2 * DAY_US)
    book = Ledger((first, second), (), 2)
    old, new = (Timeline.build(one, known) for one in (book.until(1), book))
    due = int(Quality.CALIBRATION_DUE)
    assert list(changes(old, new)) == [
        Change(1, START + DAY_US, START + 2 * DAY_US, Line(2.0), Line(3.0)),
        Change(1, START + 2 * DAY_US, 1 << 62, Line(2.0), Line(3.0, 0.0, due)),
    ]
    assert list(changes(new, new)) == []
    assert list(changes(old, old)) == []


MINUTES = st.integers(0, 60)
ENTRIES = st.lists(
    st.one_of(
        st.tuples(
            st.just("line"),
            MINUTES,
            st.sampled_from([0.5, 1.0, 2.0]),
            st.booleans(),
            st.none() | MINUTES,
        ),
        st.tuples(st.just("window"), MINUTES, MINUTES, st.sampled_from(list(WindowKind))),
    ),
    max_size=8,
)


@given(entries=ENTRIES, moments=st.lists(MINUTES, min_size=1, max_size=10))
def test_a_moment_is_on_the_line_that_the_book_says(entries, moments):
    known = registry("UTC")
    known = type(known)(known.sites, known.devices, {CODE: 1})
    lines, windows = [], []
    for revision, entry in enumerate(entries, 1):
        if entry[0] == "line":
            _, minute, gain, withdrawn, due = entry
            due_us = None if due is None else START + due * MINUTE_US
            at = START + minute * MINUTE_US
            lines.append(line(at, gain, withdrawn=withdrawn, due_us=due_us, revision=revision))
        elif entry[1] < entry[2]:
            _, start, end, kind = entry
            span = (START + start * MINUTE_US, START + end * MINUTE_US)
            windows.append(
                Window(Scope.SERIES, CODE, kind, *span, "Li", id=revision, revision=revision)
            )
    book = Ledger(tuple(lines), tuple(windows), len(entries))
    timeline = Timeline.build(book, known)
    at_us = np.array([START + minute * MINUTE_US for minute in moments], np.int64)
    rows, place = timeline.rows(np.ones(len(at_us), np.int32), at_us)
    found = {int(row): int(at) for row, at in zip(rows, place, strict=True)}
    for row, at in enumerate(at_us.tolist()):
        gain, bits = 1.0, 0
        current = None
        for one in sorted(lines, key=lambda one: (one.from_us, one.revision)):
            latest = max(
                (other for other in lines if other.from_us == one.from_us),
                key=lambda other: other.revision,
            )
            if one is latest and not one.withdrawn and one.from_us <= at:
                current = one
        if current is not None:
            gain = current.gain
            if current.due_us is not None and at >= current.due_us:
                bits |= int(Quality.CALIBRATION_DUE)
        for window in windows:
            if window.start_us <= at < window.end_us:
                bits |= int(Quality[window.kind.name])
        if row in found:
            place_of = found[row]
            assert (timeline.gain[place_of], timeline.bits[place_of]) == (gain, bits)
        else:
            assert (gain, bits) == (1.0, 0)
