"""Looking at a bus by hand, against simulated slaves on a real connection."""

import asyncio
import contextlib
import sys

import pytest

from devices.profile_library import shipped_profile
from firmware_sims.modbus_node import ModbusBus
from firmware_sims.modbus_slave import slave_of


def _truth(key, at_s):
    return {"air_temperature": 21.5, "relative_humidity": 64.0, "co2": 451.0}.get(key, 1.0)


@pytest.fixture
async def bus_file(tmp_path):
    slaves = [
        slave_of(shipped_profile("renke-rs-ws-n01"), _truth, 1),
        slave_of(shipped_profile("aiav-co2"), _truth, 4),
    ]
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(ModbusBus(slaves, speech="rtu").listening())
        file = tmp_path / "site.yaml"
        file.write_text(
            "version: 1\nsites: [{code: h1, kind: greenhouse}]\n"
            "buses:\n  - {code: north, transport: rtu_over_tcp,"
            f' addresses: ["127.0.0.1:{port}"], timeout: 300ms, quiet: 100ms}}\n'
        )
        yield file


async def _greenhouse(*words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "greenhouse", *map(str, words),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_profile_shows_what_the_registers_mean(bus_file):
    code, output = await _greenhouse(
        "modbus", "read", bus_file, "north", 1, "--profile", "renke-rs-ws-n01"
    )
    assert code == 0, output
    assert "21.5" in output
    assert "64" in output


async def test_registers_are_shown_in_every_order_of_bytes(bus_file):
    code, output = await _greenhouse(
        "modbus", "read", bus_file, "north", 1, "--address", 0, "--count", 2, "--orders"
    )
    assert code == 0, output
    assert all(order in output for order in ("ABCD", "CDAB", "BADC", "DCBA"))


async def test_a_scan_finds_who_answers_and_which_profile_fits(bus_file):
    code, output = await _greenhouse(
        "modbus", "scan", bus_file, "north", "--last", 5, "--timeout", 0.2
    )
    assert code == 0, output
    lines = {line.split(":")[0]: line for line in output.splitlines()}
    assert "renke-rs-ws-n01" in lines["unit 1"]
    assert "unit 4" in lines
    assert "2 units answered" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("read", "{file}", "nort", 1, "--address", 0), "got bus 'nort', expected one of north"),
        (("read", "{file}", "north", 1), "got neither --profile nor --address"),
        (("read", "{file}", "north", 1, "--profile", "renke-ws"), "got profile 'renke-ws'"),
        (("read", "{file}", "north", 1, "--address", 0, "--count", 126), "count 126 is not 1..125"),
    ],
)
async def test_a_wrong_question_is_told_as_such(bus_file, words, said):
    filled = [bus_file if word == "{file}" else word for word in words]
    code, output = await _greenhouse("modbus", *filled)
    assert code == 2, output
    assert said in output
    assert "Traceback" not in output
