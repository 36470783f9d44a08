"""``greenhouse devices`` as a person calls it; what it does is in the how-to and its test."""

import pytest
from click.testing import CliRunner

from greenhouse.cli import main

SITE = """
version: 1
sites: [{code: h1, kind: greenhouse}]
broker: {host: 127.0.0.1, topics: ["gh/{site}/{device}", "tele/{device}/SENSOR", "vendor/#"]}
devices:
  - {code: known, site: h1, series: [{quantity: co2}]}
  - {code: plug, site: h1, payload: tasmota, address: T_1, series: [{quantity: co2, key: A.B}]}
  - {code: push, site: h1, transport: http, series: [{quantity: co2}]}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "site.yaml").write_text(SITE)
    home = tmp_path / "site.d" / "devices"
    home.mkdir(parents=True)
    (home / "own.yaml").write_text(
        "code: own\nsite: h1\npayload: value\ntopic: vendor/7/{key}\nseries: [{quantity: co2}]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREENHOUSE_DSN", "host=127.0.0.1 port=1 connect_timeout=1")

    def run(*arguments):
        return CliRunner().invoke(main, ["devices", *arguments])

    return run


def test_devices_are_listed_with_their_topics_and_their_files(run):
    result = run("list", "site.yaml")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "known  at h1  json  gh/h1/known, tele/known/SENSOR",
        "    site.yaml:6",
        "    known.co2",
        "plug  at h1  tasmota  gh/h1/T_1, tele/T_1/SENSOR",
        "    site.yaml:7",
        "    plug.co2",
        "push  at h1  json  http",
        "    site.yaml:8",
        "    push.co2",
        "own  at h1  value  vendor/7/{key}",
        "    site.d/devices/own.yaml:1",
        "    own.co2",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["try", "site.yaml"], "got no message"),
        (["try", "site.yaml", "--topic", "a"], "expected both or none"),
        (["try", "site.yaml", "1", "--entry", "none.yaml"], "none.yaml: cannot be read"),
        (["try", "site.yaml", "1", "--entry", "list.yaml"], "expected a device entry"),
        (["try", "site.yaml", "1", "--entry", "bad.yaml"], "bad.yaml:2"),
        (["claim", "site.yaml", "1", "--actor", " "], "expected a name"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told(run, tmp_path, arguments, said):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "bad.yaml").write_text("a: [\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("arguments", [["unclaimed"], ["claim", "site.yaml", "1", "--code", "x"]])
def test_a_database_that_is_away_is_told_in_one_line(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.output.startswith("the database: ")
    assert "Traceback" not in result.output


def test_a_message_is_tried_without_any_service(run, tmp_path):
    (tmp_path / "message.json").write_text('{"AHT": {"Temperature": 21.5}, "Time": "x"}')
    (tmp_path / "message.txt").write_text("812")
    arguments = ["--topic", "vendor/7/co2", "--sample", "message.txt"]
    result = run("try", "site.yaml", "--payload", "value", *arguments)
    assert "value = 812" in result.output
    (tmp_path / "entry.yaml").write_text(
        "payload: value\ntopic: vendor/8/{key}\nseries: [{quantity: co2, key: CO2}]\n"
    )
    arguments = ["--topic", "vendor/8/CO2", "--sample", "message.txt", "--entry", "entry.yaml"]
    result = run("try", "site.yaml", "--code", "new", "--site", "h1", *arguments)
    assert result.exit_code == 0, result.output
    assert "new.co2 = 812 ppm" in result.output
    assert "# site.d/devices/new.yaml, if it were claimed" in result.output
    assert not (tmp_path / "site.d" / "devices" / "new.yaml").exists()
