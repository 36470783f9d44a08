"""The engine on single cases: late and very late readings, errors, restarts, who is told when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts import program
from alerts.engine import Engine, Overdue, Settings, chunks_by_time
from alerts.episode import Change, Episode, Step, StepKind, episode_id
from alerts.errors import SnapshotError
from alerts.rule import read_pack
from devices.quality import Quality
from devices.reading import Batch
from devices.site import SiteKind
from tests.alerts import places
from tests.alerts.places import DAY, HOUR, MINUTE, SECOND
from tests.alerts.told import Told
from tests.alerts.worlds import pack_of

START = 1_767_225_600 * SECOND
HOT = "when: air_temperature > 30 degC, for: 2min, where: {site: h2, placement: inside}"
SERIES = 4  # c2.air_temperature, every 30 s


def engine(*rules, **settings):
    return Engine(pack_of(rules or [HOT]).rules, places.base(), Settings(**settings))


def feed(one, rows, now):
    """Rows of (seconds, value) or (seconds, value, quality) of the one series."""
    rows = [(SERIES, START + round(row[0] * SECOND), row[1], *(row[2:] or (0,))) for row in rows]
    return one.feed(places.batch(rows), START + round(now * SECOND))


def steady(begin, end, value, step=30):
    return [(second, value) for second in range(begin, end, step)]


def test_an_alert_fires_with_the_reading_that_completes_its_time():
    one = engine()
    feed(one, steady(0, 60, 20.0), 60)
    for second in (60, 90, 120):
        assert feed(one, [(second, 31.0)], second) == []
    (news,) = feed(one, [(150, 32.0)], 150.2)
    # Four readings of thirty seconds are two minutes.
    assert (news.change, news.page, news.revised) == (Change.FIRED, True, False)
    episode = news.episode
    assert (episode.started_at_us, episode.fired_at_us) == (START + MINUTE, START + 150 * SECOND)
    assert news.noticed_at_us == START + round(150.2 * SECOND)
    assert episode.id == episode_id(episode.rule, "series:c2.air_temperature", START + MINUTE)
    assert (episode.value, episode.peak) == (32.0, 32.0)


def test_the_id_is_the_same_for_everyone_who_has_the_readings():
    live, late = engine(), engine()
    rows = steady(0, 600, 31.0)
    first = {n.episode.id for row in rows for n in feed(live, [row], row[0])}
    second = {n.episode.id for n in feed(late, rows, 86_400)}
    assert first == second
    assert len(first) == 1


def test_the_id_of_an_episode_is_the_same_for_ever():
    # What was stored and sent under it would be lost from sight.
    assert episode_id("t.r0", "series:c2.air_temperature", START) == (
        "54ba1291b69d156a2e310808c4f30f5a"
    )


@pytest.mark.parametrize(
    "quality", [Quality.CALIBRATION, Quality.MAINTENANCE, Quality.PHYSICAL_RANGE]
)
def test_bad_readings_neither_raise_nor_clear(quality):
    one = engine()
    assert feed(one, [(s, 60.0, int(quality)) for s in range(0, 600, 30)], 600) == []
    (fired,) = feed(one, steady(600, 900, 31.0), 900)
    assert fired.change is Change.FIRED
    assert feed(one, [(s, 20.0, int(quality)) for s in range(900, 930, 10)], 930) == []
    (resolved,) = feed(one, [(930, 20.0)], 930)
    assert resolved.change is Change.RESOLVED


def test_silence_holds_an_alert_and_never_resolves_it():
    one = engine()
    feed(one, steady(0, 300, 31.0), 300)
    assert one.advance(START + 389 * SECOND) == []
    (held,) = one.advance(START + 391 * SECOND)  # 270 + three intervals + 30 s of grace
    assert held.change is Change.HELD
    assert (held.at_us, held.page) == (START + 360 * SECOND, False)
    assert one.advance(START + DAY) == []
    assert [e.is_open for e in one.episodes()] == [True]
    returned, resolved = feed(one, [(90_000, 20.0)], 90_000)
    assert (returned.change, resolved.change) == (Change.RETURNED, Change.RESOLVED)
    assert resolved.episode.unobserved_us == (90_000 - 270) * SECOND
    assert resolved.episode.coverage(START) == pytest.approx(270 / 90_000)


def test_a_gap_does_not_count_as_time_above_the_limit():
    one = engine()
    feed(one, [(0, 31.0), (30, 31.0)], 30)
    assert feed(one, [(150, 31.0), (180, 31.0)], 180) == []
    assert [n.change for n in feed(one, [(210, 31.0), (240, 31.0)], 240)] == [Change.FIRED]


def test_a_reading_that_comes_a_little_late_changes_what_was_said_and_says_so():
    one = engine()
    told = Told()
    told.take(feed(one, [r for r in steady(0, 300, 31.0) if r[0] != 60], 300))
    assert [e.started_at_us for e in told.episodes.values()] == [START]
    news = feed(one, [(60, 20.0)], 301)
    told.take(news)
    # The run begins anew after the cool reading: another episode takes the place of the first.
    assert [n.change for n in news] == [Change.RETRACTED, Change.FIRED]
    assert all(n.revised for n in news)
    assert news[1].replaces == news[0].episode.id
    assert [e.started_at_us for e in told.episodes.values()] == [START + 90 * SECOND]


def test_a_reading_that_comes_twice_is_harmless_and_the_first_value_counts():
    one = engine()
    news = feed(one, steady(0, 300, 31.0), 300)
    assert [n.change for n in news] == [Change.FIRED]
    assert feed(one, steady(0, 300, 31.0), 300) == []
    assert feed(one, steady(0, 300, 20.0), 300) == []
    assert one.overdue() == []


def test_readings_of_series_that_no_rule_looks_at_are_passed_over():
    one = engine()
    rows = [(1, START, 99.0, 0), (77, START, 99.0, 0), (-5, START, 99.0, 0)]
    assert one.feed(places.batch(rows), START) == []
    assert one.feed(Batch.empty(), START) == []
    first = engine("when: air_temperature > 30 degC, where: {device: c1}")
    for number in (-5, -1, 0, 3, 77):
        assert first.feed(places.batch([(number, START, 99.0, 0)]), START) == []
    assert len(first.feed(places.batch([(1, START, 99.0, 0)]), START)) == 1


def test_a_device_that_was_away_and_sends_its_store_in_order_is_not_late():
    one = engine("when: no data for 3 intervals, where: {quantity: air_temperature, site: h2}")
    told = Told()
    told.take(feed(one, steady(0, 300, 20.0), 300))
    told.take(one.advance(START + 3 * HOUR))
    assert [n.change for n in told.transitions] == [Change.FIRED]
    news = feed(one, steady(300, 3 * 3600, 20.0), 3 * 3600 + 5)
    told.take(news)
    # It had not been silent after all, only away: that is taken back, and nobody is paged.
    assert [(n.change, n.page) for n in news] == [(Change.RETRACTED, False)]
    assert told.episodes == {}
    assert one.overdue() == []


def test_what_is_late_beyond_the_bound_waits_for_history_and_then_revises_it():
    one = engine()
    told = Told()
    rows = steady(0, 7200, 20.0)
    kept = [row for row in rows if not 1800 <= row[0] < 3600]
    for row in kept:
        told.take(feed(one, [row], row[0]))
    assert told.transitions == []
    late = [(s, 31.0) for s in range(1800, 3600, 30)]
    assert feed(one, late, 7201) == []
    (overdue,) = one.overdue()
    assert overdue.subject == "series:c2.air_temperature"
    assert overdue.series_ids == (SERIES,)
    assert overdue.late_us == START + 1800 * SECOND
    since = overdue.since_us([])
    assert since < overdue.late_us
    history = [(SERIES, START + s * SECOND, v, 0) for s, v in kept + late]
    history = [row for row in history if row[1] >= since]
    news = one.revise([overdue], places.batch(history), [])
    assert [n.change for n in news] == [Change.FIRED, Change.RESOLVED]
    assert all(n.revised and not n.page for n in news)
    assert one.overdue() == []


def test_an_episode_found_open_in_old_data_is_told_when_the_data_have_caught_up():
    one = engine(patience_s=600)
    now = 20_000
    news = feed(one, steady(0, 600, 31.0), now)
    assert [(n.change, n.page) for n in news] == [(Change.FIRED, False), (Change.HELD, False)]
    assert not any(n.page for n in feed(one, steady(600, 10_000, 31.0), now + 5))
    news = feed(one, steady(10_000, 20_000, 31.0), now + 10)
    assert [n.change for n in news if n.page] == [Change.STANDS]


def test_nobody_is_paged_for_what_is_over():
    one = engine()
    rows = steady(0, 600, 31.0) + steady(600, 900, 20.0)
    assert [(n.change, n.page) for n in feed(one, rows, 900)] == [
        (Change.FIRED, False),
        (Change.RESOLVED, False),
    ]


def test_the_end_of_what_is_told_after_patience_is_the_end_of_the_episode():
    one = engine(patience_s=600)
    now = 20_000
    feed(one, steady(0, 600, 31.0), now)
    assert one.advance(START + (now + 599) * SECOND) == []
    (news,) = one.advance(START + (now + 600) * SECOND)
    assert (news.change, news.page, news.episode.is_open) == (Change.STANDS, True, True)
    assert one.advance(START + (now + 1300) * SECOND) == []  # once


def test_what_is_over_before_patience_ends_is_not_told():
    one = engine(patience_s=600)
    now = 20_000
    feed(one, steady(0, 600, 31.0), now)
    assert not any(n.page for n in feed(one, steady(600, 900, 20.0), now + 300))
    assert one.advance(START + (now + 601) * SECOND) == []


def test_what_becomes_worse_wakes_someone_and_what_becomes_milder_does_not():
    one = engine(
        "levels: {warning: {when: air_temperature > 30 degC},"
        " critical: {when: air_temperature > 35 degC}}, where: {site: h2, placement: inside}"
    )
    told = []
    for second, value in ((0, 31.0), (30, 36.0), (60, 31.0), (90, 36.0), (120, 20.0)):
        told += [(n.change, n.page) for n in feed(one, [(second, value)], second)]
    assert told == [
        (Change.FIRED, True),
        (Change.SEVERITY, True),
        (Change.SEVERITY, False),
        (Change.SEVERITY, True),
        (Change.RESOLVED, False),
    ]


# -- history


def test_history_is_judged_in_the_order_of_time_and_no_moment_is_cut_in_two():
    moments = [5, 1, 3, 3, 2, 3, 9, 3, 4]
    history = places.batch([(n, at, float(n), 0) for n, at in enumerate(moments)])
    chunks = [chunk.observed_at_us.tolist() for chunk in chunks_by_time(history, rows=3)]
    assert chunks == [[1, 2, 3, 3, 3, 3], [4, 5, 9]]
    assert list(chunks_by_time(Batch.empty(), rows=3)) == []


def test_a_long_store_is_left_to_history_and_comes_out_the_same(monkeypatch):
    rule = "when: no data for 3 intervals, where: {quantity: air_temperature, site: h2}"
    rows = steady(0, 3 * 3600 + 60, 20.0)

    def away(one):
        told = Told()
        told.take(feed(one, rows[:10], 300))
        told.take(one.advance(START + 3 * HOUR))
        assert [n.change for n in told.transitions] == [Change.FIRED]
        for start in range(10, len(rows), 30):
            told.take(feed(one, rows[start : start + 30], 3 * 3600 + 60))
        return told

    near = engine(rule)
    assert away(near).episodes == {}
    monkeypatch.setattr("alerts.engine._MOST_HISTORY", 20)
    one = engine(rule)
    told = away(one)
    assert one.failures == {}
    # Each part of the store ends a silence and leaves another; none of it is taken back yet.
    assert Change.RETRACTED not in {n.change for n in told.transitions}
    assert len(told.episodes) > 10
    (overdue,) = one.overdue()
    assert overdue.late_us <= START + 330 * SECOND
    history = places.batch([(SERIES, START + s * SECOND, v, 0) for s, v in rows])
    told.take(one.revise([overdue], history, list(told.episodes.values())))
    assert told.episodes == {}
    assert one.episodes() == []


def test_history_is_wanted_from_the_start_of_what_was_open_then():
    late = Overdue("t.r0", "series:x", (1,), late_us=1_000, memory_us=100)

    def known(start, end=None, rule="t.r0", subject="series:x"):
        steps = [Step(start + 1, StepKind.FIRED, 2, 1.0, 1.0, 0)]
        if end is not None:
            steps.append(Step(end, StepKind.RESOLVED, 0, 0.0, 1.0, 0))
        return Episode("e", rule, 1, subject, "h", start, tuple(steps))

    assert late.since_us([]) == 900
    assert late.since_us([known(700)]) == 600
    assert late.since_us([known(700), known(500, 1_000), known(900)]) == 400
    assert late.since_us([known(500, 999)]) == 900  # over by then
    assert late.since_us([known(2_000)]) == 900
    assert late.since_us([known(500, rule="t.r1")]) == 900
    assert late.since_us([known(500, subject="series:y")]) == 900


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (HOT, 2 * MINUTE),
        ("when: air_temperature flat for 50min, for: 3min, where: {site: h2}", 3 * MINUTE),
        ("when: air_temperature mean over 3h > 30 degC, where: {site: h2}", 3 * HOUR),
        ("when: no data for 40 intervals, for: 1h, where: {device: c2}", 20 * MINUTE + HOUR),
        ("when: air_temperature max over today > 30 degC, where: {site: h2}", DAY),
        ("when: irrigation_volume increase since 10-01 > 30 L", 365 * DAY),
        ("when: so2 usual over 7d > 400 ug/m3", 8 * DAY),
        ("when: o3 mean of hours over 8h > 400 ug/m3", 8 * HOUR),
        ("when: o3 max of 8h means over each day > 400 ug/m3, for: 2d", 3 * DAY),
    ],
)
def test_history_is_wanted_from_as_long_before_as_a_rule_looks_back(rule, least):
    one = strange(rule, 0)
    assert one.overdue()
    for overdue in one.overdue():
        assert least <= overdue.memory_us <= 2 * least + 3 * DAY
    one.trust()
    assert one.overdue() == []


def strange(rule, second):
    """An engine that took up the state of others, and knows nothing of its rule before a moment."""
    others = engine("when: air_temperature > 99 degC, where: {site: h1}")
    others.advance(START + second * SECOND)
    one = engine(rule)
    one.restore(others.snapshot())
    return one


def test_an_episode_that_history_no_longer_reaches_goes_on_as_it_was_told():
    old = engine()
    rows = [*steady(0, 300, 31.0), (300, 36.0), *steady(600, 900, 31.0)]
    for row in rows:
        feed(old, [row], row[0])
    (known,) = old.episodes()
    assert [step.kind.value for step in known.steps] == ["fired", "held", "returned"]
    assert (known.peak, known.unobserved_us) == (36.0, 300 * SECOND)
    one = strange(HOT, 7200)
    (overdue,) = one.overdue()
    assert overdue.late_us == START + 7200 * SECOND
    history = [(SERIES, START + s * SECOND, 31.0, 0) for s in range(3600, 7200, 30)]
    assert one.revise([overdue], places.batch(history), [known]) == []
    assert one.episodes() == [known]
    news = feed(one, [(7200, 31.5), (7230, 20.0)], 7230)
    assert [(n.change, n.episode.id) for n in news] == [(Change.RESOLVED, known.id)]
    (resolved,) = one.episodes()
    assert (resolved.started_at_us, resolved.peak) == (START, 36.0)
    assert resolved.unobserved_us == 300 * SECOND
    assert resolved.steps[:-1] == known.steps


def test_a_worse_value_goes_before_the_peak_that_was_stored():
    old = engine()
    for row in [*steady(0, 300, 31.0), (300, 36.0), *steady(600, 900, 31.0)]:
        feed(old, [row], row[0])
    one = strange(HOT, 7200)
    history = [(SERIES, START + s * SECOND, 31.0, 0) for s in range(3600, 7200, 30)]
    one.revise(one.overdue(), places.batch(history), old.episodes())
    (resolved,) = feed(one, [(7200, 36.5), (7230, 20.0)], 7230)
    assert resolved.episode.peak == 36.5


def test_a_silence_that_history_no_longer_reaches_goes_on_as_it_was_told():
    rule = "when: no data for 3 intervals, where: {device: c2, quantity: air_temperature}"
    old = engine(rule)
    feed(old, [(0, 20.0)], 0)
    (fired,) = old.advance(START + HOUR)
    assert fired.episode.peak is None
    one = strange(rule, 7200)
    assert one.revise(one.overdue(), places.batch([]), [fired.episode]) == []
    assert one.episodes() == [fired.episode]
    (resolved,) = feed(one, [(7300, 20.0)], 7300)
    assert (resolved.change, resolved.episode.id) == (Change.RESOLVED, fired.episode.id)


def overdue_engine():
    """An engine that was sent half an hour of readings too late, and all its readings."""
    one = engine()
    kept = [row for row in steady(0, 7200, 20.0) if not 1800 <= row[0] < 3600]
    for row in kept:
        feed(one, [row], row[0])
    late = steady(1800, 3600, 31.0)
    feed(one, late, 7201)
    return one, [(SERIES, START + s * SECOND, v, 0) for s, v in sorted(kept + late)]


def test_readings_of_revised_history_that_come_again_are_harmless():
    one, history = overdue_engine()
    assert len(one.revise(one.overdue(), places.batch(history), [])) == 2
    before = one.snapshot()
    again = [(series, at_us, 20.0, quality) for series, at_us, _, quality in history[-5:]]
    assert one.feed(places.batch(again), START + 7201 * SECOND) == []
    assert one.snapshot() == before


# -- one broken rule


def test_a_rule_that_raises_becomes_a_failure_and_the_others_go_on(monkeypatch):
    rules = ["when: air_temperature > 30 degC and relative_humidity > 80 %, per: site",
             "when: air_temperature > 31 degC and relative_humidity > 80 %, per: site"]  # fmt: skip
    one = engine(*rules)
    truth = program.Joined.truth

    def broken(self, frame):
        if (frame.params[:, 0] == 31.0).any():
            raise FloatingPointError("a sick rule")
        return truth(self, frame)

    monkeypatch.setattr(program.Joined, "truth", broken)
    rows = [(n, START, v, 0) for n, v in ((4, 32.0), (5, 90.0), (1, 32.0), (2, 32.0), (3, 90.0))]
    news = one.feed(places.batch(rows), START + SECOND)
    assert {(n.change, n.episode.rule) for n in news} == {(Change.FIRED, "t.r0")}
    assert len(news) == 2
    assert one.failures["t.r1"].reason == "FloatingPointError: a sick rule"
    later = [(4, START + 30 * SECOND, 20.0, 0), (1, START + 30 * SECOND, 20.0, 0),
             (2, START + 30 * SECOND, 20.0, 0)]  # fmt: skip
    news = one.feed(places.batch(later), START + 31 * SECOND)
    assert {n.change for n in news} == {Change.RESOLVED}


# -- restarts


def test_a_restored_engine_goes_on_as_if_nothing_had_been():
    one = engine()
    feed(one, steady(0, 150, 31.0), 150)
    other = engine()
    assert other.restore(one.snapshot()) == []
    rows = [*steady(150, 400, 31.0), (430, 20.0)]
    assert feed(other, rows, 430) == feed(one, rows, 430) != []


def test_a_restored_engine_finds_its_rules_again_and_withdraws_those_that_are_gone():
    text = """
