"""What the page shows, as plain values: places in the order of the site tree, rows with marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from api.dashboard.sparkline import Sparkline
from api.dashboard.texts import Language, age_text
from api.newest import Newest
from devices.names import series_name, site_name
from devices.quality import BAD_MASK, SUSPECT_MASK, QualityLevel
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.site import Medium, Placement, Site, SiteKind

SHOW_AGE_AFTER_S = 120.0
_MEDIA = (Medium.WEATHER, Medium.AIR, Medium.SOIL, Medium.WATER, Medium.FERTIGATION)


@dataclass(frozen=True, slots=True)
class Row:
    """One series on the page; *state* is ok, suspect, bad, stale or unseen."""

    series: str
    label: str
    placement: str
    value: str
    unit: str
    decimals: int
    is_switch: bool
    state: str
    note: str
    spark: Sparkline | None
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one medium, in the house itself or in one zone of it; *rank* orders the groups."""

    title: str
    rank: tuple[int, int]
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Card:
    """One place: a greenhouse with its zones, or another site that has sensors of its own."""

    code: str
    name: str
    path: str
    groups: list[Group]

    def count(self, state: str) -> int:
        """Return how many rows are in *state*."""
        return sum(row.state == state for group in self.groups for row in group.rows)


def cards(
    registry: Registry,
    newest: Sequence[Newest],
    sparks: Mapping[str, Sparkline],
    language: Language,
    words: Mapping[str, str],
) -> list[Card]:
    """Return the places of *newest*, in the order of the registry."""
    by_place: dict[str, dict[str, Group]] = {}
    order = {code: at for at, code in enumerate(registry.site)}
    for one in newest:
        place = place_of(registry, one.series.site)
        group = _group(registry, order, one, place, language, words)
        group = by_place.setdefault(place.code, {}).setdefault(group.title, group)
        group.rows.append(_row(one, sparks.get(one.series.code), language, words))
    return [
        Card(
            site.code,
            _name(site, language),
            " · ".join(_name(above, language) for above in _above(registry, site)),
            sorted(by_place[site.code].values(), key=lambda group: group.rank),
        )
        for site in registry.sites
        if site.code in by_place
    ]


def place_of(registry: Registry, code: str) -> Site:
    """Return the greenhouse that *code* is or lies in, or the site itself."""
    for site in registry.ancestors(code):
        if site.kind is SiteKind.GREENHOUSE:
            return site
    return registry.site[code]


def _above(registry: Registry, site: Site) -> list[Site]:
    """Return the two sites above *site*, outermost first: enough to tell houses apart."""
    return list(registry.ancestors(site.code))[1:3][::-1]


def _group(
    registry: Registry,
    order: Mapping[str, int],
    one: Newest,
    place: Site,
    language: Language,
    words: Mapping[str, str],
) -> Group:
    """Return the group, still without rows, that *one* belongs to: the place before its zones."""
    series = one.series
    medium, rank = words[series.medium.value], _MEDIA.index(series.medium)
    if series.site == place.code:
        return Group(medium, (-1, rank))
    name = _name(registry.site[series.site], language)
    return Group(f"{name} · {medium}", (order[series.site], rank))


def _row(one: Newest, spark: Sparkline | None, language: Language, words: Mapping[str, str]) -> Row:
    series = one.series
    quantity = QUANTITIES[series.quantity]
    switch = quantity.unit == "1" and (quantity.low, quantity.high) == (0, 1)
    bare = switch or quantity.counter  # where lowest and highest say nothing
    zh, en = series_name(series)
    expected = Placement.OUTDOOR if series.medium is Medium.WEATHER else Placement.INSIDE
    return Row(
        series=series.code,
        label=zh if language == "zh" else en,
        placement="" if series.placement is expected else words[series.placement.value],
        value=(switch and switch_text(one.value, words)) or number(one.value, quantity.decimals),
        unit="" if quantity.unit == "1" else quantity.unit,
        decimals=quantity.decimals,
        is_switch=switch,
        state=state_of(one),
        note=_note(one, language, words),
        spark=spark,
        low="" if spark is None or bare else number(spark.low, quantity.decimals),
        high="" if spark is None or bare else number(spark.high, quantity.decimals),
    )


def switch_text(value: float | None, words: Mapping[str, str]) -> str:
    """Return on or off, and nothing for a value that is neither."""
    return {1.0: words["on"], 0.0: words["off"]}.get(-1.0 if value is None else value, "")


def number(value: float | None, decimals: int) -> str:
    """Return *value* with a fixed number of places, a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:.{decimals}f}"
    # "-0.0" is a rounding, not a measurement below zero.
    return text.lstrip("-") if float(text) == 0 else text


def state_of(one: Newest) -> str:
    """Return what the row stands for; old counts before doubtful, for the doubt is old too."""
    if not one.seen:
        return "unseen"
    if one.stale:
        return "stale"
    return "ok" if one.level in (QualityLevel.GOOD, None) else str(one.level)


def _note(one: Newest, language: Language, words: Mapping[str, str]) -> str:
    """Return the line under the name: no data, why it is doubtful, how old it is."""
    if one.age_s is None:
        return words["no_data"]
    parts = []
    if one.stale or one.age_s >= SHOW_AGE_AFTER_S:
        parts.append(age_text(one.age_s, words))
    parts += [
        reason.zh if language == "zh" else reason.en
        for reason in one.reasons
        if reason.bit & (BAD_MASK | SUSPECT_MASK)
    ]
    return " · ".join(parts)


def _name(site: Site, language: Language) -> str:
    zh, en = site_name(site)
    return zh if language == "zh" else en
