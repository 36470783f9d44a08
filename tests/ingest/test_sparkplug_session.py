"""Sessions of edge nodes: births, deaths, aliases, sequences with loss, reorder and rebirth."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.codecs.sparkplug import SparkplugCodec
from devices.errors import DecodeError
from devices.quality import Quality
from ingest.collector import Arrival, ArrivalFlag
from ingest.sparkplug.sequence import Place, Sequence
from ingest.sparkplug.session import NodeState, Rules, due_at_us, recalled, tick
from ingest.sparkplug.topic import Kind, Node, Subject, read_topic, write_topic
from ingest.sparkplug.translation import translate
from tests.ingest.sparkplug_words import (
    SECOND,
    T0_US,
    arrival,
    dbirth,
    ddata,
    ddeath,
    nbirth,
    ndeath,
    payload,
    read,
)

GW = Node("g", "gw")
KNOWN = frozenset({"g/gw/d", "g/gw/e", "g/other/d"})
ASKING, SILENT = Rules(rebirth=True), Rules(rebirth=False)
ALIASES = {"temperature": 1, "humidity": 2}


class House:
    """A host without disk and clock: what it was told, and what it passed on."""

    def __init__(self, rules: Rules = ASKING, known=KNOWN) -> None:
        self.rules = rules
        self.known = known
        self.states: dict[Node, NodeState] = {}
        self.link = 1
        self.counts: dict[str, int] = {}
        self.gaps = []
        self.reborn = 0

    def hear(self, *arrivals: Arrival) -> list[Arrival]:
        done = translate(self.states, arrivals, self.rules, self.known, self.link)
        self.states.update(done.states)
        self.gaps += done.gaps
        self.reborn = max([self.reborn, *done.reborn.values()])
        for word, number in done.counts.items():
            self.counts[word] = self.counts.get(word, 0) + number
        return done.arrivals

    def values(self, *arrivals: Arrival) -> list[dict[str, float | None]]:
        return [
            dict(sample.values)
            for one in self.hear(*arrivals)
            for sample in SparkplugCodec().decode(one.payload)
        ]

    def wait(self, now_us: int, node: Node = GW) -> tuple[int, bool]:
        """Return what was lost and whether a rebirth is asked for, at *now_us*."""
        found = tick(self.states[node], now_us, self.rules)
        self.states[node] = found.state
        return found.lost, found.ask


def replayed(one: Arrival) -> Arrival:
    flags = int(ArrivalFlag.REPLAYED)
    return Arrival(one.source, one.topic, one.payload, one.received_at_us, flags)


def born(rules: Rules = ASKING) -> House:
    house = House(rules)
    house.hear(nbirth(), dbirth(1, ALIASES))
    return house


def test_data_by_alias_have_the_names_of_the_birth():
    assert born().values(ddata(2, {1: 21.5, 2: 60.0})) == [{"temperature": 21.5, "humidity": 60.0}]


def test_a_completed_message_keeps_everything_else_that_was_sent():
    sent = ddata(2, {1: 21.5})
    [passed] = born().hear(sent)
    before, after = read(sent.payload), read(passed.payload)
    assert (after.seq, after.timestamp, after.metrics[0].alias) == (2, before.timestamp, 1)
    assert (after.metrics[0].name, after.metrics[0].datatype) == ("temperature", 9)
    assert (passed.topic, passed.received_at_us) == (sent.topic, sent.received_at_us)


def test_births_pass_as_they_are_and_are_read():
    house = House()
    birth = dbirth(1, ALIASES)
    assert house.hear(nbirth(), birth) == [birth]


def test_a_node_s_own_births_and_data_pass_only_if_somebody_wants_them():
    metric = {"name": "battery", "alias": 9, "datatype": 9, "float_value": 3.6}
    assert House().values(nbirth(metrics=[metric])) == []
    house = House(known=frozenset({"g/gw"}))
    assert house.values(nbirth(metrics=[metric])) == [{"battery": pytest.approx(3.6)}]
    data = arrival("g/NDATA/gw", payload([{"alias": 9, "float_value": 3.5}], 1))
    assert house.values(data) == [{"battery": 3.5}]


def test_a_sequence_that_wraps_is_no_gap():
    house = born()
    for number in range(2, 600):
        house.hear(ddata(number % 256, {1: float(number)}))
    assert due_at_us(house.states[GW], ASKING) is None
    assert house.counts == {"births": 2}


def test_a_lost_message_is_missed_after_the_timeout_and_a_rebirth_is_asked_for():
    house = born()
    late = T0_US + SECOND
    assert house.values(ddata(2, {1: 1.0})) == [{"temperature": 1.0}]
    doubtful = ddata(4, {1: 2.0}, late)
    assert house.hear(doubtful) == [doubtful], "what was lost may have been a birth"
    assert due_at_us(house.states[GW], ASKING) == late + ASKING.reorder_us
    assert house.wait(late + ASKING.reorder_us - 1) == (0, False)
    assert house.wait(late + ASKING.reorder_us) == (1, True)
    still = ddata(5, {1: 3.0}, late + 3 * SECOND)
    assert house.hear(still) == [still]
    assert house.wait(late + 4 * SECOND) == (0, False), "the same gap is not missed twice"
    house.hear(nbirth(at_us=late + 5 * SECOND), dbirth(1, ALIASES, late + 5 * SECOND))
    assert house.reborn == late + 5 * SECOND
    for held, value in ((doubtful, 2.0), (still, 3.0)):
        assert house.values(replayed(held)) == [{"temperature": value}]


def test_a_host_that_may_not_ask_reads_on_after_a_loss():
    house = born(SILENT)
    assert house.values(ddata(4, {1: 2.0})) == [{"temperature": 2.0}]
    assert house.wait(T0_US + SILENT.reorder_us) == (2, False)
    assert house.values(ddata(5, {1: 3.0})) == [{"temperature": 3.0}]


def test_a_message_that_was_overtaken_is_no_loss():
    house = born()
    first, second = ddata(3, {1: 3.0}, T0_US + 1), ddata(4, {1: 4.0}, T0_US + 2)
    assert house.hear(first, second) == [first, second]
    assert house.values(ddata(2, {1: 2.0}, T0_US + 3)) == [{"temperature": 2.0}]
    assert house.reborn == T0_US + 3, "what waited for it is sent in again"
    assert house.values(replayed(first), replayed(second)) == [
        {"temperature": 3.0},
        {"temperature": 4.0},
    ]
    assert due_at_us(house.states[GW], ASKING) is None
    assert house.wait(T0_US + 60 * SECOND) == (0, False)


def test_a_message_that_comes_twice_passes_and_changes_nothing():
    house = born()
    house.hear(ddata(2, {1: 1.0}))
    before = house.states[GW]
    assert house.values(ddata(2, {1: 1.0})) == [{"temperature": 1.0}]
    assert (house.states[GW], house.counts["repeated_messages"]) == (before, 1)


def test_a_number_that_lies_behind_is_of_a_session_whose_birth_was_lost():
    house = born()
    for number in range(2, 9):
        house.hear(ddata(number, {1: float(number)}, T0_US + number * 1000))
    astray = ddata(3, {1: 77.0}, T0_US + SECOND)
    assert house.hear(astray) == [astray]
    again = ddata(9, {1: 78.0}, T0_US + 2 * SECOND)
    assert house.hear(again) == [again], "until a birth says what its aliases are"
    assert house.wait(T0_US + SECOND + ASKING.reorder_us) == (0, True)


def test_what_a_birth_overtook_is_read_only_if_both_births_agree():
    for aliases, is_read in ((ALIASES, True), ({"humidity": 1, "temperature": 2}, False)):
        house = born()
        data = ddata(2, {1: 5.0}, T0_US + SECOND)
        later = T0_US + 2 * SECOND
        house.hear(nbirth(at_us=later), dbirth(1, aliases, later))
        overtaken = Arrival(data.source, data.topic, data.payload, later + 1)
        assert (house.hear(overtaken) != [overtaken]) is is_read


def test_data_before_the_birth_stay_as_they_are_and_a_rebirth_is_asked_for():
    house = House()
    data = ddata(7, {1: 21.5})
    assert house.hear(data) == [data]
    with pytest.raises(DecodeError, match="E-ALIAS"):
        SparkplugCodec().decode(data.payload)
    assert house.counts["unknown_aliases"] == 1
    assert house.wait(T0_US + ASKING.reorder_us) == (0, True)


def test_replayed_data_are_read_by_the_birth_that_came_after_them():
    house = House()
    early = ddata(7, {1: 21.5}, T0_US - SECOND)
    house.hear(early, nbirth(), dbirth(1, ALIASES))
    before = house.states[GW]
    again = ddata(7, {1: 21.5}, T0_US - SECOND, flags=int(ArrivalFlag.REPLAYED))
    assert house.values(again) == [{"temperature": 21.5}]
    assert house.states[GW] == before, "what is replayed is not news"


def test_replayed_data_stay_unread_where_the_births_around_them_disagree():
    house = born()
    house.link += 1  # we were away; what was born meanwhile nobody knows
    doubtful = ddata(40, {1: 21.5, 2: 60.0}, T0_US + 5 * SECOND)
    assert house.hear(doubtful) == [doubtful]
    house.hear(nbirth(at_us=T0_US + 6 * SECOND))
    house.hear(dbirth(1, {"humidity": 1, "temperature": 2}, T0_US + 6 * SECOND))
    again = ddata(40, {1: 21.5, 2: 60.0}, T0_US + 5 * SECOND, flags=int(ArrivalFlag.REPLAYED))
    assert house.hear(again) == [again]


def test_replayed_data_are_read_where_the_births_around_them_agree():
    house = born()
    house.link += 1
    house.hear(ddata(40, {1: 21.5}, T0_US + 5 * SECOND))
    house.hear(nbirth(at_us=T0_US + 6 * SECOND))
    house.hear(dbirth(1, {"temperature": 1, "co2": 9}, T0_US + 6 * SECOND))
    again = ddata(40, {1: 21.5}, T0_US + 5 * SECOND, flags=int(ArrivalFlag.REPLAYED))
    assert house.values(again) == [{"temperature": 21.5}]


@pytest.mark.parametrize(
    ("aliases", "read"), [({"temperature": 1, "co2": 9}, "temperature"), ({"co2": 1}, None)]
)
def test_data_between_a_death_and_a_birth_are_read_if_the_sessions_agree(aliases, read):
    house = born()
    house.hear(ndeath(0, T0_US + SECOND))
    data = ddata(5, {1: 21.5}, T0_US + 2 * SECOND)  # of which session, if a birth was lost?
    assert house.hear(data) == [data]
    house.hear(nbirth(0, 1, T0_US + 3 * SECOND), dbirth(1, aliases, T0_US + 3 * SECOND))
    again = house.hear(replayed(data))
    assert again == [replayed(data)] if read is None else again != [replayed(data)]


def test_data_of_a_session_that_ended_unborn_are_nobodys():
    house = House()
    house.hear(nbirth())  # the device's own birth was lost
    data = ddata(2, {1: 21.5}, T0_US + SECOND)
    house.hear(data, ndeath(0, T0_US + 2 * SECOND), nbirth(0, 1, T0_US + 3 * SECOND))
    house.hear(dbirth(1, ALIASES, T0_US + 3 * SECOND))
    assert house.hear(replayed(data)) == [replayed(data)]


def test_an_alias_that_no_birth_told_of_is_kept_back():
    house = born()
    data = ddata(2, {1: 1.0, 9: 2.0})
    assert house.hear(data) == [data], "whole, or not at all"
    assert house.wait(T0_US + ASKING.reorder_us) == (0, True)


def test_a_device_that_dies_has_no_values_from_that_moment():
    house = born()
    at_us = T0_US + 9 * SECOND
    [dead] = house.hear(ddeath(2, at_us))
    assert dead.topic == "spBv1.0/g/DDEATH/gw/d"
    [sample] = SparkplugCodec().decode(dead.payload)
    assert sample.values == {"temperature": None, "humidity": None}
    assert (sample.observed_at_us, sample.quality) == (None, Quality.COMMUNICATION)
    [gap] = house.gaps
    assert (gap.source, gap.started_at_us, gap.ended_at_us) == ("sparkplug:g/gw/d", at_us, at_us)
    assert house.hear(ddeath(3, at_us + 1)) == [], "it dies once"


def test_a_node_s_death_is_the_death_of_every_device_that_was_online():
    house = born()
    house.hear(dbirth(2, {"co2": 3}, device="e"), ddeath(3, T0_US + SECOND))
    passed = house.hear(ndeath(0, T0_US + 2 * SECOND))
    assert [one.topic for one in passed] == ["spBv1.0/g/DDEATH/gw/e"], "d was dead already"
    assert [house.states[GW].devices[name].online for name in "de"] == [False, False]
    assert house.hear(ndeath(0, T0_US + 3 * SECOND)) == []


def test_those_who_come_back_leave_a_gap_of_the_time_they_were_away():
    house = born()
    gone_us, back_us = T0_US + SECOND, T0_US + 61 * SECOND
    house.hear(ndeath(0, gone_us), nbirth(0, 1, back_us), dbirth(1, ALIASES, back_us))
    assert {(gap.source, gap.started_at_us, gap.ended_at_us) for gap in house.gaps} == {
        ("sparkplug:g/gw", gone_us, gone_us),
        ("sparkplug:g/gw", gone_us, back_us),
    }
    party = house.states[GW].devices["d"]
    assert (party.online, party.since_us) == (True, back_us)


def test_the_late_will_of_an_old_session_is_nothing():
    house = born()
    house.hear(nbirth(0, 1), dbirth(1, ALIASES))
    assert house.hear(ndeath(0, T0_US + SECOND)) == []
    assert house.states[GW].itself.online and house.counts["stale_deaths"] == 1
    assert house.values(ddata(2, {1: 5.0})) == [{"temperature": 5.0}]
    assert len(house.hear(ndeath(1, T0_US + SECOND))) == 1


def test_a_death_without_a_number_is_believed():
    house = born()
    assert len(house.hear(ndeath(None, T0_US + SECOND))) == 1


def test_a_death_of_a_node_that_nobody_knew_is_kept_in_mind():
    house = House()
    assert house.hear(ndeath(3)) == []
    assert house.states[GW].itself.online is False
    data = ddata(1, {1: 1.0})
    assert house.hear(data) == [data]


def test_data_after_a_death_are_kept_back_until_the_birth():
    house = born()
    data = ddata(9, {1: 1.0}, T0_US + 2 * SECOND)
    assert house.hear(ndeath(0, T0_US + SECOND), data)[-1] is data


def test_a_birth_that_was_overtaken_by_its_device_s_birth_is_no_loss():
    house = born()
    house.hear(ndeath(0, T0_US + SECOND))
    later = T0_US + 5 * SECOND
    house.hear(dbirth(1, ALIASES, later), nbirth(0, 1, later + 1))
    assert house.values(ddata(2, {1: 4.0}, later + 2)) == [{"temperature": 4.0}]
    assert due_at_us(house.states[GW], ASKING) is None


def test_a_rebirth_gives_aliases_anew():
    house = born()
    house.hear(nbirth(), dbirth(1, {"temperature": 8, "co2": 1}))
    assert house.values(ddata(2, {1: 400.0, 8: 21.0})) == [{"co2": 400.0, "temperature": 21.0}]


def test_between_the_rebirth_of_a_node_and_that_of_its_device_no_alias_is_read():
    house = born()
    data = ddata(1, {1: 1.0})
    house.hear(nbirth())
    assert house.hear(data) == [data]


def test_requests_for_a_rebirth_keep_their_distance():
    house = House()
    asked = []
    for second in range(0, 3600):
        now_us = T0_US + second * SECOND
        house.hear(ddata(second % 256, {1: 1.0}, now_us))
        if house.wait(now_us)[1]:
            asked.append(second)
    assert asked[0] == 2
    assert [later - sooner for sooner, later in pairwise(asked)] == [
        10, 20, 40, 80, 160, 320, 600, 600, 600, 600,
    ]  # fmt: skip


def test_a_host_that_may_not_ask_does_not_ask():
    house = House(SILENT)
    house.hear(ddata(7, {1: 21.5}))
    assert house.wait(T0_US + 600 * SECOND) == (0, False)
    assert due_at_us(house.states[GW], SILENT) is None


def test_after_a_connection_of_ours_the_next_number_confirms_what_we_know():
    house = born()
    house.link += 1
    assert house.values(ddata(2, {1: 1.0})) == [{"temperature": 1.0}]
    assert not house.states[GW].in_doubt


def test_after_a_restart_aliases_wait_for_a_birth_if_one_can_be_asked_for():
    for rules, passes in ((ASKING, False), (SILENT, True)):
        house = born(rules)
        house.states[GW] = recalled(house.states[GW])
        data = ddata(77, {1: 1.0})
        [passed] = house.hear(data)
        assert (passed is not data) is passes
        assert house.wait(T0_US + rules.reorder_us) == (0, rules.rebirth)


def test_named_metrics_need_no_certificate():
    house = House()
    assert house.values(ddata(4, {"temperature": 20.0})) == [{"temperature": 20.0}]


def test_an_integer_that_came_by_name_gets_its_datatype_from_the_birth():
    house = House()
    metric = {"name": "count", "datatype": 3, "int_value": 0}
    house.hear(nbirth(), arrival("g/DBIRTH/gw/d", payload([metric], 1)))
    data = arrival("g/DDATA/gw/d", payload([{"name": "count", "int_value": 2**32 - 5}], 2))
    assert house.values(data) == [{"count": -5.0}]


def test_two_nodes_and_the_commands_of_another_host_do_not_mix():
    house = born()
    house.hear(nbirth(node="other"), dbirth(1, {"co2": 1}, node="other"))
    assert house.values(ddata(2, {1: 5.0}, node="other"), ddata(2, {1: 6.0})) == [
        {"co2": 5.0},
        {"temperature": 6.0},
    ]
    before = dict(house.states)
    command = arrival("g/NCMD/gw", payload([{"name": "Node Control/Rebirth"}]))
    state = Arrival("mqtt", "spBv1.0/STATE/other-host", b'{"online":true,"timestamp":1}', T0_US)
    assert house.hear(command, state) == [] and house.states == before


def test_what_is_no_protobuf_passes_and_becomes_a_dead_letter_elsewhere():
    broken = arrival("g/DDATA/gw/d", b"\xff\xff")
    house = born()
    before = dict(house.states)
    assert house.hear(broken) == [broken] and house.states == before


def test_a_retained_birth_is_old_news():
    house = House()
    birth = nbirth()
    retained = Arrival(birth.source, birth.topic, birth.payload, T0_US, int(ArrivalFlag.RETAINED))
    house.hear(retained)
    assert house.states == {}


def test_a_large_birth_is_cut_to_what_a_decoder_takes():
    house = House()
    names = {f"tag {number}": number for number in range(1200)}
    values = house.values(nbirth(), dbirth(1, names))
    assert [len(one) for one in values] == [500, 500, 200]
    assert set().union(*values) == set(names)


def test_other_messages_pass_unchanged():
    other = Arrival("mqtt", "gh/house/d", b"{}", T0_US)
    http = Arrival("http", "spBv1.0/g/DDATA/gw/d", b"{}", T0_US)
    assert born().hear(other, http) == [other, http]


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        ("spBv1.0/g/NDATA/n", Subject(Kind.NDATA, Node("g", "n"))),
        ("spBv1.0/g/DCMD/n/d", Subject(Kind.DCMD, Node("g", "n"), "d")),
        ("spBv1.0/STATE/host", None),
        ("spBv1.0/g/NDATA/n/d", None),
        ("spBv1.0/g/DDATA/n", None),
        ("spBv1.0/g/DDATA/n/", None),
        ("spBv1.0/g/XDATA/n", None),
        ("spAv1.0/g/NDATA/n", None),
        ("spBv1.0/g/DDATA/n/d/e", None),
    ],
)
def test_a_topic_says_whom_it_is_about(topic, subject):
    assert read_topic(topic) == subject
    if subject is not None:
        assert write_topic(subject) == topic


# The sequence beside a slow one that keeps every number it ever heard, unwrapped.


class SlowSequence:
    """Numbers without wrapping: what is missing is what lies below the highest and never came."""

    def __init__(self) -> None:
        self.heard: set[int] = set()
        self.first = 0

    def hear(self, number: int) -> bool:
        new = number not in self.heard
        self.heard.add(number)
        return new

    def missing(self) -> set[int]:
        if not self.heard:
            return set()
        return set(range(min(self.heard), max(self.heard))) - self.heard


@settings(max_examples=200)
@given(st.integers(0, 255), st.integers(0, 10**6), st.lists(st.integers(0, 9), max_size=400))
def test_a_sequence_misses_what_a_slow_one_misses(start, seed, delays):
    """Messages are delayed by up to 9 places and some are lost; none overtakes by more."""
    draw = random.Random(seed)
    sent = [start + offset for offset in range(len(delays))]
    kept = [
        (place + delay, number)
        for place, (number, delay) in enumerate(zip(sent, delays, strict=True))
        if place == 0 or draw.random() > 0.05
    ]
    # The first one comes first: that is the birth.
    order = [number for _, number in sorted(kept[1:])]
    order = [number for _, number in kept[:1]] + order
    fast, slow = Sequence(), SlowSequence()
    for number in order:
        fast, place = fast.hear(number, T0_US)
        new = slow.hear(number)
        assert (place in (Place.REPEATED, Place.ASTRAY)) is not new
        below = slow.missing()
        if len(slow.heard) and max(slow.heard) - min(below | {max(slow.heard)}) < 200:
            assert (fast.since_us is not None) == bool(below)
        lost = fast.give_up()[1]
        if max(slow.heard) - min(below | {max(slow.heard)}) < 200:
            assert lost == len(below)
        if lost > 20:  # as a host does after its timeout
            fast, _ = fast.give_up()
            slow.heard = set(range(min(slow.heard), max(slow.heard) + 1))


@settings(max_examples=150)
@given(st.data())
def test_a_translation_that_was_refused_can_be_taken_again(data):
    """Whatever came before, translating the same arrivals from the same states says the same."""
    house = House(data.draw(st.sampled_from([ASKING, SILENT])))
    at = T0_US
    makers = [
        lambda n, at: nbirth(0, n % 3, at),
        lambda n, at: ndeath(n % 3, at),
        lambda n, at: dbirth(n, {"temperature": n % 4, "humidity": 4 + n % 4}, at),
        lambda n, at: ddeath(n, at),
        lambda n, at: ddata(n, {n % 4: 1.0}, at),
        lambda n, at: ddata(n, {n % 4: 1.0}, at - SECOND, flags=int(ArrivalFlag.REPLAYED)),
    ]
    for maker, number in data.draw(
        st.lists(st.tuples(st.sampled_from(makers), st.integers(0, 255)), max_size=20)
    ):
        at += SECOND
        one = maker(number, at)
        first = translate(house.states, [one], house.rules, KNOWN, house.link)
        again = translate(house.states, [one], house.rules, KNOWN, house.link)
        assert first == again
        passed = house.hear(one)
        for other in passed:
            # What goes to the spool needs no state: it is read the same, now and at any time, and
            # a translation of what was translated changes nothing.
            fresh = House(house.rules)
            fresh.states = dict(house.states)
            flagged = Arrival(
                other.source, other.topic, other.payload, other.received_at_us,
                int(ArrivalFlag.REPLAYED),
            )  # fmt: skip
            [same] = fresh.hear(flagged) or [flagged]
            assert outcome(same.payload) == outcome(other.payload)


def outcome(data: bytes):
    try:
        return [
            (s.observed_at_us, dict(s.values), s.quality) for s in SparkplugCodec().decode(data)
        ]
    except DecodeError as error:
        return error.code
