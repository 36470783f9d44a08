"""Rules on subjects: which series of a registry each rule is judged on, and with what limits.

A rule meets the registry once, when the engine is built.  What comes out is a list of `Binding`:
one rule on one subject, its program's leaves resolved to series, its schedule to a timetable.
Where several layers limit the same thing on one subject, each moment belongs to the strictest of
those that are valid then; the others give that time up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from alerts.conditions import compile_levels, measures
from alerts.expression import Both, Call, Compare, Condition, Measure, Number, substituted
from alerts.program import Above, Leaf, Program
from alerts.rule import Label, Per, Rule
from alerts.schedule import (
    ALWAYS,
    Planting,
    Spans,
    Timetable,
    both,
    day_after,
    joined,
    midnight_us,
    sun_times,
    without,
)
from alerts.segments import LONG_AGO, NEVER
from alerts.zone import calendar
from devices.derived import FORMULAS
from devices.registry import Registry
from devices.series import Series, Transport
from devices.site import Placement, Site, SiteKind


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about; *key* is its name everywhere (``series:h1.air_temperature``).

    *site* is the code of the site where it is.
    """

    kind: Per
    code: str
    site: str

    @property
    def key(self) -> str:
        """Kind and code in one word."""
        kind = "site" if self.kind in (Per.SITE, Per.HOUSE, Per.BASE) else self.kind.value
        return f"{kind}:{self.code}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One rule on one subject.

    *leaves* names the series (by code) of each of the program's leaves.  *timetable* says when the
    rule is judged here.  *stricter_than* are the rules that this one stands in for.
    """

    rule: Rule
    subject: Subject
    program: Program
    leaves: tuple[tuple[str, ...], ...]
    timetable: Timetable
    label: Label
    stricter_than: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unbound:
    """A rule that fits a subject but cannot be judged there, with the reason in plain words."""

    rule: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the registry does not say.

    *tags* by the key of a subject (``series:...``, ``device:...``, ``site:...``); those of a site
    hold for everything in it.  *plantings* by site code.
    """

    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    plantings: Mapping[str, Planting] = field(default_factory=dict)


def bind(
    rules: Iterable[Rule], registry: Registry, surroundings: Surroundings
) -> tuple[list[Binding], list[Unbound]]:
    """Return every binding of the enabled *rules*, and what could not be bound.

    Only series that have a number in the registry are bound: no reading can come from others.
    """
    binder = _Binder(registry, surroundings)
    bindings: list[Binding] = []
    for rule in rules:
        if rule.enabled:
            bindings += binder.bind(rule)
    return _layered(bindings), binder.unbound


