"""Who lies within whom: sites in sites, devices in sites, series in devices."""

from __future__ import annotations

from devices.registry import Registry
from devices.site import SiteKind


class Places:
    """Answers from one registry; rebuilt when the registry changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._above = {
            site.code: tuple(s.code for s in registry.ancestors(site.code))
            for site in registry.sites
        }

    def around(self, subject: str, site: str) -> frozenset[str]:
        """Return the keys of all subjects that *subject* (at *site*) lies within, itself included.

        A series lies in its device and in its site, a device in its site, a site in those above.
        """
        keys = {subject, *(f"site:{code}" for code in self._above.get(site, (site,)))}
        kind, _, code = subject.partition(":")
        if kind == "series" and code in self._registry.series:
            keys.add(f"device:{self._registry.series[code].device}")
        return frozenset(keys)

    def house(self, site: str) -> str:
        """Return the greenhouse that *site* is or lies in, else the site itself."""
        for code in self._above.get(site, ()):
            if self._registry.site[code].kind is SiteKind.GREENHOUSE:
                return code
        return site

    def is_within(self, site: str, other: str) -> bool:
        """Tell whether *site* is *other* or lies below it."""
        return other in self._above.get(site, (site,))
