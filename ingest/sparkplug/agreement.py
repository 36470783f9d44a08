"""Whether a birth certificate and the site file speak of the same things in the same units."""

from __future__ import annotations

from devices.document import nearest
from devices.quantity import QUANTITIES
from devices.series import Device, Series
from devices.units import UnitError, conversion
from ingest.sparkplug.session import Certificate


def disagreements(device: Device, certificate: Certificate) -> list[str]:
    """Return what the series of *device* expect and *certificate* does not give, a sentence each.

    A metric whose unit the birth does not say is taken for what the site file says.
    """
    found: list[str] = []
    for series in device.series:
        born = certificate.metrics.get(series.key)
        if born is None:
            like = nearest(series.key, certificate.metrics)
            hint = f" (did you mean {like!r}?)" if like else ""
            found.append(f"{series.code}: the birth has no metric {series.key!r}{hint}")
        elif born.unit and not _is_same(born.unit, series):
            found.append(
                f"{series.code}: the birth gives {series.key!r} in {born.unit}, "
                f"the site file says {series.unit}"
            )
    return found


def _is_same(unit: str, series: Series) -> bool:
    if unit == series.unit:
        return True
    try:
        return conversion(unit, QUANTITIES[series.quantity].unit) == series.conversion
    except UnitError:
        return False
