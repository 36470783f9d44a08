"""Alerts, groups, silences, rules and packs as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from alerts.binding import Binding, Unbound
from alerts.book import Because, Silence
from alerts.episode import Episode, RuleFailure
from alerts.message import describe, unit_of
from alerts.rule import Label, Level, Name, Pack, Per, Rule, Severity, Source
from alerts.state import Entry, Mark, Phase, Shelf
from api.alerts import AlertRecord, KeptAlert, KeptGroup, KeptSilence, PackChange
from api.instants import format_instant
from api.schemas import NameShape
from devices.errors import Mistake
from devices.names import site_name
from devices.registry import Registry

SeverityWord = Literal["info", "warning", "critical"]
_SEVERITY_WORDS: dict[int, SeverityWord] = {1: "info", 2: "warning", 3: "critical"}  # 0: none


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MarkShape(_Shape):
    """Who did something, when, and what they said."""

    by: str
    at: str
    note: str


class ShelfShape(_Shape):
    """Put aside until then, unless it becomes worse."""

    by: str
    until: str
    reason: str


class AlertShape(_Shape):
    """An alert as it stands: one episode of one rule on one subject, and what people did."""

    id: str
    version: int = Field(description="how many lines its history has; also in the ETag")
    rule: str
    rule_version: int
    rule_name: NameShape
    label: Label | None = Field(description="null where the rule is gone")
    severity: SeverityWord = Field(description="now, or the last one before it was over")
    worst: SeverityWord
    phase: Phase
    open: bool
    needs_attention: bool = Field(description="open, or over and nobody has seen it")
    held_back: Because | None = Field(description="why nobody is told of it while it is open")
    subject: str
    site: str
    site_name: NameShape
    started_at: str
    fired_at: str
    resolved_at: str | None
    duration_s: float
    value: float | None
    peak: float | None
    unit: str
    coverage: float = Field(description="share of its time that was observed, 0 to 1")
    message: NameShape
    runbook: NameShape
    acknowledged: MarkShape | None
    assigned_to: str
    shelf: ShelfShape | None
    closed: MarkShape | None
    comments: list[MarkShape]
    replaces: str
    group: str


class EntryShape(_Shape):
    """One line of an alert's history."""

    number: int
    kind: str = Field(description="a phase, a change or an action")
    at: str = Field(description="measured time of what readings did, wall time of what people did")
    recorded_at: str
    actor: str
    note: str
    severity: SeverityWord | None
    value: float | None
    peak: float | None
    duration_s: float
    coverage: float
    revised: bool


class AlertRecordShape(AlertShape):
    """An alert with its whole history, the first line first."""

    history: list[EntryShape]


class GroupShape(_Shape):
    """Alerts of one cause in one house."""

    id: str
    label: str
    place: str
    place_name: NameShape
    opened_at: str
    members: list[str]
    open: int = Field(description="how many of the members are open")
    told_severity: SeverityWord | None = Field(description="what people were last told; null: over")
    notices: int
    is_flapping: bool


class SilenceShape(_Shape):
    """Nobody is told of what it matches, from then until then; alerts go on meanwhile."""

    id: str
    by: str
    reason: str
    from_: str = Field(alias="from")
    until: str
    rules: list[str]
    sites: list[str]
    subjects: list[str]
    worst: SeverityWord
    is_over: bool
    ended_by: str
    ended_note: str


class SourceShape(_Shape):
    """Where a limit comes from."""

    standard: str
    edition: str
    clause: str
    evidence: str
    text: str


class LevelShape(_Shape):
    """One severity of a rule."""

    severity: SeverityWord
    when: str
    for_s: float
    keep_firing_s: float


class FailureShape(_Shape):
    """A rule that raised an error and is out of use."""

    rule: str
    reason: str
    noticed_at: str


class UnboundShape(_Shape):
    """A rule that fits a subject and cannot be judged there."""

    rule: str
    subject: str
    reason: str


class RuleShape(_Shape):
    """A rule of a pack; *bound* is on how many subjects it is judged."""

    rule: str
    pack: str
    version: int
    layer: Literal["national", "local", "base"]
    name: NameShape
    levels: list[LevelShape]
    per: Per | None
    label: Label
    source: SourceShape
    limit_of: str
    hides: list[str]
    group: str
    tell: list[str]
    enabled: bool
    runbook: NameShape
    bound: int
    unbound: list[UnboundShape]
    failure: FailureShape | None


class BindingShape(_Shape):
    """A rule on a subject; *stricter_than* are the rules that it stands in for there."""

    rule: str
    subject: str
    site: str
    series: list[str]
    label: Label
    stricter_than: list[str]


class MistakeShape(_Shape):
    """One mistake in a text; lines and columns count from 1."""

    line: int
    column: int
    key: str
    got: str
    expected: str
    hint: str


class TrialFailureShape(_Shape):
    """A test of rules that did not come out; *line* is where its expectation stands."""

    line: int
    test: str
    text: str


