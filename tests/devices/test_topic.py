"""Templates of topics: what they mean, that nothing is meant twice, and that the table agrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.series import Device, Transport
from devices.topic import (
    READ,
    Strangers,
    Template,
    TopicError,
    TopicTable,
    covers,
    filters_of,
    least,
    overlap,
    topics_of,
)

WORDS = st.text("abcXY09-_. 温", min_size=1, max_size=4).filter(lambda w: w not in ("+", "#"))
LEVELS = WORDS | st.sampled_from(["+", "{app}"])


@st.composite
def templates(draw):
    levels = draw(st.lists(LEVELS, min_size=1, max_size=4))
    names = draw(st.sampled_from([(), ("device",), ("site", "device"), ("device", "key")]))
    for name in (*names, *draw(st.sampled_from([()] if "key" in names else [(), ("channel",)]))):
        levels.insert(draw(st.integers(0, len(levels))), f"{{{name}}}")
    if draw(st.booleans()):
        levels.append("#")
    return Template.parse("/".join(levels))


@st.composite
def topics(draw, template):
    """A topic that *template* means."""
    words = []
    for level in template.levels:
        if level == "#":
            words += draw(st.lists(WORDS, max_size=3))
        else:
            words.append(draw(WORDS) if level == "+" or level[0] == "{" else level)
    return "/".join(words)


@given(st.data())
def test_what_a_template_reads_makes_the_topic_again(data):
    template = data.draw(templates())
    topic = data.draw(topics(template))
    words = template.match(topic)
    assert words is not None
    assert words.keys() == template.names.keys()
    filled = template.format(words)
    assert filled.match(topic) == {}
    if filled.is_topic:
        assert filled.text == topic
    assert covers(template.filter, topic)


@given(st.data())
def test_templates_that_share_a_topic_overlap_and_the_table_finds_both(data):
    one, other = data.draw(templates()), data.draw(templates())
    topic = data.draw(topics(one))
    if other.match(topic) is not None:
        assert overlap(one, other)
        assert overlap(other, one)
    table = TopicTable()
    table.add(one, "one")
    assert bool(list(table.meeting(other))) == overlap(one, other)


@given(st.data())
def test_the_table_finds_a_template_that_means_the_topic(data):
    known = data.draw(st.lists(templates(), min_size=1, max_size=5))
    table = TopicTable()
    for number, template in enumerate(known):
        table.add(template, number)
    topic = data.draw(topics(known[0]))
    found = table.find(topic)
    assert found is not None
    assert found[0].match(topic) is not None


@given(st.text(max_size=30), st.lists(templates(), max_size=3))
def test_no_topic_whatever_it_holds_is_a_surprise(topic, known):
    table = TopicTable()
    for template in known:
        table.add(template, None)
        template.match(topic)
    table.find(topic)
    stranger = Strangers(known).of(topic)
    if stranger.pattern != topic:
        assert Template.parse(stranger.pattern).match(topic) is not None


@given(st.lists(templates(), max_size=6))
def test_fewer_filters_hear_the_same(known):
    filters = [template.filter for template in known]
    kept = least(filters)
    assert set(kept) <= set(filters)
    for one in filters:
        assert any(covers(other, one) for other in kept)


@pytest.mark.parametrize(
    ("template", "topic", "words"),
    [
        ("gh/{site}/{device}", "gh/h1/node", {"site": "h1", "device": "node"}),
        ("gh/{site}/{device}", "gh/h1/node/x", None),
        ("gh/{site}/{device}", "gh/h1", None),
        ("gh/{site}/{device}", "gh//node", None),  # a site of no name is no site
        ("v3/{app}/devices/{device}/up", "v3/a@t/devices/eui-1/up", {"device": "eui-1"}),
        ("tele/+/SENSOR", "tele//SENSOR", {}),  # MQTT's + means an empty level, too
        ("farm/#", "farm", {}),
        ("farm/#", "farm/a/b/c", {}),
        ("#", "$SYS/broker/uptime", None),
        ("{device}/state", "$SYS/state", None),
        ("$SYS/#", "$SYS/broker/uptime", {}),
    ],
)
def test_a_template_means_as_mqtt_does(template, topic, words):
    assert Template.parse(template).match(topic) == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not empty"),
        ("gh//{device}", "no empty level"),
        ("gh/#/{device}", "# in the last level only"),
        ("gh/{device}/{device}", "at most once"),
        ("gh/{devcie}", "perhaps {device}"),
        ("gh/node-{device}", "fills its level"),
        ("gh/a+", "fills its level"),
        ("{device}/{key}/{quantity}", "{key} alone"),
        ("$share/us/{device}", "no shared subscription"),
        ("/".join("a" * 65), "at most 64 levels"),
    ],
)
def test_a_template_that_means_nothing_is_refused(text, said):
    with pytest.raises(TopicError, match=said.replace("{", r"\{")):
        Template.parse(text)


def test_the_most_specific_template_answers():
    table = TopicTable()
    for text in ("farm/#", "farm/{device}/{key}", "farm/node/{key}", "farm/{device}/state"):
        table.add(Template.parse(text), text)
    found = {
        topic: table.find(topic) for topic in ("farm/a/x", "farm/node/x", "farm/a/state", "farm")
    }
    assert {topic: entry[1] for topic, entry in found.items() if entry is not None} == {
        "farm/a/x": "farm/{device}/{key}",
        "farm/node/x": "farm/node/{key}",
        "farm/a/state": "farm/{device}/state",
        "farm": "farm/#",
    }
    assert table.find("elsewhere") is None


@pytest.mark.parametrize(
    ("template", "topic", "inner", "key"),
    [
        ("{device}/{key}", "n/CO2", "value", "CO2"),
        ("{device}/{key}", "n/CO2", "ppm", "CO2.ppm"),
        ("{device}/{quantity}/{channel}", "n/soil_moisture/2", "value", "soil_moisture.2"),
        ("{device}/{channel}", "n/2", "soil_moisture", "soil_moisture.2"),
        ("{device}/{channel}", "n/2", "value", "value.2"),
        ("{device}/up", "n/up", "co2", "co2"),
    ],
)
def test_the_topic_and_the_payload_name_a_value_together(template, topic, inner, key):
    one = Template.parse(template)
    assert one.key(one.match(topic), inner) == key


def _device(code, **settings):
    return Device(code, "h1", Transport.MQTT, settings=settings)


def test_an_address_stands_for_the_device_and_an_own_topic_for_all_templates():
    known = [Template.parse(text) for text in ("gh/{site}/{device}", "tele/{device}/SENSOR", "x/#")]
    told = [
        [topic.text for topic in topics_of(device, known)]
        for device in (
            _device("a"),
            _device("b", address="MAC"),
            _device("c", topic="{site}/c/{key}"),
        )
    ]
    assert told == [
        ["gh/h1/a", "tele/a/SENSOR"],
        ["gh/h1/MAC", "tele/MAC/SENSOR"],
        ["h1/c/{key}"],
    ]


def test_what_is_subscribed_to_already_is_not_subscribed_to_again():
    known = [Template.parse(text) for text in ("gh/{site}/{device}", "vendor/#")]
    devices = [_device("a", topic="vendor/7/{key}"), _device("b", topic="other/b")]
    assert filters_of(devices, known) == ("gh/+/+", "vendor/#", "other/b")


def test_topics_of_one_stranger_have_one_pattern():
    strangers = Strangers([Template.parse("farm/{site}/{device}/{key}"), Template.parse("farm/#")])
    one, other = strangers.of("farm/h1/n3/t"), strangers.of("farm/h1/n3/rh")
    assert one == other
    assert (one.pattern, one.site, one.device) == ("farm/h1/n3/{key}", "h1", "n3")
    assert strangers.of("farm/x").pattern == "farm/x"


def test_every_name_that_is_read_is_known():
    assert Template.parse("/".join(f"{{{name}}}" for name in READ if name != "key")).names_values
