"""What people are told: one cause once, nothing that is hidden, silenced, shelved or flapping."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from alerts import state
from alerts.book import Because, Book, Outcome, Silence, Told
from alerts.engine import Engine, Settings
from alerts.episode import Change
from alerts.errors import IllegalAction
from alerts.places import Places
from alerts.rule import read_pack
from alerts.state import Action, Phase
from devices.site import SiteKind
from tests.alerts.places import DAY, MINUTE, SECOND, base, batch, device, registry, series, site

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


def alert_about(scene, subject):
    return next(a for a in scene.book.alerts() if a.episode.subject == subject)


def test_what_hides_others_hides_them_no_longer_when_it_is_over():
    scene = Scene(SILENT, house_of_sixty())
    scene.hear([(sid, START, 20.0, 0) for sid in range(1, 61)], START)
    scene.wait(START + 200 * SECOND)  # the whole house is silent
    assert [(n.told, n.severity) for n in scene.notices] == [(Told.FIRING, 3)]
    sensor = "series:d0.air_temperature.c0"
    assert scene.book.held_back(alert_about(scene, sensor), scene.now) is Because.HIDDEN
    assert scene.book.held_back(alert_about(scene, "device:d0"), scene.now) is Because.HIDDEN
    # The power is back, and one sensor did not survive it.
    now = START + 201 * SECOND
    scene.hear([(sid, now, 20.0, 0) for sid in range(2, 61)], now)
    assert alert_about(scene, "site:h1").phase is Phase.RESOLVED
    assert scene.book.held_back(alert_about(scene, sensor), now) is None


def test_an_alert_of_a_rule_that_is_gone_is_kept_and_hides_nothing():
    scene = Scene(SILENT, house_of_sixty())
    scene.hear([(sid, START, 20.0, 0) for sid in range(1, 61)], START)
    scene.wait(START + 200 * SECOND)
    rules = {code: rule for code, rule in scene.book.rules.items() if "sensor" in code}
    scene.book.rules = rules
    scene.wait(START + 201 * SECOND)
    assert alert_about(scene, "site:h1").is_open
    sensor = alert_about(scene, "series:d0.air_temperature.c0")
    assert scene.book.held_back(sensor, scene.now) is None


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
    ("facts", "silenced"),
    [
        ({"rules": ("crop.*",)}, True),  # a pattern
        ({"rules": ("crop.cold",)}, False),  # another rule
        ({"rules": ("crop.cold", "crop.hot")}, True),
        ({"sites": ("base",)}, True),  # all below it
        ({"sites": ("h2", "h1")}, True),
        ({"sites": ("h2",)}, False),
        ({"subjects": ("series:c1.air_temperature.a",)}, True),
        ({"subjects": ("series:c1.air_temperature.b",)}, False),
        ({"sites": ("base",), "worst": 1}, False),  # only what is no worse than info
        ({"sites": ("base",), "worst": 2}, True),
        ({"sites": ("base",), "rules": ("crop.cold",)}, False),  # all of them must match
        ({"sites": ("base",), "from_us": START}, True),  # from its first moment
        ({"sites": ("base",), "from_us": START + 1}, False),
    ],
)
def test_a_silence_covers_what_it_matches(facts, silenced):
    scene = Scene(HOT, base())
    facts = {"from_us": START - 1, "until_us": START + MINUTE} | facts
    scene.book.silence(Silence("s", "li", "why", **facts), START)
    hot(scene, 0, 31.0)
    assert (scene.notices == []) is silenced


def test_a_silence_can_be_ended_before_its_time_and_what_stands_is_told():
    scene = Scene(HOT, base())
    silence = Silence("s", "li", "why", START - 1, START + 30 * MINUTE, sites=("h1",))
    scene.book.silence(silence, START)
    hot(scene, 0, 31.0)
    assert scene.book.silences(START + 30 * MINUTE - 1) == (silence,)
    assert scene.book.silences(START + 30 * MINUTE) == ()
    outcome = scene.book.unsilence("s", START + MINUTE)
    assert [n.told for n in outcome.notices] == [Told.FIRING]
    assert scene.book.silences(START + MINUTE) == ()
    for unknown in ("s", "t"):
        with pytest.raises(IllegalAction, match="over or unknown"):
            scene.book.unsilence(unknown, START + MINUTE)


def test_a_silence_that_is_over_cannot_be_ended():
    scene = Scene(HOT, base())
    scene.book.silence(Silence("s", "li", "why", START, START + 1, sites=("h1",)), START)
    with pytest.raises(IllegalAction, match="over or unknown"):
        scene.book.unsilence("s", START + 1)


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


def test_what_changed_nothing_is_not_reported_as_changed():
    scene = Scene(HOT, base())
    first = hot(scene, 0, 31.0)
    assert len(first.groups) == len(first.alerts) == 1
    assert scene.wait(START + SECOND) == Outcome()
    second = hot(scene, 1, 36.0)
    assert (len(second.groups), len(second.alerts), len(second.notices)) == (1, 1, 1)
    assert scene.wait(START + MINUTE + SECOND) == Outcome()


def test_an_alert_that_takes_the_place_of_another_keeps_what_people_did():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    (first,) = scene.book.alerts()
    scene.book.act(Action.ACKNOWLEDGE, first.id, START + SECOND, by="li")
    hot(scene, 1, 31.0)
    # A late reading says that it began a minute earlier: another id.
    earlier = START - MINUTE
    outcome = scene.hear([(1, earlier, 31.0, 0)], START + MINUTE + SECOND)
    heir = next(a for a in scene.book.alerts() if a.is_open)
    assert heir.id != first.id
    assert (heir.replaces, heir.acknowledged.by) == (first.id, "li")
    assert "replaces" in [e.kind for e in outcome.entries if e.alert == heir.id]
    assert scene.book.alert(first.id).phase is Phase.RETRACTED
    assert [n.told for n in scene.notices] == [Told.FIRING]


def test_news_of_the_end_of_an_alert_that_was_put_away_opens_none():
    scene = Scene(HOT, base())
    (fired,) = scene.engine.feed(batch([(1, START, 31.0, 0)]), START)
    for change in (Change.RETRACTED, Change.WITHDRAWN):
        outcome = scene.book.take([replace(fired, change=change)], START)
        assert outcome == Outcome()
        assert scene.book.alerts() == ()


def test_only_alerts_that_are_over_and_in_no_group_are_let_go():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0, sid=1)
    hot(scene, 0, 31.0, sid=4)
    hot(scene, 1, 20.0, sid=1)
    over, standing = sorted(scene.book.alerts(), key=lambda alert: alert.is_open)
    assert scene.book.let_go() == ()  # what is over is in a group that was told of
    book = Book(scene.book.rules, scene.book.places)
    groups = [group for group in scene.book.groups() if over.id not in group.members]
    book.restore(scene.book.alerts(), groups, (), scene.book.pageable())
    assert book.let_go() == (over,)
    assert book.alerts() == (standing,)
    assert book.pageable() == {standing.id}
    assert not book.is_pageable(over.id)
    assert book.is_pageable(standing.id)


def test_a_group_at_rest_leaves_alerts_that_are_open_where_they_are():
    scene = Scene(HOT, base())
    scene.book.silence(Silence("s", "li", "why", START - 1, START + DAY, sites=("h1",)), START)
    hot(scene, 0, 31.0, sid=1)
    scene.wait(START + 20 * MINUTE)
    assert [alert.is_open for alert in scene.book.alerts()] == [True]
    assert len(scene.book.groups()) == 1


def test_an_alert_that_is_taken_back_in_goes_on_in_its_group():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    (alert,), (group,) = scene.book.alerts(), scene.book.groups()
    scene.book = Book(scene.book.rules, scene.book.places)
    scene.book.recall(alert, group, is_pageable=True)
    hot(scene, 1, 20.0)
    assert [(n.told, n.number, n.group) for n in scene.notices] == [
        (Told.FIRING, 1, group.id), (Told.OVER, 2, group.id),
    ]  # fmt: skip
    # What the book holds is newer than what is taken back in.
    scene.book.recall(alert, group)
    assert not scene.book.alert(alert.id).is_open
    assert scene.book.groups()[0].notices == 2


def test_a_group_whose_members_lie_in_storage_comes_to_rest():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    (alert,), (group,) = scene.book.alerts(), scene.book.groups()
    scene.book = Book(scene.book.rules, scene.book.places)
    scene.book.recall(alert, replace(group, members=("put away before", *group.members)))
    hot(scene, 1, 20.0)
    scene.wait(START + 20 * MINUTE)
    assert scene.book.groups() == scene.book.alerts() == ()


def test_an_alert_that_is_taken_back_in_unpageable_is_not_told_of():
    scene = Scene(HOT, base())
    (fired,) = scene.engine.feed(batch([(1, START, 31.0, 0)]), START)
    alert, _ = state.begin(fired)
    scene.book.recall(alert, None)
    assert scene.book.held_back(alert, START) is Because.FOUND_LATE
    assert scene.wait(START + SECOND).notices == ()


def test_the_notices_of_the_last_ten_minutes_count_and_no_earlier_ones():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0)
    hot(scene, 1, 20.0)
    assert [n.told for n in scene.notices] == [Told.FIRING, Told.OVER]
    hot(scene, 9, 31.0)
    assert len(scene.notices) == 2  # two in ten minutes are enough
    assert scene.book.groups()[0].is_flapping
    scene.wait(START + 10 * MINUTE - 1)
    assert len(scene.notices) == 2
    scene.wait(START + 10 * MINUTE)
    assert [n.told for n in scene.notices] == [Told.FIRING, Told.OVER, Told.FIRING]
    assert scene.notices[-1].at_us == START + 10 * MINUTE


def test_the_worst_alert_of_a_group_stands_first_in_its_notice():
    scene = Scene(HOT, base())
    hot(scene, 0, 31.0, sid=2)
    hot(scene, 1, 36.0, sid=1)
    first, worse = scene.notices
    assert (worse.told, worse.severity, worse.count) == (Told.WORSE, 3, 2)
    assert [scene.book.alert(a).episode.severity for a in worse.alerts] == [3, 2]
    assert worse.alerts[1:] == first.alerts
