import pytest

from devices.document import load
from devices.errors import DocumentError
from devices.series import Transport
from devices.site import Medium, Placement, SiteKind
from devices.site_file import read_site_file

GOOD = """
version: 1
sites:
  - code: shouguang
    kind: county
    name: {zh: 寿光市, en: Shouguang}
    latitude: 36.88
    longitude: 118.74
    altitude_m: 23
    sites:
      - code: base-1
        kind: base
        name: {zh: 示范基地}
        sites:
          - {code: h1, kind: greenhouse, area_m2: 2400, crop: tomato}
          - {code: yard, kind: zone, timezone: Europe/Amsterdam, altitude_m: -2}
broker:
  host: 127.0.0.1
retention: {default: 400d, co2: 30d}
devices:
  - code: h1-climate
    site: h1
    interval: 10s
    series:
      - {quantity: air_temperature, key: t, unit: °F}
      - {quantity: relative_humidity}
      - {quantity: soil_moisture, channel: 2, placement: root_zone, interval: 5min}
  - code: push
    site: yard
    transport: http
    placement: outdoor
    series: [{quantity: wind_speed, unit: km/h}]
"""


def _mistakes(text):
    with pytest.raises(DocumentError) as error:
        read_site_file(text, "site.yaml")
    return [str(mistake) for mistake in error.value.mistakes]


def test_a_site_file_becomes_sites_devices_and_series():
    site_file = read_site_file(GOOD, "site.yaml")
    registry = site_file.registry
    assert [site.code for site in registry.ancestors("h1")] == ["h1", "base-1", "shouguang"]
    assert registry.site["h1"].kind is SiteKind.GREENHOUSE
    assert registry.site["base-1"].name_en == "示范基地"  # a name in one language serves both
    temperature, humidity, moisture = registry.device["h1-climate"].series
    assert temperature.code == "h1-climate.air_temperature"
    assert temperature.key == "t"
    assert 77 * temperature.conversion.scale + temperature.conversion.offset == pytest.approx(25)
    assert humidity.key == "relative_humidity"
    assert humidity.interval_s == 10.0
    assert moisture.code == "h1-climate.soil_moisture.2"
    assert moisture.key == "soil_moisture.2"
    assert (moisture.placement, moisture.medium) == (Placement.ROOT_ZONE, Medium.SOIL)
    assert moisture.interval_s == 300.0
    assert registry.device["push"].transport is Transport.HTTP
    assert site_file.retention_s == {"default": 400 * 86400.0, "co2": 30 * 86400.0}


def test_place_and_time_zone_hold_for_the_sites_below_unless_they_say_otherwise():
    site = read_site_file(GOOD, "site.yaml").registry.site
    assert (site["h1"].latitude, site["h1"].altitude_m) == (36.88, 23)
    assert site["h1"].timezone == "Asia/Shanghai"
    assert (site["yard"].timezone, site["yard"].altitude_m) == ("Europe/Amsterdam", -2)


