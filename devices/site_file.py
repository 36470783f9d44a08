"""The one file that describes a base: sites, broker, devices and their series.

`read_site_file` is pure: text in, `SiteFile` out, or a `DocumentError` that names every mistake at
once: those of shape (unknown keys, wrong types) and those of meaning (unknown quantities, units of
another dimension, codes used twice), the latter also where a neighbour's shape is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from devices.bus import Bus, read_bus
from devices.checks import Checks, read_checks
from devices.derivation import read_derived
from devices.document import Document, Path, load, nearest, validate_part
from devices.duration import parse_duration_s
from devices.errors import DocumentError, Mistake
from devices.growing import Growing, read_growing
from devices.mapping import PREFIX, PayloadMapping, read_mappings, unit_of
from devices.payload import PAYLOADS, SENML
from devices.profile import CounterEntry, Point, Profile
from devices.profile_library import shipped_profile, shipped_profile_names
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.running_total import CounterRule, counter_rule, entered_rule
from devices.sample_result import INTERVAL_S
from devices.sample_result import PAYLOAD as LABORATORY
from devices.senml_unit import senml_unit
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.sparkplug import PAYLOAD as SPARKPLUG
from devices.sparkplug import SparkplugEntry, check_address, completed, read_sparkplug
from devices.topic_check import check_device_topics, check_templates
from devices.units import Conversion, UnitError, conversion

Part = TypeVar("Part", bound=BaseModel)

VERSION = 1
MODBUS_PAYLOAD = "modbus/"  # before the name of the profile
SETTINGS = ("topic", "address", "ignore")  # keys of a device that are kept as its settings
DEFAULT_TOPIC = "gh/{site}/{device}"

_CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def is_code(text: str) -> bool:
    """Whether *text* can be the code of a site, a device or a channel."""
    return _CODE.fullmatch(text) is not None


def _code(value: str) -> str:
    if not is_code(value):
        raise ValueError(
            "lower-case letters, digits, - and _, at most 63, starting with a letter or digit"
        )
    return value


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration with its unit, such as 10s, 5min, 1h, 30d or PT10S")
    seconds = parse_duration_s(value)
    if seconds <= 0:
        raise ValueError("a duration longer than nothing")
    return seconds


def _text(value: object) -> object:
    """Let a code that looks like a number (``12``) be written without quotes."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Code = Annotated[str, BeforeValidator(_text), AfterValidator(_code)]
