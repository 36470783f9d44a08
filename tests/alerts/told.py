"""What a receiver of transitions knows: the newest word on every episode."""

from __future__ import annotations

from alerts.episode import Change


class Told:
    """Episodes by id, as their transitions told of them."""

    def __init__(self):
        self.episodes = {}
        self.transitions = []

    def take(self, transitions):
        """Take in news, checking that it fits what was said before."""
        for news in transitions:
            self.transitions.append(news)
            key = news.episode.id
            if news.change is Change.RETRACTED:
                assert key in self.episodes, f"{key} was never told of"
                del self.episodes[key]
                continue
            if news.change is Change.FIRED:
                assert key not in self.episodes, f"{key} fires twice"
            else:
                assert key in self.episodes, f"{news.change} of an episode nobody knows"
            self.episodes[key] = news.episode

    def as_tuples(self):
        """Return {(rule, subject): the episodes in the form of the reference}."""
        out = {}
        for e in sorted(self.episodes.values(), key=lambda e: e.started_at_us):
            steps = tuple((s.at_us, s.kind.value, s.severity, s.value) for s in e.steps)
            out.setdefault((e.rule, e.subject), []).append(
                (
                    e.started_at_us, e.fired_at_us, e.resolved_at_us, e.severity, e.worst,
                    steps, e.peak, e.unobserved_us,
                )
            )  # fmt: skip
        return out
