"""The life of an alert: what may happen to it, and what people may do with it.

Two rules.  Everything that changes an `Alert` is in this file; and this file knows nothing of
readings, of who is told, or of the time: it is given `now`.

An alert moves by *news* from the engine, and its phase follows this table.  News that is not in it
for a phase is news that changes nothing there (a repeat after a restart), and is passed over.

People *act* on an alert.  An action that does not fit raises `IllegalAction` and changes nothing.
Actions never move the phase: an acknowledged alert fires on, a shelved one too.  They move a second
axis: new, acknowledged, closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from alerts.episode import Change, Episode, Transition
from alerts.errors import IllegalAction


class Phase(StrEnum):
    """Where an alert is by the readings."""

    PENDING = "pending"  # raised, but not for long enough; known afterwards, from its start
    FIRING = "firing"
    HELD = "held"  # fires as far as anyone knows: no data
    RESOLVED = "resolved"
    RETRACTED = "retracted"  # late data showed that it never was
    WITHDRAWN = "withdrawn"  # its rule or its subject is gone


_OPEN = (Phase.FIRING, Phase.HELD)
_OVER = (Phase.RESOLVED, Phase.RETRACTED, Phase.WITHDRAWN)

# REVISED stands for: the phase that the revised episode itself is in.
_BY_EPISODE = None
PHASES: dict[Phase, dict[Change, Phase | None]] = {
    Phase.PENDING: {
        Change.FIRED: Phase.FIRING,
        Change.REVISED: _BY_EPISODE,
    },
    Phase.FIRING: {
        Change.SEVERITY: Phase.FIRING,
        Change.STANDS: Phase.FIRING,
        Change.HELD: Phase.HELD,
        Change.RESOLVED: Phase.RESOLVED,
        Change.REVISED: _BY_EPISODE,
        Change.RETRACTED: Phase.RETRACTED,
        Change.WITHDRAWN: Phase.WITHDRAWN,
    },
    Phase.HELD: {
        Change.RETURNED: Phase.FIRING,
        Change.STANDS: Phase.HELD,
        Change.REVISED: _BY_EPISODE,
        Change.RETRACTED: Phase.RETRACTED,
        Change.WITHDRAWN: Phase.WITHDRAWN,
    },
    Phase.RESOLVED: {
        Change.REVISED: _BY_EPISODE,
        Change.RETRACTED: Phase.RETRACTED,
    },
    Phase.RETRACTED: {
        # Still later data may bring it back; the id is the same.
        Change.FIRED: Phase.FIRING,
        Change.REVISED: _BY_EPISODE,
    },
    Phase.WITHDRAWN: {},
}


class Action(StrEnum):
    """What people do."""

    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    ASSIGN = "assign"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    COMMENT = "comment"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who did something, when (wall time), and what they said."""

    by: str
    at_us: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Put aside *until_us*; ends early when the alert becomes worse than *severity*."""

    by: str
    until_us: int
    reason: str
    severity: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an alert's history; lines are only ever added.

    *number* counts from 1 within the alert.  *kind* is a phase, a change or an action; *at_us* is
    measured time for what readings did and wall time for what people did, *recorded_at_us* always
    wall time.  *severity*, *value*, *peak*, *duration_us* and *coverage* are those of the alert
    then.
    """

    alert: str
    number: int
    kind: str
    at_us: int
    recorded_at_us: int
    actor: str = ""
    note: str = ""
    severity: int = 0
    value: float | None = None
    peak: float | None = None
    duration_us: int = 0
    coverage: float = 1.0
    revised: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """An episode and all that people have done about it.

    *replaces* is the id of a retracted alert whose acknowledgement and comments moved here.
    *entries* is how many lines its history has.
    """

    episode: Episode
    phase: Phase
    acknowledged: Mark | None = None
    assigned_to: str = ""
    shelf: Shelf | None = None
    closed: Mark | None = None
    comments: tuple[Mark, ...] = ()
    replaces: str = ""
    entries: int = 0

    @property
    def id(self) -> str:
        """The episode's id."""
        return self.episode.id

    @property
    def is_open(self) -> bool:
        """Whether it fires or is held."""
        return self.phase in _OPEN

    @property
    def needs_attention(self) -> bool:
        """Whether it belongs in the open list: it fires, or ended and nobody has seen it."""
        return self.is_open or (self.acknowledged is None and self.phase is Phase.RESOLVED)

    def is_shelved(self, now_us: int) -> bool:
        """Whether it is put aside at *now_us*."""
        return self.shelf is not None and now_us < self.shelf.until_us