Channel = Annotated[str, BeforeValidator(_text), AfterValidator(_code)]
Duration = Annotated[float, BeforeValidator(_duration)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Name(_Entry):
    """A name in both languages of the screen."""

    zh: str = ""
    en: str = ""


class SiteEntry(_Entry):
    """One site; *sites* are the ones inside it."""

    code: Code
    kind: Annotated[SiteKind, Field(strict=False)]
    name: Name = Name()
    timezone: str | None = None
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    altitude_m: float | None = Field(default=None, ge=-450, le=9000)
    area_m2: float | None = Field(default=None, gt=0)
    crop: str | None = None
    tags: Any = None
    planting: Any = None
    derived: list[Any] = []
    sites: list[Any] = []


class TlsEntry(_Entry):
    """TLS of the broker; *cert_file* and *key_file* are our own certificate, both or neither."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class BrokerEntry(_Entry):
    """The MQTT broker that the devices publish to.

    *topic* is the template of a device's topic, *topics* are several (`devices.topic`).  Secrets
    come from files, never from here.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: str = Field(default="greenhouse-collector", min_length=1, max_length=128)
    topic: str = DEFAULT_TOPIC
    topics: list[str] = []
    username: str | None = None
    password_file: str | None = None
    keepalive: Duration = 15.0
    session_expiry: Duration = 7 * 86400.0
    tls: TlsEntry | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of all topics that are subscribed to."""
        return tuple(self.topics) or (self.topic,)


class SeriesEntry(_Entry):
    """One series of a device; *key* is the payload's name for it, *unit* what the device sends."""

    quantity: str
    channel: Channel | None = None
    key: str | None = None
    unit: str | None = None
    interval: Duration | None = None
    placement: Annotated[Placement, Field(strict=False)] | None = None
    medium: Annotated[Medium, Field(strict=False)] | None = None
    site: Code | None = None
    counter: CounterEntry | None = None
    name: Name = Name()
    tags: Any = None


class DeviceEntry(_Entry):
    """One device; *placement* and *interval* hold for its series unless they say otherwise.

    *topic* is its own instead of the broker's templates, *address* what stands for it in those.
    *ignore* are keys of its payload that nobody wants.  *bus*, *unit* and *profile* are for Modbus,
    where *series* may be left out: then it has all those of the profile.
    """

    code: Code
    site: Code
    transport: Annotated[Transport, Field(strict=False)] = Transport.MQTT
    payload: str = "json"
    name: Name = Name()
    placement: Annotated[Placement, Field(strict=False)] = Placement.INSIDE
    interval: Duration | None = None
    max_age: Duration = 30 * 86400.0
    max_ahead: Duration = 300.0
    topic: str | None = None
    address: Annotated[str | None, BeforeValidator(_text)] = None
    ignore: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    bus: str | None = None
    unit: int | None = Field(default=None, ge=1, le=247)
    profile: str | None = None
    tags: Any = None
    series: list[Any] = []


class SiteDocument(_Entry):
    """The whole file; its parts are validated each at its own place."""

    version: Literal[1]
    sites: list[Any] = Field(min_length=1)
    broker: Any = None
    buses: list[Any] = []
    retention: dict[str, Duration] = {}
    sparkplug: Any = None
    mappings: list[Any] = []
    packs: list[str] | None = None
    checks: list[Any] = []
    devices: list[Any] = []


@dataclass(frozen=True, slots=True)
class Slave:
    """A Modbus device on its bus: *unit* is its id there, *profile* how it speaks."""

    device: Device
    unit: int
    profile: Profile


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A checked site file: the registry it describes, the broker, the buses, retention in seconds.

    *retention_s* maps a quantity (or ``default``) to how long its raw readings are kept.  *slaves*
    are the Modbus devices by the code of their bus, in the order of the file, *mappings* the
    payloads that it describes by name, *growing* what it says for the rules, *sparkplug* how we
    behave as a host, *checks* what readings are held against.  *document* tells places to whoever
    checks more.
    """

    registry: Registry
    broker: BrokerEntry | None
    retention_s: dict[str, float]
    document: Document
    buses: tuple[Bus, ...] = ()
    slaves: Mapping[str, tuple[Slave, ...]] = field(default_factory=dict)
    mappings: Mapping[str, PayloadMapping] = field(default_factory=dict)
    growing: Growing = field(default_factory=Growing)
    sparkplug: SparkplugEntry | None = None
    checks: Checks = field(default_factory=Checks)


def read_site_file(
    text: str,
    file: str,
    own_profiles: Mapping[str, Profile] | None = None,
    device_files: Sequence[Document] = (),
    mapping_files: Sequence[Document] = (),
) -> SiteFile:
    """Check *text* and return what it describes; *file* is only used to name places.

    *own_profiles* are profiles of register devices beside those that are shipped, by name.
    *device_files* hold one more entry of ``devices`` each, *mapping_files* one of ``mappings``.
    """
    document = load(text, file)
    for one in device_files:
        document.append("devices", one)
    for one in mapping_files:
        document.append("mappings", one)
    version = document.data.get("version") if isinstance(document.data, dict) else None
    if isinstance(version, int) and version > VERSION:
        expected = f"{VERSION}: the file is newer than this program"
        raise DocumentError([document.mistake(("version",), version, expected)])
    return _Resolver(document, own_profiles or {}).resolve()


class _Resolver:
    """Turns the document into the vocabulary, collecting every mistake on the way."""

    def __init__(self, document: Document, own_profiles: Mapping[str, Profile]) -> None:
        self._document = document
        self._own_profiles = own_profiles
        self._buses: dict[str, Bus | None] = {}
        self._slaves: dict[str, list[Slave]] = {}
        self._mappings: dict[str, PayloadMapping | None] = {}
        self._mistakes: list[Mistake] = []
        self._sites: dict[str, Site] = {}
        self._derived: list[tuple[str, Path]] = []
        self._counters: dict[str, CounterRule] = {}
        self._zones = available_timezones()

    def resolve(self) -> SiteFile:
        entry = self._part((), SiteDocument)
        if entry is None:
            raise DocumentError(self._mistakes)
        for index in range(len(entry.sites)):
            self._add_site(None, ("sites", index))
        broker = self._broker() if entry.broker is not None else None
        for index in range(len(entry.buses)):
            self._add_bus(("buses", index))
        self._mappings = read_mappings(self._document, len(entry.mappings), self._mistakes)
        devices = [
            found
            for index in range(len(entry.devices))
            if (found := self._device(("devices", index)))
        ]
        self._check_device_codes()
        templates = broker.templates if broker is not None else ()
        check_device_topics(self._document, templates, devices, self._mistakes)
        if entry.broker is None:
            self._check_broker_not_needed(devices)
        for quantity in entry.retention:
            if quantity != "default":
                self._check_quantity(quantity, ("retention", quantity))
        devices += read_derived(
            self._document, self._derived, self._sites, devices, self._counters, self._mistakes
        )
        sparkplug = None
        if entry.sparkplug is not None:
            sparkplug = read_sparkplug(self._document, ("sparkplug",), self._mistakes)
        registry = Registry(tuple(self._sites.values()), tuple(devices))
        growing = read_growing(self._document, registry, entry.packs, self._mistakes)
        checks = read_checks(self._document, registry, self._mistakes)
        if self._mistakes:
            raise DocumentError(self._mistakes)
        return SiteFile(
            registry,
            broker,
            dict(entry.retention),
            self._document,
            tuple(bus for bus in self._buses.values() if bus is not None),
            {code: tuple(slaves) for code, slaves in self._slaves.items()},
            {name: one for name, one in self._mappings.items() if one is not None},
            growing,
            sparkplug,
            checks,
        )

    def _part(self, path: Path, model: type[Part]) -> Part | None:
        return validate_part(self._document, path, model, self._mistakes)

    def _wrong(self, path: Path, got: object, expected: str, hint: str = "") -> None:
        self._mistakes.append(self._document.mistake(path, got, expected, hint))

    def _add_site(self, parent: Site | None, path: Path) -> None:
        entry = self._part(path, SiteEntry)
        if entry is None:
            self._remember_broken_site(path)
            return
        if entry.code in self._sites:
            self._wrong((*path, "code"), entry.code, "a code that no other site has")
        if entry.timezone is not None and entry.timezone not in self._zones:
            hint = nearest(entry.timezone, self._zones)
            self._wrong((*path, "timezone"), entry.timezone, "an IANA time zone", hint)
        kinds = list(SiteKind)
        if parent is not None and kinds.index(entry.kind) <= kinds.index(parent.kind):
            inside = ", ".join(kinds[kinds.index(parent.kind) + 1 :]) or "no further site"
            self._wrong((*path, "kind"), entry.kind.value, f"inside a {parent.kind}: {inside}")
        site = _inherit(entry, parent)
        self._sites.setdefault(entry.code, site)
        self._derived += [
            (entry.code, (*path, "derived", index)) for index in range(len(entry.derived))
        ]
        for index in range(len(entry.sites)):
            self._add_site(site, (*path, "sites", index))

    def _remember_broken_site(self, path: Path) -> None:
        """Know the codes in a site that cannot be read, lest whoever names them be blamed too."""
        data = self._document.at(path)
        if not isinstance(data, dict):
            return
        code = str(data.get("code", ""))
        self._sites.setdefault(code, Site(code, SiteKind.ZONE, code, code, None))
        inner = data.get("sites")
        for index in range(len(inner) if isinstance(inner, list) else 0):
            self._add_site(None, (*path, "sites", index))

    def _device(self, path: Path) -> Device | None:
        entry = self._part(path, DeviceEntry)
        if entry is None:
            return None
        self._check_site(entry.site, (*path, "site"))
        if entry.transport is Transport.MODBUS:
            return self._slave(entry, path)
        if entry.transport is Transport.DERIVED:
            self._wrong((*path, "transport"), entry.transport.value, "mqtt, http or modbus")
        if entry.payload == LABORATORY:
            entry = self._laboratory(entry, path)
        known = (*PAYLOADS, LABORATORY, *self._mappings)
        if entry.payload not in known:
            hint = nearest(entry.payload, known)
            expected = f"json, senml, {PREFIX}… or another in docs/reference/payloads.md"
            self._wrong((*path, "payload"), entry.payload, expected, hint)
        if entry.payload == SPARKPLUG:
            check_address(self._document, path, _settings(entry), self._mistakes)
        for key in ("bus", "unit", "profile"):
            if (got := getattr(entry, key)) is not None:
                self._wrong((*path, key), got, f"no {key}, or transport: modbus")
        if not entry.series:
            self._wrong((*path, "series"), [], "at least one entry")
        series: list[Series] = []
        for index in range(len(entry.series)):
            self._add_series(entry, (*path, "series", index), series)
        return _device_of(entry, entry.payload, series)

    def _laboratory(self, entry: DeviceEntry, path: Path) -> DeviceEntry:
        """Return a place that is sampled: its series have readings a few times a year."""
        if entry.transport is not Transport.HTTP:
            self._wrong((*path, "transport"), entry.transport.value, "http, for results are posted")
        return entry.model_copy(update={"interval": entry.interval or INTERVAL_S})

    def _add_bus(self, path: Path) -> None:
        bus = read_bus(self._document, path, self._mistakes)
        data = self._document.at(path)
        code = bus.code if bus else str(data.get("code")) if isinstance(data, dict) else ""
        if code in self._buses:
            self._wrong((*path, "code"), code, "a code that no other bus has")
        self._buses[code] = bus

    def _slave(self, entry: DeviceEntry, path: Path) -> Device | None:
        """Return a Modbus device; its profile says what it measures, the entry where."""
        if "payload" in entry.model_fields_set:
            expected = "no payload: the profile says how a Modbus device speaks"
            self._wrong((*path, "payload"), entry.payload, expected)
        if entry.bus not in self._buses:
            got, known = entry.bus or "nothing", self._buses
            self._wrong(
                (*path, "bus"), got, "the code of a bus above", nearest(entry.bus or "", known)
            )
        profile = self._profile(entry, path)
        if profile is None:
            return None
        series: list[Series] = []
        if entry.series:
            for index in range(len(entry.series)):
                self._add_slave_series(entry, profile, (*path, "series", index), series)
        else:
            series = [_slave_series(entry, profile, point) for point in profile.series()]
        for one in series:
            if (point := profile.point(one.key)).counter is not None:
                self._counters[one.code] = counter_rule(point)
        unit = entry.unit if entry.unit is not None else profile.unit
        device = _device_of(entry, f"{MODBUS_PAYLOAD}{profile.name}", series)
        self._slaves.setdefault(entry.bus or "", []).append(Slave(device, unit, profile))
        return device

    def _profile(self, entry: DeviceEntry, path: Path) -> Profile | None:
        name = entry.profile
        known = sorted({*shipped_profile_names(), *self._own_profiles})
        if name not in known:
            expected = "a profile (greenhouse profiles lists them)"
            self._wrong((*path, "profile"), name or "nothing", expected, nearest(name or "", known))
            return None
        return self._own_profiles.get(name) or shipped_profile(name)

    def _add_slave_series(
        self, device: DeviceEntry, profile: Profile, path: Path, series: list[Series]
    ) -> None:
        """Add one series of a Modbus device: a point of its profile, told by key or quantity."""
        entry = self._part(path, SeriesEntry)
        if entry is None:
            return
        if entry.site is not None:
            self._check_site(entry.site, (*path, "site"))
        if entry.unit is not None:
            self._wrong((*path, "unit"), entry.unit, "no unit: the profile has it")
        points = {point.key: point for point in profile.series()}
        key = _key(entry)
        point = points.get(key)
        if point is None or point.quantity != entry.quantity:
            expected = f"a point of profile {profile.name}: " + ", ".join(sorted(points))
            self._wrong((*path, "quantity"), key, expected, nearest(key, points))
            return
        series.append(_slave_series(device, profile, point, entry))

    def _add_series(self, device: DeviceEntry, path: Path, series: list[Series]) -> None:
        entry = self._part(path, SeriesEntry)
        if entry is None:
            return
        if entry.site is not None:
            self._check_site(entry.site, (*path, "site"))
        if not self._check_quantity(entry.quantity, (*path, "quantity")):
            return
        key, mapping = _key(entry), self._mappings.get(device.payload)
        unit = unit_of(mapping, key, entry.unit, lambda at, *said: self._wrong((*path, at), *said))
        if unit is None and device.payload in SENML:
            unit = senml_unit(key)
        entry = entry.model_copy(update={"unit": unit})
        one = _series(device, entry, self._conversion(entry, path))
        if any(other.code == one.code for other in series):
            expected = "a channel, or another quantity: each series of a device once"
            self._wrong((*path, "quantity"), one.code, expected)
        elif any(other.key == one.key for other in series):
            self._wrong((*path, "key"), one.key, "a key that no other series of the device has")
        if entry.counter is not None:
            if not QUANTITIES[one.quantity].counter:
                expected = "no counter section: it is for a running total"
                self._wrong((*path, "counter"), one.quantity, expected)
            self._counters[one.code] = entered_rule(entry.counter, one.conversion.scale)
        series.append(one)

    def _conversion(self, entry: SeriesEntry, path: Path) -> Conversion:
        target = QUANTITIES[entry.quantity].unit
        if entry.unit is None:
            return Conversion()
        try:
            return conversion(entry.unit, target)
        except UnitError as error:
            self._wrong((*path, "unit"), entry.unit, f"a unit like {target}: {error}")
            return Conversion()

    def _check_site(self, code: str, path: Path) -> None:
        if code not in self._sites:
            self._wrong(path, code, "the code of a site above", nearest(code, self._sites))

    def _check_quantity(self, name: str, path: Path) -> bool:
        if name in QUANTITIES:
            return True
        expected = "a quantity of the vocabulary (greenhouse quantities lists them)"
        self._wrong(path, name, expected, nearest(name, QUANTITIES))
        return False

    def _check_device_codes(self) -> None:
        seen: set[object] = set()
        for index, device in enumerate(self._document.data.get("devices") or ()):
            code = device.get("code") if isinstance(device, dict) else None
            if code is not None and code in seen:
                expected = "a code that no other device has"
                self._wrong(("devices", index, "code"), code, expected)
            seen.add(code)

    def _check_broker_not_needed(self, devices: list[Device]) -> None:
        for device in devices:
            if device.transport is Transport.MQTT:
                self._wrong(("devices",), device.code, "a broker section for its MQTT transport")
                return

    def _broker(self) -> BrokerEntry | None:
        broker = self._part(("broker",), BrokerEntry)
        if broker is None:
            return None
        check_templates(self._document, broker.model_fields_set, broker.templates, self._mistakes)
        if broker.tls and (broker.tls.cert_file is None) != (broker.tls.key_file is None):
            self._wrong(("broker", "tls"), "one alone", "cert_file and key_file together")
        if broker.password_file and not broker.username:
            self._wrong(("broker", "password_file"), broker.password_file, "a username beside it")
        return broker


def _device_of(entry: DeviceEntry, payload: str, series: list[Series]) -> Device:
    return Device(
        code=entry.code,
        site=entry.site,
        transport=entry.transport,
        payload=payload,
        name_zh=entry.name.zh,
        name_en=entry.name.en,
        max_age_s=entry.max_age,
        max_ahead_s=entry.max_ahead,
        series=tuple(series),
        settings=completed(entry.payload, _settings(entry)),
    )


def _settings(entry: DeviceEntry) -> dict[str, object]:
    return {name: given for name in SETTINGS if (given := getattr(entry, name))}


def _key(entry: SeriesEntry) -> str:
    channel = f".{entry.channel}" if entry.channel else ""
    return entry.key or f"{entry.quantity}{channel}"


def _slave_series(
    device: DeviceEntry, profile: Profile, point: Point, entry: SeriesEntry | None = None
) -> Series:
    """Return the series that *point* feeds; its values come in the quantity's own unit."""
    quantity = QUANTITIES[point.quantity or ""]
    entry = entry or SeriesEntry(quantity=quantity.name)
    block = next(block for block in profile.blocks if point in block.points)
    return Series(
        device=device.code,
        quantity=quantity.name,
        channel=point.channel,
        key=point.key,
        site=entry.site or device.site,
        placement=entry.placement or device.placement,
        medium=entry.medium or quantity.medium,
        unit=quantity.unit,
        conversion=Conversion(),
        interval_s=entry.interval or block.interval_s or device.interval or quantity.interval_s,
        name_zh=entry.name.zh or point.name_zh,
        name_en=entry.name.en or point.name_en,
    )


def _series(device: DeviceEntry, entry: SeriesEntry, line: Conversion) -> Series:
    quantity = QUANTITIES[entry.quantity]
    channel = entry.channel or ""
    return Series(
        device=device.code,
        quantity=entry.quantity,
        channel=channel,
        key=_key(entry),
        site=entry.site or device.site,
        placement=entry.placement or device.placement,
        medium=entry.medium or quantity.medium,
        unit=entry.unit or quantity.unit,
        conversion=line,
        interval_s=entry.interval or device.interval or quantity.interval_s,
        name_zh=entry.name.zh,
        name_en=entry.name.en,
    )


def _inherit(entry: SiteEntry, parent: Site | None) -> Site:
    """Return the site; what it does not say about place and time holds as the one above says."""
    site = Site(
        code=entry.code,
        kind=entry.kind,
        name_zh=entry.name.zh or entry.name.en or entry.code,
        name_en=entry.name.en or entry.name.zh or entry.code,
        parent=parent.code if parent else None,
        timezone=entry.timezone or (parent.timezone if parent else "Asia/Shanghai"),
        latitude=entry.latitude,
        longitude=entry.longitude,
        altitude_m=entry.altitude_m,
        area_m2=entry.area_m2,
        crop=entry.crop,
    )
    if parent is None:
        return site
    return replace(
        site,
        latitude=parent.latitude if site.latitude is None else site.latitude,
        longitude=parent.longitude if site.longitude is None else site.longitude,
        altitude_m=parent.altitude_m if site.altitude_m is None else site.altitude_m,
    )
