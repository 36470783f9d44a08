"""What people are told: one cause once, nothing that is hidden, silenced, shelved or flapping."""

from __future__ import annotations

import random

import pytest

from alerts.book import Because, Book, Silence, Told
from alerts.engine import Engine, Settings
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.rule import read_pack
from alerts.state import Action, Phase
from devices.site import SiteKind
from tests.alerts.places import MINUTE, SECOND, base, batch, device, registry, series, site

START = 1_767_225_600 * SECOND

SILENT = """
pack: equipment
version: 1
rules:
  - {id: house-silent, when: no data for 3 intervals, per: house, severity: critical,
     hides: [device-silent, sensor-silent], group: silence}
  - {id: device-silent, when: no data for 4 intervals, per: device, hides: [sensor-silent],
     group: silence}
  - {id: sensor-silent, when: no data for 5 intervals, group: silence}
"""
HOT = """
pack: crop
version: 1
rules:
  - id: hot
    levels:
      warning: {when: air_temperature > 30 degC}
      critical: {when: air_temperature > 35 degC}
    where: {placement: inside}
    tell: [operator, bureau]
"""


class Scene:
    """An engine and a book that see the same clock."""

    def __init__(self, text, place, **settings):
        self.registry = place
        rules = read_pack(text, "test.yaml").rules
        self.engine = Engine(rules, place, Settings(**settings))
        self.book = Book({rule.code: rule for rule in rules}, Places(place))
        self.notices, self.entries = [], []
        self.now = START

    def hear(self, rows, now):
        self.now = now
        outcome = self.book.take(self.engine.feed(batch(rows), now), now)
        self.notices += outcome.notices
        self.entries += outcome.entries
        return outcome

    def wait(self, now):
        self.now = now
        outcome = self.book.take(self.engine.advance(now), now)
        self.notices += outcome.notices
        self.entries += outcome.entries
        return outcome


def house_of_sixty():
    sites = [site("base", SiteKind.BASE, None), site("h1", SiteKind.GREENHOUSE, "base")]
    devices = [
        device(
            f"d{number}", "h1",
            *(series(f"d{number}", "air_temperature", "h1", 10.0, f"c{k}") for k in range(6)),
        )
        for number in range(10)
    ]  # fmt: skip
    return registry(sites, devices)


def test_a_power_cut_of_a_house_is_told_once_and_its_end_once():
    scene = Scene(SILENT, house_of_sixty())
    rng = random.Random(1)
    phase = {sid: rng.randrange(10 * SECOND) for sid in scene.registry.series_ids.values()}
    step = 2 * SECOND
    for now in range(START, START + 700 * SECOND, step):
        powered = not START + 60 * SECOND <= now < START + 500 * SECOND
        rows = [
            (sid, START + tick * 10 * SECOND + phase[sid], 20.0, 0)
            for sid in phase
            if (tick := (now - START - phase[sid]) // (10 * SECOND)) >= 0
            and START + tick * 10 * SECOND + phase[sid] > now - step
            and powered
        ]
        scene.hear(rows, now)
    assert [notice.told for notice in scene.notices] == [Told.FIRING, Told.OVER]
    first, last = scene.notices
    assert first.severity == 3
    # Within three intervals of the last reading, and the grace.
    assert first.at_us - (START + 60 * SECOND) <= 62 * SECOND
    assert last.at_us - (START + 500 * SECOND) <= 12 * SECOND
    fired = {entry.alert for entry in scene.entries if entry.kind == "fired"}
    assert len(fired) == 1 + 10 + 60


def test_sensors_of_a_house_that_has_power_are_told_of_by_themselves():
    scene = Scene(SILENT, house_of_sixty())
    for second in range(0, 600, 10):
        silent = 1 if second >= 100 else 0
        rows = [(sid, START + second * SECOND, 20.0, 0) for sid in range(1 + silent, 61)]
        scene.hear(rows, START + second * SECOND)
    assert [(n.told, n.severity, n.count) for n in scene.notices] == [(Told.FIRING, 2, 1)]
    (alert,) = [a for a in scene.book.alerts() if a.is_open]
    assert alert.episode.subject == "series:d0.air_temperature.c0"


def hot(scene, minute, value, sid=1):
    at = START + minute * MINUTE
    return scene.hear([(sid, at, value, 0)], at)


def test_two_thermometers_of_one_house_are_one_group_and_another_house_is_its_own():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0, sid=1)
    hot(scene, 1, 32.0, sid=2)
    hot(scene, 1, 33.0, sid=4)
    assert [(n.told, n.count) for n in scene.notices] == [(Told.FIRING, 1), (Told.FIRING, 1)]
    assert len({n.group for n in scene.notices}) == 2
    assert scene.notices[0].tell == ("operator", "bureau")


def test_what_becomes_worse_is_told_again_and_what_becomes_milder_is_not():
    scene = Scene(HOT, base())
    for minute, value in enumerate([31.0, 36.0, 31.0, 20.0]):
        hot(scene, minute, value)
    assert [(n.told, n.severity) for n in scene.notices] == [
        (Told.FIRING, 2),
        (Told.WORSE, 3),
        (Told.OVER, 0),
    ]


