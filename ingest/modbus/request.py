"""Requests of a Modbus master, as values; pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from devices.codecs.registers import data_bytes
from ingest.collector import IngestError

MAX_READ_REGISTERS = 125
MAX_READ_BITS = 2000
MAX_WRITE_REGISTERS = 123
READS = (1, 2, 3, 4)
WRITES = (5, 6, 15, 16)


class NotAsked(IngestError):
    """A bus refused to take a request; nothing of it was sent.  *code* is stable."""

    code: ClassVar[str] = "E-MB-BUSY"


@dataclass(frozen=True)
class ReadRequest:
    """Ask *unit* for *count* registers (bits, for functions 1 and 2) from *address* on."""

    unit: int
    function: int
    address: int
    count: int

    def __post_init__(self) -> None:
        most = MAX_READ_BITS if self.function in (1, 2) else MAX_READ_REGISTERS
        if self.function not in READS:
            raise ValueError(f"function {self.function} does not read")
        if not 0 <= self.unit <= 255:
            raise ValueError(f"unit {self.unit} is not 0..255")
        if not 1 <= self.count <= most:
            raise ValueError(f"count {self.count} is not 1..{most}")
        if not 0 <= self.address <= 65_536 - self.count:
            raise ValueError(f"address {self.address} + {self.count} is beyond 65535")

    @cached_property
    def pdu(self) -> bytes:
        """Function code and data, without unit and checksum."""
        return (self.function << 32 | self.address << 16 | self.count).to_bytes(5, "big")

    @cached_property
    def data_bytes(self) -> int:
        """How many bytes of registers the reply must bring."""
        return data_bytes(self.function, self.count)

    @property
    def last(self) -> int:
        """The last address that is asked for."""
        return self.address + self.count - 1

    def __str__(self) -> str:
        return f"unit {self.unit} function {self.function} {self.address}..{self.last}"


@dataclass(frozen=True)
class WriteRequest:
    """Write *values* (registers as 0..65535, coils as 0 or 1) into *unit* from *address* on."""

    unit: int
    function: int
    address: int
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.function not in WRITES:
            raise ValueError(f"function {self.function} does not write")
        if not 1 <= self.unit <= 254:
            raise ValueError(f"unit {self.unit} is not 1..254: no command goes to everybody")
        most = 1 if self.function in (5, 6) else MAX_WRITE_REGISTERS
        if not 1 <= len(self.values) <= most:
            raise ValueError(f"{len(self.values)} values, function {self.function} takes 1..{most}")
        if not 0 <= self.address <= 65_536 - len(self.values):
            raise ValueError(f"address {self.address} is beyond 65535")
        top = 1 if self.function in (5, 15) else 65_535
        if any(not 0 <= value <= top for value in self.values):
            raise ValueError(f"a value of {self.values} is not 0..{top}")

    @cached_property
    def pdu(self) -> bytes:
        """Function code and data, without unit and checksum."""
        head = bytes((self.function,)) + self.address.to_bytes(2, "big")
        if self.function == 5:
            return head + (b"\xff\x00" if self.values[0] else b"\x00\x00")
        if self.function == 6:
            return head + self.values[0].to_bytes(2, "big")
        count = len(self.values).to_bytes(2, "big")
        if self.function == 15:
            number = sum(value << place for place, value in enumerate(self.values))
            data = number.to_bytes((len(self.values) + 7) // 8, "little")
        else:
            data = b"".join(value.to_bytes(2, "big") for value in self.values)
        return head + count + bytes((len(data),)) + data

    @cached_property
    def echo(self) -> bytes:
        """The only reply that says the write was done."""
        return self.pdu[:5]

    @property
    def last(self) -> int:
        """The last address that is written."""
        return self.address + len(self.values) - 1

    def __str__(self) -> str:
        return f"unit {self.unit} function {self.function} writes {self.address}..{self.last}"


Request = ReadRequest | WriteRequest
