"""Derived series as a site file asks for them, and as the registry carries them.

A site has a device of its own for what is derived there (``h1-derived``), whose series are like any
other; how each is made stands in the device's settings, so it goes wherever the registry goes.
Inputs that are not named are looked for at the site and below it, then at the sites above: exactly
one series must fit.  Running totals whose wrap is known get their increase without being asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from devices.derived_recipe import (
    INCREASE_OF,
    RECIPES,
    Parameter,
    Recipe,
    Setting,
    Slot,
    Value,
    interval_s,
)
from devices.derived_series import Follower
from devices.document import Document, Path, nearest, validate_part
from devices.errors import Mistake
from devices.profile import Entry, Word
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.running_total import CounterRule
from devices.series import Device, Series, Transport
from devices.site import Placement, Site
from devices.units import Conversion

SETTING = "derived"  # of the device, by the key of the series


class DerivedName(Entry):
    """A name in both languages."""

    zh: str = ""
    en: str = ""


class DerivedEntry(Entry):
    """One derived series of a site.

    *inputs* name series by the formula's own words for them; those left out are looked for.
    """

    formula: str
    inputs: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    channel: Word | None = None
    placement: Annotated[Placement | None, Field(strict=False)] = None
    name: DerivedName = DerivedName()


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a derived series is made: everything but the place.

    *inputs* maps the formula's words to codes of series, in the formula's order.
    """

    formula: str
    version: int
    source: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, Value]

    def as_setting(self) -> dict[str, object]:
        """Return it as it stands in the settings of its device."""
        return {
            "formula": self.formula,
            "version": self.version,
            "source": self.source,
            "inputs": dict(self.inputs),
            "parameters": dict(self.parameters),
        }


def derivations(device: Device) -> dict[str, Derivation]:
    """Return how each series of *device* is made, by its key; empty for one that measures."""
    if device.transport is not Transport.DERIVED:
        return {}
    settings: Any = device.settings.get(SETTING, {})
    return {key: Derivation(**setting) for key, setting in settings.items()}


@dataclass(frozen=True, slots=True)
class Bound:
    """A derived series with its numbers and its follower."""

    series: Series
    series_id: int
    input_ids: tuple[int, ...]
    derivation: Derivation
    follower: Follower


def bound(registry: Registry) -> tuple[list[Bound], list[str]]:
    """Return the derived series of *registry*, and the codes of those that cannot be made.

    One cannot be made when an input is not there any more, or by a program that does not know the
    formula in that version.
    """
    found: list[Bound] = []
    lost: list[str] = []
    for device in registry.devices:
        made = derivations(device)
        for series in device.series:
            derivation = made.get(series.key)
            if derivation is None:
                continue
            recipe = RECIPES.get(derivation.formula)
            inputs = [registry.series.get(code) for code in derivation.inputs.values()]
            known = [one for one in inputs if one is not None]
            if recipe is None or recipe.version != derivation.version or len(known) < len(inputs):
                lost.append(series.code)
                continue
            site = registry.site[series.site]
            setting = Setting(
                tuple(one.quantity for one in known),
                tuple(one.interval_s for one in known),
                series.quantity,
                derivation.parameters,
                site.timezone,
                site.latitude,
                site.longitude,
            )
            found.append(
                Bound(
                    series,
                    registry.series_ids[series.code],
                    tuple(registry.series_ids[one.code] for one in known),
                    derivation,
                    recipe.build(setting),
                )
            )
    return found, lost


def input_ids(registry: Registry) -> set[int]:
    """Return the numbers of all series of *registry* from which others are derived."""
    codes = {
        code
        for device in registry.devices
        for how in derivations(device).values()
        for code in how.inputs.values()
    }
    return {registry.series_ids[code] for code in codes if code in registry.series_ids}


# -- the site file


def read_derived(
    document: Document,
    places: Sequence[tuple[str, Path]],
    sites: Mapping[str, Site],
    devices: Sequence[Device],
    counters: Mapping[str, CounterRule],
    mistakes: list[Mistake],
) -> list[Device]:
    """Return the devices of what is derived, adding every mistake to *mistakes*.

    *places* are the entries: the code of the site and the path in *document*.  *counters* are the
    running totals whose rule is known, by the code of their series.  Where the devices themselves
    are wrong, inputs are not looked for: what is missing there is told already.
    """
    reader = _Reader(document, sites, devices, mistakes)
    if reader.is_sound:
        for code, rule in counters.items():
            reader.add_increase(code, rule)
    for site, path in places:
        reader.add(site, path)
    return reader.devices()


