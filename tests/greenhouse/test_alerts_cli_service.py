"""``greenhouse alerts list``, ``show`` and ``ack`` against a served application."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from greenhouse.cli import main
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import HOT, AlertBase, MemoryDesk
from tests.api.base import MINUTE_US, NOW_US, TOKEN, make_base
from tests.api.serving import Served


@pytest.fixture
def base(tmp_path) -> AlertBase:
    """A base in which house 2 is very hot."""
    base = AlertBase(**vars(make_base()))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder)
    base.desk.read(("climate-2.air_temperature", NOW_US - 5 * MINUTE_US, [42] * 5))
    return base


@pytest.fixture
def run(base, tmp_path):
    """Run a command while the service answers."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    server = Served(base.shared_app())
    server.start()

    def run(*words: str, env: dict | None = None):
        settings = {"GREENHOUSE_TOKEN_FILE": str(token)} if env is None else env
        return CliRunner().invoke(main, ["alerts", *words, "--url", server.url], env=settings)

    yield run
    server.stop()


def test_what_stands_is_listed_shown_and_acknowledged(base, run):
    (alert,) = base.desk.kept
    listed = run("list", "--lang", "zh")
    assert listed.exit_code == 0, listed.output
    head, row = listed.output.splitlines()
    assert head.split()[:2] == ["级别", "状态"]
    assert row.split()[:2] == ["严重", "报警中"]
    assert "二号温室 气温 42.0 °C" in row
    assert row.endswith(alert)
    done = run("ack", alert, "--by", "李伟", "--note", "去看看")
    assert done.output == f"{alert} acknowledged by 李伟\n"
    assert base.desk.kept[alert].acknowledged.note == "去看看"
    shown = run("show", alert).output.splitlines()
    assert "House 2: air 42.0 °C" in shown[1]
    assert shown[2] == "Open the vents"
    assert [line.split()[3] for line in shown[4:]] == ["pending", "fired", "acknowledge"]
    assert shown[-1].endswith("李伟 去看看")
    assert alert not in run("list", "--site", "house-1", "--all").output
    assert alert in run("list", "--rule", HOT, "--limit", "1").output


def test_a_refusal_ends_with_one_and_the_reason(base, run):
    (alert,) = base.desk.kept
    run("ack", alert, "--by", "li")
    again = run("ack", alert, "--by", "li")
    assert again.exit_code == 1
    assert again.output.startswith("409 cannot acknowledge")
    nobody = run("list", env={})
    assert (nobody.exit_code, nobody.output) == (1, "401 a bearer token is needed\n")
    assert run("show", "0" * 32).output == f"404 no alert {'0' * 32}\n"


def test_a_service_that_is_away_is_told_in_one_line():
    result = CliRunner().invoke(main, ["alerts", "list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert result.output.startswith("http://127.0.0.1:9 does not answer: ")
