"""The command line as a person meets it: right, wrong, and without a database."""

import pytest
from click.testing import CliRunner

from devices.site_file import read_site_file
from firmware_sims.scenario import shipped_site_file
from greenhouse.cli import main

DEVICES = len(read_site_file(shipped_site_file("small-base"), "site.yaml").registry.devices)


@pytest.fixture
def site_file(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text(shipped_site_file("small-base"), "utf-8")
    return file


def _run(*arguments, **environment):
    settings = {f"GREENHOUSE_{name}": value for name, value in environment.items()}
    return CliRunner().invoke(main, [str(word) for word in arguments], env=settings)


def test_check_says_what_a_right_file_holds(site_file):
    result = _run("check", site_file)
    assert result.exit_code == 0
    assert f"{DEVICES} devices" in result.output
    assert "nothing wrong" in result.output


def test_check_names_every_mistake_and_counts_them(site_file):
    text = site_file.read_text("utf-8")
    site_file.write_text(text.replace("placement: outdoor", "placement: outdor"), "utf-8")
    result = _run("check", site_file)
    assert result.exit_code == 2
    assert "(did you mean 'outdoor'?)" in result.output
    assert "1 mistake in" in result.output


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_check_says_when_there_is_no_file_to_read(tmp_path, name):
    result = _run("check", tmp_path / name)
    assert result.exit_code == 2
    assert "cannot be read" in result.output


def test_check_says_when_a_file_is_no_text(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_bytes(b"\xff\xfe\x00binary")
    assert "cannot be read" in _run("check", file).output


def test_quantities_are_listed_by_medium():
    result = _run("quantities", "--medium", "weather")
    assert "global_radiation" in result.output
    assert "soil_moisture" not in result.output
    wrong = _run("quantities", "--medium", "sky")
    assert wrong.exit_code == 2
    assert "expected one of air, soil" in wrong.output


def test_wrong_settings_are_named_before_anything_starts(site_file):
    result = _run("run", site_file, PORT="eight", LOG_LEVEL="loud")
    assert result.exit_code == 2
    assert "GREENHOUSE_PORT: got 'eight'" in result.output
    assert "GREENHOUSE_LOG_LEVEL: got 'loud'" in result.output


def test_run_refuses_to_do_nothing(site_file):
    assert _run("run", site_file, "--no-api", "--no-ingest").exit_code == 2


@pytest.mark.parametrize("command", [("dead-letters", "list"), ("apply",)])
def test_without_a_database_a_command_says_so_in_one_line(site_file, command):
    words = (*command, site_file) if command == ("apply",) else command
    result = _run(*words, DSN="postgresql://nobody@127.0.0.1:1/nothing")
    assert result.exit_code == 1
    assert result.output.startswith("the database: ")
    assert "Traceback" not in result.output


def test_apply_twice_changes_nothing_the_second_time(site_file, database_dsn):
    first = _run("apply", site_file, DSN=database_dsn)
    assert first.exit_code == 0, first.output
    assert f"devices: {DEVICES} created" in first.output
    assert "nothing to change" in _run("apply", site_file, DSN=database_dsn).output


def test_a_removed_device_is_retired_and_its_series_with_it(site_file, database_dsn):
    _run("apply", site_file, DSN=database_dsn)
    text = site_file.read_text("utf-8")
    start = text.index("  - code: h3-quilt")
    site_file.write_text(text[:start], "utf-8")
    output = _run("apply", site_file, DSN=database_dsn).output
    assert "devices: 1 retired" in output
    assert "series: 2 retired" in output
