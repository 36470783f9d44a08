"""The rules of a base: which packs are in force, on what, and an engine that judges by them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alerts.binding import Surroundings, bind
from alerts.engine import Engine, Settings
from alerts.episode import RuleFailure
from alerts.pack_library import shipped_pack, shipped_pack_names
from alerts.rule import Pack, Rule
from alerts.schedule import Planting, StageBegin
from devices.document import nearest
from devices.errors import Mistake
from devices.growing import Growing
from devices.registry import Registry
from devices.site_file import SiteFile
from greenhouse.pack_folder import PackFolder, packs_in_force

_log = logging.getLogger(__name__)

# What every base has: the standards are only judged where such quantities are measured.
_ALWAYS = ("climate", "equipment", "gb3095-2026", "gb5084-2021", "gb15618-2018")


def pack_names(site_file: SiteFile) -> tuple[str, ...]:
    """Return the shipped packs that *site_file* names.

    Where it does not say: climate, equipment, the national ones, and those of the crops it names.
    """
    if site_file.growing.packs is not None:
        return site_file.growing.packs
    crops = {site.crop for site in site_file.registry.sites}
    crops |= {planted.crop for planted in site_file.growing.planted}
    return (*_ALWAYS, *(name for name in shipped_pack_names() if crops & _crops_of(name)))


def _crops_of(name: str) -> set[str]:
    """Return the crops that a shipped pack has rules about, by every name that it knows them by."""
    return {crop for rule in shipped_pack(name).rules for crop in rule.where.crops}


def surroundings(growing: Growing) -> Surroundings:
    """Return what the site file says of tags and plantings, as rules are bound by it."""
    plantings = {
        one.site: Planting(
            one.site,
            one.crop,
            tuple(StageBegin(s.name, s.on, s.degree_days) for s in one.stages),
            one.ends_on,
        )
        for one in growing.planted
    }
    return Surroundings(growing.tags, plantings)


def rule_mistakes(site_file: SiteFile, folder: PackFolder) -> list[Mistake]:
    """Return what is wrong with the packs that *site_file* names, and with its crops.

    What is wrong with own packs in *folder* is told by `PackFolder.packs`; it stops nobody.
    """
    document, growing = site_file.document, site_file.growing
    mistakes: list[Mistake] = []
    for index, name in enumerate(growing.packs or ()):
        if name not in shipped_pack_names():
            expected = "a shipped pack: " + ", ".join(shipped_pack_names())
            hint = nearest(name, shipped_pack_names())
            mistakes.append(document.mistake(("packs", index), name, expected, hint))
    shipped = [shipped_pack(name) for name in shipped_pack_names()]
    own = folder.packs([])
    crops = sorted(
        {crop for pack in (*shipped, *own) for rule in pack.rules for crop in rule.where.crops}
    )
    for planted, path in zip(growing.planted, growing.crop_paths, strict=True):
        if planted.crop not in crops:
            expected = "a crop that a rule is about: " + ", ".join(crops)
            hint = nearest(planted.crop, crops)
            mistakes.append(document.mistake(path, planted.crop, expected, hint))
    return mistakes


@dataclass(frozen=True, slots=True)
class PackUse:
    """How many rules of a pack something in a site file is judged by, and the codes of the *idle*.

    Rules that another layer's stricter one stands in for count as in use; those that are switched
    off are left out.
    """

    pack: str
    used: int
    idle: tuple[str, ...]
    is_own: bool


def rule_use(site_file: SiteFile, folder: PackFolder) -> list[PackUse]:
    """Return what of the packs in force is in use, in their order."""
    codes = site_file.registry.series
    numbers = {code: number for number, code in enumerate(codes, 1)}
    numbered = Registry(site_file.registry.sites, site_file.registry.devices, numbers)
    shipped = pack_names(site_file)
    packs = packs_in_force(shipped, folder, [])
    rules = [rule for pack in packs for rule in pack.rules]
    bindings, _ = bind(rules, numbered, surroundings(site_file.growing))
    judged = {binding.rule.code for binding in bindings}
    judged |= {code for binding in bindings for code in binding.stricter_than}
    found = []
    for pack in packs:
        enabled = [rule.code for rule in pack.rules if rule.enabled]
        idle = tuple(code for code in enabled if code not in judged)
        is_own = pack.code not in shipped
        found.append(PackUse(pack.code, len(enabled) - len(idle), idle, is_own))
    return found


def told_use(uses: Iterable[PackUse]) -> str:
    """Return the use of packs in a line: own ones with the names of their idle rules."""
    words = []
    for use in uses:
        text = f"{use.pack} {use.used} of {use.used + len(use.idle)}"
        if use.is_own and use.idle:
            text += f" (nothing is judged by {', '.join(use.idle)})"
        words.append(text)
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class LoadedRules:
    """The packs in force; *mistakes* are those of own packs, which are left out."""

    packs: tuple[Pack, ...] = ()
    mistakes: tuple[Mistake, ...] = ()

    def rules(self) -> dict[str, Rule]:
        """Return every rule by its code."""
        return {rule.code: rule for pack in self.packs for rule in pack.rules}


class RuleSource:
    """Where the rules come from: shipped packs by *names*, own ones in *folder*."""

    def __init__(self, names: Sequence[str], folder: PackFolder, places: Surroundings) -> None:
        self.names = tuple(names)
        self._folder = folder
        self.surroundings = places

    @staticmethod
    def of(site_file: SiteFile, folder: PackFolder) -> RuleSource:
        """Return where the rules of *site_file* come from."""
        return RuleSource(pack_names(site_file), folder, surroundings(site_file.growing))

    def says_the_same(self, other: RuleSource) -> bool:
        """Tell whether *other* names the same packs, tags and plantings."""
        return (self.names, self.surroundings) == (other.names, other.surroundings)

    def load(self) -> LoadedRules:
        """Read the packs; waits for the disk."""
        mistakes: list[Mistake] = []
        packs = packs_in_force(self.names, self._folder, mistakes)
        return LoadedRules(packs, tuple(mistakes))


@dataclass(slots=True)
class BuiltEngine:
    """An engine for *loaded* on one registry; *failures* are rules that could not be built."""

    engine: Engine
    loaded: LoadedRules
    failures: dict[str, RuleFailure] = field(default_factory=dict)

    def all_failures(self) -> Mapping[str, RuleFailure]:
        """Return every rule that is out of use, by its code."""
        return {**self.failures, **self.engine.failures}


def build(loaded: LoadedRules, registry: Registry, settings: Settings, now_us: int) -> BuiltEngine:
    """Build an engine; a rule that cannot be built is left out and told, the others go on."""
    rules = list(loaded.rules().values())
    try:
        return BuiltEngine(Engine(rules, registry, settings), loaded)
    except Exception:  # whatever it is: each rule is tried by itself below
        failures = dict(_unbuildable(rules, registry, settings, now_us))
        if not failures:
            raise
    sound = [rule for rule in rules if rule.code not in failures]
    return BuiltEngine(Engine(sound, registry, settings), loaded, failures)


def _unbuildable(
    rules: Iterable[Rule], registry: Registry, settings: Settings, now_us: int
) -> Iterable[tuple[str, RuleFailure]]:
    for rule in rules:
        try:
            Engine([rule], registry, settings)
        except Exception as error:  # a rule must never stop another, whatever is wrong with it
            _log.exception("rule %s cannot be built", rule.code)
            yield rule.code, RuleFailure(rule.code, f"{type(error).__name__}: {error}", now_us)
