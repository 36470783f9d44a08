from __future__ import annotations

import pytest

from devices.profile_library import shipped_profile
from firmware_sims.modbus_mixer import PROFILE, Mixer, mixer_slave

BEGIN_S = 1_760_000_400.0  # a multiple of 900 s, so that it begins with watering
READ_EC = bytes.fromhex("03 0000 0001")


def _set_ec(value: int) -> bytes:
    return bytes.fromhex("06 0064") + value.to_bytes(2, "big")


def test_solution_follows_the_set_point_and_does_not_jump_to_it():
    slave = mixer_slave(5, BEGIN_S)
    assert slave.answer(READ_EC, BEGIN_S + 1) == bytes.fromhex("03 02 0104")  # 2.60 mS/cm
    assert slave.answer(_set_ec(220), BEGIN_S + 2) == _set_ec(220)
    values = [
        int.from_bytes(slave.answer(READ_EC, BEGIN_S + at_s)[2:], "big") for at_s in (10, 60, 600)
    ]
    assert 250 < values[0] < 260
    assert 228 < values[1] < 245
    assert values[2] == 220


def test_it_waters_two_minutes_of_every_quarter_and_counts_the_litres():
    mixer = Mixer(BEGIN_S)
    counted = [mixer("irrigation_volume", BEGIN_S + at_s) for at_s in (0, 60, 120, 800, 960)]
    assert counted == [12_000, 12_060, 12_120, 12_120, 12_180]
    states = [mixer("pump_state", BEGIN_S + at_s) for at_s in (60, 200)]
    assert states == [1.0, 0.0]
    assert [mixer("flow_rate", BEGIN_S + at_s) for at_s in (60, 200)] == [60.0, 0.0]


def test_every_point_of_its_profile_has_a_value_in_range_for_a_month():
    mixer = Mixer(BEGIN_S)
    points = list(shipped_profile(PROFILE).series())
    assert len(points) == 11
    for hour in range(0, 30 * 24, 7):
        for point in points:
            value = mixer(point.key, BEGIN_S + hour * 3600)
            assert value == value, point.key
            if point.key.startswith("tank_level"):
                assert 20 <= value <= 100


@pytest.mark.parametrize(("register", "words"), [(100, [260]), (101, [580]), (102, [0x42F0, 0])])
def test_set_points_are_there_from_the_beginning(register, words):
    assert mixer_slave(5, BEGIN_S).memory.read(3, register, len(words)) == words