class PackShape(_Shape):
    """A pack: shipped with the service, or written by people."""

    pack: str
    name: NameShape
    version: int | None = Field(description="null where the text cannot be used")
    layer: Literal["national", "local", "base"] | None
    source: SourceShape | None
    shipped: bool
    in_force: bool
    rule_count: int


class PackTextShape(PackShape):
    """A pack with its text and what it says; *mistakes* where it cannot be used."""

    text: str
    trials: str | None
    rules: list[RuleShape]
    mistakes: list[MistakeShape]


class PackChangeShape(_Shape):
    """Who changed a pack; texts are null where there was none, or is none any more."""

    pack: str
    by: str
    reason: str
    at: str
    before: str | None
    after: str | None


class CheckShape(_Shape):
    """What there is to say about a text that was not saved."""

    valid: bool
    mistakes: list[MistakeShape]
    trial_mistakes: list[MistakeShape]
    failures: list[TrialFailureShape]
    rules: list[RuleShape]


# -- alerts


class AlertWriter:
    """Makes JSON of alerts, with the *rules* in force, the *registry* and the time that is now."""

    def __init__(self, rules: Mapping[str, Rule], registry: Registry, now_us: int) -> None:
        self._rules = rules
        self._registry = registry
        self._now_us = now_us

    def alert(self, kept: KeptAlert) -> AlertShape:
        """Return an alert as the API tells it."""
        return AlertShape(**self._alert(kept))

    def record(self, record: AlertRecord) -> AlertRecordShape:
        """Return an alert with its history."""
        history = [_entry(one) for one in record.history]
        return AlertRecordShape(**self._alert(record.kept), history=history)

    def group(self, kept: KeptGroup) -> GroupShape:
        """Return a group."""
        group = kept.group
        return GroupShape(
            id=group.id,
            label=group.label,
            place=group.place,
            place_name=self._site_name(group.place),
            opened_at=format_instant(group.opened_at_us),
            members=list(group.members),
            open=kept.open,
            told_severity=_word(group.told_severity),
            notices=group.notices,
            is_flapping=group.is_flapping,
        )

    def said(self, episode: Episode) -> NameShape:
        """Return what is said of *episode*; of a rule that is gone, its code."""
        rule = self._rules.get(episode.rule)
        if rule is None:
            return NameShape(zh=episode.rule, en=episode.rule)
        return NameShape(
            zh=describe(rule, episode, self._registry, "zh", self._now_us),
            en=describe(rule, episode, self._registry, "en", self._now_us),
        )

    def _site_name(self, code: str) -> NameShape:
        site = self._registry.site.get(code)
        zh, en = site_name(site) if site is not None else (code, code)
        return NameShape(zh=zh, en=en)

    def _alert(self, kept: KeptAlert) -> dict[str, object]:
        alert, episode = kept.alert, kept.alert.episode
        rule = self._rules.get(episode.rule)
        end_us = self._now_us if episode.resolved_at_us is None else episode.resolved_at_us
        shelved = alert.is_shelved(self._now_us)
        return {
            "id": alert.id,
            "version": kept.version,
            "rule": episode.rule,
            "rule_version": episode.rule_version,
            "rule_name": named(rule.name, rule.code) if rule else _same(episode.rule),
            "label": rule.label if rule else None,
            "severity": _word(episode.severity),
            "worst": _word(episode.worst),
            "phase": alert.phase,
            "open": alert.is_open,
            "needs_attention": alert.needs_attention,
            "held_back": kept.held_back,
            "subject": episode.subject,
            "site": episode.site,
            "site_name": self._site_name(episode.site),
            "started_at": format_instant(episode.started_at_us),
            "fired_at": format_instant(episode.fired_at_us),
            "resolved_at": _instant(episode.resolved_at_us),
            "duration_s": max(0, end_us - episode.started_at_us) / 1e6,
            "value": episode.value,
            "peak": episode.peak,
            "unit": unit_of(rule) if rule else "",
            "coverage": episode.coverage(end_us),
            "message": self.said(episode),
            "runbook": named(rule.runbook) if rule else _same(""),
            "acknowledged": _mark(alert.acknowledged),
            "assigned_to": alert.assigned_to,
            "shelf": _shelf(alert.shelf) if shelved else None,
            "closed": _mark(alert.closed),
            "comments": [_mark(one) for one in alert.comments],
            "replaces": alert.replaces,
            "group": kept.group,
        }


def silence_shape(kept: KeptSilence, now_us: int) -> SilenceShape:
    """Return a silence as the API tells it."""
    silence: Silence = kept.silence
    return SilenceShape(
        **{"from": format_instant(silence.from_us)},
        id=silence.id,
        by=silence.by,
        reason=silence.reason,
        until=format_instant(silence.until_us),
        rules=list(silence.rules),
        sites=list(silence.sites),
        subjects=list(silence.subjects),
        worst=Severity(silence.worst).word,
        is_over=silence.until_us <= now_us,
        ended_by=kept.ended_by,
        ended_note=kept.ended_note,
    )


