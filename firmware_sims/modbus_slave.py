"""A simulated register device: answers PDUs from its memory, refuses what it does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from devices.profile import COILS, DISCRETE_INPUTS, HOLDING, Profile
from firmware_sims.modbus_faults import FaultPlan
from firmware_sims.modbus_registers import RegisterMemory, Truth, remember

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
_TABLE = {1: COILS, 2: DISCRETE_INPUTS, 3: HOLDING, 4: 4, 5: COILS, 6: HOLDING, 15: COILS}


@dataclass
class SimulatedSlave:
    """One device under one unit id.

    *functions* are the function codes it knows; others are refused.  *written* is called with
    (function code, address, values) after a write.  *requests* counts what reached it.
    """

    unit: int
    memory: RegisterMemory = field(default_factory=RegisterMemory)
    faults: FaultPlan = field(default_factory=FaultPlan)
    functions: frozenset[int] = frozenset((1, 2, 3, 4, 5, 6, 15, 16))
    written: Callable[[int, int, list[int]], None] | None = None
    refresh: Callable[[float], None] | None = None
    max_registers: int = 125
    requests: int = 0

    def answer(self, pdu: bytes, at_s: float) -> bytes:
        """Return the reply PDU; *at_s* is the simulated time of the measurement."""
        self.requests += 1
        function = pdu[0]
        if function not in self.functions:
            return _refuse(function, ILLEGAL_FUNCTION)
        if self.refresh is not None:
            self.refresh(at_s)
        if len(pdu) < 5:
            return _refuse(function, ILLEGAL_VALUE)
        if function in (1, 2, 3, 4):
            return self._read(function, pdu)
        return self._write(function, pdu)

    def _read(self, function: int, pdu: bytes) -> bytes:
        address, count = pdu[1] << 8 | pdu[2], pdu[3] << 8 | pdu[4]
        most = 2000 if function in (1, 2) else self.max_registers
        if not 1 <= count <= most:
            return _refuse(function, ILLEGAL_VALUE)
        cells = self.memory.read(function, address, count)
        if cells is None:
            return _refuse(function, ILLEGAL_ADDRESS)
        if function in (1, 2):
            packed = bytearray((count + 7) // 8)
            for place, cell in enumerate(cells):
                packed[place // 8] |= cell << place % 8
            return bytes((function, len(packed))) + bytes(packed)
        out = bytearray((function, 2 * count))
        for cell in cells:
            out += bytes((cell >> 8, cell & 0xFF))
        return bytes(out)

    def _write(self, function: int, pdu: bytes) -> bytes:
        address, word = pdu[1] << 8 | pdu[2], pdu[3] << 8 | pdu[4]
        table = _TABLE.get(function, HOLDING)
        if function == 5:
            if word not in (0, 0xFF00):
                return _refuse(function, ILLEGAL_VALUE)
            values = [int(word == 0xFF00)]
        elif function == 6:
            values = [word]
        elif function == 15:
            values = [pdu[6 + place // 8] >> place % 8 & 1 for place in range(word)]
        else:
            values = [pdu[at] << 8 | pdu[at + 1] for at in range(6, 6 + 2 * word, 2)]
        if any(not self.memory.holds(table, address + place) for place in range(len(values))):
            return _refuse(function, ILLEGAL_ADDRESS)
        for place, value in enumerate(values):
            self.memory.set(table, address + place, value)
        if self.written is not None:
            self.written(function, address, values)
        return pdu[:5]


def _refuse(function: int, code: int) -> bytes:
    return bytes((function | 0x80, code))


def slave_of(
    profile: Profile,
    truth: Truth,
    unit: int | None = None,
    refresh_s: float = 0.0,
    functions: frozenset[int] | None = None,
) -> SimulatedSlave:
    """Return a device of *profile* that measures *truth*.

    It measures anew when it is asked and *refresh_s* have passed since the last time.  Points that
    are not polled (settings, set-points) keep what was written into them.
    """
    memory = RegisterMemory()
    remember(memory, profile, truth, 0.0)
    measured_at_s = [0.0]
    polled = _polled(profile)

    def refresh(at_s: float) -> None:
        if at_s - measured_at_s[0] >= refresh_s:
            measured_at_s[0] = at_s
            remember(memory, polled, truth, at_s)

    known = functions or frozenset(
        function
        for block in profile.blocks
        for function in {1: (1, 5, 15), 2: (2,), 3: (3, 6, 16), 4: (4,)}[block.function]
    )
    return SimulatedSlave(
        unit=profile.unit if unit is None else unit,
        memory=memory,
        functions=known,
        refresh=refresh,
        max_registers=profile.limits.max_registers,
    )


def _polled(profile: Profile) -> Profile:
    blocks = tuple(block for block in profile.blocks if block.polled)
    writable = tuple(
        replace(block, points=tuple(point for point in block.points if point.write is None))
        for block in blocks
    )
    return replace(profile, blocks=writable)