Changed = tuple[Alert, list[Entry]]


# -- news


def begin(news: Transition) -> Changed:
    """Return the alert that *news* is the first of, with its history from pending on."""
    pending = Alert(news.episode, Phase.PENDING, replaces=news.replaces)
    started_us = news.episode.started_at_us
    alert, entries = _recorded(
        pending, Phase.PENDING.value, started_us, news.noticed_at_us, revised=news.revised
    )
    alert, more = take(alert, news)
    return alert, entries + more


def take(alert: Alert, news: Transition) -> Changed:
    """Return *alert* after *news* of it; nothing changes where the news is a repeat."""
    table = PHASES[alert.phase]
    if news.change not in table or _is_repeat(alert, news):
        return alert, []
    phase = table[news.change] or _phase_of(news.episode)
    changed = replace(alert, episode=news.episode, phase=phase)
    if changed.shelf and changed.episode.severity > changed.shelf.severity:
        changed = replace(changed, shelf=None)
    if phase in _OVER:
        changed = replace(changed, shelf=None)
    return _recorded(
        changed, news.change.value, news.at_us, news.noticed_at_us, revised=news.revised
    )


def _is_repeat(alert: Alert, news: Transition) -> bool:
    """Tell whether *news* says no more than what is known: an engine restarted from older state."""
    if news.change in (Change.STANDS, Change.RETRACTED, Change.WITHDRAWN):
        return False
    if alert.phase in (Phase.PENDING, Phase.RETRACTED):
        return False
    told, new = alert.episode.steps, news.episode.steps
    return new == told or (news.change is not Change.REVISED and new == told[: len(new)])


def _phase_of(episode: Episode) -> Phase:
    if not episode.is_open:
        return Phase.RESOLVED
    return Phase.HELD if episode.is_held else Phase.FIRING


def inherit(alert: Alert, old: Alert, now_us: int) -> Changed:
    """Return *alert* with what people did about *old*, the retracted alert that it replaces."""
    changed = replace(
        alert,
        acknowledged=alert.acknowledged or old.acknowledged,
        assigned_to=alert.assigned_to or old.assigned_to,
        comments=old.comments + alert.comments,
        replaces=old.id,
    )
    return _recorded(changed, "replaces", now_us, now_us, note=old.id)


# -- actions


def acknowledge(alert: Alert, by: str, now_us: int, note: str = "") -> Changed:
    """Let *by* have seen it."""
    _must(alert, Action.ACKNOWLEDGE, alert.phase in (*_OPEN, Phase.RESOLVED), "fires or fired")
    _must(alert, Action.ACKNOWLEDGE, alert.acknowledged is None, "is not acknowledged yet")
    _not_closed(alert, Action.ACKNOWLEDGE)
    changed = replace(alert, acknowledged=Mark(_named(by), now_us, note))
    return _acted(changed, Action.ACKNOWLEDGE, by, now_us, note)


def unacknowledge(alert: Alert, by: str, now_us: int, note: str = "") -> Changed:
    """Take an acknowledgement back."""
    _must(alert, Action.UNACKNOWLEDGE, alert.acknowledged is not None, "is acknowledged")
    _not_closed(alert, Action.UNACKNOWLEDGE)
    changed = replace(alert, acknowledged=None)
    return _acted(changed, Action.UNACKNOWLEDGE, by, now_us, note)