class _Binder:
    def __init__(self, registry: Registry, surroundings: Surroundings) -> None:
        self._registry = registry
        self._surroundings = surroundings
        numbered = [s for s in registry.series.values() if s.code in registry.series_ids]
        self._unmeasured = {s.code for s in numbered if _is_derived(registry, s)}
        # What a formula makes of readings is computed here too: it must not wait for a database.
        self._series = [
            s for s in numbered if s.code not in self._unmeasured or s.quantity not in FORMULAS
        ]
        self._by_site: dict[str, list[Series]] = defaultdict(list)
        self._by_quantity: dict[str, list[Series]] = defaultdict(list)
        self._above: dict[str, tuple[Site, ...]] = {}
        self._subjects: dict[Per, dict[Subject, list[Series]]] = {}
        self._programs: dict[tuple[str, tuple[Condition, ...]], Program] = {}
        self._timetables: dict[tuple[str, str], Timetable | None] = {}
        for series in self._series:
            self._by_site[series.site].append(series)
            self._by_quantity[series.quantity].append(series)
        self.unbound: list[Unbound] = []

    def bind(self, rule: Rule) -> Iterator[Binding]:
        """Yield the bindings of one rule."""
        trees = [level.tree for level in rule.levels]
        program = _compiled(rule, trees)
        per = rule.per or _natural_subject(program)
        if per is Per.SERIES:
            yield from self._on_series(rule, program)
            if rule.per is None and program.leaves[0].measure.quantity in FORMULAS:
                yield from self._on_sites_that_derive(rule, trees, program)
            return
        for subject, members in self._groups(rule, per):
            yield from self._on_group(rule, trees, program, subject, members)

    # -- places

    def _ancestors(self, code: str) -> tuple[Site, ...]:
        """Return the site and those above it, innermost first."""
        if code not in self._above:
            self._above[code] = tuple(self._registry.ancestors(code))
        return self._above[code]

    def _crop(self, site: str) -> str:
        planting = self._planting(site)
        if planting:
            return planting.crop
        return next((s.crop for s in self._ancestors(site) if s.crop), None) or ""

    def _planting(self, site: str) -> Planting | None:
        plantings = self._surroundings.plantings
        if not plantings:
            return None
        return next((plantings[s.code] for s in self._ancestors(site) if s.code in plantings), None)

    def _is_placed(self, rule: Rule, site: str) -> bool:
        """Tell whether *rule* wants subjects at *site*."""
        where = rule.where
        above = self._ancestors(site)
        if where.sites and not any(s.code in where.sites for s in above):
            return False
        if where.site_kinds and not any(s.kind in where.site_kinds for s in above):
            return False
        return not where.crops or self._crop(site) in where.crops

    def _is_wanted(self, rule: Rule, series: Series, placement: Placement | None) -> bool:
        """Tell whether *rule* looks at *series*; a measure's own placement goes before its."""
        where = rule.where
        if placement is not None:
            if series.placement != placement:
                return False
        elif where.placements and series.placement not in where.placements:
            return False
        if where.media and series.medium not in where.media:
            return False
        if where.devices and series.device not in where.devices:
            return False
        if not where.tags and not where.without_tags:
            return True
        tags = self._tags(series)
        return tags.issuperset(where.tags) and tags.isdisjoint(where.without_tags)

    def _tags(self, series: Series) -> frozenset[str]:
        tags = self._surroundings.tags
        if not tags:
            return frozenset()
        keys = [f"series:{series.code}", f"device:{series.device}"]
        keys += [f"site:{site.code}" for site in self._ancestors(series.site)]
        return frozenset().union(*(tags.get(key, ()) for key in keys))

    # -- one series

    def _on_series(self, rule: Rule, program: Program) -> Iterator[Binding]:
        measure = program.leaves[0].measure
        wanted = (measure.quantity,) if measure.quantity else rule.where.quantities
        candidates = (
            [s for name in dict.fromkeys(wanted) for s in self._by_quantity[name]]
            if wanted
            else [s for s in self._series if s.code not in self._unmeasured]
        )
        for series in candidates:
            fits = not measure.channel or series.channel == measure.channel
            if not fits or not self._is_wanted(rule, series, measure.placement):
                continue
            if not self._is_placed(rule, series.site):
                continue
            leaves = tuple(self._of_series(leaf, series) for leaf in program.leaves)
            if not all(leaves):
                continue  # a series without a twin cannot differ from it
            subject = Subject(Per.SERIES, series.code, series.site)
            yield from self._finished(rule, subject, program, leaves)

    def _of_series(self, leaf: Leaf, series: Series) -> tuple[str, ...]:
        if leaf.members != "twins":
            return (series.code,)
        return tuple(
            other.code
            for other in self._by_site[series.site]
            if other.quantity == series.quantity
            and other.placement == series.placement
            and other.code != series.code
        )

    # -- groups of series

    def _groups(self, rule: Rule, per: Per) -> Iterator[tuple[Subject, list[Series]]]:
        """Yield each subject of the kind *per* with all of its series."""
        if per not in self._subjects:
            groups: dict[Subject, list[Series]] = defaultdict(list)
            for series in self._series:
                subject = self._subject(series, per)
                if subject is not None:
                    groups[subject].append(series)
            self._subjects[per] = groups
        for subject, members in self._subjects[per].items():
            if self._is_placed(rule, subject.site):
                yield subject, members

    def _subject(self, series: Series, per: Per) -> Subject | None:
        if per is Per.DEVICE:
            device = self._registry.device[series.device]
            return Subject(per, series.device, device.site)
        if per is Per.SITE:
            return Subject(per, series.site, series.site)
        kind = SiteKind.GREENHOUSE if per is Per.HOUSE else SiteKind.BASE
        site = next((s for s in self._ancestors(series.site) if s.kind is kind), None)
        return Subject(per, site.code, site.code) if site else None

    def _on_group(
        self,
        rule: Rule,
        trees: Sequence[Condition],
        program: Program,
        subject: Subject,
        members: list[Series],
    ) -> Iterator[Binding]:
        leaves = self._resolved(rule, program, subject, members)
        if leaves is None:
            derived = tuple(self._derived(rule, tree, subject, members) for tree in trees)
            if derived == tuple(trees):
                return
            program = self._derived_program(rule, derived)
            leaves = self._resolved(rule, program, subject, members)
        if leaves is not None:
            yield from self._finished(rule, subject, program, leaves, members)

    def _on_sites_that_derive(
        self, rule: Rule, trees: Sequence[Condition], program: Program
    ) -> Iterator[Binding]:
        """Yield bindings of sites where a derived quantity is not measured but its inputs are."""
        for subject, members in self._groups(rule, Per.SITE):
            if self._resolved(rule, program, subject, members) is None:
                yield from self._on_group(rule, trees, program, subject, members)

    def _resolved(
        self, rule: Rule, program: Program, subject: Subject, members: list[Series]
    ) -> tuple[tuple[str, ...], ...] | None:
        """Return the series of every leaf, None where one has none."""
        out = []
        for leaf in program.leaves:
            found = self._find(rule, leaf.measure, subject, members)
            if not found:
                return None
            out.append(tuple(series.code for series in found))
        return tuple(out)

    def _find(
        self, rule: Rule, measure: Measure, subject: Subject, members: list[Series]
    ) -> list[Series]:
        """Return the series of *measure* in the subject; outdoors also on the sites above it."""
        if not measure.quantity and not rule.where.quantities:
            members = [s for s in members if self._stands_in(s, subject)]
        found = self._matching(rule, measure, members)
        if found or measure.placement is None:
            return found
        for site in self._ancestors(subject.site):
            found = self._matching(rule, measure, self._by_site[site.code])
            if found:
                return found
        return []

    def _stands_in(self, series: Series, subject: Subject) -> bool:
        """Tell whether the device of *series* stands in the subject, or is it.

        A unit outside may speak of a valve inside; that does not show that the house has power.
        """
        if subject.kind is Per.DEVICE:
            return True
        device = self._registry.device[series.device]
        return any(site.code == subject.code for site in self._ancestors(device.site))

    def _matching(self, rule: Rule, measure: Measure, among: Iterable[Series]) -> list[Series]:
        quantities = (measure.quantity,) if measure.quantity else rule.where.quantities
        return [
            series
            for series in among
            if (
                series.quantity in quantities if quantities else series.code not in self._unmeasured
            )
            and (not measure.channel or series.channel == measure.channel)
            and self._is_wanted(rule, series, measure.placement)
        ]

    def _derived(
        self, rule: Rule, tree: Condition, subject: Subject, members: list[Series]
    ) -> Condition:
        """Return *tree* with quantities that nobody measures here computed from those that are."""
        for measure in set(measures(tree)):
            formula = FORMULAS.get(measure.quantity)
            if formula is None or self._find(rule, measure, subject, members):
                continue
            inputs = tuple(Measure(name, "", measure.placement) for name in formula.inputs)
            tree = substituted(tree, measure, Call(measure.quantity, inputs, measure.at))
        return tree

    def _derived_program(self, rule: Rule, trees: tuple[Condition, ...]) -> Program:
        """Return the program of *trees*: the same one for all houses that compute the same."""
        key = (rule.code, trees)
        if key not in self._programs:
            self._programs[key] = _compiled(rule, trees)
        return self._programs[key]

    # -- the rest of a binding

    def _finished(
        self,
        rule: Rule,
        subject: Subject,
        program: Program,
        leaves: tuple[tuple[str, ...], ...],
        members: list[Series] | None = None,
    ) -> Iterator[Binding]:
        planting = self._planting(subject.site)
        if rule.schedule.stages:
            if planting is None:
                return  # nobody said what grows here, and since when
            grown = planting.degree_days(rule.schedule.stages)
            if grown:
                trees = [_while_grown(level.tree, grown) for level in rule.levels]
                program = _compiled(rule, trees)
                among = self._by_site[subject.site] if members is None else members
                resolved = self._resolved(rule, program, subject, among)
                if resolved is None:
                    reason = "no growing_degree_days here, which its stages begin by"
                    self.unbound.append(Unbound(rule.code, subject.key, reason))
                    return
                leaves = resolved
        place = (rule.code, subject.site)
        if place not in self._timetables:
            self._timetables[place] = self._timetable(rule, subject, planting)
        timetable = self._timetables[place]
        if timetable is not None and timetable.spans:
            label = self._label(rule, leaves)
            yield Binding(rule, subject, program, leaves, timetable, label)

    def _timetable(
        self, rule: Rule, subject: Subject, planting: Planting | None
    ) -> Timetable | None:
        site = self._registry.site[subject.site]
        zone = calendar(site.timezone)
        sun = None
        if rule.schedule.sun:
            if site.latitude is None or site.longitude is None:
                reason = "its schedule follows the sun, and the site has no coordinates"
                self.unbound.append(Unbound(rule.code, subject.key, reason))
                return None
            sun = sun_times(site.latitude, site.longitude, site.timezone)
        spans: Spans = ALWAYS
        if rule.valid_from or rule.valid_to:
            begin = midnight_us(rule.valid_from, zone) if rule.valid_from else int(LONG_AGO)
            end = midnight_us(day_after(rule.valid_to), zone) if rule.valid_to else int(NEVER)
            spans = ((begin, end),)
        stages = rule.schedule.stages
        if stages and planting is not None and not planting.degree_days(stages):
            spans = both(spans, planting.spans(stages, zone))
        return Timetable(rule.schedule, zone, sun, spans)

    def _label(self, rule: Rule, leaves: tuple[tuple[str, ...], ...]) -> Label:
        """Return what an alert may be called: the method decides between two of the words."""
        if rule.label is not Label.EXCEEDANCE or not rule.methods:
            return rule.label
        accepted = {f"method:{method}" for method in rule.methods}
        series = [self._registry.series[code] for codes in leaves for code in codes]
        listed = all(self._tags(one) & accepted for one in series)
        return Label.EXCEEDANCE if listed else Label.INDICATIVE


