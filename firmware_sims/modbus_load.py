"""Many simulated TCP slaves in one process, for load runs: each on a port of its own.

    python -m firmware_sims.modbus_load --slaves 50 --registers 100

prints their ports as one JSON line and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import click

from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_registers import RegisterMemory
from firmware_sims.modbus_slave import SimulatedSlave


def register_value(slave: int, address: int) -> int:
    """What holding register *address* of the load's slave number *slave* says."""
    return (slave * 7 + address * 3) % 1000


class _PreparedSlave(SimulatedSlave):
    """Answers the same question with the same bytes, so that the master sets the pace."""

    def __init__(self, memory: RegisterMemory) -> None:
        super().__init__(1, memory, functions=frozenset((3,)))
        self._prepared: dict[bytes, bytes] = {}

    def answer(self, pdu: bytes, at_s: float) -> bytes:
        """Return the reply, worked out the first time it is asked for."""
        reply = self._prepared.get(pdu)
        if reply is None:
            reply = self._prepared[pdu] = super().answer(pdu, at_s)
        return reply


async def _serve(first: int, slaves: int, registers: int) -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for number in range(first, first + slaves):
            memory = RegisterMemory()
            for address in range(registers):
                memory.set(3, address, register_value(number, address))
            bus = ModbusBus([_PreparedSlave(memory)], "tcp")
            ports.append(await stack.enter_async_context(bus.listening()))
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.read)


@click.command()
@click.option("--first", default=0, help="Number of the first slave.")
@click.option("--slaves", default=50, show_default=True)
@click.option("--registers", default=100, show_default=True)
def main(first: int, slaves: int, registers: int) -> None:
    """Serve simulated Modbus TCP slaves until standard input ends."""
    asyncio.run(_serve(first, slaves, registers))


if __name__ == "__main__":
    main()
