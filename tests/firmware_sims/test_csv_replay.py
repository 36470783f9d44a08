"""Reading measured CSV files: the mapping, odd files, and the real ones against pandas."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from devices.errors import DocumentError
from devices.quantity import QUANTITIES
from devices.site_file import read_site_file
from firmware_sims.csv_replay import (
    FileEntry,
    ReadReport,
    ReplayError,
    disagreements,
    open_file,
    read_file,
    read_mapping,
    shipped_mapping,
    shipped_mapping_site_file,
)
from firmware_sims.replay import ReplayReport, replayed
from tests.firmware_sims.measured import data_folder, pandas_reading

SHIPPED = ("agc2-tomato", "glasshouse-30mhz")


def _entry(time: dict, columns: list[dict] | None = None, **more) -> FileEntry:
    default = [{"column": "T", "device": "d", "key": "air_temperature", "unit": "°C"}]
    return FileEntry.model_validate(
        {"file": "data.csv", "time": {"timezone": "Europe/Amsterdam", **time}}
        | {"columns": columns or default}
        | more
    )


def _read(entry: FileEntry, text: str) -> tuple[list[tuple[str, str, dict]], ReadReport]:
    report = ReadReport()
    rows = [
        (f"{datetime.fromtimestamp(s.at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}", device, dict(s.values))
        for device, s in read_file(entry, text.splitlines(keepends=True), report)
    ]
    return rows, report


ISO = {"iso": "when"}


def test_missing_marks_and_blanks_are_gaps_and_a_row_of_gaps_is_nothing():
    text = "when,T,RH\n" + "".join(
        f"2020-01-01 0{n}:00,{t},{rh}\n"
        for n, (t, rh) in enumerate(
            [("1.5", "80"), ("  NaN", "81"), ("", " 82 "), ("NA", "-"), ("nan", ""), ("-1", "0")]
        )
    )
    columns = [
        {"column": "T", "device": "d", "key": "air_temperature", "unit": "°C"},
        {"column": "RH", "device": "d", "key": "relative_humidity", "unit": "%"},
    ]
    rows, report = _read(_entry(ISO, columns), text)
    assert [values for _, _, values in rows] == [
        {"air_temperature": 1.5, "relative_humidity": 80.0},
        {"relative_humidity": 81.0},
        {"relative_humidity": 82.0},
        {"air_temperature": -1.0, "relative_humidity": 0.0},
    ]
    assert (report.rows, report.samples, report.values, report.missing) == (6, 4, 6, 6)
    assert report.problem_count == 0


def test_headings_may_carry_blanks_tabs_and_quotes_and_the_file_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_bytes(b'\xef\xbb\xbf"when" ,\tT \t\r\n2020-07-01 12:00,20.5\r\n')
    entry, report = _entry(ISO), ReadReport()
    with open_file(entry, tmp_path) as lines:
        rows = list(read_file(entry, lines, report))
    assert rows[0][1].values == {"air_temperature": 20.5}
    assert rows[0][1].at_us == pd.Timestamp("2020-07-01 10:00Z").value // 1000


def test_packed_and_plain_files_read_the_same(tmp_path: Path):
    text = "when,T\n2020-07-01 12:00,20.5\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    read = []
    for name in ("a.csv", "b.csv.gz"):
        entry = _entry(ISO).model_copy(update={"file": name})
        with open_file(entry, tmp_path) as lines:
            read.append(list(read_file(entry, lines, ReadReport())))
    assert read[0] == read[1] and len(read[0]) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_encodings_of_the_field_are_read(tmp_path: Path, encoding: str):
    (tmp_path / "data.csv").write_bytes("时间,温度\n2020-07-01 12:00,20.5\n".encode(encoding))
    column = {"column": "温度", "device": "d", "key": "air_temperature", "unit": "°C"}
    entry = _entry({"iso": "时间"}, [column], encoding=encoding)
    with open_file(entry, tmp_path) as lines:
        assert len(list(read_file(entry, lines, ReadReport()))) == 1


@pytest.mark.parametrize(
    ("time", "header", "cells", "utc"),
    [
        # Excel serials are 0.2 to 0.4 s off and must be rounded, not cut
        ({"excel": "s"}, "s", "43815.00347", "2019-12-15 23:05:00"),
        ({"excel": "s"}, "s", "43815.01042", "2019-12-15 23:15:00"),
        ({"excel": "s"}, "s", "43815", "2019-12-15 23:00:00"),
        ({"excel": "s"}, "s", "43920.5", "2020-03-30 10:00:00"),  # summer time
        ({"excel": "s", "round_to": "1min"}, "s", "43815.0104", "2019-12-15 23:15:00"),
        ({"iso": "s"}, "s", "2020-08-16 12:45:00", "2020-08-16 10:45:00"),
        ({"iso": "s"}, "s", "2020-08-16T12:45:00+00:00", "2020-08-16 12:45:00"),
        (
            {"strptime": {"columns": ["s"], "pattern": "%m/%d/%Y %H:%M"}},
            "s",
            "2/1/2022 0:04",
            "2022-01-31 23:04:00",
        ),
        (
            {"strptime": {"columns": ["a", "b"], "pattern": "%d.%m.%Y %H:%M"}},
            "a,b",
            "16.08.2020,12:45",
            "2020-08-16 10:45:00",
        ),
        (
            {"parts": {"year": "y", "month": "m", "day": "d", "hour": "h"}},
            "h,y,m,d",
            "14,2013,3,1",
            "2013-03-01 13:00:00",
        ),
        (
            {"parts": {"year": "y", "month": "m", "day": "d", "minute": "min"}},
            "y,m,d,min",
            "2013,3,1,30",
            "2013-02-28 23:30:00",
        ),
    ],
)
def test_times_of_every_shape_become_utc(time, header, cells, utc):
    rows, report = _read(_entry(time), f"{header},T\n{cells},1\n")
    assert [row[0] for row in rows] == [utc]
    assert report.problem_count == 0


def test_beijing_integers_are_beijing_time():
    time = {
        "parts": {"year": "year", "month": "month", "day": "day", "hour": "hour"},
        "timezone": "Asia/Shanghai",
    }
    rows, _ = _read(_entry(time), "year,month,day,hour,T\n2013,3,1,0,-0.7\n")
    assert rows[0][0] == "2013-02-28 16:00:00"


def test_rows_of_an_hour_that_did_not_exist_are_counted_when_empty_and_reported_when_not():
    text = (
        "when,T\n2020-03-29 01:55,1\n2020-03-29 02:00,NaN\n2020-03-29 02:30,2\n2020-03-29 03:00,3\n"
    )
    rows, report = _read(_entry(ISO), text)
    assert [row[0] for row in rows] == ["2020-03-29 00:55:00", "2020-03-29 01:00:00"]
    assert report.nonexistent_rows == 1 and report.problem_count == 1
    assert str(report.problems[0]) == (
        "data.csv:4 values at 2020-03-29 02:30:00, which did not exist in Europe/Amsterdam"
    )


def test_the_hour_that_exists_twice_is_told_apart_by_its_order():
    times = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    text = "when,T\n" + "".join(f"2020-10-25 {t},{n}\n" for n, t in enumerate(times))
    rows, report = _read(_entry(ISO), text)
    assert [row[0][11:16] for row in rows] == ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]
    assert report.ambiguous_rows == 4 and report.backward_rows == 0


def test_rows_that_go_back_in_time_are_sent_and_counted():
    rows, report = _read(_entry(ISO), "when,T\n2020-01-02,1\n2020-01-01,2\n2020-01-03,3\n")
    assert len(rows) == 3 and report.backward_rows == 1


def test_codes_are_translated_by_their_table_within_a_thousandth():
    column = {
        "column": "wd",
        "device": "d",
        "key": "wind_direction",
        "unit": "°",
        "table": {"1": 0, "2": 45, "32": 225},
    }
    text = "when,wd\n2020-01-01,1\n2020-01-02,31.999998\n2020-01-03,3\n2020-01-04,2.0004\n"
    rows, report = _read(_entry(ISO, [column]), text)
    assert [values["wind_direction"] for _, _, values in rows] == [0, 225, 45]
    assert "wd: 3.0 is not a code of its table" in str(report.problems[0])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2020-01-01,abc", "could not convert"),
        ("2020-01-01,inf", "not a finite number"),
        ("2020-01-01,1e999", "not a finite number"),
        ("2020-13-01,1", "time:"),
        ("yesterday,1", "time:"),
        (",1", "time:"),  # a value without a time
        ("2020-01-01", "1 cells under 2 headings"),
        ("2020-01-01,1,2", "3 cells under 2 headings"),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_line_and_the_rest_goes_on(line: str, said: str):
    rows, report = _read(_entry(ISO), f"when,T\n2020-01-01,1\n{line}\n2020-01-03,3\n")
    assert len(rows) == 2 and report.problem_count == 1
    assert said in report.problems[0].text and report.problems[0].line == 3


def test_remarks_units_and_footers_are_skipped_by_pattern_and_blank_rows_without():
    entry = _entry(ISO, lines_before_header=2, skip_rows=[r"\[unit\]", "Link to"])
    text = (
        'Logger 7\n"a, b"\nwhen,T\n[unit],°C\n2020-01-01,1\n\n,\n2020-01-02,2\n'
        'Link to dashboard,"<url removed>"\n'
    )
    rows, report = _read(entry, text)
    assert [values["air_temperature"] for _, _, values in rows] == [1.0, 2.0]
    assert report.skipped_rows >= 3 and report.problem_count == 0


def test_semicolons_and_decimal_commas_are_read():
    rows, _ = _read(_entry(ISO, delimiter=";", decimal=","), "when;T\n2020-01-01;-3,25\n")
    assert rows[0][2] == {"air_temperature": -3.25}


def test_thousands_of_problems_are_counted_and_a_hundred_kept():
    text = "when,T\n" + "2020-01-01,x\n" * 3000
    _, report = _read(_entry(ISO), text)
    assert report.problem_count == 3000 and len(report.problems) == 100


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("when,Temp", "no column 'T'"),
        ("time,T", "no column 'when'"),
        ("when,T,T", "the column 'T' stands twice"),
        ("when,T,RH", "the column 'RH' is neither mapped nor left out"),
        ("", "no column 'T'"),
    ],
)
def test_a_mapping_that_does_not_fit_its_file_is_refused(header: str, said: str):
    with pytest.raises(ReplayError, match=said):
        _read(_entry(ISO), f"{header}\n2020-01-01,1\n")


MAPPING = """\
version: 1
name: mine
site_file: mine.site.yaml
files:
  - file: a.csv
    time: {iso: when, timezone: Europe/Amsterdam}
    columns:
      - {column: T, device: d, key: air_temperature, unit: °C}
      - {column: RH, device: d, key: relative_humidity, unit: "%"}
    left_out:
      - {column: note, why: it is text}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Europe/Amsterdam", "Europe/Amsterdm"), "(did you mean 'Europe/Amsterdam'?)"),
        (("iso: when", "iso: when, excel: s"), "exactly one of excel, iso, strptime and parts"),
        (("iso: when, ", ""), "exactly one of excel, iso, strptime and parts"),
        (("key: relative_humidity", "key: air_temperature"), "a key that it sends once"),
        (("column: RH", "column: T"), "each column once"),
        (("column: note", "column: T"), "a column that is not sent"),
        (("unit: °C}", "unit: °C, table: {N: 0}}"), "a number as the code"),
        (("left_out:", "skip_rows: ['(']\n    left_out:"), "a regular expression"),
        (("column: T,", "colum: T,"), "(did you mean 'column'?)"),
        (("version: 1", "version: 9"), "version"),
    ],
)
def test_a_mistake_in_a_mapping_is_named_with_its_place(change, said: str):
    assert MAPPING.count(change[0]) == 1
    with pytest.raises(DocumentError) as caught:
        read_mapping(MAPPING.replace(*change), "mine.yaml")
    lines = [str(mistake) for mistake in caught.value.mistakes]
    assert any(said in line and line.startswith("mine.yaml:") for line in lines), lines


