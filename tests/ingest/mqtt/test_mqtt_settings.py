"""What a broker could not take is said before it is tried."""

from __future__ import annotations

import pytest

from ingest.mqtt.settings import MqttSettings, SettingsError, filter_mistake


def settings(**changes):
    given = {"host": "h", "port": 1883, "client_id": "c", "topic_filters": ("gh/+/+",)}
    return MqttSettings(**(given | changes))


def test_secrets_are_not_shown():
    shown = repr(settings(username="u", password=b"secret"))
    assert "secret" not in shown and "'u'" in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": 0}, "port: got 0, expected 1 to 65535"),
        ({"port": 70_000}, "port: got 70000"),
        ({"keepalive_s": 0}, "keepalive_s: got 0, expected 1 to 65535"),
        ({"session_expiry_s": -1}, "session_expiry_s: got -1"),
        ({"receive_maximum": 65_536}, "receive_maximum: got 65536"),
        ({"max_packet_bytes": 10}, "max_packet_bytes: got 10"),
        ({"client_id": ""}, "client_id: got nothing"),
        ({"password": b"x"}, "password: got one without a username"),
        ({"topic_filters": ()}, "topic_filters: got none"),
        ({"topic_filters": ("a", "gh/te+mp")}, "got 'gh/te+mp', expected + to stand alone"),
    ],
)
def test_each_mistake_is_named(changes, words):
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    assert words in str(caught.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        settings(port=0, client_id="", topic_filters=("#/a",))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("good", ["#", "+", "gh/#", "gh/+/+", "+/b/#", "/", "gh//x", "温室/+"])
def test_good_filters(good):
    assert filter_mistake(good) is None


@pytest.mark.parametrize(
    "bad", ["", "gh/#/x", "gh/te+mp", "gh/x#", "a\0b", "x" * 65_536, "$share/g/gh/#", "++", "##"]
)
def test_bad_filters(bad):
    assert filter_mistake(bad)


def test_where_tells_the_address():
    assert settings().where == settings().broker == "h:1883"