# One change to the good file, and what must be said about it: line, key, got, expected, hint.
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: 1", "version: 2", "site.yaml:2:1 version: got 2, expected 1: the file is newer"),
        ("version: 1", "version: yes", "version: got 'yes', expected one of 1"),
        ("kind: county", "kind: county town", "one of city, county"),
        ("kind: base\n", "kind: city\n", "sites[0].sites[0].kind: got 'city', expected inside a"),
        ("code: base-1", "code: h1", "got 'h1', expected a code that no other site has"),
        ("code: base-1", "code: Base 1", "lower-case letters, digits"),
        ("latitude: 36.88", "latitude: 368.8", "less than or equal to 90"),
        ("latitude: 36.88", "latitude: .nan", "expected a number"),
        ("Europe/Amsterdam", "Europe/Amsterdan", "(did you mean 'Europe/Amsterdam'?)"),
        ("  host: 127.0.0.1", "  port: 1883", "broker.host: got nothing, expected the key 'host'"),
        ("  host: 127.0.0.1", "  host: x\n  port: 70000", "broker.port: got 70000"),
        ("  host: 127.0.0.1", "  host: x\n  port: abc", "broker.port: got 'abc', expected a whole"),
        ("  host: 127.0.0.1", "  host: x\n  topic: gh/#/{device}", "# in the last level only"),
        ("  host: 127.0.0.1", "  host: x\n  topic: gh/device", "one level {device}"),
        ("  host: 127.0.0.1", "  host: x\n  tls: {cert_file: a}", "cert_file and key_file"),
        ("  host: 127.0.0.1", "  host: x\n  password: secret", "broker.password: got 'password'"),
        ("  host: 127.0.0.1", "  host: x\n  password_file: p", "a username beside it"),
        ("broker:\n  host: 127.0.0.1\n", "", "a broker section for its MQTT transport"),
        ("co2: 30d", "c02: 30d", "retention.c02: got 'c02'"),
        ("co2: 30d", "co2: 30", "retention.co2: got 30, expected a duration"),
        ("interval: 10s", "intervall: 10s", "(did you mean 'interval'?)"),
        ("interval: 10s", "interval: 0s", "a duration longer than nothing"),
        ("interval: 10s", "interval: 1:30", "a duration with its unit"),
        ("site: h1\n", "site: h11\n", "got 'h11', expected the code of a site above"),
        ("transport: http", "transport: htp", "(did you mean 'http'?)"),
        ("unit: °F", "unit: kPa", "kPa measures"),
        ("unit: °F", "unit: degX", "unknown unit 'degX'"),
        ("air_temperature", "air_temprature", "(did you mean 'air_temperature'?)"),
        ("{quantity: relative_humidity}", "{quantity: air_temperature}", "each series of a device"),
        ("{quantity: relative_humidity}", "{quantity: co2, key: t}", "a key that no other series"),
        ("code: push", "code: h1-climate", "got 'h1-climate', expected a code that no other dev"),
        ("series: [{quantity: wind_speed, unit: km/h}]", "series: []", "at least one entry"),
        ("series: [{quantity: wind_speed, unit: km/h}]", "series: wind", "expected a list"),
    ],
)
def test_each_mistake_is_named(old, new, said):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    assert any(said in mistake for mistake in _mistakes(text)), _mistakes(text)


def test_mistakes_of_shape_and_of_meaning_are_reported_together():
    text = (
        GOOD.replace("kind: base\n", "kind: bases\n")
        .replace("interval: 10s", "interval: 10")
        .replace("unit: °F", "unit: kPa")
        .replace("site: yard", "site: jard")
    )
    keys = [mistake.split(" ")[1] for mistake in _mistakes(text)]
    assert keys == [
        "sites[0].sites[0].kind:",
        "devices[0].interval:",
        "devices[0].series[0].unit:",
        "devices[1].site:",
    ]


BUSES = """
version: 1
sites: [{code: h4, kind: greenhouse}]
buses:
  - {code: north, transport: rtu_over_tcp, addresses: ["127.0.0.1:8899"]}
devices:
  - {code: air, site: h4, transport: modbus, bus: north, unit: 1, profile: renke-rs-ws-n01}
  - code: soil
    site: h4
    transport: modbus
    bus: north
    unit: 2
    profile: zts-3000-tr-ecws-n01
    placement: root_zone
    series: [{quantity: soil_ec, interval: 1min, name: {en: Bed 3}}]
"""


def test_a_modbus_device_has_the_series_of_its_profile_or_those_that_are_listed():
    site_file = read_site_file(BUSES, "site.yaml")
    series = site_file.registry.series
    assert set(series) == {"air.relative_humidity", "air.air_temperature", "soil.soil_ec"}
    assert series["soil.soil_ec"].interval_s == 60.0
    assert series["soil.soil_ec"].name_en == "Bed 3"
    assert series["soil.soil_ec"].conversion.is_identity  # the profile brings it to mS/cm
    air, soil = site_file.slaves["north"]
    assert (air.unit, soil.unit, soil.profile.name) == (1, 2, "zts-3000-tr-ecws-n01")
    assert site_file.registry.device["air"].payload == "modbus/renke-rs-ws-n01"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bus: north, unit", "bus: nort, unit", "(did you mean 'north'?)"),
        ("bus: north, unit", "unit", "got nothing, expected the code of a bus above"),
        ("unit: 1,", "unit: 248,", "less than or equal to 247"),
        ("profile: renke-rs-ws-n01", "profile: renke-rs-ws", "(did you mean 'renke-rs-ws-n01'?)"),
        ("unit: 1,", "unit: 1, payload: json,", "no payload: the profile says how"),
        ("quantity: soil_ec", "quantity: soil_ph", "a point of profile zts-3000-tr-ecws-n01"),
        ("quantity: soil_ec", "quantity: soil_ec, unit: uS/cm", "no unit: the profile has it"),
        ("transport: rtu_over_tcp", "transport: rtu_over_tpc", "(did you mean 'rtu_over_tcp'?)"),
        (', addresses: ["127.0.0.1:8899"]', "", "host:port of the gateway"),
        ("transport: modbus, bus: north, unit: 1", "transport: http", "or transport: modbus"),
    ],
)
def test_each_mistake_about_a_bus_is_named(old, new, said):
    assert old in BUSES
    text = BUSES.replace(old, new, 1)
    assert any(said in mistake for mistake in _mistakes(text)), _mistakes(text)