def test_a_sensor_that_flaps_is_told_of_twice_in_ten_minutes_and_then_as_it_stands():
    scene = Scene(HOT, base())
    for second in range(0, 1200):
        at = START + second * SECOND
        scene.hear([(1, at, 31.0 if second % 2 else 29.0, 0)], at)
    for window in range(0, 1200 - 600, 60):
        begin = START + window * SECOND
        inside = [n for n in scene.notices if begin <= n.at_us < begin + 600 * SECOND]
        assert len(inside) <= 2
    assert scene.notices[0].told is Told.FIRING
    assert scene.book.groups()[0].is_flapping
    scene.hear([(1, START + 1200 * SECOND, 31.0, 0)], START + 1200 * SECOND)
    scene.wait(START + 2400 * SECOND)
    assert scene.notices[-1].told is Told.FIRING  # it stands, and that is the last word


def test_a_flapping_sensor_that_becomes_worse_is_told_of_at_once():
    scene = Scene(HOT, base())
    for second in range(0, 60):
        at = START + second * SECOND
        scene.hear([(1, at, 31.0 if second % 2 else 29.0, 0)], at)
    told = len(scene.notices)
    scene.hear([(1, START + 60 * SECOND, 36.0, 0)], START + 60 * SECOND)
    assert [(n.severity) for n in scene.notices[told:]] == [3]


def test_a_silence_holds_back_and_what_stands_at_its_end_is_told():
    scene = Scene(HOT, base())
    silence = Silence(
        "s1", "li", "vents under repair", START - MINUTE, START + 30 * MINUTE, sites=("h1",)
    )
    scene.book.silence(silence, START)
    hot(scene, 0, 31.0)
    assert scene.notices == []
    (alert,) = scene.book.alerts()
    assert scene.book.held_back(alert, START) is Because.SILENCED
    assert alert.phase is Phase.FIRING
    hot(scene, 29, 31.0)
    scene.wait(START + 30 * MINUTE)
    assert [n.told for n in scene.notices] == [Told.FIRING]


@pytest.mark.parametrize(
    ("rules", "worst", "silenced"),
    [
        (("crop.*",), 3, True),  # a pattern
        (("crop.cold",), 3, False),  # another rule
        ((), 1, False),  # only what is no worse than info
    ],
)
def test_a_silence_covers_what_it_matches(rules, worst, silenced):
    scene = Scene(HOT, base())
    scene.book.silence(
        Silence("s", "li", "why", START - 1, START + MINUTE, rules, ("base",), worst=worst), START
    )
    hot(scene, 0, 31.0)
    assert (scene.notices == []) is silenced


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ""},  # nobody
        {"reason": " "},  # no reason
        {"until_us": START},  # no length
        {"sites": ()},  # everything
    ],
)
def test_a_silence_without_author_reason_end_or_matcher_is_refused(changes):
    facts = {"id": "s", "by": "li", "reason": "why", "from_us": START, "until_us": START + 1,
             "sites": ("h1",)} | changes  # fmt: skip
    scene = Scene(HOT, base())
    with pytest.raises(IllegalAction):
        scene.book.silence(Silence(**facts), START)
    assert scene.book.silences(START) == ()


def test_shelved_and_acknowledged_alerts_are_not_told_again_unless_worse():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    (alert,) = scene.book.alerts()
    scene.book.act(Action.SHELVE, alert.id, START, by="li", until_us=START + 60 * MINUTE,
                   reason="known")  # fmt: skip
    hot(scene, 1, 32.0)
    assert len(scene.notices) == 1
    hot(scene, 2, 36.0)
    assert [n.told for n in scene.notices] == [Told.FIRING, Told.WORSE]
    scene.book.act(Action.ACKNOWLEDGE, alert.id, START + 3 * MINUTE, by="li")
    assert scene.book.held_back(scene.book.alerts()[0], START) is Because.ACKNOWLEDGED
    with pytest.raises(IllegalAction, match="not acknowledged yet"):
        scene.book.act(Action.ACKNOWLEDGE, alert.id, START + 3 * MINUTE, by="wang")
    with pytest.raises(IllegalAction, match="not in the book"):
        scene.book.act(Action.ACKNOWLEDGE, "nothing", START, by="wang")


def test_an_episode_found_over_in_old_data_is_recorded_and_not_told():
    scene = Scene(HOT, base())
    now = START + 300 * MINUTE
    rows = [(1, START + m * MINUTE, 31.0 if 5 <= m < 10 else 20.0, 0) for m in range(20)]
    scene.hear(rows, now)
    scene.wait(now + 10 * MINUTE)
    assert scene.notices == []
    assert [e.kind for e in scene.entries] == ["pending", "fired", "resolved"]
    assert {e.recorded_at_us for e in scene.entries} == {now}


def test_an_episode_found_in_old_data_and_open_still_is_told_after_a_minute():
    scene = Scene(HOT, base())
    now = START + 300 * MINUTE
    scene.hear([(1, START + m * MINUTE, 31.0 if m >= 5 else 20.0, 0) for m in range(20)], now)
    assert scene.notices == []
    scene.wait(now + 30 * SECOND)
    assert scene.notices == []
    scene.wait(now + 61 * SECOND)
    assert [n.told for n in scene.notices] == [Told.FIRING]


def test_a_book_that_is_restored_says_nothing_twice():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    old = scene.book
    scene.book = Book(old.rules, old.places)
    scene.book.restore(old.alerts(), old.groups(), old.silences(scene.now), old.pageable())
    hot(scene, 1, 32.0)
    assert len(scene.notices) == 1
    hot(scene, 2, 20.0)
    assert [n.told for n in scene.notices] == [Told.FIRING, Told.OVER]
    assert [n.number for n in scene.notices] == [1, 2]


def test_a_group_at_rest_is_put_away():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    hot(scene, 1, 20.0)
    scene.wait(START + 20 * MINUTE)
    assert scene.book.groups() == ()
    assert scene.book.alerts() == ()
