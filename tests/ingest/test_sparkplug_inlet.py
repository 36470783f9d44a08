"""The place before the spool: what is believed when, what outlives a process, what is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from devices.codecs.sparkplug import SparkplugCodec
from devices.gap import Gap
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement
from devices.units import conversion
from ingest.collector import Arrival, SpoolFull
from ingest.counters import Counters
from ingest.sparkplug.agreement import disagreements
from ingest.sparkplug.inlet import SparkplugInlet
from ingest.sparkplug.session import Certificate, Rules, Told
from ingest.sparkplug.shelf import Shelf
from ingest.sparkplug.topic import Node
from tests.ingest.sparkplug_words import SECOND, T0_US, dbirth, ddata, nbirth, ndeath

GW = Node("g", "gw")
ALIASES = {"temperature": 1}


class Spool:
    """Takes everything, unless it is full."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.full = False

    async def accept(self, arrivals):
        if self.full:
            raise SpoolFull("no room")
        self.arrivals += arrivals


class Ledger:
    def __init__(self) -> None:
        self.gaps: list[Gap] = []

    async def record(self, gap: Gap) -> None:
        self.gaps.append(gap)


class Room:
    def __init__(self, folder: Path, rules: Rules | None = None) -> None:
        self.spool, self.ledger, self.counters, self.link = Spool(), Ledger(), Counters(), 1
        self.inlet = SparkplugInlet(
            self.spool,
            rules or Rules(rebirth=True),
            Shelf(folder / "sparkplug"),
            lambda: frozenset({"g/gw/d"}),
            lambda: self.link,
            self.ledger,
            self.counters,
        )

    def values(self) -> list[dict[str, float | None]]:
        return [
            dict(sample.values)
            for one in self.spool.arrivals
            for sample in SparkplugCodec().decode(one.payload)
        ]


async def test_what_a_full_spool_refused_has_not_happened(tmp_path):
    room = Room(tmp_path)
    room.spool.full = True
    for _ in range(3):
        with pytest.raises(SpoolFull):
            await room.inlet.accept([nbirth(), dbirth(1, ALIASES), ddata(2, {1: 5.0})])
    assert room.inlet.status() == () and not room.counters.sparkplug
    room.spool.full = False
    await room.inlet.accept([nbirth(), dbirth(1, ALIASES), ddata(2, {1: 5.0})])
    assert room.values() == [{"temperature": 1.0}, {"temperature": 5.0}]
    assert room.counters.sparkplug == {"births": 2}


async def test_a_certificate_is_on_the_disk_before_its_birth_is_accepted(tmp_path):
    room = Room(tmp_path)
    room.spool.full = True
    with pytest.raises(SpoolFull):
        await room.inlet.accept([nbirth(), dbirth(1, ALIASES)])
    assert [state.name for state in Shelf(tmp_path / "sparkplug").load()] == [GW]


async def test_a_later_process_knows_the_aliases_and_doubts_them(tmp_path):
    await Room(tmp_path).inlet.accept([nbirth(), dbirth(1, ALIASES)])
    data = ddata(9, {1: 5.0}, T0_US + SECOND)
    asking, silent = Room(tmp_path), Room(tmp_path, Rules(rebirth=False))
    for room in (asking, silent):
        await room.inlet.recall()
        await room.inlet.accept([data])
    assert silent.values() == [{"temperature": 5.0}]
    assert asking.spool.arrivals == [data], "kept back, as it came"
    assert await asking.inlet.tick(T0_US + 3 * SECOND) == [GW]


async def test_a_certificate_that_is_junk_is_left_out_and_the_others_are_read(tmp_path):
    room = Room(tmp_path)
    await room.inlet.accept([nbirth(), nbirth(node="other")])
    files = sorted((tmp_path / "sparkplug").glob("*.json"))
    assert len(files) == 2
    files[0].write_bytes(b"{")
    assert len(Shelf(tmp_path / "sparkplug").load()) == 1


