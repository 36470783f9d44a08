"""What is measured: every quantity with its unit, names, physical limits and codes, in one table.

Names follow the field's vocabularies (OGC and CF habits); units are those a grower reads, with
their UCUM code.  The limits are what is physically possible at a greenhouse base, not what is good
for a crop: a value beyond them is not a measurement.  `hj212` is the factor code of HJ 212-2017
Annex B where one exists; there are none for soil, and none is invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from devices.site import Medium


@dataclass(frozen=True, slots=True)
class Quantity:
    """One kind of measurement.

    *unit* is shown and stored, *ucum* its UCUM code (empty where UCUM has none).  *low* and *high*
    are the physical limits in *unit*.  *interval_s* is a typical reporting interval.  *decimals* is
    how many places a screen shows.  *counter* marks a running total that only rises.
    """

    name: str
    medium: Medium
    unit: str
    ucum: str
    low: float
    high: float
    interval_s: float
    decimals: int
    zh: str
    en: str
    hj212: str = ""
    counter: bool = False


_AIR, _SOIL, _WATER = Medium.AIR, Medium.SOIL, Medium.WATER
_FERT, _SKY = Medium.FERTIGATION, Medium.WEATHER
_BIG = 1e12


def _q(
    name: str,
    medium: Medium,
    unit: str,
    ucum: str,
    low: float,
    high: float,
    every: float,
    decimals: int,
    zh: str,
    en: str,
    hj212: str = "",
    counter: bool = False,
) -> Quantity:
    return Quantity(name, medium, unit, ucum, low, high, every, decimals, zh, en, hj212, counter)


# fmt: off
_TABLE = (
    # air inside and around the houses
    _q("air_temperature", _AIR, "°C", "Cel", -50, 70, 60, 1, "空气温度", "Air temperature", "a01001"),
    _q("leaf_temperature", _AIR, "°C", "Cel", -50, 70, 60, 1, "叶面温度", "Leaf temperature"),
    _q("surface_temperature", _AIR, "°C", "Cel", -60, 100, 60, 1, "表面温度", "Surface temperature"),
    _q("pipe_temperature", _AIR, "°C", "Cel", -30, 130, 60, 1, "加热管温度", "Heating pipe temperature"),
    _q("relative_humidity", _AIR, "%", "%", 0, 105, 60, 0, "空气相对湿度", "Relative humidity", "a01002"),
    _q("absolute_humidity", _AIR, "g/m³", "g.m-3", 0, 200, 60, 1, "绝对湿度", "Absolute humidity"),
    _q("humidity_deficit", _AIR, "g/m³", "g.m-3", 0, 200, 60, 1, "湿度亏缺", "Humidity deficit"),
    _q("dew_point", _AIR, "°C", "Cel", -80, 60, 60, 1, "露点温度", "Dew point"),
    _q("dew_point_margin", _AIR, "°C", "Cel", -60, 100, 60, 1, "结露余量", "Margin above dew point"),
    _q("wet_bulb_temperature", _AIR, "°C", "Cel", -60, 60, 60, 1, "湿球温度", "Wet-bulb temperature"),
    _q("vapour_pressure_deficit", _AIR, "kPa", "kPa", 0, 32, 60, 2, "饱和水汽压差", "Vapour pressure deficit"),
    _q("leaf_vapour_pressure_deficit", _AIR, "kPa", "kPa", -32, 32, 60, 2, "叶面水汽压差", "Leaf vapour pressure deficit"),
    _q("air_pressure", _AIR, "kPa", "kPa", 50, 115, 300, 1, "气压", "Air pressure", "a01006"),
    _q("co2", _AIR, "ppm", "[ppm]", 150, 20000, 60, 0, "二氧化碳", "Carbon dioxide"),
    _q("co2_mass_concentration", _AIR, "mg/m³", "mg.m-3", 100, 40000, 60, 0, "二氧化碳质量浓度", "CO2 mass concentration", "a05001"),
    _q("ppfd", _AIR, "µmol/m²/s", "umol.m-2.s-1", -10, 4000, 60, 0, "光合有效辐射", "Photosynthetic photon flux density"),
    _q("dli", _AIR, "mol/m²/d", "mol.m-2.d-1", 0, 120, 3600, 1, "日累积光量", "Daily light integral"),
    _q("illuminance", _AIR, "lx", "lx", 0, 250000, 60, 0, "光照度", "Illuminance"),
    _q("net_radiation", _AIR, "W/m²", "W.m-2", -500, 1500, 60, 0, "净辐射", "Net radiation"),
    _q("air_speed", _AIR, "m/s", "m.s-1", 0, 30, 60, 2, "室内风速", "Air speed inside"),
    _q("leaf_wetness", _AIR, "%", "%", 0, 100, 300, 0, "叶面湿润度", "Leaf wetness"),
    _q("oxygen", _AIR, "%", "%", 0, 30, 300, 1, "空气氧含量", "Oxygen in air", "a19001"),
    _q("noise", _AIR, "dB", "dB", 0, 160, 60, 0, "噪声", "Noise level"),
    # air pollutants (ambient air; HJ 212 codes after HJ 524)
    _q("pm2_5", _AIR, "µg/m³", "ug.m-3", 0, 5000, 300, 0, "细颗粒物 PM2.5", "PM2.5", "a34004"),
    _q("pm10", _AIR, "µg/m³", "ug.m-3", 0, 10000, 300, 0, "可吸入颗粒物 PM10", "PM10", "a34002"),
    _q("tsp", _AIR, "µg/m³", "ug.m-3", 0, 20000, 300, 0, "总悬浮颗粒物", "Total suspended particles", "a34001"),
    _q("so2", _AIR, "µg/m³", "ug.m-3", 0, 20000, 300, 0, "二氧化硫", "Sulphur dioxide", "a21026"),
    _q("no2", _AIR, "µg/m³", "ug.m-3", 0, 20000, 300, 0, "二氧化氮", "Nitrogen dioxide", "a21004"),
    _q("nox", _AIR, "µg/m³", "ug.m-3", 0, 20000, 300, 0, "氮氧化物", "Nitrogen oxides", "a21002"),
    _q("co", _AIR, "mg/m³", "mg.m-3", 0, 1500, 300, 1, "一氧化碳", "Carbon monoxide", "a21005"),
    _q("o3", _AIR, "µg/m³", "ug.m-3", 0, 5000, 300, 0, "臭氧", "Ozone", "a05024"),
    _q("air_quality_index_part", _AIR, "1", "1", 0, 500, 3600, 0, "空气质量分指数", "Part of the air quality index"),
    _q("nh3", _AIR, "mg/m³", "mg.m-3", 0, 1000, 300, 2, "氨", "Ammonia", "a21001"),
    _q("h2s", _AIR, "mg/m³", "mg.m-3", 0, 1000, 300, 2, "硫化氢", "Hydrogen sulphide", "a21028"),
    # soil and substrate
    _q("soil_moisture", _SOIL, "%", "%", 0, 100, 300, 1, "土壤体积含水率", "Soil moisture (volumetric)"),
    _q("relative_soil_moisture", _SOIL, "%", "%", 0, 250, 300, 0, "土壤相对含水率", "Soil moisture relative to field capacity"),
    _q("soil_temperature", _SOIL, "°C", "Cel", -40, 80, 300, 1, "土壤温度", "Soil temperature"),
    _q("soil_ec", _SOIL, "mS/cm", "mS.cm-1", 0, 30, 300, 2, "土壤电导率", "Soil electrical conductivity"),
    _q("pore_water_ec", _SOIL, "mS/cm", "mS.cm-1", 0, 60, 300, 2, "孔隙水电导率", "Pore-water electrical conductivity"),
    _q("soil_ph", _SOIL, "pH", "[pH]", 0, 14, 300, 1, "土壤 pH", "Soil pH"),
    _q("soil_permittivity", _SOIL, "1", "1", 1, 100, 300, 1, "土壤介电常数", "Soil permittivity"),
    _q("soil_salinity", _SOIL, "mg/L", "mg.L-1", 0, 50000, 300, 0, "土壤盐分", "Soil salinity"),
    _q("soil_tds", _SOIL, "mg/L", "mg.L-1", 0, 50000, 300, 0, "土壤总溶解固体", "Soil total dissolved solids"),
    _q("soil_water_potential", _SOIL, "kPa", "kPa", -100000, 10, 300, 1, "土壤水势", "Soil water potential"),
    _q("soil_nitrogen_estimated", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 300, 0, "土壤氮(估算)", "Soil nitrogen (estimated from EC)"),
    _q("soil_phosphorus_estimated", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 300, 0, "土壤磷(估算)", "Soil phosphorus (estimated from EC)"),
    _q("soil_potassium_estimated", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 300, 0, "土壤钾(估算)", "Soil potassium (estimated from EC)"),
    _q("soil_cadmium", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 15552000, 2, "土壤镉", "Soil cadmium"),
    _q("soil_mercury", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 15552000, 2, "土壤汞", "Soil mercury"),
    _q("soil_arsenic", _SOIL, "mg/kg", "mg.kg-1", 0, 10000, 15552000, 1, "土壤砷", "Soil arsenic"),
    _q("soil_lead", _SOIL, "mg/kg", "mg.kg-1", 0, 100000, 15552000, 1, "土壤铅", "Soil lead"),
    _q("soil_chromium", _SOIL, "mg/kg", "mg.kg-1", 0, 100000, 15552000, 1, "土壤铬", "Soil chromium"),
    _q("soil_copper", _SOIL, "mg/kg", "mg.kg-1", 0, 100000, 15552000, 1, "土壤铜", "Soil copper"),
    _q("soil_nickel", _SOIL, "mg/kg", "mg.kg-1", 0, 100000, 15552000, 1, "土壤镍", "Soil nickel"),
    _q("soil_zinc", _SOIL, "mg/kg", "mg.kg-1", 0, 100000, 15552000, 1, "土壤锌", "Soil zinc"),
    # water in and around the base
    _q("water_temperature", _WATER, "°C", "Cel", -5, 100, 300, 1, "水温", "Water temperature", "w01010"),
    _q("water_ph", _WATER, "pH", "[pH]", 0, 14, 300, 2, "水 pH", "Water pH", "w01001"),
    _q("water_ec", _WATER, "mS/cm", "mS.cm-1", 0, 200, 300, 2, "水电导率", "Water electrical conductivity", "w01014"),
    _q("dissolved_oxygen", _WATER, "mg/L", "mg.L-1", 0, 30, 300, 1, "溶解氧", "Dissolved oxygen", "w01009"),
    _q("oxygen_saturation", _WATER, "%", "%", 0, 300, 300, 0, "溶解氧饱和度", "Oxygen saturation"),
    _q("turbidity", _WATER, "NTU", "", 0, 10000, 300, 1, "浊度", "Turbidity", "w01003"),
    _q("total_salts", _WATER, "mg/L", "mg.L-1", 0, 100000, 300, 0, "全盐量", "Total salts", "w01006"),
    _q("suspended_solids", _WATER, "mg/L", "mg.L-1", 0, 100000, 86400, 0, "悬浮物", "Suspended solids", "w01012"),
    _q("bod5", _WATER, "mg/L", "mg.L-1", 0, 100000, 15552000, 1, "五日生化需氧量", "BOD5", "w01017"),
    _q("cod", _WATER, "mg/L", "mg.L-1", 0, 100000, 86400, 1, "化学需氧量", "Chemical oxygen demand", "w01018"),
    _q("chloride", _WATER, "mg/L", "mg.L-1", 0, 100000, 15552000, 1, "氯化物", "Chloride", "w21022"),
    _q("sulfide", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 2, "硫化物", "Sulfide", "w21019"),
    _q("anionic_surfactant", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 2, "阴离子表面活性剂", "Anionic surfactant"),
    _q("water_lead", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 3, "水铅", "Lead in water", "w20120"),
    _q("water_cadmium", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 4, "水镉", "Cadmium in water", "w20115"),
    _q("water_chromium_vi", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 3, "水六价铬", "Chromium(VI) in water", "w20117"),
    _q("water_mercury", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 5, "水汞", "Mercury in water", "w20111"),
    _q("water_arsenic", _WATER, "mg/L", "mg.L-1", 0, 10000, 15552000, 3, "水砷", "Arsenic in water", "w20119"),
    _q("faecal_coliform", _WATER, "MPN/L", "", 0, _BIG, 15552000, 0, "粪大肠菌群", "Faecal coliforms", "w02003"),
    _q("ascaris_eggs", _WATER, "1/L", "L-1", 0, 1_000_000, 15552000, 1, "蛔虫卵数", "Ascaris eggs"),
    _q("ammonia_nitrogen", _WATER, "mg/L", "mg.L-1", 0, 10000, 3600, 2, "氨氮", "Ammonia nitrogen", "w21003"),
    _q("total_nitrogen", _WATER, "mg/L", "mg.L-1", 0, 10000, 3600, 2, "总氮", "Total nitrogen", "w21001"),
    _q("total_phosphorus", _WATER, "mg/L", "mg.L-1", 0, 10000, 3600, 2, "总磷", "Total phosphorus", "w21011"),
    _q("water_level", _WATER, "m", "m", -50, 500, 300, 2, "水位", "Water level"),
    # fertigation: solution, drain, valves, pumps, meters
    _q("solution_ec", _FERT, "mS/cm", "mS.cm-1", 0, 50, 60, 2, "营养液电导率", "Nutrient solution EC"),
    _q("solution_ph", _FERT, "pH", "[pH]", 0, 14, 60, 1, "营养液 pH", "Nutrient solution pH"),
    _q("solution_temperature", _FERT, "°C", "Cel", -5, 100, 60, 1, "营养液温度", "Nutrient solution temperature"),
    _q("drain_ec", _FERT, "mS/cm", "mS.cm-1", 0, 50, 300, 2, "回液电导率", "Drain EC"),
    _q("drain_ph", _FERT, "pH", "[pH]", 0, 14, 300, 1, "回液 pH", "Drain pH"),
    _q("drain_fraction", _FERT, "%", "%", 0, 100, 3600, 0, "回液比例", "Drain fraction"),
    _q("flow_rate", _FERT, "L/min", "L.min-1", 0, 100000, 60, 1, "流量", "Flow rate", "w00000"),
    _q("irrigation_volume", _FERT, "L", "L", 0, _BIG, 60, 0, "灌溉累计水量", "Irrigation volume (running total)", counter=True),
    _q("drain_volume", _FERT, "L", "L", 0, _BIG, 60, 0, "回液累计量", "Drain volume (running total)", counter=True),
    _q("irrigation_increase", _FERT, "L", "L", 0, _BIG, 60, 1, "灌溉水量(时段)", "Water given since the reading before"),
    _q("drain_increase", _FERT, "L", "L", 0, _BIG, 60, 1, "回液量(时段)", "Drain since the reading before"),
    _q("irrigation_depth", _FERT, "mm", "mm", 0, 1000, 3600, 1, "灌溉量", "Irrigation per area"),
    _q("fertiliser_dose", _FERT, "g/m²", "g.m-2", 0, 10000, 3600, 1, "施肥量", "Fertiliser per area"),
    _q("irrigation_per_mu", _FERT, "m³/mu", "", 0, 1000, 86400, 2, "亩灌溉量", "Irrigation per mu"),
    _q("fertiliser_dose_per_mu", _FERT, "kg/mu", "", 0, 10000, 86400, 2, "亩施肥量", "Fertiliser per mu"),
    _q("nitrogen_concentration", _FERT, "mg/L", "mg.L-1", 0, 100000, 3600, 0, "氮浓度", "Nitrogen concentration"),
    _q("phosphorus_concentration", _FERT, "mg/L", "mg.L-1", 0, 100000, 3600, 0, "磷浓度", "Phosphorus concentration"),
    _q("potassium_concentration", _FERT, "mg/L", "mg.L-1", 0, 100000, 3600, 0, "钾浓度", "Potassium concentration"),
    _q("tank_level", _FERT, "%", "%", 0, 105, 300, 0, "罐液位", "Tank level"),
    _q("line_pressure", _FERT, "kPa", "kPa", -100, 2500, 60, 0, "管路压力", "Line pressure"),
    _q("valve_state", _FERT, "1", "1", 0, 1, 60, 0, "阀门状态", "Valve open"),
    _q("pump_state", _FERT, "1", "1", 0, 1, 60, 0, "水泵状态", "Pump running"),
    # weather
    _q("global_radiation", _SKY, "W/m²", "W.m-2", -20, 1800, 60, 0, "太阳总辐射", "Global radiation"),
    _q("radiation_sum", _SKY, "J/cm²", "J.cm-2", 0, 5000, 300, 0, "日累积辐射", "Radiation sum of the day"),
    _q("longwave_radiation", _SKY, "W/m²", "W.m-2", -500, 800, 300, 0, "长波辐射", "Long-wave radiation"),
    _q("wind_speed", _SKY, "m/s", "m.s-1", 0, 90, 60, 1, "风速", "Wind speed", "a01007"),
    _q("wind_direction", _SKY, "°", "deg", 0, 360, 60, 0, "风向", "Wind direction", "a01008"),
    _q("rainfall", _SKY, "mm", "mm", 0, _BIG, 60, 1, "累计雨量", "Rainfall (running total)", counter=True),
    _q("rainfall_increase", _SKY, "mm", "mm", 0, _BIG, 60, 1, "雨量(时段)", "Rain since the reading before"),
    _q("rain_rate", _SKY, "mm/h", "mm.h-1", 0, 500, 60, 1, "降雨强度", "Rain rate"),
    _q("rain_detected", _SKY, "1", "1", 0, 1, 60, 0, "降雨", "Raining"),
    # equipment of the house, and of the devices themselves
    _q("vent_position", _AIR, "%", "%", 0, 100, 60, 0, "通风窗开度", "Vent position"),
    _q("screen_position", _AIR, "%", "%", 0, 100, 60, 0, "保温幕开度", "Screen position"),
    _q("heating_power", _AIR, "W/m²", "W.m-2", 0, 1000, 60, 0, "加热功率", "Heating power"),
    _q("lamp_level", _AIR, "%", "%", 0, 100, 60, 0, "补光强度", "Lamp level"),
    _q("temperature_setpoint", _AIR, "°C", "Cel", -50, 70, 300, 1, "温度设定值", "Temperature set-point"),
    _q("fan_state", _AIR, "1", "1", 0, 1, 60, 0, "风机状态", "Fan running"),
    _q("battery_voltage", _AIR, "V", "V", 0, 60, 3600, 2, "电池电压", "Battery voltage"),
    _q("battery_level", _AIR, "%", "%", 0, 100, 3600, 0, "电池电量", "Battery level"),
    _q("signal_strength", _AIR, "dBm", "dB[mW]", -200, 30, 3600, 0, "信号强度", "Signal strength"),
    _q("average_daily_temperature", _AIR, "°C", "Cel", -50, 70, 86400, 1, "日平均温度", "Mean temperature of the day"),
    _q("day_night_difference", _AIR, "°C", "Cel", -60, 60, 86400, 1, "昼夜温差", "Day minus night temperature"),
    _q("degree_days", _AIR, "°C·d", "Cel.d", 0, 100, 86400, 1, "日有效积温", "Degree days of the day"),
    _q("growing_degree_days", _AIR, "°C·d", "Cel.d", 0, 20000, 86400, 0, "生长积温", "Growing degree days"),
    _q("pulse_count", _FERT, "1", "1", 0, _BIG, 60, 0, "脉冲计数", "Pulse count (running total)", counter=True),
    _q("pulse_increase", _FERT, "1", "1", 0, _BIG, 60, 0, "脉冲数(时段)", "Pulses since the reading before"),
    _q("energy_consumption", _AIR, "kWh", "kW.h", 0, _BIG, 60, 1, "累计用电量", "Energy consumption (running total)", counter=True),
    _q("energy_increase", _AIR, "kWh", "kW.h", 0, _BIG, 60, 2, "用电量(时段)", "Energy since the reading before"),
)
# fmt: on

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({q.name: q for q in _TABLE})
