"""The measured series as readings: what each of the data sets says, and where it says it is odd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from devices.quantity import QUANTITIES
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import conversion
from tests.firmware_sims.measured import data_folder

AMSTERDAM = "Europe/Amsterdam"
Spans = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """One column of a table as a series; *odd* are local times at which it is not clean."""

    column: str
    device: str
    quantity: str
    channel: str = ""
    unit: str = ""
    odd: Spans = ()
    odd_where: Callable[[pd.DataFrame], pd.Series] | None = None


@dataclass(frozen=True)
class Table:
    """A data set: how it is read, its columns, its pace in seconds; *odd* is odd of all columns."""

    name: str
    read: Callable[[], pd.DataFrame]
    columns: tuple[Column, ...]
    interval_s: float
    odd: Spans = ()
    zone: str = AMSTERDAM


@dataclass
class Real:
    """A table as readings in the order of time; *clean* says which rows nothing is known against.

    *value* is what the file says, in the quantity's unit.
    """

    registry: Registry
    batch: Batch
    clean: np.ndarray
    codes: dict[int, str] = field(default_factory=dict)


def excel(frame: pd.DataFrame, column: str) -> pd.Series:
    seconds = (frame[column].astype(float) * 86_400).round().astype("int64")
    return pd.to_datetime(seconds - 25_569 * 86_400, unit="s")


def real(table: Table) -> Real:
    """Return *table* as the judge would get it; rows without a time or a cell are left out."""
    frame = table.read()
    local = frame["local"]
    utc = local.dt.tz_localize(table.zone, nonexistent="NaT", ambiguous="NaT")
    at_us = utc.dt.tz_convert("UTC").dt.as_unit("us")
    registry = _registry(table)
    parts, cleans = [], []
    for column in table.columns:
        number = registry.series_ids[_code(column)]
        quantity = QUANTITIES[column.quantity]
        line = conversion(column.unit or quantity.unit, quantity.unit)
        value = pd.to_numeric(frame[column.column], errors="coerce") * line.scale + line.offset
        known = value.notna() & utc.notna()
        at = at_us[known].astype("int64").to_numpy()
        number_of = np.full(len(at), number, np.int32)
        numbers = value[known].to_numpy(float)
        bits = np.where((numbers < quantity.low) | (numbers > quantity.high), 2, 0)
        parts.append(Batch(number_of, at, at + 2_000_000, numbers, bits.astype(np.int32)))
        clean = np.ones(len(at), bool)
        for start, end in (*table.odd, *column.odd):
            inside = (local[known] >= pd.Timestamp(start)) & (local[known] <= pd.Timestamp(end))
            clean &= ~inside.to_numpy()
        if column.odd_where is not None:
            clean &= ~column.odd_where(frame)[known].to_numpy()
        cleans.append(clean)
    batch = Batch.concatenate(parts)
    order = np.lexsort((batch.series_id, batch.observed_at_us))
    return Real(
        registry,
        batch.take(order),
        np.concatenate(cleans)[order],
        {number: code for code, number in registry.series_ids.items()},
    )


def _code(column: Column) -> str:
    base = f"{column.device}.{column.quantity}"
    return f"{base}.{column.channel}" if column.channel else base


def _registry(table: Table) -> Registry:
    devices: dict[str, list[Series]] = {}
    for column in table.columns:
        quantity = QUANTITIES[column.quantity]
        devices.setdefault(column.device, []).append(
            Series(
                column.device,
                column.quantity,
                column.channel,
                column.column,
                "base",
                Placement.INSIDE,
                Medium(quantity.medium),
                column.unit or quantity.unit,
                conversion(column.unit or quantity.unit, quantity.unit),
                table.interval_s,
            )
        )
    made = tuple(
        Device(code, "base", Transport.MQTT, series=tuple(series))
        for code, series in devices.items()
    )
    bare = Registry((Site("base", SiteKind.BASE, "", "", None, table.zone),), made)
    return Registry(
        bare.sites, made, {code: number for number, code in enumerate(bare.series, 1)}, 1
    )


# -- the data sets


def _slabs(team: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        file = data_folder("agc2-tomato-dev") / team / "GrodanSens.csv.gz"
        frame = pd.read_csv(file, skipinitialspace=True)
        frame.columns = [name.strip() for name in frame.columns]
        return frame.assign(local=excel(frame, "%time"))

    return read


SLABS = tuple(
    Table(
        f"agc2 {team}",
        _slabs(team),
        tuple(
            Column(f"{prefix}_slab{slab}", "slab", quantity, str(slab))
            for slab in (1, 2)
            for prefix, quantity in (
                ("EC", "soil_ec"),
                ("WC", "soil_moisture"),
                ("t", "soil_temperature"),
            )
        ),
        300,
    )
    for team in ("AICU", "Reference", "TheAutomators")
)


def _tomato_weather() -> pd.DataFrame:
    file = data_folder("agc2-tomato-dev") / "Weather_43815-43890.csv.gz"
    frame = pd.read_csv(file)
    return frame.assign(local=excel(frame, "%time"))


_WEATHER = (
    Column("Tout", "weather", "air_temperature"),
    Column("Rhout", "weather", "relative_humidity"),
    Column("Iglob", "weather", "global_radiation"),
    Column("Windsp", "weather", "wind_speed"),
    Column("PARout", "weather", "ppfd"),
    Column("AbsHumOut", "weather", "absolute_humidity"),
)
TOMATO_WEATHER = Table("agc2 weather", _tomato_weather, _WEATHER, 300)


def _lettuce(file: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        frame = pd.read_csv(data_folder("agc3-lettuce-dev") / file, skipinitialspace=True)
        frame.columns = [name.strip() for name in frame.columns]
        return frame.assign(local=pd.to_datetime(frame["Date"], format="%m/%d/%Y %H:%M"))

    return read


_CLIMATE = (
    Column("Tair", "climate", "air_temperature"),
    Column("Rhair", "climate", "relative_humidity"),
    Column("CO2air", "climate", "co2"),
    Column("HumDef", "climate", "humidity_deficit"),
    Column("Tpipe", "climate", "pipe_temperature"),
    Column("PARin", "climate", "ppfd"),
    Column("Tair_sigrow", "sigrow", "air_temperature"),
    Column("Rhair_sigrow", "sigrow", "relative_humidity"),
    Column("PARin_sigrow", "sigrow", "ppfd"),
    Column("Tleaf_ridder", "ridder", "leaf_temperature"),
)
CLIMATES = tuple(
    Table(f"agc3 {team}", _lettuce(f"{team}/GreenhouseClimate.csv.gz"), _CLIMATE, 300)
    for team in ("CVA", "Koala", "Reference")
)
LETTUCE_WEATHER = Table("agc3 weather", _lettuce("weather.csv.gz"), _WEATHER, 300)


def _air(station: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        folder = data_folder("beijing-air-dev")
        frame = pd.read_csv(folder / f"PRSA_Data_{station}_20130301-20170228.csv.gz")
        return frame.assign(local=pd.to_datetime(frame[["year", "month", "day", "hour"]]))

    return read


def _less_than_its_part(frame: pd.DataFrame) -> pd.Series:
    """Hours of PM10 below PM2.5, of which SOURCE.md has 1,183 to 2,156 a station."""
    return frame["PM10"] < frame["PM2.5"]


# The jump of 1069 µg/m³ in one hour, and the way back.
_O3_ODD = (("2013-08-15 23:00", "2013-08-17 05:00"),)
STATIONS = ("Aotizhongxin", "Changping", "Dongsi", "Huairou", "Shunyi", "Tiantan")
AIR = tuple(
    Table(
        f"beijing {station}",
        _air(station),
        (
            Column("PM2.5", "air", "pm2_5", odd_where=_less_than_its_part),
            Column("PM10", "air", "pm10", odd_where=_less_than_its_part),
            Column("SO2", "air", "so2"),
            Column("NO2", "air", "no2"),
            Column("CO", "air", "co", unit="µg/m³"),
            Column("O3", "air", "o3", odd=_O3_ODD if station == "Dongsi" else ()),
            Column("TEMP", "weather", "air_temperature"),
            Column("PRES", "weather", "air_pressure", unit="hPa"),
            Column("DEWP", "weather", "dew_point"),
            Column("WSPM", "weather", "wind_speed"),
        ),
        3600,
        zone="Asia/Shanghai",
    )
    for station in STATIONS
)


def _glasshouse() -> pd.DataFrame:
    file = data_folder("glasshouse-30mhz-dev") / "one-month-every-5-minutes.csv.gz"
    frame = pd.read_csv(file)
    local = pd.to_datetime(frame.iloc[:, 0], format="%Y-%m-%d %H:%M:%S", errors="coerce")
    return frame.assign(local=local)


_CO2_ODD = (("2020-09-11 08:40", "2020-09-11 13:50"), ("2020-09-12 06:30", "2020-09-12 09:00"))
_A, _M = " - averages", "Sensor PMC (21B) - "
_R, _L = "Sensor kas 4 R (888) - ", "Sensor kas 4 L (073) - "
_SOIL = "Sensor 0013A20041A24464 - "
GLASSHOUSE = Table(
    "glasshouse",
    _glasshouse,
    (
        Column(
            f"kastemperatuur - °C  (afd 4) - Temperature (°C){_A}", "computer", "air_temperature"
        ),
        Column(f"RV kas - %  (afd 4) - Humidity (%){_A}", "computer", "relative_humidity"),
        Column(
            f"vochtdeficit - g/m³  (afd 4) - Humidity deficit (g/m3){_A}",
            "computer",
            "humidity_deficit",
        ),
        Column(f"Tafelbuis - °C  (afd 4) - Temperature (°C){_A}", "computer", "pipe_temperature"),
        Column(
            f"luwe zijde raamstand - %  (afd 4) - Percentage (%){_A}", "computer", "vent_position"
        ),
        Column(f"Schermdoek 1 - %  (afd 4) - Percentage (%){_A}", "computer", "screen_position"),
        Column(f"Sensor 0013A20041A0002A NIEUW - co2 (ppm){_A}", "co2", "co2", odd=_CO2_ODD),
        Column(f"{_M}Air temperature (°C){_A}", "pmc", "air_temperature"),
        Column(f"{_M}Humidity (%){_A}", "pmc", "relative_humidity"),
        Column(f"{_M}Dewpoint (°C){_A}", "pmc", "dew_point"),
        Column(f"{_M}Absolute Humidity (g/m3){_A}", "pmc", "absolute_humidity"),
        Column(f"{_M}Surface temperature (°C){_A}", "pmc", "surface_temperature"),
        Column(f"{_R}Temperature (°C){_A}", "right", "air_temperature"),
        Column(f"{_R}Humidity (%){_A}", "right", "relative_humidity"),
        Column(f"{_R}Dewpoint (°C){_A}", "right", "dew_point"),
        Column(f"{_L}Temperature (°C){_A}", "left", "air_temperature"),
        Column(f"{_L}Humidity (%){_A}", "left", "relative_humidity"),
        Column(f"PAR Sensor (13D) - PAR (μmol m−2 s−1){_A}", "par", "ppfd"),
        Column(f"{_SOIL}VWC (%){_A}", "soil", "soil_moisture"),
        Column(f"{_SOIL}ECb (µS/cm){_A}", "soil", "soil_ec", unit="uS/cm"),
        Column(f"{_SOIL}ECw (µS/cm){_A}", "soil", "pore_water_ec", unit="uS/cm"),
        Column(f"{_SOIL}Temp (°C){_A}", "soil", "soil_temperature"),
        Column(
            f"Sendot Zuurstof sensor (5E1) - dissolved (mg/L){_A}", "oxygen", "dissolved_oxygen"
        ),
        Column(
            f"Sendot Zuurstof sensor (5E1) - saturation (%sat){_A}", "oxygen", "oxygen_saturation"
        ),
        Column(
            f"Sendot Zuurstof sensor (5E1) - temperature (°C){_A}", "oxygen", "water_temperature"
        ),
    ),
    300,
    odd=(("2020-08-16 12:46", "2020-08-16 12:48"), ("2020-09-15 12:44", "2020-09-15 12:46")),
)


def _sydney() -> pd.DataFrame:
    frame = pd.read_csv(data_folder("soil-sydney-dev") / "sopivot+idx.csv")
    local = pd.to_datetime(frame["day"]) + pd.to_timedelta(frame["hour"], unit="h")
    return frame.assign(local=local)


_PROBES = (8, 10, 12, 17, 18, 19, 20, 21, 22, 23, 27, 28, 30)
SYDNEY = Table(
    "sydney",
    _sydney,
    tuple(Column(f"SENS{n:04d}", f"probe-{n}", "soil_moisture") for n in _PROBES),
    3600,
    zone="UTC",
)

TABLES = (*SLABS, TOMATO_WEATHER, *CLIMATES, LETTUCE_WEATHER, *AIR, GLASSHOUSE, SYDNEY)


def cut(batch: Batch, rows: int = 5000) -> Iterator[Batch]:
    """Yield *batch* in pieces, as a pipeline brings it: what is of one moment stays together."""
    start = 0
    while start < len(batch):
        end = min(start + rows, len(batch))
        moment = batch.observed_at_us[end - 1]
        end = int(np.searchsorted(batch.observed_at_us, moment, "right"))
        yield batch.take(slice(start, end))
        start = end
