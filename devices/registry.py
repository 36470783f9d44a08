"""All sites, devices and series of one service, with the numbers that readings are kept under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from devices.series import Device, Series
from devices.site import Site


@dataclass(frozen=True)
class Registry:
    """What a site file describes, or what the database knows; the two have the same shape.

    *series_ids* maps a series' code to the number that its readings carry (`Batch.series_id`); it
    is empty for a registry that comes from a file alone.  *revision* rises with every change that
    is applied to the database.
    """

    sites: tuple[Site, ...] = ()
    devices: tuple[Device, ...] = ()
    series_ids: Mapping[str, int] = field(default_factory=dict)
    revision: int = 0

    @cached_property
    def site(self) -> Mapping[str, Site]:
        """Sites by code."""
        return {site.code: site for site in self.sites}

    @cached_property
    def device(self) -> Mapping[str, Device]:
        """Devices by code."""
        return {device.code: device for device in self.devices}

    @cached_property
    def series(self) -> Mapping[str, Series]:
        """Series by code."""
        return {series.code: series for device in self.devices for series in device.series}

    def ancestors(self, code: str) -> Iterator[Site]:
        """Yield the site *code* and those above it, innermost first."""
        current: str | None = code
        while current is not None:
            site = self.site[current]
            yield site
            current = site.parent
