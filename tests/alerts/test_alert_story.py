"""What is said when late data tell the story of a binding anew."""

from __future__ import annotations

import pytest

from alerts.episode import Change, Episode, Step, StepKind
from alerts.story import news_of_revision

NOW = 1_000
KIND = {"f": StepKind.FIRED, "s": StepKind.SEVERITY, "h": StepKind.HELD, "b": StepKind.RETURNED,
        "r": StepKind.RESOLVED}  # fmt: skip


def versions(text, key="e", value=1.0):
    """Versions of one episode from words such as ``f5 s7 r9``: a kind and its moment."""
    steps = []
    for word in text.split():
        kind = KIND[word[0]]
        severity = 0 if kind is StepKind.RESOLVED else 3 if kind is StepKind.SEVERITY else 2
        steps.append(Step(int(word[1:]), kind, severity, value, value, 0))
    start = steps[0].at_us
    return [
        Episode(key, "t.r", 1, "series:s", "h", start, tuple(steps[: i + 1]))
        for i in range(len(steps))
    ]


def said(old, new, known=NOW):
    return [(n.change, n.at_us, n.revised, n.page) for n in news_of_revision(old, new, NOW, known)]


# what was told, what is so, from when on it differs
DIFFERENT = [
    ("f5 s7 r9", "f5 s8 r9", 7),  # a step came later
    ("f5 s8 r9", "f5 s7 r9", 7),  # or earlier
    ("f5 s7 r9", "f5 s7", 9),  # an end that was none
    ("f5 h7 b8 r9", "f5 r9", 7),  # nothing was missing
    ("f5 r9", "f5 s7 r9", 7),
]


@pytest.mark.parametrize(("told", "now", "at"), DIFFERENT)
def test_a_revision_is_about_the_first_moment_that_differs(told, now, at):
    ((change, at_us, revised, _),) = said(versions(told), versions(now))
    assert (change, at_us, revised) == (Change.REVISED, at, True)


def test_a_revision_of_facts_beside_the_steps_is_about_the_last_of_them():
    (old,) = versions("f5")
    (new,) = versions("f5")
    moved = Episode(new.id, new.rule, 2, new.subject, new.site, 5, new.steps)
    assert said([old], [moved]) == [(Change.REVISED, 5, True, False)]


def test_only_an_end_that_was_none_may_page():
    for told, now, page in (("f5 r9", "f5 s7", True), ("f5 r9", "f5 r8", False),
                            ("f5 s7", "f5 s8", False)):  # fmt: skip
        assert [one[3] for one in said(versions(told), versions(now))] == [page]


def test_what_follows_what_was_told_is_told_step_by_step():
    news = said(versions("f5"), versions("f5 s7 r9"), known=8)
    assert news == [(Change.SEVERITY, 7, True, False), (Change.RESOLVED, 9, False, False)]
    assert said(versions("f5 r9"), versions("f5 r9")) == []


@pytest.mark.parametrize(
    ("told", "now", "replaces"),
    [
        ("f5 r9", "f6 r8", "old"),
        ("f5 r9", "f9", "old"),  # they share a moment
        ("f5 r9", "f10", ""),
        ("f5", "f10", "old"),  # it was open
        ("f9", "f2 r9", "old"),
        ("f9", "f2 r8", ""),
        ("f9 r12", "f2", "old"),  # it is open
    ],
)
def test_an_episode_takes_the_place_of_one_whose_time_it_shares(told, now, replaces):
    gone, first, *rest = news_of_revision(versions(told, "old"), versions(now, "new"), NOW, NOW)
    assert (gone.change, gone.episode.id) == (Change.RETRACTED, "old")
    assert gone.at_us == gone.episode.started_at_us
    assert first.replaces == replaces
    assert all(not news.replaces for news in rest)