def assign(alert: Alert, by: str, to: str, now_us: int, note: str = "") -> Changed:
    """Give it to *to*; to nobody where that is empty."""
    _must(alert, Action.ASSIGN, alert.phase in (*_OPEN, Phase.RESOLVED), "fires or fired")
    _must(alert, Action.ASSIGN, alert.assigned_to != to, f"is not {to or 'nobody'}'s already")
    _not_closed(alert, Action.ASSIGN)
    changed = replace(alert, assigned_to=to)
    return _acted(changed, Action.ASSIGN, by, now_us, f"{to}: {note}" if note else to)


def shelve(alert: Alert, by: str, until_us: int, reason: str, now_us: int) -> Changed:
    """Put it aside until *until_us*; nobody is told of it meanwhile unless it becomes worse."""
    _must(alert, Action.SHELVE, alert.is_open, "is open")
    _must(alert, Action.SHELVE, until_us > now_us, "is put aside until later than now")
    _must(alert, Action.SHELVE, bool(reason.strip()), "is put aside for a reason")
    changed = replace(alert, shelf=Shelf(_named(by), until_us, reason, alert.episode.severity))
    return _acted(changed, Action.SHELVE, by, now_us, reason)


def unshelve(alert: Alert, by: str, now_us: int, note: str = "") -> Changed:
    """Take it back from where it was put aside."""
    _must(alert, Action.UNSHELVE, alert.is_shelved(now_us), "is put aside")
    return _acted(replace(alert, shelf=None), Action.UNSHELVE, by, now_us, note)


def comment(alert: Alert, by: str, note: str, now_us: int) -> Changed:
    """Say something about it; at any time."""
    _must(alert, Action.COMMENT, bool(note.strip()), "gets a comment that says something")
    changed = replace(alert, comments=(*alert.comments, Mark(_named(by), now_us, note)))
    return _acted(changed, Action.COMMENT, by, now_us, note)


def close(alert: Alert, by: str, note: str, now_us: int) -> Changed:
    """Put it in the ledger with a closing note; it counts as acknowledged."""
    _must(alert, Action.CLOSE, alert.phase in _OVER, "is over")
    _not_closed(alert, Action.CLOSE)
    _must(alert, Action.CLOSE, bool(note.strip()), "is closed with a note")
    mark = Mark(_named(by), now_us, note)
    changed = replace(alert, closed=mark, acknowledged=alert.acknowledged or mark)
    return _acted(changed, Action.CLOSE, by, now_us, note)


def _must(alert: Alert, action: Action, holds: bool, what: str) -> None:
    if not holds:
        raise IllegalAction(
            f"cannot {action.value} alert {alert.id}, which is {alert.phase.value}: "
            f"only one that {what}"
        )


def _not_closed(alert: Alert, action: Action) -> None:
    _must(alert, action, alert.closed is None, "is not closed")


def _named(by: str) -> str:
    if not by.strip():
        raise IllegalAction("an action needs the name of whoever does it")
    return by


# -- history


def _acted(alert: Alert, action: Action, by: str, now_us: int, note: str) -> Changed:
    return _recorded(alert, action.value, now_us, now_us, actor=_named(by), note=note)


def _recorded(
    alert: Alert,
    kind: str,
    at_us: int,
    now_us: int,
    actor: str = "",
    note: str = "",
    revised: bool = False,
) -> Changed:
    episode = alert.episode
    until_us = at_us if episode.resolved_at_us is None else episode.resolved_at_us
    entry = Entry(
        alert=alert.id,
        number=alert.entries + 1,
        kind=kind,
        at_us=at_us,
        recorded_at_us=now_us,
        actor=actor,
        note=note,
        severity=episode.severity,
        value=episode.value,
        peak=episode.peak,
        duration_us=max(0, until_us - episode.started_at_us),
        coverage=episode.coverage(until_us),
        revised=revised,
    )
    return replace(alert, entries=entry.number), [entry]


ACTIONS: dict[Action, Callable[..., Changed]] = {
    Action.ACKNOWLEDGE: acknowledge,
    Action.UNACKNOWLEDGE: unacknowledge,
    Action.ASSIGN: assign,
    Action.SHELVE: shelve,
    Action.UNSHELVE: unshelve,
    Action.COMMENT: comment,
    Action.CLOSE: close,
}