TOPICS = """
version: 1
sites: [{code: h1, kind: greenhouse}, {code: h2, kind: greenhouse}]
broker: {host: x, topics: [TEMPLATES]}
devices:
  - {code: a, site: h1, DEVICE_A, series: [{quantity: co2}]}
  - {code: b, site: h2, DEVICE_B, series: [{quantity: co2}]}
"""


@pytest.mark.parametrize(
    ("templates", "a", "b", "said"),
    [
        ("'gh/{device}'", "address: N1", "address: N1", "does not have (gh/N1)"),
        (
            "'gh/{device}'",
            "topic: x/+",
            "topic: 'x/{key}'",
            "that device a does not have (x/{key})",
        ),
        ("'gh/{device}'", "topic: gh/b", "name: {}", "devices[1].code: got 'b', expected a topic"),
        ("'gh/{device}'", "topic: '{device}/'", "name: {}", "no empty level"),
        ("'gh/{device}'", "address: a/b", "name: {}", "a device that can be a level of a topic"),
        ("'gh/{device}', '{device}/a'", "name: {}", "name: {}", "no topic that gh/{device} reads"),
        ("'gh/{device}', 'gh/{device}'", "name: {}", "name: {}", "each template once"),
        ("'gh/#'", "topic: gh/1", "name: {}", "no template of the broker names a device"),
        ("'gh/{device}'", "transport: http, topic: x", "name: {}", "transport: mqtt beside it"),
        ("'gh/{device}'], topic: 'gh/{device}', topics: [x", "name: {}", "name: {}", "second time"),
    ],
)
def test_topics_that_cannot_be_told_apart_are_named(templates, a, b, said):
    text = TOPICS.replace("TEMPLATES", templates).replace("DEVICE_A", a).replace("DEVICE_B", b)
    assert any(said in mistake for mistake in _mistakes(text)), _mistakes(text)


@pytest.mark.parametrize(
    ("templates", "a", "b"),
    [
        ("'gh/{site}/{device}'", "address: N1", "address: N1"),  # the site tells them apart
        ("'gh/{device}', 'vendor/#'", "topic: vendor/1", "topic: vendor/2"),
        ("'gh/{device}', 'gh/{device}/#'", "name: {}", "name: {}"),
        ("'gh/{device}', 'gh/{device}/{key}'", "topic: 'farm/a/{key}'", "topic: 'farm/b/{key}'"),
    ],
)
def test_topics_that_can_be_told_apart_are_sound(templates, a, b):
    text = TOPICS.replace("TEMPLATES", templates).replace("DEVICE_A", a).replace("DEVICE_B", b)
    read_site_file(text, "site.yaml")


def test_a_mistake_in_a_device_file_is_told_there():
    part = load("code: c\nsite: h1\nseries:\n  - {quantity: co22}\n", "site.d/devices/c.yaml")
    with pytest.raises(DocumentError) as error:
        read_site_file(GOOD, "site.yaml", device_files=[part])
    (mistake,) = error.value.mistakes
    assert str(mistake).startswith("site.d/devices/c.yaml:4:6 series[0].quantity: got 'co22'")


def test_a_device_file_is_one_more_entry_of_devices():
    part = load("{code: c, site: h1, series: [{quantity: co2}]}", "c.yaml")
    codes = list(read_site_file(GOOD, "site.yaml", device_files=[part]).registry.device)
    assert codes == [*read_site_file(GOOD, "site.yaml").registry.device, "c"]
