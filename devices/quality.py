"""Quality of a reading: bits that say why a value is not simply good.

The bits stand in three ranges so that SQL, rules and pages can tell the level with one mask, today
and after a bit is added: 0-9 make a reading **bad** (never a crop condition, left out of means),
10-19 make it **suspect** (shown with a mark), 20-29 only inform.  A stored bit never changes its
meaning.  Each maps to the marks of HJ 212-2017 section 6.6 (N F M S D C T B).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag, StrEnum


class Quality(IntFlag):
    """Reasons as bits; 0 is a good reading."""

    GOOD = 0
    MISSING = 1 << 0
    PHYSICAL_RANGE = 1 << 1
    SENSOR_RANGE = 1 << 2
    SENTINEL = 1 << 3
    DEVICE_FAULT = 1 << 4
    COMMUNICATION = 1 << 5
    CALIBRATION = 1 << 6
    MAINTENANCE = 1 << 7
    CROSS_CHECK = 1 << 8
    STEP = 1 << 10
    FLAT_LINE = 1 << 11
    CLOCK = 1 << 12
    TWIN = 1 << 13
    CONFLICT = 1 << 14
    INCOMPLETE = 1 << 15
    SATURATED = 1 << 16
    RETAINED = 1 << 20
    RECEIVE_TIME = 1 << 21
    MANUAL = 1 << 22
    STOPPED = 1 << 23
    SIMULATED = 1 << 24
    WRAPPED = 1 << 25
    RESTARTED = 1 << 26
    PROVISIONAL = 1 << 27
    CALIBRATION_DUE = 1 << 28
    BELOW_DETECTION = 1 << 29


BAD_MASK = (1 << 10) - 1
SUSPECT_MASK = ((1 << 20) - 1) ^ BAD_MASK


class QualityLevel(StrEnum):
    """What an operator sees before asking why."""

    GOOD = "good"
    SUSPECT = "suspect"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class QualityReason:
    """One bit in words: *zh* and *en* are plain sentences, *hj212* the mark a bureau expects."""

    bit: Quality
    name: str
    hj212: str
    zh: str
    en: str


REASONS: tuple[QualityReason, ...] = tuple(
    QualityReason(bit, bit.name.lower() if bit.name else "", hj212, zh, en)
    for bit, hj212, zh, en in (
        (Quality.MISSING, "B", "设备报告没有读数", "the device reported that it has no value"),
        (
            Quality.PHYSICAL_RANGE,
            "T",
            "数值超出物理上可能的范围",
            "the value is physically impossible",
        ),
        (
            Quality.SENSOR_RANGE,
            "T",
            "数值超出传感器量程",
            "the value is outside the sensor's range",
        ),
        (Quality.SENTINEL, "B", "数值是设备的错误代码", "the value is an error code of the device"),
        (Quality.DEVICE_FAULT, "D", "设备报告故障", "the device reported a fault"),
        (Quality.COMMUNICATION, "B", "与设备的通信失败", "the device did not answer properly"),
        (Quality.CALIBRATION, "C", "传感器正在校准", "the sensor was being calibrated"),
        (Quality.MAINTENANCE, "M", "设备正在维护", "the device was under maintenance"),
        (Quality.CROSS_CHECK, "D", "与其他测量值矛盾", "the value contradicts another measurement"),
        (Quality.STEP, "D", "数值变化快于实际可能", "the value changed faster than it can"),
        (Quality.FLAT_LINE, "D", "数值长时间不变", "the value has not moved for too long"),
        (Quality.CLOCK, "D", "设备时钟可疑", "the device's clock is in doubt"),
        (Quality.TWIN, "D", "与相邻传感器不一致", "the value differs from its twin sensor"),
        (Quality.CONFLICT, "D", "同一时刻曾收到另一数值", "another value came for the same moment"),
        (
            Quality.SATURATED,
            "T",
            "数值到达量程尽头(如湿度高于 100%)",
            "the value is past the end of its scale, such as humidity over 100 %",
        ),
        (
            Quality.INCOMPLETE,
            "D",
            "时段内有效测量不足",
            "too little of the period was measured",
        ),
        (
            Quality.RETAINED,
            "N",
            "代理服务器保留的旧消息",
            "an old message that the broker had kept",
        ),
        (
            Quality.RECEIVE_TIME,
            "N",
            "设备未给时间,采用接收时间",
            "the device gave no time; receive time is used",
        ),
        (Quality.MANUAL, "S", "人工录入", "entered by hand or by a laboratory"),
        (Quality.STOPPED, "F", "设备或温室停用", "the equipment or the house was out of use"),
        (Quality.SIMULATED, "N", "模拟数据", "simulated, not measured"),
        (
            Quality.CALIBRATION_DUE,
            "N",
            "传感器校准已过期",
            "the sensor's calibration was overdue",
        ),
        (
            Quality.BELOW_DETECTION,
            "N",
            "低于检出限,以检出限的一半计",
            "below the detection limit; half of the limit stands for it",
        ),
        (Quality.WRAPPED, "N", "计数器走满归零", "the counter went round and began at 0 again"),
        (
            Quality.RESTARTED,
            "N",
            "计数器重新计数,此前未读到的量未计入",
            "the counter began anew; what it had not told by then is not in here",
        ),
        (
            Quality.PROVISIONAL,
            "N",
            "时段尚未结束,为目前累计",
            "the period has not ended; this is what it came to so far",
        ),
    )
)
_HJ212_ORDER = "MCBTDSF"  # the mark that wins when several bits are set


def level(bits: int) -> QualityLevel:
    """Return the level that the worst of *bits* stands for."""
    if bits & BAD_MASK:
        return QualityLevel.BAD
    return QualityLevel.SUSPECT if bits & SUSPECT_MASK else QualityLevel.GOOD


def reasons(bits: int) -> Iterator[QualityReason]:
    """Yield the reasons in *bits*, bad ones first."""
    return (reason for reason in REASONS if bits & reason.bit)


def hj212_mark(bits: int) -> str:
    """Return the one HJ 212 mark for *bits*: N when good, else the strongest of M C B T D S F."""
    marks = {reason.hj212 for reason in reasons(bits)}
    return next((mark for mark in _HJ212_ORDER if mark in marks), "N")
