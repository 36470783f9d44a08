"""The ledger of alerts: nothing that was decided is lost in a crash, and nothing is told twice."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from alerts.book import Notice, Silence
from alerts.engine import Engine, Settings
from alerts.episode import Change
from alerts.errors import IllegalAction
from alerts.rule import read_pack
from alerts.state import Action, Entry, Phase
from devices.quality import Quality
from devices.reading import Batch
from devices.site import SiteKind
from greenhouse.alerting.journal import Journal, Line, late_of, read_journal
from greenhouse.alerting.ledger import Ledger, NotDurable
from greenhouse.alerting.saved_state import SavedState, read_state, write_state
from greenhouse.alerting.unsaved import Unsaved
from storage.alerts import AlertChanges, StoredAlert, StoredBook, StoredPackChange
from tests.alerts.places import MINUTE, SECOND, batch, device, registry, series, site

START = 1_767_225_600 * SECOND
RULES = """
pack: crop
version: 1
rules:
  - id: hot
    levels:
      warning: {when: air_temperature > 30 degC, for: 20s, clear: 29 degC}
      critical: {when: air_temperature > 33 degC}
  - {id: silent, when: no data for 3 intervals, hides: [hot], group: silence}
"""
PACK = read_pack(RULES, "crop.yaml").rules
PLACE = registry(
    [site("b", SiteKind.BASE, None), site("h", SiteKind.GREENHOUSE, "b")],
    [device(f"d{n}", "h", series(f"d{n}", "air_temperature", "h", 10.0)) for n in range(3)],
)


class Scene:
    """An engine and a ledger that may crash, and a database that forgets nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        self.alerts: dict[str, StoredAlert] = {}
        self.entries: dict[tuple[str, int], Entry] = {}
        self.notices: dict[tuple[str, int], Notice] = {}
        self.heard: list[tuple[int, Batch]] = []
        self.saved_at = START
        self.engine = Engine(PACK, PLACE, Settings())
        self.ledger = Ledger(Journal(folder / "journal"))

    async def begin(self) -> None:
        self.ledger.adopt({rule.code: rule for rule in PACK}, PLACE)
        await self.ledger.write_anew({})
        await self.save()

    async def hear(self, rows: list[tuple[int, int, float, int]], now: int) -> None:
        self.now = now
        self.heard.append((now, batch(rows)))
        await self.ledger.take(self.engine.feed(batch(rows), now), now)

    async def wait(self, now: int) -> None:
        self.now = now
        await self.ledger.take(self.engine.advance(now), now)

    async def save(self) -> None:
        state = SavedState(self.now, self.now, self.engine.snapshot())
        write_state(self.folder / "state", state)
        self.heard.clear()
        await self.ledger.write_anew({})

    def store(self) -> None:
        """Let the database take some of what waits, as it would: again and again the same."""
        changes = self.ledger.unsaved.batch()
        for one in changes.alerts:
            old = self.alerts.get(one.alert.id)
            if old is None or old.alert.entries <= one.alert.entries:
                self.alerts[one.alert.id] = one
        for entry in changes.entries:
            self.entries.setdefault((entry.alert, entry.number), entry)
        for notice in changes.notices:
            self.notices.setdefault((notice.group, notice.number), notice)
        self.ledger.stored(changes)

    async def crash(self) -> None:
        """Begin anew from the disk; what was heard since is heard again, all at once."""
        lines = read_journal(self.folder / "journal")
        state = read_state(self.folder / "state")
        assert state is not None
        self.engine = Engine(PACK, PLACE, Settings())
        self.engine.restore(state.engine)
        self.ledger = Ledger(Journal(self.folder / "journal"))
        assert self.ledger.take_up(lines, self.now)
        self.ledger.adopt({rule.code: rule for rule in PACK}, PLACE)
        await self.ledger.write_anew({})
        if self.heard:
            missed = Batch.concatenate([one for _, one in self.heard])
            await self.ledger.take(self.engine.feed(missed, state.horizon_us), self.now)

    def story(self) -> dict[str, list[tuple[str, int, float | None, bool]]]:
        while len(self.ledger.unsaved):
            self.store()
        out: dict[str, list[tuple[str, int, float | None, bool]]] = {}
        for (alert, _), entry in sorted(self.entries.items()):
            out.setdefault(alert, []).append((entry.kind, entry.at_us, entry.peak, entry.revised))
        return out

    def told(self) -> list[tuple[str, int, str, int]]:
        return [(n.group, n.number, n.told.value, n.severity) for n in self.notices.values()]


def rows_of(rng: random.Random, tick: int, warmth: dict[int, float], away: set[int]):
    out = []
    for number in (1, 2, 3):
        if rng.random() < 0.03:
            away ^= {number}
        warmth[number] += rng.uniform(-1.5, 1.5) - 0.1 * (warmth[number] - 30.0)
        quality = int(Quality.CALIBRATION) if rng.random() < 0.05 else 0
        if number not in away:
            value = 60.0 if quality else round(warmth[number], 1)
            out.append((number, START + tick * 10 * SECOND, value, quality))
    return out