async def test_a_disk_that_keeps_no_certificates_costs_a_line_and_not_the_readings(
    tmp_path, caplog
):
    (tmp_path / "sparkplug").write_text("a file where the folder should be")
    room = Room(tmp_path)
    await room.inlet.accept([nbirth(), dbirth(1, ALIASES)])
    await room.inlet.accept([ddata(2, {1: 5.0})])
    assert room.values()[-1] == {"temperature": 5.0}
    assert caplog.text.count("certificates cannot be kept") == 1


async def test_a_lost_message_is_a_gap_and_a_request(tmp_path):
    room = Room(tmp_path)
    await room.inlet.accept([nbirth(), dbirth(1, ALIASES)])
    await room.inlet.accept([ddata(5, {1: 5.0}, T0_US + SECOND)])
    assert room.inlet.due_at_us() == T0_US + 3 * SECOND
    assert await room.inlet.tick(T0_US + 3 * SECOND) == [GW]
    assert room.counters.sparkplug["lost_messages"] == 3
    [gap] = room.ledger.gaps
    assert (gap.source, gap.reason) == ("sparkplug:g/gw", "sequence")
    assert (gap.started_at_us, gap.ended_at_us) == (T0_US + SECOND, T0_US + 3 * SECOND)
    assert room.inlet.status()[0].problem


async def test_a_birth_lets_the_letters_before_it_be_replayed_once(tmp_path):
    room = Room(tmp_path)
    await room.inlet.accept([nbirth(), dbirth(1, ALIASES, T0_US + 5)])
    assert room.inlet.reborn() == {GW: T0_US + 5}
    await room.inlet.accept([dbirth(2, ALIASES, T0_US + 9)])
    room.inlet.note_replayed(GW, T0_US + 5)
    assert room.inlet.reborn() == {GW: T0_US + 9}, "born again meanwhile"
    room.inlet.note_replayed(GW, T0_US + 9)
    assert room.inlet.reborn() == {}


async def test_calls_that_overlap_keep_the_order_of_a_node(tmp_path):
    room = Room(tmp_path)
    messages = [nbirth(), dbirth(1, ALIASES), *(ddata(n, {1: float(n)}) for n in range(2, 40))]
    await asyncio.gather(*(room.inlet.accept([one]) for one in messages))
    assert room.values() == [{"temperature": float(n)} for n in range(1, 40)]
    assert room.counters.sparkplug == {"births": 2}


async def test_status_tells_who_is_online_since_when(tmp_path):
    room = Room(tmp_path)
    await room.inlet.accept([nbirth(), dbirth(1, ALIASES), ndeath(0, T0_US + SECOND)])
    assert [(one.address, one.online, one.since_us) for one in room.inlet.status()] == [
        ("g/gw", False, T0_US + SECOND),
        ("g/gw/d", False, T0_US + SECOND),
    ]


def series(key: str, unit: str) -> Series:
    line = conversion(unit, "°C")
    where = ("base", Placement.INSIDE, Medium.AIR)
    return Series("dev", "air_temperature", "", key, *where, unit, line, 60.0)


@pytest.mark.parametrize(
    ("key", "unit", "born_unit", "text"),
    [
        ("Air/Temp", "°C", "°C", None),
        ("Air/Temp", "°C", "degC", None),
        ("Air/Temp", "°C", "", None),
        ("Air/Temp", "°C", "°F", "in °F, the site file says °C"),
        ("Air/Temp", "°F", "°F", None),
        ("Air/Temp", "°C", "bananas", "in bananas, the site file says °C"),
        ("Air/Temq", "°C", "°C", "no metric 'Air/Temq' (did you mean 'Air/Temp'?)"),
    ],
)
def test_a_birth_is_held_to_the_site_file(key, unit, born_unit, text):
    device = Device("dev", "base", Transport.MQTT, "sparkplug", series=(series(key, unit),))
    birth = Certificate(T0_US, {"Air/Temp": Told(1, 9, born_unit)})
    found = disagreements(device, birth)
    assert (not found) if text is None else (len(found) == 1 and text in found[0])
