import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.columns import NO_QUALITY, Columns
from api.formats import arrow, csv_rows, json_columns
from api.formats.answer import Answer, TimeForm
from api.steps import Step
from devices.quality import Quality
from devices.series import Series
from devices.site import Medium, Placement
from devices.units import Conversion


def series(device: str, quantity: str = "air_temperature") -> Series:
    return Series(
        device=device,
        quantity=quantity,
        channel="",
        key=quantity,
        site="house-1",
        placement=Placement.INSIDE,
        medium=Medium.AIR,
        unit="",
        conversion=Conversion(),
        interval_s=10.0,
    )


BAD = int(Quality.PHYSICAL_RANGE | Quality.STEP)
RAW = Answer(
    0,
    60_000_000,
    Step.RAW,
    [
        Columns(
            series("node-1"),
            np.array([1_000_000, 11_000_000, 21_000_000, 51_000_000], np.int64),
            {
                "value": np.array([-3.25, np.inf, np.nan, 0.1]),
                "quality_bits": np.array([0, BAD, NO_QUALITY, 0], np.int32),
            },
        ),
        Columns(
            series("node-2", "co2"),
            np.array([1_500_001], np.int64),
            {"value": np.array([412.0]), "quality_bits": np.array([0], np.int32)},
        ),
    ],
)
ROLLED = Answer(
    0,
    120_000_000,
    Step.MINUTE,
    [
        Columns(
            series("node-1"),
            np.array([0, 60_000_000], np.int64),
            {"mean": np.array([1 / 3, np.nan]), "count": np.array([3, 0], np.int64)},
        )
    ],
)


def test_json_has_a_null_where_there_is_no_number():
    answer = json.loads(json_columns.encode(RAW, TimeForm.ISO))
    first = answer["series"][0]
    assert first["value"] == [-3.25, None, None, 0.1]
    assert first["quality_bits"] == [0, BAD, None, 0]
    assert first["quality"] == ["good", "bad", None, "good"]
    assert first["observed_at"][0] == "1970-01-01T00:00:01.000Z"
    assert (first["unit"], first["points"]) == ("°C", 4)
    assert (answer["start"], answer["step"]) == ("1970-01-01T00:00:00.000Z", "raw")


def test_microseconds_are_written_where_they_matter():
    answer = json.loads(json_columns.encode(RAW, TimeForm.ISO))
    assert answer["series"][1]["observed_at"] == ["1970-01-01T00:00:01.500001Z"]


def test_json_may_count_milliseconds():
    answer = json.loads(json_columns.encode(RAW, TimeForm.EPOCH_MS))
    assert answer["series"][0]["observed_at"] == [1000, 11000, 21000, 51000]


def test_json_keeps_every_bit_of_a_mean():
    answer = json.loads(json_columns.encode(ROLLED, TimeForm.ISO))
    assert answer["series"][0]["mean"] == [1 / 3, None]
    assert answer["series"][0]["count"] == [3, 0]


def test_csv_is_read_back_as_it_was():
    rows = list(csv.DictReader(io.StringIO(csv_rows.encode(RAW, TimeForm.ISO, False).decode())))
    assert [row["value"] for row in rows] == ["-3.25", "", "", "0.1", "412.0"]
    assert [row["quality"] for row in rows] == ["good", "bad", "", "good", "good"]
    assert rows[1]["quality_reasons"] == "physical_range|step"
    assert rows[4]["series"] == "node-2.co2"
    assert {row["unit"] for row in rows} == {"°C", "ppm"}


def test_csv_ends_its_lines_after_rfc_4180():
    text = csv_rows.encode(ROLLED, TimeForm.ISO, False).decode()
    assert text == (
        "series,site,quantity,unit,observed_at,mean,count\r\n"
        "node-1.air_temperature,house-1,air_temperature,°C,1970-01-01T00:00:00.000Z,"
        "0.3333333333333333,3\r\n"
        "node-1.air_temperature,house-1,air_temperature,°C,1970-01-01T00:01:00.000Z,,0\r\n"
    )


def test_csv_may_begin_with_a_byte_order_mark():
    assert csv_rows.encode(ROLLED, TimeForm.ISO, True).startswith(b"\xef\xbb\xbfseries")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝"])
def test_a_name_that_a_spreadsheet_would_run_is_made_plain_text(start):
    name = f"{start}cmd|' /C calc'!A0"
    assert csv_rows.safe_text(name) == "'" + name


def test_a_name_with_quotes_and_commas_is_quoted():
    answer = Answer(0, 1, Step.RAW, [Columns(series('=1+1","x'), RAW.parts[1].observed_at_us,
                                             RAW.parts[1].columns)])  # fmt: skip
    text = csv_rows.encode(answer, TimeForm.ISO, False).decode()
    assert next(csv.reader(io.StringIO(text.split("\r\n")[1])))[0] == '\'=1+1","x.air_temperature'


def test_arrow_and_parquet_hold_the_same_typed_table():
    stream = pa.ipc.open_stream(arrow.encode_stream(RAW)).read_all()
    parquet = pq.read_table(pa.BufferReader(arrow.encode_parquet(RAW)))
    for table in (stream, parquet):
        assert table.schema.field("observed_at").type == pa.timestamp("us", tz="UTC")
        assert table.column("value").to_pylist() == [-3.25, float("inf"), None, 0.1, 412.0]
        assert table.column("quality_bits").to_pylist() == [0, BAD, None, 0, 0]
        assert table.column("quality").to_pylist() == ["good", "bad", None, "good", "good"]
        assert table.column("series").to_pylist()[3:] == ["node-1.air_temperature", "node-2.co2"]
        assert table.column("unit").to_pylist()[4] == "ppm"
        units = json.loads(table.schema.metadata[b"units"])
        assert units == {"node-1.air_temperature": "°C", "node-2.co2": "ppm"}


def test_an_answer_without_readings_is_still_a_table():
    empty = Columns(
        series("node-1"),
        np.empty(0, np.int64),
        {"value": np.empty(0), "quality_bits": np.empty(0, np.int32)},
    )
    answer = Answer(0, 1, Step.RAW, [empty])
    assert pa.ipc.open_stream(arrow.encode_stream(answer)).read_all().num_rows == 0
    assert json.loads(json_columns.encode(answer, TimeForm.ISO))["series"][0]["value"] == []
    assert csv_rows.encode(answer, TimeForm.ISO, False).count(b"\r\n") == 1
