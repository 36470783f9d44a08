"""Reads that are decoded together give what each of them gives alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.registers import Poll, Read, RegisterCodec, encode_poll
from devices.codecs.sample import BlockCodec
from devices.profile_library import shipped_profile, shipped_profile_names
from devices.registry import Registry
from devices.series import Device, Series, Transport
from devices.site import Medium, Placement, Site, SiteKind
from devices.units import Conversion
from ingest.collector import Arrival, ArrivalFlag
from ingest.decoder import Decoder
from ingest.modbus.poll_plan import plan_polls, wanted_points

NOW_US = 1_760_000_000_000_000
PROFILES = [shipped_profile(name) for name in shipped_profile_names()]
# Words that profiles know: error codes, ends of ranges, zero, NaN in either word order.
WORDS = [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x7FC0, 0x7F80, 0x41F4, 0x0999]


class OneByOne:
    """A codec that hides that its payloads could be decoded together."""

    def __init__(self, codec: RegisterCodec) -> None:
        self._codec = codec

    def decode(self, payload):
        return self._codec.decode(payload)


def _device(profile) -> Device:
    codes = [(point, point.quantity or "") for point in profile.series()]
    series = tuple(
        Series(
            profile.name,
            quantity,
            point.channel,
            point.key,
            "base",
            Placement.INSIDE,
            Medium.AIR,
            point.reading_unit,
            Conversion(),
            60.0,
        )
        for point, quantity in codes
    )
    return Device(profile.name, "base", Transport.MODBUS, profile.name, series=series)


def _registry(devices) -> Registry:
    site = Site("base", SiteKind.BASE, "base", "base", None)
    codes = [series.code for device in devices for series in device.series]
    return Registry((site,), devices, {code: n for n, code in enumerate(codes, 1)}, revision=1)


REGISTRY = _registry(tuple(_device(profile) for profile in PROFILES))
CODECS = {profile.name: RegisterCodec(profile) for profile in PROFILES}
TOGETHER = Decoder(REGISTRY, "gh/{site}/{device}", CODECS)
ALONE = Decoder(
    REGISTRY, "gh/{site}/{device}", {name: OneByOne(codec) for name, codec in CODECS.items()}
)


def _rows(decoded):
    batch = decoded.batch
    columns = (batch.series_id, batch.observed_at_us, batch.received_at_us, batch.value)
    # NaN is written as text: it is equal to nothing, and here it must be.
    rows = zip(
        decoded.origin.tolist(),
        *(column.tolist() for column in columns),
        batch.quality.tolist(),
        strict=True,
    )
    return sorted(tuple(map(repr, row)) for row in rows)


@st.composite
def arrivals(draw):
    """A poll of one of the shipped profiles: any registers, some reads without an answer."""
    profile = draw(st.sampled_from(PROFILES))
    wanted = wanted_points(profile, 10.0)
    keys: tuple[str, ...] = ()
    if len(wanted) > 1 and draw(st.booleans()):
        keys = tuple(draw(st.lists(st.sampled_from(sorted(wanted)), min_size=1, unique=True)))
        wanted = {key: wanted[key] for key in keys}
    word = st.sampled_from(WORDS) | st.integers(0, 0xFFFF)
    reads = []
    for group in plan_polls(profile, 1, wanted):
        for planned in group.reads:
            ask = planned.request
            # Late, early, and far from any time that a poll can have.
            at_us = NOW_US + draw(st.sampled_from([0, -1_000_000, 500_000, -(10**14), 10**12]))
            head = ask.function, ask.address, ask.count, at_us
            if draw(st.integers(0, 9)) == 0:
                reads.append(Read(*head, error="E-MB-TIMEOUT", text="unit 1 after 1.00 s"))
                continue
            words = draw(st.lists(word, min_size=ask.data_bytes, max_size=ask.data_bytes))
            data = b"".join(number.to_bytes(2, "big") for number in words)[: ask.data_bytes]
            reads.append(Read(*head, data))
    flags = draw(st.sampled_from([ArrivalFlag.NONE, ArrivalFlag.NONE, ArrivalFlag.RETAINED]))
    payload = encode_poll(Poll("north", 1, tuple(reads), keys))
    if draw(st.integers(0, 19)) == 0:
        payload = payload[: len(payload) // 2]
    return Arrival("modbus", profile.name, payload, NOW_US, int(flags))


@given(st.lists(arrivals(), max_size=6))
def test_blocks_decoded_together_are_what_they_are_alone(batch):
    together, alone = TOGETHER.decode(batch), ALONE.decode(batch)
    assert _rows(together) == _rows(alone)
    assert np.all(np.diff(together.origin) >= 0)
    # The words differ where a read of several qualities is late: it is one block, but two samples.
    assert [(letter.payload, letter.code) for letter in together.letters] == [
        (letter.payload, letter.code) for letter in alone.letters
    ]
    assert (together.messages, together.unknown_keys) == (alone.messages, alone.unknown_keys)
    assert together.ignored_fields == alone.ignored_fields


def test_register_codec_gives_blocks_where_nothing_spoils():
    codec = CODECS["sn-3001-tr-ecthnpkph-n01"]
    assert isinstance(codec, BlockCodec)
    assert not isinstance(OneByOne(codec), BlockCodec)
    read = Read(3, 0, 9, NOW_US, bytes(18))
    (block,) = codec.blocks(encode_poll(Poll("north", 1, (read,)))) or []
    assert (block.observed_at_us, block.data) == (NOW_US, bytes(18))
    assert "soil_moisture" in " ".join(block.columns.keys)
    silent = Read(3, 0, 9, NOW_US, error="E-MB-TIMEOUT", text="unit 1 after 1.00 s")
    assert codec.blocks(encode_poll(Poll("north", 1, (silent,)))) is None
    vaisala = CODECS["vaisala-gmp252"]
    read = Read(3, 0, 2, NOW_US, bytes(4))
    assert vaisala.blocks(encode_poll(Poll("north", 1, (read,)))) is None


def test_register_without_a_series_is_told_for_blocks_too():
    profile = shipped_profile("sn-3001-tr-ecthnpkph-n01")
    device = _device(profile)
    known = _registry((replace(device, series=device.series[:2]),))
    read = Read(3, 0, 9, NOW_US, bytes(18))
    arrival = Arrival("modbus", profile.name, encode_poll(Poll("north", 1, (read,))), NOW_US)
    codec = CODECS[profile.name]
    found = [
        Decoder(known, "gh/{site}/{device}", {profile.name: one}).decode([arrival])
        for one in (codec, OneByOne(codec))
    ]
    assert _rows(found[0]) == _rows(found[1])
    assert len(found[0].batch) == 2
    assert found[0].letters == found[1].letters
    assert found[0].letters[0].code == "E-KEY"
    assert found[0].unknown_keys == found[1].unknown_keys > 0


def test_blocks_and_samples_of_one_batch_keep_the_order_of_their_arrivals():
    soil, vaisala = shipped_profile("sn-3001-tr-ecthnpkph-n01"), shipped_profile("vaisala-gmp252")
    read = Read(3, 0, 9, NOW_US, bytes(18))
    block = Arrival("modbus", soil.name, encode_poll(Poll("north", 1, (read,))), NOW_US)
    (group, *_) = plan_polls(vaisala, 1, wanted_points(vaisala, 10.0))
    reads = tuple(
        Read(p.request.function, p.request.address, p.request.count, NOW_US, error="E", text="-")
        for p in group.reads
    )
    sample = Arrival("modbus", vaisala.name, encode_poll(Poll("north", 1, reads)), NOW_US)
    decoded = TOGETHER.decode([sample, block, sample, block])
    assert sorted(set(decoded.origin.tolist())) == [0, 1, 2, 3]
    assert np.all(np.diff(decoded.origin) >= 0)
    assert decoded.origin.dtype == np.int32
    for column in (decoded.batch.series_id, decoded.batch.value, decoded.batch.observed_at_us):
        assert column.flags.c_contiguous


@pytest.mark.parametrize("count", [1, 2, 300])
def test_many_polls_of_one_device_keep_their_own_times(count):
    soil = shipped_profile("sn-3001-tr-ecthnpkph-n01")
    polls = [
        Arrival(
            "modbus",
            soil.name,
            encode_poll(Poll("north", 1, (Read(3, 0, 9, NOW_US + n, bytes([0, n % 200] * 9)),))),
            NOW_US + 2 * n,
        )
        for n in range(count)
    ]
    batch = TOGETHER.decode(polls).batch
    width = len(list(soil.series()))
    assert batch.observed_at_us.tolist() == [NOW_US + n for n in range(count) for _ in range(width)]
    assert batch.received_at_us[::width].tolist() == [NOW_US + 2 * n for n in range(count)]
