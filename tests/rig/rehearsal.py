"""A scenario in simulated time through decoder, engine and book: what people are told, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from alerts.book import Book, Notice
from alerts.engine import Engine, Settings
from alerts.message import describe
from alerts.pack_library import shipped_pack
from alerts.places import Places
from alerts.state import Alert
from devices.codecs.library import CODECS
from devices.site_file import read_site_file
from firmware_sims.fleet import Fleet
from firmware_sims.payload import encode
from firmware_sims.scenario import shipped, shipped_site_file
from greenhouse.alerting.rules import pack_names, surroundings
from ingest.collector import Arrival
from ingest.decoder import Decoder

ZONE = ZoneInfo("Asia/Shanghai")
MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """One notice: *at_min* after the live start, *rules* and *text* of the alerts it is about.

    *group* is its label and place; *members* were in the group by then.
    """

    at_min: float
    told: str
    severity: int
    rules: tuple[str, ...]
    text: str
    group: tuple[str, str]
    members: int


class Rehearsal:
    """*scenario* on the small base, live from *start* (site time), after *history_min* of quiet.

    Readings arrive every *step_s*, as they would over the broker; a device without network sends
    nothing here.
    """

    def __init__(self, scenario: str, start: str, history_min: float, step_s: float = 10) -> None:
        site_file = read_site_file(shipped_site_file("small-base"), "small-base.site.yaml")
        numbers = {code: number for number, code in enumerate(site_file.registry.series, 1)}
        self.registry = replace(site_file.registry, series_ids=numbers)
        rules = [rule for name in pack_names(site_file) for rule in shipped_pack(name).rules]
        self._rules = {rule.code: rule for rule in rules}
        at = datetime.fromisoformat(start).replace(tzinfo=ZONE)
        self.start_us = round(at.timestamp() * 1e6)
        self.now_us = self.start_us - round(history_min * MINUTE_US)
        self._step_us = round(step_s * 1e6)
        settings = Settings(since_us=self.now_us, surroundings=surroundings(site_file.growing))
        self.engine = Engine(rules, self.registry, settings)
        self.book = Book(self._rules, Places(self.registry))
        self._decoder = Decoder(self.registry, "gh/{site}/{device}", CODECS)
        self._fleet = Fleet(shipped(scenario), self.start_us, self.now_us)
        self._said: list[Said] = []
        self._members: dict[str, tuple[tuple[str, str], int]] = {}

    def run(self, until_min: float) -> list[Said]:
        """Go on until *until_min* after the start; return all that was said so far."""
        while self.now_us < self.start_us + until_min * MINUTE_US:
            self.now_us += self._step_us
            decoded = self._decoder.decode(list(self._arrivals()))
            assert not decoded.letters
            outcome = self.book.take(self.engine.feed(decoded.batch, self.now_us), self.now_us)
            for group in (*self.book.groups(), *outcome.groups):
                self._members[group.id] = ((group.label, group.place), len(group.members))
            self._said += [self._in_words(notice) for notice in outcome.notices]
        assert not self.engine.failures
        return self._said

    def alerts(self) -> list[Alert]:
        """Return what the book holds."""
        return list(self.book.alerts())

    def _arrivals(self) -> Iterator[Arrival]:
        for device, sample in self._fleet.until(self.now_us):
            if not device.is_cut_off(sample.at_us):
                topic = f"gh/{device.entry.site}/{device.entry.code}"
                yield Arrival("mqtt", topic, encode([sample]), self.now_us)

    def _in_words(self, notice: Notice) -> Said:
        found = [alert for alert in self.book.alerts() if alert.id in notice.alerts]
        found.sort(key=lambda alert: notice.alerts.index(alert.id))
        first = found[0].episode
        text = describe(self._rules[first.rule], first, self.registry, "en", self.now_us)
        group, members = self._members[notice.group]
        return Said(
            (self.now_us - self.start_us) / MINUTE_US,
            notice.told.value,
            notice.severity,
            tuple(alert.episode.rule for alert in found),
            text,
            group,
            members,
        )
