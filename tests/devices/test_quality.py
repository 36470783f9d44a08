import pytest

from devices.quality import (
    BAD_MASK,
    REASONS,
    SUSPECT_MASK,
    Quality,
    QualityLevel,
    hj212_mark,
    level,
    reasons,
)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (Quality.GOOD, QualityLevel.GOOD),
        (Quality.RETAINED | Quality.RECEIVE_TIME, QualityLevel.GOOD),  # these only inform
        (Quality.STEP, QualityLevel.SUSPECT),
        (Quality.STEP | Quality.MISSING, QualityLevel.BAD),  # the worst decides
    ],
)
def test_the_worst_bit_decides_the_level(bits, expected):
    assert level(bits) is expected


@pytest.mark.parametrize(
    ("bits", "mark"),
    [
        (0, "N"),
        (Quality.SENTINEL, "B"),
        (Quality.SENSOR_RANGE, "T"),
        (Quality.FLAT_LINE, "D"),
        (Quality.MANUAL, "S"),
        (Quality.STOPPED, "F"),
        (Quality.CALIBRATION | Quality.SENSOR_RANGE, "C"),  # calibration explains the rest
        (Quality.MAINTENANCE | Quality.CALIBRATION, "M"),
    ],
)
def test_bits_map_to_one_mark_of_hj212(bits, mark):
    assert hj212_mark(bits) == mark


def test_every_bit_has_its_sentence_in_both_languages():
    assert {reason.bit for reason in REASONS} == {bit for bit in Quality if bit}
    assert all(reason.zh and reason.en and reason.hj212 in "NFMSDCTB" for reason in REASONS)


def test_each_bit_stands_in_exactly_one_range():
    for bit in (bit for bit in Quality if bit):
        in_ranges = [bool(bit & BAD_MASK), bool(bit & SUSPECT_MASK), bit >= 1 << 20]
        assert in_ranges.count(True) == 1


def test_reasons_are_told_bad_ones_first():
    names = [reason.name for reason in reasons(Quality.RETAINED | Quality.MISSING)]
    assert names == ["missing", "retained"]