def test_a_sound_mapping_is_read():
    assert read_mapping(MAPPING, "mine.yaml").files[0].columns[1].device == "d"


SITE = """\
version: 1
sites: [{code: b, kind: base}]
broker: {host: x}
devices:
  - {code: d, site: b, series: [{quantity: air_temperature}, {quantity: relative_humidity}]}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("code: d,", "code: e,"), "no such device"),
        (("quantity: relative_humidity", "quantity: co2"), "no series with the key relative_hum"),
        (("quantity: air_temperature", "quantity: air_temperature, unit: °F"), "expects °F"),
    ],
)
def test_a_mapping_that_does_not_fit_its_site_file_is_refused(change, said: str):
    mapping = read_mapping(MAPPING, "mine.yaml")
    assert disagreements(mapping, read_site_file(SITE, "s.yaml").registry) == []
    registry = read_site_file(SITE.replace(*change), "s.yaml").registry
    assert any(said in line for line in disagreements(mapping, registry))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_mappings_fit_their_site_files_both_ways(name: str):
    mapping = shipped_mapping(name)
    registry = read_site_file(shipped_mapping_site_file(name), name).registry
    assert disagreements(mapping, registry) == []
    sent = {(c.device, c.key) for entry in mapping.files for c in entry.columns}
    assert sent == {(series.device, series.key) for series in registry.series.values()}
    for device in registry.devices:
        assert device.max_age_s == 7300 * 86400.0
        assert registry.site[device.site].timezone == "Europe/Amsterdam"
    for _, key in sent:
        assert key.partition(".")[0] in QUANTITIES


# --- the real files, against a reading of them by pandas alone ---


def _our_reading(name: str, folder: Path):
    report, out = ReplayReport(), {}
    for device, sample in replayed(shipped_mapping(name), folder, report):
        for key, value in sample.values.items():
            series = out.setdefault((device, key), {})
            assert sample.at_us not in series, (device, key, sample.at_us)
            series[sample.at_us] = value
    return out, report


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder", "values"),
    [
        ("agc2-tomato", "agc2-tomato-dev", 6 * 45_504 + 10 * 21_848),
        ("glasshouse-30mhz", "glasshouse-30mhz-dev", 371_733),
    ],
)
def test_every_finite_value_of_the_real_files_is_read_at_its_utc_time(name, folder, values):
    path = data_folder(folder)
    ours, report = _our_reading(name, path)
    theirs = pandas_reading(name, path)
    assert ours.keys() == theirs.keys()
    for series, expected in theirs.items():
        assert ours[series] == expected, series
    assert sum(len(series) for series in ours.values()) == values
    assert report.problem_count == 0
    assert sum(read.values for read in report.read.values()) == values


@pytest.mark.realdata
def test_no_cell_of_a_mapped_column_is_lost_between_value_and_gap():
    path = data_folder("glasshouse-30mhz-dev")
    mapping, report = shipped_mapping("glasshouse-30mhz"), ReplayReport()
    for _ in replayed(mapping, path, report):
        pass
    read = report.read[mapping.files[0].file]
    assert read.rows == 8644 and read.skipped_rows == 2
    assert read.values + read.missing == read.rows * len(mapping.files[0].columns)
    assert len(mapping.files[0].columns) == 51 and len(mapping.files[0].left_out) == 4


@pytest.mark.realdata
def test_slabs_of_the_spring_night_have_an_hour_less_of_wall_clock_and_none_of_time():
    """Both sides of 2020-03-29 02:00, where the file has rows for an hour that was not."""
    path = data_folder("agc2-tomato-dev")
    ours, report = _our_reading("agc2-tomato", path)
    assert report.read["AICU/GrodanSens.csv.gz"].nonexistent_rows == 12
    moisture = ours["slab-1", "soil_moisture"]
    three_oclock_us = pd.Timestamp("2020-03-29 01:00Z").value // 1000
    assert moisture[three_oclock_us] == 79.4
    assert moisture[three_oclock_us + 600_000_000] == 80.6
    last_of_winter = max(at for at in moisture if at < three_oclock_us)
    shown = pd.Timestamp(last_of_winter, unit="us", tz="UTC").tz_convert("Europe/Amsterdam")
    assert shown.utcoffset() == pd.Timedelta(hours=1)
    assert all(at % 300_000_000 == 0 for at in moisture)  # rounded to the grid, none cut short