class _Reader:
    def __init__(
        self,
        document: Document,
        sites: Mapping[str, Site],
        devices: Sequence[Device],
        mistakes: list[Mistake],
    ) -> None:
        self._document = document
        self._sites = sites
        self._codes = {device.code for device in devices}
        self._mistakes = mistakes
        self.is_sound = not mistakes
        self._series = {one.code: one for device in devices for one in device.series}
        self._at: dict[str, list[Series]] = {}
        for one in self._series.values():
            self._at.setdefault(one.site, []).append(one)
        self._below: dict[str | None, list[str]] = {}
        for site in sites.values():
            self._below.setdefault(site.parent, []).append(site.code)
        self._made: dict[str, list[tuple[Series, Derivation]]] = {}

    def devices(self) -> list[Device]:
        """Return a device for each site at which something is derived."""
        out: list[Device] = []
        for code, made in self._made.items():
            site = self._sites[code]
            device = Device(
                _device_code(code),
                code,
                Transport.DERIVED,
                payload="",
                name_zh=f"{site.name_zh} 计算值",
                name_en=f"{site.name_en}, derived",
                series=tuple(series for series, _ in made),
                settings={SETTING: {one.key: how.as_setting() for one, how in made}},
            )
            out.append(device)
        return out

    def add_increase(self, code: str, rule: CounterRule) -> None:
        """Add the increase of the running total *code*."""
        total = self._series[code]
        if total.quantity not in INCREASE_OF:
            return
        parameters: dict[str, Value] = {}
        if rule.wraps_at is not None:
            parameters["wraps_at"] = rule.wraps_at
        if rule.most_per_s is not None:
            parameters["most_per_s"] = rule.most_per_s
        channel = "-".join(part for part in (total.device, total.channel) if part)
        quantity = QUANTITIES[INCREASE_OF[total.quantity]]
        name = DerivedName(
            zh=f"{total.name_zh} {quantity.zh}" if total.name_zh else "",
            en=f"{total.name_en}: {quantity.en.lower()}" if total.name_en else "",
        )
        self._keep(total.site, RECIPES["increase"], (total,), parameters, channel, name)

    def add(self, site: str, path: Path) -> None:
        """Add what the entry at *path* asks for."""
        entry = validate_part(self._document, path, DerivedEntry, self._mistakes)
        if entry is None:
            return
        recipe = RECIPES.get(entry.formula)
        if recipe is None:
            expected = "a formula: " + ", ".join(RECIPES)
            hint = nearest(entry.formula, RECIPES)
            self._wrong((*path, "formula"), entry.formula, expected, hint)
            return
        before = len(self._mistakes)
        self._check_words((*path, "inputs"), entry.inputs, [one.name for one in recipe.inputs])
        parameters = self._parameters((*path, "parameters"), entry, recipe, self._sites[site])
        if recipe.needs_place and self._sites[site].latitude is None:
            self._wrong((*path, "formula"), entry.formula, "a site with latitude and longitude")
        if not self.is_sound or len(self._mistakes) > before:
            return
        inputs = self._inputs(site, path, entry, recipe)
        if inputs is None:
            return
        self._check_code(site, path, entry, recipe.quantity(inputs[0].quantity))
        self._keep(
            site, recipe, inputs, parameters, entry.channel or "", entry.name, entry.placement
        )

    def _keep(
        self,
        site: str,
        recipe: Recipe,
        inputs: tuple[Series, ...],
        parameters: Mapping[str, Value],
        channel: str,
        name: DerivedName,
        placement: Placement | None = None,
    ) -> None:
        quantity = QUANTITIES[recipe.quantity(inputs[0].quantity)]
        pace = max(inputs, key=lambda one: one.interval_s)
        series = Series(
            device=_device_code(site),
            quantity=quantity.name,
            channel=channel,
            key=f"{quantity.name}.{channel}" if channel else quantity.name,
            site=site,
            placement=placement or pace.placement,
            medium=quantity.medium,
            unit=quantity.unit,
            conversion=Conversion(),
            interval_s=interval_s(recipe, parameters, [one.interval_s for one in inputs]),
            name_zh=name.zh,
            name_en=name.en,
        )
        words = [slot.name for slot in recipe.inputs]
        codes = {word: one.code for word, one in zip(words, inputs, strict=True)}
        how = Derivation(recipe.name, recipe.version, recipe.source, codes, parameters)
        self._series[series.code] = series
        self._at.setdefault(site, []).append(series)
        self._made.setdefault(site, []).append((series, how))

    def _check_code(self, site: str, path: Path, entry: DerivedEntry, quantity: str) -> None:
        device = _device_code(site)
        if device in self._codes:
            self._wrong(path, device, "no device of this code: it is for what is derived here")
        code = ".".join(part for part in (device, quantity, entry.channel) if part)
        if code in self._series:
            self._wrong(path, code, "a channel that tells it from the other one of its kind")

    # -- inputs

    def _inputs(
        self, site: str, path: Path, entry: DerivedEntry, recipe: Recipe
    ) -> tuple[Series, ...] | None:
        found: list[Series] = []
        named = [self._series[code] for code in entry.inputs.values() if code in self._series]
        for slot in recipe.inputs:
            if slot.name in entry.inputs:
                one = self._named((*path, "inputs", slot.name), entry.inputs[slot.name], slot)
            else:
                one = self._looked_for(site, path, entry, slot, named)
            if one is not None:
                found.append(one)
        return tuple(found) if len(found) == len(recipe.inputs) else None

    def _named(self, path: Path, code: str, slot: Slot) -> Series | None:
        series = self._series.get(code)
        if series is not None and series.quantity in slot.quantities:
            return series
        expected = f"the code of a series of {' or '.join(slot.quantities)}"
        fitting = [one.code for one in self._series.values() if one.quantity in slot.quantities]
        self._wrong(path, code, expected, nearest(code, fitting))
        return None

    def _looked_for(
        self, site: str, path: Path, entry: DerivedEntry, slot: Slot, named: Sequence[Series]
    ) -> Series | None:
        beside = {one.device for one in named}
        found: list[Series] = []
        for sites in self._nearest_first(site):
            found = [
                one
                for code in sites
                for one in self._at.get(code, ())
                if one.quantity in slot.quantities and entry.placement in (None, one.placement)
            ]
            # What stands on one device with an input that is named belongs to it.
            on_device = [one for one in found if one.device in beside]
            found = on_device if len(on_device) == 1 else found
            if found:
                break
        if len(found) == 1:
            return found[0]
        words = " or ".join(slot.quantities)
        if not found:
            expected = f"a series of {words} at {site}, below it or above it"
            self._wrong((*path, "formula"), entry.formula, expected)
        else:
            codes = ", ".join(one.code for one in found[:6])
            expected = f"inputs: {{{slot.name}: …}} to say which of {codes}"
            self._wrong((*path, "formula"), entry.formula, expected)
        return None

    def _nearest_first(self, site: str) -> Iterator[Sequence[str]]:
        """Yield the sites to look at together: this one and those below it, then each above."""
        inside = [site]
        for code in inside:
            inside += self._below.get(code, ())
        yield inside
        above = self._sites[site].parent
        while above is not None:
            yield [above]
            above = self._sites[above].parent

    # -- parameters

    def _parameters(
        self, path: Path, entry: DerivedEntry, recipe: Recipe, site: Site
    ) -> dict[str, Value]:
        self._check_words(path, entry.parameters, recipe.parameters)
        found: dict[str, Value] = {}
        for name, parameter in recipe.parameters.items():
            given = entry.parameters.get(name)
            if given is None and parameter.of_site:
                given = getattr(site, parameter.of_site)
            if given is None:
                given = parameter.default
            if given is None and parameter.optional:
                continue
            value = _fitting(given, parameter)
            if value is None:
                got = "nothing" if given is None else given
                self._wrong((*path, name), got, _expected(name, parameter))
            else:
                found[name] = value
        return found

    def _check_words(self, path: Path, given: Iterable[str], known: Iterable[str]) -> None:
        known = list(known)
        for word in given:
            if word not in known:
                expected = "one of " + ", ".join(known) if known else "none for this formula"
                self._wrong((*path, word), word, expected, nearest(word, known))

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._mistakes.append(self._document.mistake(path, got, expected, hint))


def _device_code(site: str) -> str:
    return f"{site}-derived"


def _fitting(given: object, parameter: Parameter) -> Value | None:
    """Return *given* as the parameter's value; None when it does not fit."""
    if parameter.is_date:
        try:
            return date.fromisoformat(str(given)).isoformat()
        except ValueError:
            return None
    if parameter.words:
        return given if isinstance(given, str) and given in parameter.words else None
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if parameter.low <= given <= parameter.high else None


def _expected(name: str, parameter: Parameter) -> str:
    if parameter.is_date:
        return "a day such as 2025-03-01"
    if parameter.words:
        return "one of " + ", ".join(parameter.words)
    bounds = []
    if math.isfinite(parameter.low):
        bounds.append(f"from {parameter.low:g}")
    if math.isfinite(parameter.high):
        bounds.append(f"to {parameter.high:g}")
    where = f", here or as {parameter.of_site} of the site" if parameter.of_site else ""
    return " ".join(["a number", *bounds]) + where
