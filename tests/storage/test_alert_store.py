"""Alerts are kept whole, twice is once, and an older state never takes the place of a newer one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from alerts import state
from alerts.book import Group, Notice, Silence, Told
from alerts.episode import Change, Episode, Step, StepKind, Transition, episode_id
from alerts.state import Alert, Phase
from storage.alerts import (
    AlertChanges,
    AlertStore,
    StoredAlert,
    StoredGroup,
    StoredPackChange,
    StoredSilence,
    Wanted,
)
from storage.errors import DatabaseUnavailable, DataRefused
from storage.pool import Connection, Pool
from tests.storage.samples import MINUTE_US, us

AT = us(2026, 5, 1, 3)


@pytest.fixture
def store(pool: Pool) -> AlertStore:
    return AlertStore(pool)


def episode(rule="climate.hot", subject="series:a.t", site="h1", start=AT, **more):
    fired = Step(start + MINUTE_US, StepKind.FIRED, 2, 36.5, 36.5, 0)
    key = episode_id(rule, subject, start)
    return replace(Episode(key, rule, 3, subject, site, start, (fired,)), **more)


def resolved(one: Episode, at_us: int) -> Episode:
    return replace(one, steps=(*one.steps, Step(at_us, StepKind.RESOLVED, 0, 30.0, 37.5, 17)))


def news(one: Episode, change: Change, now_us: int | None = None) -> Transition:
    at_us = one.steps[-1].at_us
    return Transition(change, one, at_us, at_us if now_us is None else now_us)


def fired(**how) -> tuple[Alert, list]:
    return state.begin(news(episode(**how), Change.FIRED))


def group_of(*alerts: Alert, **more) -> Group:
    members = tuple(alert.id for alert in alerts)
    base = Group("f" * 32, "climate.hot", "h1", AT, members, 2, 1, ((AT + MINUTE_US, 2),))
    return replace(base, **more)


def everything_done() -> tuple[Alert, list]:
    """An alert with all that people can do about it, and its history."""
    alert, entries = fired()
    for act in (
        lambda a: state.assign(a, "li.wei", "王芳", AT + 2),
        lambda a: state.comment(a, "li.wei", '风机停了 "quoted"', AT + 3),
        lambda a: state.shelve(a, "li.wei", AT + 10**9, "repair", AT + 4),
        lambda a: state.acknowledge(a, "li.wei", AT + 5, "seen"),
    ):
        alert, more = act(alert)
        entries += more
    return alert, entries


async def test_an_alert_comes_back_as_it_was_kept_with_its_whole_history(store: AlertStore):
    alert, entries = everything_done()
    stored = StoredAlert(alert, "f" * 32, is_pageable=True)
    await store.write(AlertChanges([stored], entries=entries))
    assert await store.some([alert.id]) == [stored]
    assert await store.entries(alert.id) == entries
    over, more = state.take(alert, news(resolved(alert.episode, AT + 10**9), Change.RESOLVED))
    over, closing = state.close(over, "王芳", "done", AT + 2 * 10**9)
    await store.write(AlertChanges([StoredAlert(over)], entries=[*more, *closing]))
    assert await store.some([alert.id]) == [StoredAlert(over, "f" * 32, is_pageable=False)]
    assert [entry.number for entry in await store.entries(alert.id)] == list(range(1, 9))


async def test_what_is_written_twice_is_there_once(store: AlertStore, connection: Connection):
    alert, entries = fired()
    notice = Notice("f" * 32, 1, Told.FIRING, 2, AT, (alert.id,), 1, ("operator", "bureau"))
    silence = StoredSilence(Silence("s", "li.wei", "x", AT, AT + 9, rules=("climate.*",)))
    change = StoredPackChange("own", "li.wei", "", AT, None, "pack: own")
    changes = AlertChanges(
        [StoredAlert(alert)],
        [StoredGroup(group_of(alert))],
        entries,
        [notice],
        [silence],
        [change],
    )
    await store.write(changes)
    await store.write(changes)
    for table, count in (
        ("alerts", 1), ("alert_entries", 2), ("alert_groups", 1), ("notices", 1),
        ("silences", 1), ("pack_changes", 1),
    ):  # fmt: skip
        row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
        assert row == (count,), table


async def test_an_older_state_does_not_take_the_place_of_a_newer_one(store: AlertStore):
    alert, entries = fired()
    newer, more = state.acknowledge(alert, "li.wei", AT)
    await store.write(AlertChanges([StoredAlert(newer)], entries=[*entries, *more]))
    await store.write(AlertChanges([StoredAlert(alert)], entries=entries))
    assert await store.some([alert.id]) == [StoredAlert(newer)]
    told_twice = group_of(alert, notices=2, told_severity=0)
    await store.write(AlertChanges(groups=[StoredGroup(told_twice)]))
    await store.write(AlertChanges(groups=[StoredGroup(group_of(alert))]))
    assert [one.group for one in await store.groups(9)] == [told_twice]


async def test_a_group_says_how_many_of_its_alerts_are_open(store: AlertStore):
    open_one, _ = fired()
    other, _ = fired(subject="series:b.t")
    over, _ = state.take(other, news(resolved(other.episode, AT + 10**9), Change.RESOLVED))
    group = group_of(open_one, over)
    alerts = [StoredAlert(one, group.id) for one in (open_one, over)]
    await store.write(AlertChanges(alerts, [StoredGroup(group)]))
    assert await store.groups(9) == [StoredGroup(group, open=1)]
    assert await store.groups(9, is_open=False) == []
    assert await store.groups(9, places=["h2"]) == []
    assert await store.groups(9, places=["h1"], after=(AT + 1, "")) == [StoredGroup(group, open=1)]
    assert await store.groups(9, after=(AT, group.id)) == []


async def seven(store: AlertStore) -> list[Alert]:
    """Seven alerts a minute apart: two open, one seen, one closed of phases and places."""
    alerts = []
    for number in range(7):
        alert, entries = fired(
            subject=f"series:d{number}.t",
            site=f"h{number % 2}",
            rule="climate.hot" if number % 3 else "100%.co_ld",
            start=AT + number * MINUTE_US,
        )
        if number >= 2:
            ended = resolved(alert.episode, alert.episode.fired_at_us + MINUTE_US)
            alert, more = state.take(alert, news(ended, Change.RESOLVED))
            entries += more
        if number == 6:
            alert, more = state.acknowledge(alert, "li.wei", AT)
            entries += more
        alerts.append(alert)
        await store.write(AlertChanges([StoredAlert(alert)], entries=entries))
    return alerts


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [6, 5, 4, 3, 2, 1, 0]),
        ({"limit": 2}, [6, 5]),
        ({"is_open": True}, [1, 0]),
        ({"is_open": False, "limit": 1}, [6]),
        # The one that somebody has seen, and is over, needs nobody.
        ({"needs_attention": True}, [5, 4, 3, 2, 1, 0]),
        ({"needs_attention": False}, [6]),
        ({"phases": (Phase.FIRING, Phase.HELD)}, [1, 0]),
        ({"severities": (3,)}, []),
        ({"severities": (2, 3), "limit": 1}, [6]),
        ({"rules": ("climate.*",)}, [5, 4, 2, 1]),
        # Letters that LIKE knows mean themselves.
        ({"rules": ("100%.co_*",)}, [6, 3, 0]),
        ({"rules": ("_00%.co_ld",)}, []),
        ({"sites": ("h1", "h7")}, [5, 3, 1]),
        ({"sites": ()}, []),
        ({"subjects": ("series:d3.t", "series:d4.t")}, [4, 3]),
        # An alert touches the time from its start until it was over, or still does.
        ({"until_us": AT + 2 * MINUTE_US}, [1, 0]),
        ({"since_us": AT + 5 * MINUTE_US, "until_us": AT + 6 * MINUTE_US}, [5, 4, 3, 1, 0]),
    ],
)
async def test_a_list_holds_what_was_asked_for(store: AlertStore, wanted, numbers):
    alerts = await seven(store)
    found = await store.list(Wanted(**{"limit": 100, **wanted}))
    assert [alerts.index(one.alert) for one in found] == numbers


async def test_pages_hold_every_alert_once(store: AlertStore):
    alerts = await seven(store)
    found: list[Alert] = []
    behind = None
    while page := await store.list(Wanted(limit=2, after=behind)):
        found += [one.alert for one in page]
        behind = (found[-1].episode.started_at_us, found[-1].id)
    assert found == alerts[::-1]


async def test_a_start_takes_up_what_is_awake_and_what_ended_lately(store: AlertStore):
    alerts = await seven(store)
    told = group_of(alerts[3], notices=4)
    rested = group_of(alerts[2], id="e" * 32)
    await store.write(
        AlertChanges(
            [StoredAlert(alerts[3], told.id), StoredAlert(alerts[2], rested.id)],
            [StoredGroup(told), StoredGroup(rested, at_rest=True)],
            silences=[
                StoredSilence(Silence("past", "a", "b", AT - 9, AT, sites=("h1",))),
                StoredSilence(Silence("now", "a", "b", AT - 9, AT + 9, sites=("h1",), worst=1)),
            ],
        )
    )
    book = await store.awake(alerts[6].episode.steps[-1].at_us, AT)
    # Open, of a group that is awake, and lately over; two have long been over.
    assert [alerts.index(one.alert) for one in book.alerts] == [0, 1, 3, 6]
    assert book.groups == (told,)
    assert [one.silence.id for one in book.silences] == ["now"]


async def test_what_old_data_may_change_is_found_by_rule_and_subject(store: AlertStore):
    alerts = await seven(store)
    gone, _ = fired(subject="series:d5.t", start=AT - MINUTE_US)
    gone = replace(gone, phase=Phase.RETRACTED)
    await store.write(AlertChanges([StoredAlert(gone)]))
    until = alerts[5].episode.steps[-1].at_us
    keys = [
        ("climate.hot", "series:d5.t", until),  # over at that moment
        ("climate.hot", "series:d4.t", until),  # over before it
        ("climate.hot", "series:d1.t", until),  # open
        ("climate.hot", "series:d0.t", until),  # of another rule
    ]
    assert [alerts.index(one.alert) for one in await store.known(keys)] == [1, 5]
    assert await store.known([]) == []


async def test_a_silence_that_was_ended_stays_ended(store: AlertStore):
    silence = Silence("s", "li.wei", "moving", AT, AT + 100, subjects=("device:d",))
    begun = StoredSilence(silence)
    ended = StoredSilence(replace(silence, until_us=AT + 50), "王芳", "moved")
    for one in (begun, ended, begun):
        await store.write(AlertChanges(silences=[one]))
    assert await store.silence("s") == ended
    assert await store.silence("t") is None
    assert await store.silences(AT + 49, with_past=False, limit=9) == [ended]
    assert await store.silences(AT + 50, with_past=False, limit=9) == []
    assert await store.silences(AT + 50, with_past=True, limit=9) == [ended]


async def test_notices_are_read_on_from_a_position(store: AlertStore):
    notices = [
        Notice("g", number, Told.FIRING if number < 3 else Told.OVER, 2, AT + number, ("a",), 1, ())
        for number in (1, 2, 3)
    ]
    await store.write(AlertChanges(notices=notices[:2]))
    await store.write(AlertChanges(notices=notices))
    placed = await store.notices(0, 9)
    assert [one.notice for one in placed] == notices
    assert [one.notice for one in await store.notices(placed[1].position, 9)] == notices[2:]
    assert [one.notice for one in await store.notices(0, 1)] == notices[:1]


async def test_the_changes_of_a_pack_are_listed_newest_first(store: AlertStore):
    changes = [
        StoredPackChange("own", "li.wei", "hot", AT, None, "pack: own\n"),
        StoredPackChange("own", "王芳", "", AT + 1, "pack: own\n", None),
        StoredPackChange("other", "王芳", "", AT + 2, None, ""),
    ]
    await store.write(AlertChanges(pack_changes=changes))
    assert await store.pack_changes("own", 9) == [changes[1], changes[0]]
    assert await store.pack_changes("own", 1) == [changes[1]]


async def test_what_is_infinite_is_kept_as_not_known(store: AlertStore):
    step = Step(AT, StepKind.FIRED, 2, math.inf, math.inf, 0)
    alert, entries = state.begin(news(episode(steps=(step,)), Change.FIRED))
    await store.write(AlertChanges([StoredAlert(alert)], entries=entries))
    (found,) = await store.some([alert.id])
    assert found.alert.episode.value is None
    assert (await store.entries(alert.id))[-1].peak is None


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
async def test_text_that_no_database_takes_is_refused_and_keeps_nothing(store: AlertStore, bad):
    alert, entries = fired()
    odd, more = state.comment(alert, "li.wei", bad, AT)
    with pytest.raises(DataRefused):
        await store.write(AlertChanges([StoredAlert(odd)], entries=[*entries, *more]))
    assert await store.list(Wanted(9)) == []


async def test_a_time_outside_the_years_is_refused(store: AlertStore):
    alert, entries = fired(start=2**61)
    with pytest.raises(DataRefused):
        await store.write(AlertChanges([StoredAlert(alert)], entries=entries))


async def test_a_database_that_is_away_says_so():
    async with Pool("host=127.0.0.1 port=1 dbname=x", timeout_s=0.2) as pool:
        with pytest.raises(DatabaseUnavailable):
            await AlertStore(pool).list(Wanted(9))