def _is_derived(registry: Registry, series: Series) -> bool:
    """Tell whether nobody measures *series*: a rule looks at it only by its quantity's name.

    Its silence is that of its inputs.
    """
    return registry.device[series.device].transport is Transport.DERIVED


def _compiled(rule: Rule, trees: Sequence[Condition]) -> Program:
    return compile_levels(
        [(tree, level.for_us) for tree, level in zip(trees, rule.levels, strict=True)]
    )


def _natural_subject(program: Program) -> Per:
    """Return series where one series says all, otherwise the site."""
    alone = all(leaf.members != "all" for leaf in program.leaves)
    same = len({leaf.measure for leaf in program.leaves}) == 1
    return Per.SERIES if alone and same else Per.SITE


def _while_grown(tree: Condition, grown: Iterable[tuple[float, float]]) -> Condition:
    """Return *tree* and a condition on the degree-days that lie in one of the ranges."""
    measure = Measure("growing_degree_days")
    ranges: list[Condition] = []
    for begin, end in grown:
        parts: list[Condition] = [Compare(measure, ">=", Number(begin, "°C·d"))]
        if end != float("inf"):
            parts.append(Compare(measure, "<", Number(end, "°C·d")))
        ranges.append(Both("and", tuple(parts)) if len(parts) > 1 else parts[0])
    grows = Both("or", tuple(ranges)) if len(ranges) > 1 else ranges[0]
    return Both("and", (tree, grows))


