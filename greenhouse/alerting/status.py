"""How often the keeper of alerts does things, and how it says that it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alerts.episode import RuleFailure


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done, in seconds.

    *recall_s*: how far back everything is judged anew where no state was saved.  *settle_s*: how
    long late readings are given to reach the database before history is asked for.  Readings of
    more than five minutes ago are judged together, when none came for *quiet_s*, or *gather_s*
    after the first.
    """

    tick_s: float = 1.0
    save_s: float = 30.0
    warm_up_s: float = 15.0
    revise_s: float = 2.0
    quiet_s: float = 3.0
    gather_s: float = 20.0
    settle_s: float = 1.0
    recall_s: float = 6 * 3600.0
    database_s: float = 10.0


@dataclass(frozen=True, slots=True)
class KeeperStatus:
    """How the keeper is; *open* counts alerts by severity, *lag_s* is reading to judgement.

    *warming_up*: time stands still, so that nothing is called silent before the collectors have
    caught up.
    *waiting* readings of long ago wait for more of their kind, *overdue* bindings for history to be
    judged again, *unsaved* rows for the database.
    *entries* and *notices* count since the start, by kind.
    """

    judging: bool
    warming_up: bool
    problem: str
    bindings: int
    open: Mapping[int, int]
    failures: Mapping[str, RuleFailure]
    mistakes: int
    waiting: int
    overdue: int
    revised: int
    unsaved: int
    dropped: int
    lag_s: float
    entries: Mapping[str, int]
    notices: Mapping[str, int]
