"""Tables of laboratory results: read in two languages and three encodings, refused row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.quality import Quality, QualityLevel, level
from devices.quantity import QUANTITIES
from devices.sample_result import (
    COLUMNS,
    MAX_ROWS,
    ResultsRefused,
    SampleResult,
    read_csv,
    read_objects,
    read_results,
)
from devices.site_file import SiteFile, read_site_file

SITE = """
version: 1
sites:
  - code: base
    kind: base
    name: {zh: 示范基地, en: Base}
    sites:
      - {code: h3, kind: greenhouse, name: {zh: 三号棚, en: House 3}}
      - {code: oasis, kind: zone, timezone: UTC}
devices:
  - code: soil-3
    site: h3
    transport: http
    payload: laboratory
    placement: root_zone
    series: [SOIL]
  - code: water-3
    site: h3
    transport: http
    payload: laboratory
    placement: intake_water
    series: [WATER]
  - code: drain-3
    site: h3
    transport: http
    payload: laboratory
    placement: drain_water
    series: [{quantity: water_ph}]
  - {code: probe, site: h3, transport: http, series: [{quantity: air_temperature}]}
  - {code: far, site: oasis, transport: http, payload: laboratory, interval: 30d,
     series: [{quantity: soil_ph}]}
"""
METALS = ("cadmium", "mercury", "arsenic", "lead", "chromium", "copper", "nickel", "zinc")
GB15618 = [*(f"soil_{metal}" for metal in METALS), "soil_ph"]
GB5084 = [
    "water_ph", "water_temperature", "suspended_solids", "bod5", "cod", "anionic_surfactant",
    "chloride", "sulfide", "total_salts", "water_lead", "water_cadmium", "water_chromium_vi",
    "water_mercury", "water_arsenic", "faecal_coliform", "ascaris_eggs",
]  # fmt: skip
NOW_US = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1e6)
HEAD = "采样时间,地点,位置,介质,项目,结果,单位,检出限,方法,检测机构,采样人,审核人,报告编号,备注"
ROW = "2026-03-01 09:30,三号棚,耕层,土壤,镉,0.21,mg/kg,0.01,GB/T 17141-1997,所,张三,李四,NJ-1,好"


@pytest.fixture(scope="module")
def site() -> SiteFile:
    def listed(names):
        return ", ".join(f"{{quantity: {name}}}" for name in names)

    return read_site_file(
        SITE.replace("SOIL", listed(GB15618)).replace("WATER", listed(GB5084)), "site.yaml"
    )


def results(site: SiteFile, *lines: str, encoding: str = "utf-8") -> list[SampleResult]:
    content = "\r\n".join(lines).encode(encoding)
    return read_results(read_csv(content), site.registry, NOW_US)


def mistakes(site: SiteFile, *lines: str) -> list[str]:
    with pytest.raises(ResultsRefused) as refusal:
        results(site, *lines)
    return [str(one) for one in refusal.value.mistakes]


FOUND = SampleResult(
    "soil-3.soil_cadmium", 1_772_328_600_000_000, 0.21, 0.01, "0.21 mg/kg",
    "GB/T 17141-1997", "所", "张三", "李四", "NJ-1", "好",
)  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_spreadsheet_is_read_as_it_was_saved(site, encoding):
    assert results(site, HEAD, ROW, encoding=encoding) == [FOUND]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_english_headings_and_other_delimiters(site, delimiter):
    head = "Sampled at,site,placement,medium,item,value,unit,detection_limit,method,laboratory"
    head += ",sampler,reviewer,Report Number,note"
    row = ROW.replace("三号棚", "h3").replace("耕层", "root_zone").replace("土壤", "soil")
    row = row.replace("镉", "Cd")
    lines = [line.replace(",", delimiter) for line in (head, row)]
    assert results(site, *lines) == [FOUND]


def test_every_item_of_the_two_standards_has_a_quantity_and_its_names_are_understood(site):
    head = "采样时间,地点,位置,项目,结果,单位"
    for medium, items in (("root_zone", GB15618), ("intake_water", GB5084)):
        for name in items:
            quantity = QUANTITIES[name]
            for word in (name, quantity.zh, quantity.en):
                row = f"2026-03-01,h3,{medium},{word},1,{quantity.unit}"
                [found] = results(site, head, row)
                assert found.series.endswith(name), word
    symbols = {"Pb": "lead", "Hg": "mercury", "As": "arsenic", "六价铬": "chromium_vi"}
    for symbol, name in symbols.items():
        [found] = results(site, head, f"2026-03-01,h3,水源,{symbol},1,µg/L")
        assert (found.series, found.value) == (f"water-3.water_{name}", 0.001)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01 09:30", datetime(2026, 3, 1, 1, 30)),
        ("2026-03-01T09:30:15", datetime(2026, 3, 1, 1, 30, 15)),
        ("2026/3/1 9:30", datetime(2026, 3, 1, 1, 30)),
        ("2026年3月1日 9时30分", datetime(2026, 3, 1, 1, 30)),
        ("2026年3月1日9:30", datetime(2026, 3, 1, 1, 30)),
        ("2026-03-01", datetime(2026, 2, 28, 16)),
        ("2026-03-01T01:30:00Z", datetime(2026, 3, 1, 1, 30)),
        ("2026-03-01T09:30:00+08:00", datetime(2026, 3, 1, 1, 30)),
        ("2026-03-01 09:30", datetime(2026, 3, 1, 1, 30)),
    ],
)
def test_a_time_is_the_site_s_unless_it_names_a_zone(site, text, at):
    [found] = results(site, HEAD, ROW.replace("2026-03-01 09:30", text))
    assert found.sampled_at_us == int(at.replace(tzinfo=UTC).timestamp() * 1e6)


def test_a_place_in_another_zone_has_its_own_days(site):
    [found] = results(site, "采样时间,地点,项目,结果", "2026-03-01,oasis,pH,7")
    assert found.sampled_at_us == int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("value", "limit", "floor"),
    [
        ("<0.01", "0.01", 0.01),
        ("<0.01", "", 0.01),
        ("<0.01", "0.01", 0.01),
        ("< 0.01", "", 0.01),
        ("ND", "0.02", 0.02),
        ("未检出", "0.02", 0.02),
    ],
)
def test_below_the_detection_limit_keeps_the_limit(site, value, limit, floor):
    [found] = results(
        site, HEAD, ROW.replace(",0.21,", f",{value},").replace(",0.01,", f",{limit},")
    )
    assert (found.value, found.detection_limit) == (None, floor)
    assert found.reading == floor / 2
    assert found.quality == Quality.MANUAL | Quality.BELOW_DETECTION
    assert level(found.quality) is QualityLevel.GOOD


def test_units_are_converted_and_the_value_is_kept_as_it_was_written(site):
    row = "2026-03-01,h3,水源,铅,12.5,µg/L,0.5"
    [found] = results(site, "采样时间,地点,位置,项目,结果,单位,检出限", row)
    assert (found.value, found.detection_limit, found.given) == (0.0125, 0.0005, "12.5 µg/L")


def test_ph_needs_no_unit_and_everything_else_does(site):
    head = "采样时间,地点,位置,项目,结果,单位"
    assert results(site, head, "2026-03-01,h3,耕层,pH,6.8,无量纲")[0].value == 6.8
    assert results(site, head, "2026-03-01,h3,耕层,pH,6.8,")[0].value == 6.8
    assert mistakes(site, head, "2026-03-01,h3,耕层,镉,0.2,") == [
        "row 2, unit: got nothing, expected the unit of the value, such as mg/kg"
    ]


def swapped(old: str, new: str) -> str:
    assert old in ROW
    return ROW.replace(old, new)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (swapped("2026-03-01 09:30", "2026-13-01"), "sampled_at: got '2026-13-01'"),
        (swapped("2026-03-01 09:30", ""), "row 2, sampled_at: got nothing, expected a time"),
        (swapped("2026-03-01", "2027-03-01"), "expected a time between 1970 and now"),
        (swapped("三号棚", "h33"), "a laboratory device: h3, oasis (did you mean 'h3'"),
        (swapped("三号棚", "示范基地"), "row 2, site: got '示范基地'"),
        (swapped("耕层", "屋顶"), "row 2, placement: got '屋顶', expected one of inside"),
        (swapped("土壤", "土"), "row 2, medium: got '土', expected one of"),
        (swapped("镉", "铊"), "row 2, item: got '铊', expected what is sampled there"),
        (swapped("镉", ""), "row 2, item: got nothing"),
        (swapped("0.21", "0,21"), "row 2, row: got 15 cells"),
        (swapped("0.21", "高"), "row 2, value: got '高', expected a number"),
        (swapped("0.21", ""), "row 2, value: got nothing"),
        (swapped("0.21", "nan"), "row 2, value: got 'nan'"),
        (swapped("0.21", ">0.21"), "row 2, value: got '>0.21'"),
        (swapped("0.21", "-1"), "row 2, value: got '-1', expected <0.01"),
        (swapped("0.21", "20000"), "expected soil_cadmium of 0 to 10000 mg/kg"),
        (swapped("0.21", "0.005"), "row 2, value: got '0.005', expected <0.01, for it is below"),
        (swapped("0.21", "<0.02"), "detection_limit: got 0.01, expected 0.02 as in the value"),
        (swapped("0.01", "0"), "row 2, detection_limit: got '0', expected a number above 0"),
        (swapped("0.21,mg/kg,0.01", "ND,mg/kg,"), "row 2, detection_limit: got nothing"),
        (swapped("mg/kg", "mg/L"), "row 2, unit: got 'mg/L', expected a unit like mg/kg"),
        (swapped("mg/kg", "马"), "row 2, unit: got '马'"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named_with_row_column_and_what_was_expected(site, row, text):
    assert text in mistakes(site, HEAD, row)[0]


def test_all_mistakes_are_told_at_once_and_nothing_is_taken(site):
    told = mistakes(
        site, HEAD, ROW, swapped("镉", "铊"), swapped("0.21", "x"),
        swapped("三号棚", "?").replace("2026-03-01", "1.1").replace("0.21", "y"),
    )  # fmt: skip
    assert [one.split(":")[0] for one in told] == [
        "row 3, item", "row 4, value", "row 5, site", "row 5, sampled_at", "row 5, value",
    ]  # fmt: skip


def test_one_item_of_a_sample_stands_once(site):
    told = mistakes(site, HEAD, ROW, swapped("0.21", "0.3"))
    assert told == [
        "row 3, row: got soil-3.soil_cadmium of the sample in row 2, "
        "expected each item of a sample once"
    ]


def test_an_item_that_two_series_have_needs_the_series(site):
    head, row = "采样时间,地点,项目,结果", "2026-03-01,h3,pH,7"
    assert "soil-3.soil_ph, water-3.water_ph, drain-3.water_ph" in mistakes(site, head, row)[0]
    [found] = results(site, f"{head},序列", f"{row},drain-3.water_ph")
    assert found.series == "drain-3.water_ph"
    assert (
        "did you mean 'drain-3.water_ph'" in mistakes(site, f"{head},序列", f"{row},drain-3.ph")[0]
    )
    assert "laboratory" in mistakes(site, f"{head},序列", f"{row},probe.air_temperature")[0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "an empty file"),
        (b"\xff\xfe\x00\x01", "neither UTF-8 nor GB18030"),
        (b"a\0b", "neither UTF-8 nor GB18030"),
        ("时间,地点,项目,结果".encode(), "row 1, 时间: got this heading"),
        ("采样时间,采样日期,地点,项目,结果".encode(), "row 1, 采样日期: got sampled_at twice"),
        (
            "采样时间,项目,结果".encode(),
            "row 1, site: got no such column, expected a column site (地点)",
        ),
        (HEAD.encode(), "no row, expected at least one result"),
    ],
)
def test_what_is_no_table_is_refused_as_a_whole(site, content, text):
    with pytest.raises(ResultsRefused) as refusal:
        read_results(read_csv(content), site.registry, NOW_US)
    assert text in str(refusal.value)


def test_too_many_rows_are_refused(site):
    with pytest.raises(ResultsRefused, match=f"at most {MAX_ROWS}"):
        results(site, HEAD, *[ROW] * (MAX_ROWS + 1))


def test_objects_have_the_english_names_as_keys(site):
    one = {
        "sampled_at": "2026-03-01",
        "site": "h3",
        "placement": "root_zone",
        "item": "pH",
        "value": 6.8,
    }
    [found] = read_results(read_objects([one]), site.registry, NOW_US)
    assert (found.series, found.value) == ("soil-3.soil_ph", 6.8)
    with pytest.raises(ResultsRefused) as refusal:
        read_objects([{**one, "valeu": 1}, {**one, "value": True}])
    assert [str(one)[:40] for one in refusal.value.mistakes] == [
        "row 1, valeu: got this key, expected one"[:40],
        "row 2, value: got bool, expected text or"[:40],
    ]


def test_a_sampled_device_has_long_intervals_and_the_tag_of_the_method(site):
    assert site.registry.series["soil-3.soil_ph"].interval_s == 180 * 86400
    assert site.registry.series["far.soil_ph"].interval_s == 30 * 86400
    assert site.growing.tags["device:soil-3"] == {"method:laboratory"}
    assert "device:probe" not in site.growing.tags


def test_headings_are_told_apart():
    words = [
        word.casefold().replace(" ", "").replace("_", "")
        for name in COLUMNS
        for word in (name, *COLUMNS[name])
    ]
    assert len(words) == len(set(words))


@given(
    st.binary(max_size=120) | st.text(max_size=80).map(lambda text: (HEAD + "\n" + text).encode())
)
def test_any_bytes_are_results_or_refused(site, content):
    try:
        read_results(read_csv(content), site.registry, NOW_US)
    except ResultsRefused as refusal:
        assert refusal.mistakes
