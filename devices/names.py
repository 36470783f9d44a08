"""What people call things, in Chinese and English; one stands in where the other is missing."""

from __future__ import annotations

from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Device, Series
from devices.site import Site


def site_name(site: Site) -> tuple[str, str]:
    """Return what a person calls the site, in Chinese and English."""
    return site.name_zh or site.name_en or site.code, site.name_en or site.name_zh or site.code


def device_name(device: Device) -> tuple[str, str]:
    """Return what a person calls the device, in Chinese and English."""
    return (
        device.name_zh or device.name_en or device.code,
        device.name_en or device.name_zh or device.code,
    )


def series_name(series: Series) -> tuple[str, str]:
    """Return what a person calls the series, in Chinese and English."""
    quantity = QUANTITIES[series.quantity]
    channel = f" {series.channel}" if series.channel else ""
    return (
        series.name_zh or series.name_en or quantity.zh + channel,
        series.name_en or series.name_zh or quantity.en + channel,
    )


def subject_name(key: str, registry: Registry) -> tuple[str, str]:
    """Return what a person calls the subject of an alert, such as ``device:h1-climate``.

    What the registry does not have is called by its code.
    """
    kind, _, code = key.partition(":")
    if kind == "site" and (site := registry.site.get(code)):
        return site_name(site)
    if kind == "device" and (device := registry.device.get(code)):
        return device_name(device)
    if kind == "series" and (series := registry.series.get(code)):
        owner, own = device_name(registry.device[series.device]), series_name(series)
        return f"{owner[0]} {own[0]}", f"{owner[1]} · {own[1]}"
    return code, code
