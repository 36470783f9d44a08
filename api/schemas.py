"""Shapes of the answers, as the OpenAPI description tells them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from devices.quality import QualityLevel
from devices.series import Transport
from devices.site import Medium, Placement, SiteKind


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NameShape(_Shape):
    """A name in both languages."""

    zh: str
    en: str


class SiteShape(_Shape):
    """A site; *sites* holds those inside it, where a tree was asked for."""

    code: str
    kind: SiteKind
    name: NameShape
    parent: str | None
    timezone: str
    latitude: float | None
    longitude: float | None
    altitude_m: float | None
    area_m2: float | None
    crop: str | None
    sites: list[SiteShape] | None = None


class QuantityShape(_Shape):
    """A quantity of the vocabulary; *low* and *high* are what is physically possible."""

    quantity: str
    name: NameShape
    medium: Medium
    unit: str
    ucum: str
    low: float
    high: float
    interval_s: float
    decimals: int
    hj212: str
    counter: bool


class DerivedShape(_Shape):
    """How a series is derived: *inputs* maps the formula's words to series."""

    formula: str
    version: int
    source: str
    inputs: dict[str, str]
    parameters: dict[str, float | str]


class SeriesShape(_Shape):
    """A series; *device_unit* is what the device sends, *unit* what is stored and answered.

    *derived* is null for one that is measured.
    """

    series: str
    device: str
    quantity: str
    channel: str
    name: NameShape
    site: str
    placement: Placement
    medium: Medium
    unit: str
    device_unit: str
    key: str
    interval_s: float
    timezone: str
    derived: DerivedShape | None = None


class DeviceShape(_Shape):
    """A device with the codes of its series."""

    device: str
    name: NameShape
    site: str
    transport: Transport
    payload: str
    series: list[str]


class LatestShape(_Shape):
    """The newest reading of a series; everything of the reading is null where there is none.

    *stale* is decided here: older than three expected intervals, or never seen.
    """

    series: str
    name: NameShape
    device: str
    quantity: str
    channel: str
    site: str
    site_name: NameShape
    placement: Placement
    medium: Medium
    observed_at: str | None
    received_at: str | None
    age_s: float | None
    value: float | None
    unit: str
    quality: QualityLevel | None
    quality_bits: int | None
    quality_reasons: list[str]
    stale: bool
    interval_s: float


class PartShape(BaseModel):
    """One series of an answer; all columns have the same length.

    Raw: ``value``, ``quality``, ``quality_bits``.  Rolled up: a column for each aggregate.
    """

    series: str
    quantity: str
    unit: str
    site: str
    interval_s: float
    points: int
    observed_at: list[str] | list[int]
    value: list[float | None] | None = None
    quality: list[QualityLevel | None] | None = None
    quality_bits: list[int | None] | None = None
    mean: list[float | None] | None = None
    min: list[float | None] | None = None
    max: list[float | None] | None = None
    first: list[float | None] | None = None
    last: list[float | None] | None = None
    sum: list[float | None] | None = None
    count: list[int] | None = None
    valid_count: list[int] | None = None


class ReadingsShape(BaseModel):
    """Readings as columns, null where there is nothing."""

    start: str
    end: str
    step: Literal["raw", "1m", "15m", "1h", "1d"]
    series: list[PartShape]


class AcceptedShape(_Shape):
    """What was accepted and is durable; it reaches the database from the spool."""

    accepted: int = Field(description="readings accepted")
    messages: int = Field(description="moments accepted")
    ignored: int = Field(description="fields that the payload has beyond t, v and device")


class GapShape(_Shape):
    """A stretch of time in which something that was sent may not have reached us."""

    source: str
    started_at: str
    ended_at: str
    reason: str
    text: str


class DeadLetterShape(_Shape):
    """Something received that could not become readings; *payload* is base64 of its beginning."""

    id: str
    source: str
    topic: str
    received_at: str
    replayed_at: str | None = Field(description="when it was last handed in again; null: it waits")
    code: str
    text: str
    size_bytes: int
    payload: str
    payload_is_whole: bool


class DatabaseHealthShape(_Shape):
    """The database."""

    reachable: bool
    edition: str
    reason: str


class SpoolHealthShape(_Shape):
    """The spool; *lag_s* is the age of the oldest arrival that is not yet in the database."""

    accepting: bool
    lag_s: float
    size_bytes: int
    reason: str


class BrokerHealthShape(_Shape):
    """A broker."""

    name: str
    connected: bool
    reason: str


class BusDeviceHealthShape(_Shape):
    """A device on a bus."""

    device: str
    state: Literal["unknown", "up", "suspect", "down"]
    reason: str


class BusHealthShape(_Shape):
    """A Modbus bus with its devices, and what was counted on it since the start."""

    name: str
    connected: bool
    reason: str
    devices: list[BusDeviceHealthShape]
    counts: dict[str, int]


class EdgeHealthShape(_Shape):
    """A Sparkplug edge node, or a device on it; *since_us* is when *online* last changed."""

    address: str
    online: bool
    since_us: int
    reason: str


class AlertHealthShape(_Shape):
    """How alerts are judged and kept; totals count since the start."""

    judging: bool
    warming_up: bool
    reason: str
    bindings: int
    open: dict[str, int]
    failed_rules: dict[str, str]
    packs_left_out: int
    waiting: int
    overdue: int
    revised: int
    unsaved: int
    dropped: int
    lag_s: float
    transitions: dict[str, int]
    notices: dict[str, int]


class CalibrationHealthShape(_Shape):
    """How the calibration book stands; *overdue* series should have been calibrated again."""

    entries: int
    overdue: list[str]
    pending: int
    reason: str


class DerivationHealthShape(_Shape):
    """How derived series follow their inputs; *made* and *failures* count since the start."""

    series: int
    lost: list[str]
    reason: str
    lag_s: float
    waiting: int
    redo: int
    ran_us: int | None
    made: int
    failures: int


class HealthShape(_Shape):
    """How the service is; the parts are only told to who may read."""

    status: Literal["ok", "degraded", "unavailable"]
    version: str | None = None
    database: DatabaseHealthShape | None = None
    spool: SpoolHealthShape | None = None
    brokers: list[BrokerHealthShape] | None = None
    buses: list[BusHealthShape] | None = None
    edges: list[EdgeHealthShape] | None = None
    alerts: AlertHealthShape | None = None
    calibrations: CalibrationHealthShape | None = None
    derivations: DerivationHealthShape | None = None