# -- layers


def _layered(bindings: Sequence[Binding]) -> list[Binding]:
    """Return *bindings* with each limited thing judged by the strictest rule at every moment."""
    contenders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, binding in enumerate(bindings):
        if binding.rule.limit_of:
            contenders[binding.rule.limit_of, binding.subject.key].append(position)
    out: list[Binding | None] = list(bindings)
    for positions in contenders.values():
        if len(positions) > 1:
            for position, settled in _settled(bindings, positions):
                out[position] = settled
    return [binding for binding in out if binding is not None]


def _settled(
    bindings: Sequence[Binding], positions: Sequence[int]
) -> Iterator[tuple[int, Binding | None]]:
    """Yield what becomes of each of several bindings that limit the same on one subject."""
    ranked = sorted(positions, key=lambda p: _strictness(bindings[p]))
    taken: Spans = ()
    for rank, position in enumerate(ranked):
        binding = bindings[position]
        spans = without(binding.timetable.spans, taken)
        taken = joined([*taken, *binding.timetable.spans])
        if not spans:
            yield position, None
            continue
        milder = [bindings[other] for other in ranked[rank + 1 :]]
        over = tuple(m.rule.code for m in milder if both(m.timetable.spans, spans))
        timetable = replace(binding.timetable, spans=spans)
        yield position, replace(binding, timetable=timetable, stricter_than=over)


def _strictness(binding: Binding) -> tuple[float, int]:
    """Return a key that puts the strictest first: by the lowest level's limit, then by layer."""
    level = binding.program.levels[0]
    limit = binding.program.params[level.limit] if isinstance(level, Above) else 0.0
    sense = binding.program.sense if binding.program.sense in (1, -1) else 1
    return (limit * sense, -int(binding.rule.layer))
