"""Guesses: right for what the field sends, harmless for everything else."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.library import CODECS
from devices.codecs.mapped import MappingCodec
from devices.document import load
from devices.errors import DecodeError
from devices.guess import guess, where_of, write_yaml
from devices.guess_quantity import guess_value, with_channels
from devices.mapping import read_mapping
from devices.quantity import QUANTITIES
from devices.site_file import read_site_file
from devices.topic import Strangers, Template
from devices.unclaimed import HeardMessage, Unclaimed
from devices.units import conversion

AT_US = 1_767_225_600_000_000


def heard(*messages, pattern=None, device="", cut=False):
    samples = []
    for topic, payload in messages:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        samples.append(HeardMessage(topic, data, len(data) + cut, AT_US))
    first = messages[0][0]
    return Unclaimed(
        "1", pattern or first, "", device, AT_US, AT_US + 60_000_000, 4, 9, tuple(samples)
    )


@pytest.mark.parametrize(
    ("key", "value", "quantity", "unit", "scale"),
    [
        ("temp", 21.5, "air_temperature", "°C", 1),
        ("soilTemp_1", 18.0, "soil_temperature", "°C", 1),
        ("wendu", 234, "air_temperature", "°C", 0.1),
        ("tempF", 70, "air_temperature", "°F", 1),
        ("AHT1X-0x38.Temperature", 24.7, "air_temperature", "°C", 1),
        ("土壤温度", 18, "soil_temperature", "°C", 1),
        ("空气湿度", 60, "relative_humidity", "%", 1),
        ("土壤湿度", 33, "soil_moisture", "%", 1),
        ("VWC", 0.31, "soil_moisture", "m³/m³", 1),
        ("soil.ec", 850, "soil_ec", "µS/cm", 1),
        ("soil.ec", 1.2, "soil_ec", "mS/cm", 1),
        ("drain_ph", 6.1, "drain_ph", "pH", 1),
        ("eco2_ppm", 500, "co2", "ppm", 1),
        ("batt_mv", 3600, "battery_voltage", "mV", 1),
        ("BatV", 3.1, "battery_voltage", "V", 1),
        ("battery", 97, "battery_level", "%", 1),
        ("pm2_5", 12, "pm2_5", "µg/m³", 1),
        ("baro", 1013, "air_pressure", "hPa", 1),
        ("rssi", -80, "signal_strength", "dBm", 1),
        ("solution_ec", 2.1, "solution_ec", "mS/cm", 1),
        ("counter", 7, "", "", 1),
    ],
)
def test_a_value_is_known_by_its_name_and_size(key, value, quantity, unit, scale):
    one = guess_value(key, value)
    assert (one.quantity, one.unit, one.scale) == (quantity, unit, scale)
    assert one.why
    assert (one.confidence > 0) == bool(quantity)


def test_the_topic_says_where_but_never_what():
    assert guess_value("t", 18.0, ["farm/soil-probe/7"]).quantity == "soil_temperature"
    assert guess_value("foo", 18.0, ["farm/temperature/7"]).quantity == ""


def test_a_value_that_cannot_be_is_doubted():
    assert guess_value("temp", -999.0).confidence < 0.5 < guess_value("temp", 20.0).confidence


@given(st.text(max_size=40), st.none() | st.floats(allow_nan=False), st.lists(st.text(max_size=9)))
def test_whatever_a_value_is_called_its_unit_fits_its_quantity(key, value, context):
    one = guess_value(key, value, context)
    if one.quantity:
        conversion(one.unit, QUANTITIES[one.quantity].unit)
    assert 0 <= one.confidence <= 1


@given(st.lists(st.sampled_from(["t1", "t2", "temp", "rh", "foo", "temp_1", "temp_2"])))
def test_no_two_values_become_one_series(keys):
    found = with_channels(guess_value(key, 20.0) for key in keys)
    known = [(one.quantity, one.channel) for one in found if one.quantity]
    assert len(known) == len(set(known))


CHIRPSTACK4 = {
    "deviceInfo": {"devEui": "24e124126a148401"},
    "fPort": 85,
    "data": "AXVcA2f0AARoew==",
    "rxInfo": [{"gatewayId": "a"}],
    "time": "2026-01-01T00:00:00Z",
}


HELIUM = {
    "dev_eui": "24E124126A148401",
    "payload": "AXVcA2f0AARoew==",
    "port": 85,
    "hotspots": [{"name": "a"}],
    "reported_at": 1_767_225_598_000,
}


@pytest.mark.parametrize(
    ("topic", "payload", "name"),
    [
        ("gh/h1/x", {"v": {"co2": 500}}, "json"),
        ("x", [{"bn": "urn:dev:1:", "n": "temp", "u": "Cel", "v": 20}], "senml"),
        ("tele/plug/SENSOR", {"Time": "2026-01-01T00:00:00", "A": {"Temperature": 2}}, "tasmota"),
        ("zigbee2mqtt/x", {"temperature": 21, "linkquality": 90}, "zigbee2mqtt"),
        ("farm/x/temp", b"21.5", "value"),
        ("vendor/7", {"a": {"temp": 21}}, "mapping/"),
        ("application/1/device/2/event/up", CHIRPSTACK4, "chirpstack4/milesight-em300-th"),
        ("node/sensor/co2/state", b"512", "esphome"),
        ("helium/x/rx", HELIUM, "helium/milesight-em300-th"),
        ("x", bytes.fromhex("01755c0367f40004687b"), "milesight-em300-th"),
    ],
)
def test_the_format_is_the_one_that_reads_the_message(topic, payload, name):
    found = guess(heard((topic, payload)), CODECS)
    assert found.formats[0].payload == name
    assert found.formats[0].why


def test_a_lorawan_uplink_brings_its_address_and_its_values():
    found = guess(heard(("application/1/device/2/event/up", CHIRPSTACK4)), CODECS)
    assert found.address == "24e124126a148401"
    assert {one.quantity for one in found.values} >= {"air_temperature", "relative_humidity"}


def test_one_value_a_topic_is_a_device_of_many_values():
    one = heard(
        ("farm/h1/n3/temperature", b"21.5"),
        ("farm/h1/n3/rh", b"60"),
        pattern="farm/h1/n3/{key}",
        device="n3",
    )
    assert guess(one, CODECS).entry(one, "node-3", "h1") == {
        "code": "node-3",
        "site": "h1",
        "payload": "value",
        "address": "n3",
        "interval": "60s",
        "series": [
            {"quantity": "air_temperature", "key": "temperature"},
            {"quantity": "relative_humidity", "key": "rh"},
        ],
    }


INVENTED = {
    "hdr": {"uid": "AX-7", "ts": "1767225598"},
    "payload": {
        "env": [{"n": "wendu", "v": "23.4C"}, {"n": "shidu", "v": "61%"}],
        "soil": {"ec-val": 850, "VWC": "0.31"},
        "bat_mv": 3600,
    },
}


def test_an_invented_layout_gets_a_mapping_that_reads_it():
    one = heard(("vendor/7", INVENTED))
    found = guess(one, CODECS, "node")
    codec = MappingCodec(read_mapping(found.mapping, "node.yaml"))
    (sample,) = codec.decode(one.samples[0].payload)
    assert sample.observed_at_us == 1_767_225_598_000_000
    assert sample.values == {
        "air_temperature": 23.4,
        "relative_humidity": 61,
        "soil_ec": 850,
        "soil_moisture": 0.31,
        "battery_voltage": 3600,
    }
    entry = found.entry(one, "node", "h1")
    text = write_yaml(entry)
    assert yaml.safe_load(text) == entry
    site = (
        "version: 1\nsites: [{code: h1, kind: greenhouse}]\nbroker: {host: x, topics: ['vendor/#',"
        " 'gh/{device}']}\n"
    )
    parts = {"device_files": [load(text, "d")], "mapping_files": [load(found.mapping, "m")]}
    device = read_site_file(site, "s", **parts).registry.device["node"]
    assert [one.unit for one in device.series] == ["°C", "%", "µS/cm", "m³/m³", "mV"]
    assert device.settings == {"topic": "vendor/7"}


NAMES = st.sampled_from(["temp", "a b", "x.y", "'", '"', "[0]", "soil", "ts", "n", "v", "é温", "1"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.sampled_from(["21.5 C", "1767225598", "2026-01-01T00:00:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_every_mapping_that_is_proposed_can_be_used(document):
    one = heard(("vendor/7", document))
    found = guess(one, CODECS, "m")
    if "path" in found.mapping.partition("values:")[2]:
        codec = MappingCodec(read_mapping(found.mapping, "m.yaml"))
        likely = {v.value for v in found.values if v.quantity and v.confidence >= 0.5}
        try:
            (sample,) = codec.decode(one.samples[0].payload)
        except DecodeError as error:
            pytest.fail(f"{error}\n{found.mapping}\n{document}")
        assert len(sample.values) == len([v for v in found.values if v.confidence >= 0.5])
        assert likely


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.text(max_size=30), st.sampled_from(["", "dev"]))
def test_no_bytes_on_any_topic_are_a_surprise(payload, topic, device):
    one = heard((topic, payload), device=device)
    found = guess(one, CODECS)
    write_yaml(found.entry(one, "c", "s"))


@settings(deadline=None)
@given(JSON, st.sampled_from(["zigbee2mqtt/a", "tele/a/SENSOR", "spBv1.0/a", "x"]))
def test_no_json_is_a_surprise(document, topic):
    guess(heard((topic, document)), CODECS)


@pytest.mark.parametrize("payload", [b"[" * 9999, b'{"a":' * 9999, b"1" * 5000, b"\xff\xfe", b""])
def test_what_breaks_parsers_breaks_no_guess(payload):
    guess(heard(("x", payload)), CODECS)


def test_a_sample_that_was_cut_is_not_guessed_at():
    assert guess(heard(("x", {"temp": 1}), cut=True), CODECS).formats == ()


def test_where_a_device_is_told_by_its_topics():
    strangers = Strangers([Template.parse("gh/{site}/{device}"), Template.parse("vendor/#")])
    told = {}
    for topic in ("gh/h1/AA-01", "vendor/7/up"):
        stranger = strangers.of(topic)
        one = heard((topic, b"1"), pattern=stranger.pattern, device=stranger.device)
        told[topic] = where_of(one, "node")
    assert told == {"gh/h1/AA-01": {"address": "AA-01"}, "vendor/7/up": {"topic": "vendor/7/up"}}
    assert where_of(heard(("gh/h1/node", b""), device="node"), "node") == {}


@given(st.dictionaries(st.sampled_from("abc"), st.text("0123456789eE+-.:_yesno~ 'é", max_size=6)))
def test_text_that_looks_like_something_else_stays_text(data):
    if data:
        assert load(write_yaml(data), "x.yaml").data == data
