"""What holds for every test does hold: tried on small test files in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_tests(tmp_path):
    """Run the text of a test file under this project's rules, with an environment of choice."""

    def run(text, **environment):
        (tmp_path / "test_sample.py").write_text(textwrap.dedent(text))
        closing = tmp_path / "closing"
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider",
                "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path),
            ],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if "GREENHOUSE" not in name},
                "GREENHOUSE_TEST_CLOSING_FILE": str(closing),
                # A place without services, so that these are missing.
                "GREENHOUSE_SERVICES_DIR": str(tmp_path / "services"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, closing.read_text()

    return run


def test_task_left_running_fails_the_test_that_left_it(run_tests):
    code, output, closing = run_tests(
        """
        import asyncio

        async def test_leaves_a_task():
            asyncio.get_running_loop().create_task(asyncio.sleep(60), name="straggler")

        async def test_waits_for_its_task():
            await asyncio.get_running_loop().create_task(asyncio.sleep(0))

        async def test_cancels_its_task():
            asyncio.get_running_loop().create_task(asyncio.sleep(60)).cancel()
        """
    )
    assert code == 1
    assert "straggler" in output
    # The test itself passes; what it left fails it afterwards.
    assert closing.startswith("3 passed, 1 error")


def test_warning_is_an_error(run_tests):
    code, _, closing = run_tests(
        """
        import warnings

        def test_warns():
            warnings.warn("old", DeprecationWarning)

        def test_forgets_to_close(tmp_path):
            (tmp_path / "file").open("w")
        """
    )
    assert (code, closing.split(";")[0]) == (1, "2 failed")


def test_settings_of_the_machine_do_not_reach_the_tests(run_tests):
    code, _, _ = run_tests(
        """
        import os

        def test_sees_nothing():
            assert "GREENHOUSE_PORT" not in os.environ
            assert os.environ["GREENHOUSE_TEST_MQTT"] == "example:1"
        """,
        GREENHOUSE_PORT="1",
        GREENHOUSE_TEST_MQTT="example:1",
    )
    assert code == 0


SERVICES_TEST = """
    def test_needs_a_database(timescale_dsn):
        pass

    def test_needs_a_broker(database_server):
        database_server()

    def test_needs_nothing():
        pass
"""


def test_what_is_found_as_garbage_is_blamed_on_the_file_that_left_it(run_tests, tmp_path):
    (tmp_path / "test_the_next_file.py").write_text("def test_innocent(): pass")
    code, output, closing = run_tests(
        """
        import socket

        def test_leaves_a_socket():
            left = [socket.socket()]
            left.append(left)  # only a look for garbage finds it

        def test_is_the_last_of_its_file():
            pass
        """
    )
    assert code == 1
    assert closing.startswith("3 passed, 1 error")
    assert re.search(
        r"^ERROR \S*test_sample.py::test_is_the_last_of_its_file", output, re.MULTILINE
    )
    assert "unclosed <socket.socket" in output


def test_missing_services_are_left_out_and_named_in_the_last_line(run_tests):
    code, output, closing = run_tests(
        SERVICES_TEST, GREENHOUSE_TEST_SERVICES_MISSING="this is a bare laptop"
    )
    assert code == 0
    expected = "1 passed, 2 skipped; left out: 2 test(s): no TimescaleDB: this is a bare laptop\n"
    assert closing == expected
    assert "left out" in output


def test_missing_services_fail_where_they_are_required(run_tests):
    code, output, closing = run_tests(SERVICES_TEST, GREENHOUSE_REQUIRE_SERVICES="1")
    assert code == 1
    assert "TimescaleDB is required here and missing" in output
    assert "skipped" not in closing


def test_tests_that_need_services_carry_the_mark(run_tests):
    code, _, closing = run_tests(
        SERVICES_TEST.replace("def test_needs_nothing", "def test_plain"),
        PYTEST_ADDOPTS="-m services",
    )
    assert code == 0
    assert closing.startswith("2 skipped, 1 deselected")


def test_nothing_left_out_is_said_too(run_tests):
    _, _, closing = run_tests("def test_passes(): pass")
    assert closing == "1 passed; left out: nothing\n"