async def lived(folder: Path, seed: int, crashes: bool) -> Scene:
    rng, chance = random.Random(seed), random.Random(seed + 1)
    scene = Scene(folder)
    await scene.begin()
    warmth, away = dict.fromkeys((1, 2, 3), 30.0), set()
    for tick in range(150):
        now = START + tick * 10 * SECOND + SECOND
        if rows := rows_of(rng, tick, warmth, away):
            await scene.hear(rows, now)
        await scene.wait(now + SECOND)
        if rng.random() < 0.05:
            for alert in scene.ledger.book.alerts():
                if alert.is_open and alert.acknowledged is None:
                    stored = scene.ledger.find(alert.id)
                    assert stored is not None
                    how = {"by": "li.wei", "note": str(tick)}
                    await scene.ledger.act(Action.ACKNOWLEDGE, stored, scene.now, how)
        if not crashes:
            scene.store()
            continue
        if chance.random() < 0.3:
            scene.store()
        if chance.random() < 0.08:
            await scene.save()
        if chance.random() < 0.15:
            await scene.crash()
    return scene


@pytest.mark.parametrize("seed", range(12))
async def test_crashes_anywhere_change_neither_history_nor_what_is_told(tmp_path, seed):
    (tmp_path / "calm").mkdir()
    (tmp_path / "wild").mkdir()
    calm = await lived(tmp_path / "calm", seed, crashes=False)
    wild = await lived(tmp_path / "wild", seed, crashes=True)
    assert wild.story() == calm.story()
    assert wild.told() == calm.told()
    assert any("fired" in [kind for kind, *_ in lines] for lines in calm.story().values())

    def done(scene: Scene) -> dict[str, object]:
        return {key: (one.alert.phase, one.alert.acknowledged) for key, one in scene.alerts.items()}

    assert done(wild) == done(calm)


