"""The life-cycle table: what is allowed where, and that what is not changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts import state
from alerts.episode import Change, Episode, Step, StepKind, Transition
from alerts.errors import IllegalAction
from alerts.state import PHASES, Action, Phase

MINUTE = 60_000_000
FIRED = Step(10 * MINUTE, StepKind.FIRED, 2, 36.0, 36.5, 0)
WORSE = Step(12 * MINUTE, StepKind.SEVERITY, 3, 41.0, 41.0, 0)
HELD = Step(30 * MINUTE, StepKind.HELD, 2, None, 36.5, 0)
RETURNED = Step(50 * MINUTE, StepKind.RETURNED, 2, 36.2, 36.5, 25 * MINUTE)
RESOLVED = Step(60 * MINUTE, StepKind.RESOLVED, 0, 30.0, 36.5, 25 * MINUTE)


def episode(*steps):
    return Episode("e1", "p.hot", 1, "series:c1.air_temperature", "h1", 8 * MINUTE, steps)


def news(*steps, change=None, at=None, now=70 * MINUTE, **more):
    change = change or Change(steps[-1].kind.value)
    return Transition(change, episode(*steps), at or steps[-1].at_us, now, **more)


def in_phase(phase):
    """An alert in each phase, by the shortest way there."""
    alert, _ = state.begin(news(FIRED))
    ways = {
        Phase.FIRING: [],
        Phase.HELD: [news(FIRED, HELD)],
        Phase.RESOLVED: [news(FIRED, RESOLVED)],
        Phase.RETRACTED: [news(FIRED, change=Change.RETRACTED)],
        Phase.WITHDRAWN: [news(FIRED, change=Change.WITHDRAWN)],
    }
    for one in ways[phase]:
        alert, _ = state.take(alert, one)
    assert alert.phase is phase
    return alert


def test_an_alert_goes_from_pending_over_firing_and_held_to_resolved():
    alert, entries = state.begin(news(FIRED, now=11 * MINUTE))
    assert [e.kind for e in entries] == ["pending", "fired"]
    assert [e.at_us for e in entries] == [8 * MINUTE, 10 * MINUTE]
    assert [e.recorded_at_us for e in entries] == [11 * MINUTE] * 2
    history = list(entries)
    for one in (news(FIRED, HELD), news(FIRED, HELD, RETURNED),
                news(FIRED, HELD, RETURNED, RESOLVED)):  # fmt: skip
        alert, entries = state.take(alert, one)
        history += entries
    assert [e.kind for e in history] == ["pending", "fired", "held", "returned", "resolved"]
    assert [e.number for e in history] == [1, 2, 3, 4, 5]
    assert alert.phase is Phase.RESOLVED
    last = history[-1]
    assert (last.peak, last.duration_us) == (36.5, 52 * MINUTE)
    assert last.coverage == pytest.approx(1 - 25 / 52)


def test_a_repeat_of_news_changes_nothing():
    alert, _ = state.begin(news(FIRED))
    held, _ = state.take(alert, news(FIRED, HELD))
    for repeat in (news(FIRED), news(FIRED, HELD)):
        assert state.take(held, repeat) == (held, [])


def test_older_news_after_newer_changes_nothing():
    alert, _ = state.begin(news(FIRED))
    for one in (news(FIRED, WORSE), news(FIRED, WORSE, HELD), news(FIRED, WORSE, HELD, RETURNED)):
        alert, _ = state.take(alert, one)
    # An engine that began again from older state says these once more.
    for repeat in (news(FIRED, WORSE), news(FIRED, WORSE, HELD)):
        assert state.take(alert, repeat) == (alert, [])
    unchanged = news(FIRED, WORSE, HELD, RETURNED, change=Change.REVISED, revised=True)
    assert state.take(alert, unchanged) == (alert, [])
    # What late data took away is no repeat, though it was all said before.
    shorter = news(FIRED, WORSE, change=Change.REVISED, revised=True)
    assert state.take(alert, shorter)[0].episode == shorter.episode


def test_an_alert_that_still_stands_is_written_down_though_nothing_else_is_new():
    alert, _ = state.begin(news(FIRED))
    changed, entries = state.take(alert, news(FIRED, change=Change.STANDS))
    assert changed.phase is Phase.FIRING
    assert [e.kind for e in entries] == ["stands"]


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.PENDING])
@pytest.mark.parametrize("change", list(Change))
def test_news_outside_of_the_table_is_passed_over(phase, change):
    if change in PHASES[phase]:
        return
    alert = in_phase(phase)
    assert state.take(alert, news(FIRED, WORSE, change=change)) == (alert, [])


def test_late_data_reopen_a_resolved_alert_and_take_back_a_retracted_one():
    resolved = in_phase(Phase.RESOLVED)
    reopened, entries = state.take(resolved, news(FIRED, change=Change.REVISED, revised=True))
    assert reopened.phase is Phase.FIRING
    assert entries[0].revised
    retracted = in_phase(Phase.RETRACTED)
    again, _ = state.take(retracted, news(FIRED))
    assert again.phase is Phase.FIRING


@pytest.mark.parametrize(
    ("steps", "phase"),
    [
        ((FIRED, RESOLVED), Phase.RESOLVED),
        ((FIRED, HELD), Phase.HELD),
        ((FIRED, WORSE), Phase.FIRING),
    ],
)
def test_revised_news_puts_an_alert_where_its_episode_is(steps, phase):
    alert = in_phase(Phase.FIRING)
    revised, entries = state.take(alert, news(*steps, change=Change.REVISED, revised=True))
    assert revised.phase is phase
    assert [(e.kind, e.revised) for e in entries] == [("revised", True)]


# action, its arguments, the phases in which it is allowed
ALLOWED = [
    (Action.ACKNOWLEDGE, {"by": "li"}, {Phase.FIRING, Phase.HELD, Phase.RESOLVED}),
    (Action.ASSIGN, {"by": "li", "to": "wang"}, {Phase.FIRING, Phase.HELD, Phase.RESOLVED}),
    (Action.SHELVE, {"by": "li", "until_us": 200 * MINUTE, "reason": "vents under repair"},
     {Phase.FIRING, Phase.HELD}),
    (Action.COMMENT, {"by": "li", "note": "seen it"}, set(Phase) - {Phase.PENDING}),
    (Action.CLOSE, {"by": "li", "note": "vent motor replaced"},
     {Phase.RESOLVED, Phase.RETRACTED, Phase.WITHDRAWN}),
    (Action.UNSHELVE, {"by": "li"}, set()),
    (Action.UNACKNOWLEDGE, {"by": "li"}, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "how", "phases"), ALLOWED, ids=lambda v: getattr(v, "value", "")
)
@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.PENDING])
def test_an_action_is_done_where_it_fits_and_raises_elsewhere(phase, action, how, phases):
    alert = in_phase(phase)
    before = replace(alert)
    if phase in phases:
        changed, entries = state.ACTIONS[action](alert, now_us=100 * MINUTE, **how)
        assert [e.kind for e in entries] == [action.value]
        assert entries[0].actor == "li"
        assert changed.entries == alert.entries + 1
        assert changed.phase is alert.phase
    else:
        with pytest.raises(IllegalAction, match=f"cannot {action.value}"):
            state.ACTIONS[action](alert, now_us=100 * MINUTE, **how)
        assert alert == before


def test_what_was_done_is_not_done_twice_but_can_be_taken_back():
    alert = in_phase(Phase.FIRING)
    alert, _ = state.acknowledge(alert, by="li", now_us=1, note="on my way")
    with pytest.raises(IllegalAction, match="not acknowledged yet"):
        state.acknowledge(alert, by="wang", now_us=2)
    assert alert.acknowledged == state.Mark("li", 1, "on my way")
    alert, _ = state.unacknowledge(alert, by="li", now_us=3)
    assert alert.acknowledged is None
    alert, _ = state.assign(alert, by="li", to="wang", now_us=4)
    with pytest.raises(IllegalAction, match="wang's already"):
        state.assign(alert, by="li", to="wang", now_us=5)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"by": " ", "until_us": 200, "reason": "x"}, "name"),  # nobody
        ({"by": "li", "until_us": 100, "reason": "x"}, "later than now"),  # an end in the past
        ({"by": "li", "until_us": 200, "reason": " "}, "for a reason"),  # no reason
    ],
)
def test_shelving_needs_a_name_an_end_and_a_reason(how, complaint):
    with pytest.raises(IllegalAction, match=complaint):
        state.shelve(in_phase(Phase.FIRING), now_us=100, **how)


def test_a_shelf_ends_when_the_alert_becomes_worse():
    alert = in_phase(Phase.FIRING)
    alert, _ = state.shelve(alert, by="li", until_us=200 * MINUTE, reason="known", now_us=MINUTE)
    assert alert.is_shelved(100 * MINUTE)
    assert not alert.is_shelved(200 * MINUTE)
    held, _ = state.take(alert, news(FIRED, HELD))
    assert held.is_shelved(100 * MINUTE)  # no news, and no worse
    worse, _ = state.take(alert, news(FIRED, WORSE))
    assert not worse.is_shelved(100 * MINUTE)


def test_a_shelf_ends_with_the_alert():
    alert = in_phase(Phase.FIRING)
    alert, _ = state.shelve(alert, by="li", until_us=200 * MINUTE, reason="known", now_us=MINUTE)
    over, _ = state.take(alert, news(FIRED, RESOLVED))
    again, _ = state.take(over, news(FIRED, change=Change.REVISED, revised=True))
    assert over.shelf is None
    assert not again.is_shelved(100 * MINUTE)  # late data bring it back: people hear of it


def test_what_is_shelved_can_be_taken_back_before_its_end():
    alert = in_phase(Phase.FIRING)
    alert, _ = state.shelve(alert, by="li", until_us=200 * MINUTE, reason="known", now_us=MINUTE)
    with pytest.raises(IllegalAction, match="is put aside"):
        state.unshelve(alert, by="li", now_us=200 * MINUTE)
    alert, entries = state.unshelve(alert, by="li", now_us=199 * MINUTE, note="mended")
    assert alert.shelf is None
    assert [(e.kind, e.actor, e.note) for e in entries] == [("unshelve", "li", "mended")]


def test_history_says_to_whom_an_alert_was_given_and_why():
    alert = in_phase(Phase.FIRING)
    alert, entries = state.assign(alert, by="li", to="wang", now_us=4, note="nearest")
    assert entries[0].note == "wang: nearest"
    alert, entries = state.assign(alert, by="li", to="zhao", now_us=5)
    assert entries[0].note == "zhao"
    alert, entries = state.assign(alert, by="li", to="", now_us=6)
    assert (alert.assigned_to, entries[0].note) == ("", "")


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.PENDING])
def test_an_alert_needs_attention_until_it_is_over_and_seen(phase):
    alert = in_phase(phase)
    assert alert.needs_attention is (phase in (Phase.FIRING, Phase.HELD, Phase.RESOLVED))
    if phase in (Phase.FIRING, Phase.RESOLVED):
        seen, _ = state.acknowledge(alert, by="li", now_us=1)
        assert seen.needs_attention is (phase is Phase.FIRING)


def test_a_closed_alert_takes_comments_and_nothing_else():
    alert, _ = state.close(in_phase(Phase.RESOLVED), by="li", note="done", now_us=1)
    assert alert.acknowledged == alert.closed
    alert, _ = state.comment(alert, by="bureau", note="photo filed", now_us=2)
    for action, how in ((Action.CLOSE, {"note": "x"}), (Action.UNACKNOWLEDGE, {}),
                        (Action.ASSIGN, {"to": "wang"})):  # fmt: skip
        with pytest.raises(IllegalAction, match="not closed"):
            state.ACTIONS[action](alert, by="li", now_us=3, **how)


def test_an_alert_inherits_what_people_did_about_the_one_it_replaces():
    old = in_phase(Phase.FIRING)
    old, _ = state.acknowledge(old, by="li", now_us=1)
    old, _ = state.assign(old, by="li", to="wang", now_us=1)
    old, _ = state.comment(old, by="li", note="vent jammed", now_us=2)
    old, _ = state.take(old, news(FIRED, change=Change.RETRACTED))
    fresh, _ = state.begin(news(replace(FIRED, at_us=9 * MINUTE)))
    heir, entries = state.inherit(fresh, old, now_us=5)
    assert heir.acknowledged == old.acknowledged
    assert heir.assigned_to == "wang"
    assert heir.comments == old.comments
    assert heir.replaces == old.id
    assert entries[0].note == old.id


def test_an_heir_keeps_what_was_done_about_itself():
    old = in_phase(Phase.FIRING)
    old, _ = state.acknowledge(old, by="li", now_us=1)
    old, _ = state.assign(old, by="li", to="wang", now_us=1)
    old, _ = state.comment(old, by="li", note="first", now_us=2)
    fresh, _ = state.begin(news(replace(FIRED, at_us=9 * MINUTE)))
    fresh, _ = state.acknowledge(fresh, by="zhao", now_us=3)
    fresh, _ = state.assign(fresh, by="zhao", to="sun", now_us=3)
    fresh, _ = state.comment(fresh, by="zhao", note="second", now_us=4)
    heir, _ = state.inherit(fresh, old, now_us=5)
    assert (heir.acknowledged, heir.assigned_to) == (fresh.acknowledged, "sun")
    assert [mark.note for mark in heir.comments] == ["first", "second"]