pack: t
version: 1
rules:
  - {id: kept, when: air_temperature > 30 degC, where: {site: h2, placement: inside}}
  - {id: gone, when: air_temperature > 29 degC, where: {site: h2, placement: inside}}
"""
    rules = read_pack(text, "x").rules
    old = Engine(rules, places.base())
    feed(old, [(0, 31.0)], 0)
    assert len(old.episodes()) == 2
    fresh = replace(rules[1], code="t.new")
    new = Engine([rules[0], fresh], places.base())
    withdrawn = new.restore(old.snapshot())
    assert [(n.change, n.episode.rule) for n in withdrawn] == [(Change.WITHDRAWN, "t.gone")]
    assert [e.rule for e in new.episodes()] == ["t.kept"]
    # A rule that is new has no past yet, and asks for it.
    assert [one.rule for one in new.overdue()] == ["t.new"]
    (resolved,) = [n for n in feed(new, [(30, 20.0)], 30) if n.episode.rule == "t.kept"]
    assert resolved.change is Change.RESOLVED


def test_an_alert_that_waits_to_be_told_waits_on_over_a_restart():
    one = engine(patience_s=600)
    feed(one, steady(0, 600, 31.0), 20_000)
    other = engine(patience_s=600)
    assert other.restore(one.snapshot()) == []
    assert other.advance(START + 20_599 * SECOND) == []
    assert [(n.change, n.page) for n in other.advance(START + 20_600 * SECOND)] == [
        (Change.STANDS, True)
    ]


def test_a_meter_that_takes_another_s_place_does_not_go_on_from_its_reading():
    rules = pack_of(
        ["when: irrigation_volume increase over 10min > 500 L and valve_state >= 0"]
    ).rules

    def house(meter):
        return places.registry(
            [places.site("h", SiteKind.GREENHOUSE, None)],
            [
                places.device(
                    meter,
                    "h",
                    places.series(meter, "irrigation_volume", "h", 60),
                    places.series(meter, "valve_state", "h", 60),
                )
            ],
        )

    def read(one, minute, volume):
        at_us = START + minute * MINUTE
        return one.feed(places.batch([(1, at_us, volume, 0), (2, at_us, 1.0, 0)]), at_us)

    old = Engine(rules, house("m1"))
    for minute in range(10):
        assert read(old, minute, 100.0 + minute) == []
    same, new = Engine(rules, house("m1")), Engine(rules, house("m2"))
    assert same.restore(old.snapshot()) == new.restore(old.snapshot()) == []
    assert same.overdue() == []
    assert len(read(same, 10, 50_010.0)) == 1
    assert [one.subject for one in new.overdue()] == ["site:h"]
    assert read(new, 10, 50_010.0) == []


def test_what_is_overdue_is_overdue_still_after_a_restart():
    one, _ = overdue_engine()
    other = engine()
    other.restore(one.snapshot())
    assert other.overdue() == one.overdue() != []


def test_an_alert_of_a_subject_that_has_other_series_now_is_not_withdrawn():
    rule = "when: any of air_temperature > 30 degC, per: house"
    old = engine(rule)
    old.feed(places.batch([(1, START, 31.0, 0)]), START)
    registry = places.base()
    fewer = {code: n for code, n in registry.series_ids.items() if code != "c1.air_temperature.b"}
    smaller = type(registry)(registry.sites, registry.devices, fewer)
    new = Engine(pack_of([rule]).rules, smaller)
    assert new.restore(old.snapshot()) == []
    assert [one.subject for one in new.overdue()] == ["site:h1"]


@pytest.mark.parametrize("damage", [b"", b"not a snapshot", None])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(damage):
    one = engine()
    data = engine().snapshot()
    before = one.snapshot()
    with pytest.raises(SnapshotError):
        one.restore(data[: len(data) // 2] if damage is None else damage)
    assert one.snapshot() == before


def test_memory_of_the_past_is_bounded_by_the_lateness():
    one = engine(lateness_s=60, grace_s=0)
    for second in range(0, 86_400, 300):
        feed(one, steady(second, second + 300, 20.0), second + 300)
    assert len(one._recent) < 50
    assert one.episodes() == []


def test_memory_of_what_was_told_is_bounded_by_the_lateness():
    one = engine(HOT.replace("for: 2min, ", ""), lateness_s=60, grace_s=0)
    fired = 0
    for second in range(0, 7200, 30):
        news = feed(one, [(second, 31.0 if second % 60 else 20.0)], second)
        fired += sum(n.change is Change.FIRED for n in news)
        assert len(one.episodes()) < 8
    assert fired == 120


def test_the_engine_takes_no_other_time_than_it_is_given():
    with pytest.raises(ValueError, match="less than lateness"):
        Settings(lateness_s=30, grace_s=30)
    one = engine()
    feed(one, steady(0, 300, 31.0), 300)
    assert one.advance(START) == []  # a clock that goes back changes nothing


def test_a_pending_binding_can_be_seen():
    one = engine()
    feed(one, steady(0, 60, 31.0), 60)
    (pending,) = one.pending()
    assert (pending.rule, pending.subject) == ("t.r0", "series:c2.air_temperature")
    assert pending.since_us == START
    feed(one, steady(60, 300, 31.0), 300)
    assert one.pending() == []


def test_a_hundred_bindings_of_one_shape_are_one_group():
    rules = [f"when: air_temperature > {30 + n} degC, for: {n + 1}min" for n in range(25)]
    one = engine(*rules)
    assert len(one.bindings) == 100
    assert one.shapes == 1
    few = engine(*rules[:2])
    assert one.bytes_per_binding() == pytest.approx(few.bytes_per_binding())
    assert 300 < one.bytes_per_binding() < 3_000
