"""Choosing from the registry: what lies below a site, which series a filter means, how to name it.

Pure; a code that is not known ends in the problem that names the nearest one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.problems import Finding, Problem, invalid_query, shown
from devices.document import nearest
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Device, Series
from devices.site import Medium, Placement


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Which series are meant; None leaves a side open.  *site* includes everything below it."""

    site: str | None = None
    device: str | None = None
    quantity: str | None = None
    placement: Placement | None = None
    medium: Medium | None = None


def unknown(kind: str, code: str, known: Iterable[str], *, where: str = "") -> Problem:
    """Return the problem of a name nobody knows: 404 in a path, 422 in the query at *where*."""
    hint = nearest(code[:200], known)
    if where:
        return invalid_query(Finding(where, shown(code), f"a known {kind}", hint))
    near = f"; did you mean {hint}?" if hint else ""
    finding = Finding(f"path.{kind}", shown(code), f"a known {kind}", hint)
    return Problem(404, f"unknown-{kind}", f"no {kind} {shown(code)}{near}", findings=[finding])


def find_series(registry: Registry, code: str) -> Series:
    """Return the series *code* of a path, or raise the 404 that names the nearest one."""
    try:
        return registry.series[code]
    except KeyError:
        raise unknown("series", code, registry.series) from None


def sites_below(registry: Registry, code: str) -> set[str]:
    """Return the codes of *code* and of every site inside it."""
    return {
        site.code
        for site in registry.sites
        if any(above.code == code for above in registry.ancestors(site.code))
    }


def select_series(registry: Registry, wanted: SeriesFilter) -> list[Series]:
    """Return the series that *wanted* means, in the registry's order."""
    below = _below(registry, wanted.site)
    if wanted.device is not None and wanted.device not in registry.device:
        raise unknown("device", wanted.device, registry.device, where="query.device")
    if wanted.quantity is not None and wanted.quantity not in QUANTITIES:
        raise unknown("quantity", wanted.quantity, QUANTITIES, where="query.quantity")
    return [
        series
        for series in registry.series.values()
        if (below is None or series.site in below)
        and wanted.device in (None, series.device)
        and wanted.quantity in (None, series.quantity)
        and wanted.placement in (None, series.placement)
        and wanted.medium in (None, series.medium)
    ]


def select_devices(registry: Registry, site: str | None) -> list[Device]:
    """Return the devices at *site* and below it, or all."""
    below = _below(registry, site)
    return [device for device in registry.devices if below is None or device.site in below]


def named_series(registry: Registry, codes: Sequence[str], most: int) -> list[Series]:
    """Return the series that a query names, each once, in its order.

    Raises the 422 that lists every unknown code, or says that more than *most* were named.
    """
    wanted = list(dict.fromkeys(codes))
    if len(wanted) > most:
        finding = Finding("query.series", f"{len(wanted)} series", f"at most {most}")
        raise invalid_query(finding)
    known = registry.series
    findings = [
        Finding("query.series", shown(code), "a known series", nearest(code[:200], known))
        for code in wanted[:most]
        if code not in known
    ]
    if findings:
        raise invalid_query(*findings[:20])
    return [known[code] for code in wanted]


def _below(registry: Registry, site: str | None) -> set[str] | None:
    if site is None:
        return None
    if site not in registry.site:
        raise unknown("site", site, registry.site, where="query.site")
    return sites_below(registry, site)


def zone_of(registry: Registry, series: Series) -> str:
    """Return the IANA zone whose natural days the series follows."""
    return registry.site[series.site].timezone