def _entry(entry: Entry) -> EntryShape:
    return EntryShape(
        number=entry.number,
        kind=entry.kind,
        at=format_instant(entry.at_us),
        recorded_at=format_instant(entry.recorded_at_us),
        actor=entry.actor,
        note=entry.note,
        severity=_word(entry.severity),
        value=entry.value,
        peak=entry.peak,
        duration_s=entry.duration_us / 1e6,
        coverage=entry.coverage,
        revised=entry.revised,
    )


def _mark(mark: Mark | None) -> MarkShape | None:
    if mark is None:
        return None
    return MarkShape(by=mark.by, at=format_instant(mark.at_us), note=mark.note)


def _shelf(shelf: Shelf | None) -> ShelfShape | None:
    if shelf is None:
        return None
    return ShelfShape(by=shelf.by, until=format_instant(shelf.until_us), reason=shelf.reason)


def _word(severity: int) -> SeverityWord | None:
    return _SEVERITY_WORDS.get(severity)


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else format_instant(at_us)


def named(name: Name, code: str = "") -> NameShape:
    """Return a name in both languages, each standing in for the other."""
    return NameShape(zh=name.zh or name.en or code, en=name.en or name.zh or code)


def _same(text: str) -> NameShape:
    return NameShape(zh=text, en=text)


# -- rules and packs


def rule_shapes(
    rules: Iterable[Rule],
    bindings: Sequence[Binding],
    unbound: Sequence[Unbound],
    failures: Mapping[str, RuleFailure],
) -> list[RuleShape]:
    """Return *rules* with where each is judged, and what hinders it."""
    bound: dict[str, int] = {}
    for binding in bindings:
        bound[binding.rule.code] = bound.get(binding.rule.code, 0) + 1
    hindered: dict[str, list[Unbound]] = {}
    for one in unbound:
        hindered.setdefault(one.rule, []).append(one)
    return [
        _rule(rule, bound.get(rule.code, 0), hindered.get(rule.code, []), failures.get(rule.code))
        for rule in rules
    ]


def _rule(
    rule: Rule, bound: int, unbound: Sequence[Unbound], failure: RuleFailure | None
) -> RuleShape:
    return RuleShape(
        rule=rule.code,
        pack=rule.code.partition(".")[0],
        version=rule.version,
        layer=rule.layer.name.lower(),
        name=named(rule.name, rule.code),
        levels=[_level(level) for level in rule.levels],
        per=rule.per,
        label=rule.label,
        source=_source(rule.source),
        limit_of=rule.limit_of,
        hides=list(rule.hides),
        group=rule.group,
        tell=list(rule.tell),
        enabled=rule.enabled,
        runbook=named(rule.runbook),
        bound=bound,
        unbound=[unbound_shape(one) for one in unbound],
        failure=failure and failure_shape(failure),
    )


def _level(level: Level) -> LevelShape:
    return LevelShape(
        severity=level.severity.word,
        when=level.text,
        for_s=level.for_us / 1e6,
        keep_firing_s=level.keep_us / 1e6,
    )


def _source(source: Source) -> SourceShape:
    return SourceShape(
        standard=source.standard,
        edition=source.edition,
        clause=source.clause,
        evidence=source.evidence,
        text=source.text,
    )


def failure_shape(failure: RuleFailure) -> FailureShape:
    """Return why a rule is out of use."""
    return FailureShape(
        rule=failure.rule,
        reason=failure.reason,
        noticed_at=format_instant(max(0, failure.noticed_at_us)),
    )


def unbound_shape(one: Unbound) -> UnboundShape:
    """Return why a rule cannot be judged on a subject."""
    return UnboundShape(rule=one.rule, subject=one.subject, reason=one.reason)


def binding_shape(binding: Binding) -> BindingShape:
    """Return one rule on one subject."""
    series = dict.fromkeys(code for codes in binding.leaves for code in codes)
    return BindingShape(
        rule=binding.rule.code,
        subject=binding.subject.key,
        site=binding.subject.site,
        series=list(series),
        label=binding.label,
        stricter_than=list(binding.stricter_than),
    )


def pack_facts(name: str, pack: Pack | None, shipped: bool, in_force: bool) -> dict[str, object]:
    """Return the fields of `PackShape`; *pack* is None where its text cannot be used."""
    return {
        "pack": name,
        "name": named(pack.name, name) if pack else _same(name),
        "version": pack.version if pack else None,
        "layer": pack.layer.name.lower() if pack else None,
        "source": _source(pack.source) if pack else None,
        "shipped": shipped,
        "in_force": in_force,
        "rule_count": len(pack.rules) if pack else 0,
    }


def pack_change_shape(change: PackChange) -> PackChangeShape:
    """Return who changed a pack."""
    return PackChangeShape(
        pack=change.pack,
        by=change.by,
        reason=change.reason,
        at=format_instant(change.at_us),
        before=change.before,
        after=change.after,
    )


def mistake_shapes(mistakes: Iterable[Mistake]) -> list[MistakeShape]:
    """Return mistakes without the file, which is whatever was sent."""
    return [
        MistakeShape(
            line=one.line, column=one.column, key=one.key, got=one.got,
            expected=one.expected, hint=one.hint,
        )
        for one in mistakes
    ]  # fmt: skip