async def test_a_value_of_a_probe_in_calibration_fires_nothing(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    for tick in range(9):
        at = START + tick * 10 * SECOND
        await scene.hear([(n, at, 60.0, int(Quality.CALIBRATION)) for n in (1, 2, 3)], at)
    assert scene.ledger.book.alerts() == ()


async def hot(scene: Scene) -> StoredAlert:
    """Return an alert that fires."""
    await scene.hear([(1, START, 35.0, 0)], START)
    (alert,) = scene.ledger.book.alerts()
    stored = scene.ledger.find(alert.id)
    assert stored is not None
    return stored


async def test_what_people_do_is_not_done_where_it_cannot_be_made_durable(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    alert = await hot(scene)
    scene.store()
    scene.ledger._journal.close()
    silence = Silence("s", "li.wei", "x", START, START + MINUTE, rules=("*",))
    for wish in (
        lambda: scene.ledger.act(Action.ACKNOWLEDGE, alert, START, {"by": "li.wei", "note": ""}),
        lambda: scene.ledger.silence(silence, START),
        lambda: scene.ledger.record(StoredPackChange("p", "li.wei", "", START, None, "")),
    ):
        with pytest.raises(NotDurable):
            await wish()
    assert scene.ledger.find(alert.alert.id) == alert
    assert scene.ledger.silences() == []
    assert scene.ledger.book.silences(START) == ()
    assert len(scene.ledger.unsaved) == 0
    assert "journal" in scene.ledger.problem


async def test_alerts_go_on_in_memory_where_the_disk_fails_and_are_written_when_it_works(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    scene.ledger._journal.close()
    alert = await hot(scene)
    assert alert.alert.phase is Phase.FIRING
    assert scene.ledger.problem
    await scene.ledger.write_anew({})
    assert scene.ledger.problem == ""
    await scene.crash()
    assert scene.ledger.find(alert.alert.id) == alert


async def test_an_action_that_does_not_fit_changes_nothing(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    alert = await hot(scene)
    for action, how in (
        (Action.CLOSE, {"by": "li.wei", "note": "x"}),
        (Action.COMMENT, {"by": "li.wei", "note": "a\0b"}),
        (Action.COMMENT, {"by": "li.wei", "note": "\ud800"}),
    ):
        with pytest.raises(IllegalAction):
            await scene.ledger.act(action, alert, START, how)
    assert scene.ledger.find(alert.alert.id) == alert


async def test_an_alert_that_was_put_away_takes_actions_and_late_news(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    alert = await hot(scene)
    await scene.hear([(1, START + 10 * SECOND, 20.0, 0)], START + 10 * SECOND)
    later = START + 20 * MINUTE
    await scene.ledger.take([], later)
    assert scene.ledger.book.alert(alert.alert.id) is None
    put_away = scene.ledger.find(alert.alert.id)
    assert put_away is not None
    how = {"by": "li.wei", "note": "look at the vent"}
    seen = await scene.ledger.act(Action.COMMENT, put_away, later, how)
    await scene.crash()
    assert scene.ledger.find(alert.alert.id) == seen
    # Late data show that it goes on: it stands again, with what people did, in its old group.
    open_again = replace(alert.alert.episode, steps=alert.alert.episode.steps)
    news = replace(
        (await news_of(scene)), change=Change.REVISED, episode=open_again, revised=True, page=True
    )
    outcome = await scene.ledger.take([news], later)
    (again,) = outcome.alerts
    assert (again.phase, again.comments) == (Phase.FIRING, seen.alert.comments)
    scene.story()
    told = [(number, told) for _, number, told, _ in scene.told()]
    assert told == [(1, "firing"), (2, "over"), (3, "firing")]


async def news_of(scene: Scene):
    """Return any transition, to be changed."""
    engine = Engine(PACK, PLACE, Settings())
    return engine.feed(batch([(1, START, 35.0, 0)]), START)[0]


async def test_a_silence_holds_over_a_crash_and_ends_with_a_name(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    silence = Silence("s", "li.wei", "repair", START, START + 9 * MINUTE, rules=("crop.*",))
    await scene.ledger.silence(silence, START)
    await scene.crash()
    alert = await hot(scene)
    assert scene.ledger.book.held_back(alert.alert, START).value == "silenced"
    ended = await scene.ledger.end_silence("s", "王芳", "done", START + MINUTE)
    assert (ended.ended_by, ended.silence.until_us) == ("王芳", START + MINUTE)
    with pytest.raises(IllegalAction):
        await scene.ledger.end_silence("s", "王芳", "again", START + MINUTE)
    await scene.crash()
    scene.story()
    assert [told for *_, told, _ in scene.told()] == ["firing"]


async def test_what_the_database_knows_is_taken_up_and_does_not_undo_what_is_newer(tmp_path):
    scene = Scene(tmp_path)
    await scene.begin()
    alert = await hot(scene)
    group = scene.ledger.book.groups()[0]
    other = replace(
        alert, alert=replace(alert.alert, episode=replace(alert.alert.episode, id="f" * 32))
    )
    how = {"by": "li.wei", "note": ""}
    newer = await scene.ledger.act(Action.ACKNOWLEDGE, alert, START, how)
    scene.ledger.take_up_stored(StoredBook((alert, other), (group,)), START)
    assert scene.ledger.find(alert.alert.id) == newer
    assert scene.ledger.find("f" * 32) is not None


def test_a_line_that_a_crash_left_unfinished_is_passed_over(tmp_path):
    file = tmp_path / "journal"
    journal = Journal(file)
    journal.rewrite([Line(late_us={1: 5})])
    journal.append(Line(late_us={1: 3, 2: 9}))
    journal.close()
    with file.open("ab") as out:
        out.write(b'00000000 {"late_us":{"1":1}}\n1234abcd {"lat')
    assert journal.has_grown
    assert late_of(read_journal(file)) == {1: 3, 2: 9}
    assert read_journal(tmp_path / "none") == []


def test_a_line_that_does_not_fit_the_disk_leaves_room_for_the_next(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    journal.rewrite([])

    def half(handle: int, content: bytes) -> int:
        return write(handle, content[: len(content) // 2])

    from os import write

    with monkeypatch.context() as patch:
        patch.setattr("greenhouse.alerting.journal.os.write", half)
        with pytest.raises(OSError):
            journal.append(Line(late_us={1: 1}))
    assert not journal.has_grown
    journal.append(Line(late_us={2: 2}))
    journal.close()
    assert [line.late_us for line in read_journal(tmp_path / "journal")] == [{2: 2}]


@pytest.mark.parametrize("harm", [b"", b"short", b"GHALERT1" + b"x" * 40])
def test_a_damaged_state_is_none(tmp_path, harm):
    file = tmp_path / "state"
    write_state(file, SavedState(1, 2, b"engine"))
    assert read_state(file) == SavedState(1, 2, b"engine")
    file.write_bytes(harm)
    assert read_state(file) is None
    assert read_state(tmp_path / "none") is None


def test_what_waits_for_the_database_is_bounded_and_never_lets_go_of_the_newer(tmp_path):
    scene = Scene(tmp_path)
    asyncio.run(scene.begin())
    alert = asyncio.run(hot(scene))
    waiting = Unsaved(most=3)
    waiting.add(AlertChanges([alert]))
    batch_of = waiting.batch()
    newer = replace(alert, is_pageable=False)
    waiting.add(AlertChanges([newer]))
    waiting.saved(batch_of)
    assert waiting.all().alerts == [newer]
    entries = list(scene.ledger.unsaved.all().entries) * 2
    waiting.add(AlertChanges(entries=entries))
    assert len(waiting.all().entries) == 3
    assert waiting.dropped == len(entries) - 3
