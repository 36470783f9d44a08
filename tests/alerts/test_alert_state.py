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
    worse, _ = state.take(alert, news(FIRED, WORSE))
    assert not worse.is_shelved(100 * MINUTE)


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
    old, _ = state.comment(old, by="li", note="vent jammed", now_us=2)
    old, _ = state.take(old, news(FIRED, change=Change.RETRACTED))
    fresh, _ = state.begin(news(replace(FIRED, at_us=9 * MINUTE)))
    heir, entries = state.inherit(fresh, old, now_us=5)
    assert heir.acknowledged == old.acknowledged
    assert heir.comments == old.comments
    assert entries[0].note == old.id
