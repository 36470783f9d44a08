"""scripts/services, on a root of its own beside the one that other tests use."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.fix_services import services_missing
from tests.rig.process import accepts_connections, started_ticks
from tests.rig.root import find_root

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "scripts/services"

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A services folder whose root shares its programs, and not its data, with the real one."""
    root = find_root()
    if root is None:
        services_missing("Debian root")
    folder = tmp_path_factory.mktemp("services")
    target = folder / "root"
    target.mkdir()
    for entry in root.path.iterdir():
        if entry.name != "srv":
            # Links where the file system allows it: 700 MB in a second.
            linked = subprocess.run(["cp", "-al", entry, target], check=False, capture_output=True)
            if linked.returncode != 0:
                subprocess.run(["rm", "-rf", target / entry.name], check=True)
                subprocess.run(["cp", "-a", entry, target], check=True)
    (target / "srv/greenhouse").mkdir(parents=True)
    yield folder
    subprocess.run(["rm", "-rf", folder / "root"], check=True)


@pytest.fixture
def services(folder):
    """Run a verb of scripts/services and return exit code, output and messages."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [SERVICES, *arguments],
            cwd="/",
            env=environment_of(folder) | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return done.returncode, done.stdout, done.stderr

    yield run
    run("down")


def environment_of(folder):
    inherited = {name: text for name, text in os.environ.items() if "GREENHOUSE" not in name}
    return inherited | {
        "GREENHOUSE_SERVICES_DIR": str(folder),
        "GREENHOUSE_TEST_BACKEND": "debian",
    }


def exports(text):
    pairs = (shlex.split(line)[1].partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


def pids(folder):
    state = json.loads((folder / "state.json").read_text())
    return [state[name]["identity"]["pid"] for name in ("database", "broker")]


def test_up_is_harmless_twice_and_down_stops_what_it_started(services, folder):
    assert services("up")[0] == 0
    first = pids(folder)
    assert services("up")[0] == 0
    assert pids(folder) == first
    code, output, _ = services("env")
    found = exports(output)
    assert code == 0
    with psycopg.connect(found["GREENHOUSE_TEST_DSN"]) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('shared_preload_libraries')"
        ).fetchone()
    assert row == ("on", "timescaledb")
    host, _, port = found["GREENHOUSE_TEST_MQTT"].partition(":")
    assert accepts_connections(host, int(port))
    assert found["GREENHOUSE_SERVICES_ROOT"] == str(folder / "root")
    assert services("status")[0] == 0

    assert services("down")[0] == 0
    assert [started_ticks(pid) for pid in first] == [None, None]
    assert services("status")[0] == 4
    assert services("env")[0] == 4
    assert services("down")[0] == 0


def test_passwords_are_for_their_owner_only(services, folder):
    services("up")
    assert (folder / "state.json").stat().st_mode & 0o077 == 0


def test_up_mends_what_was_killed_and_keeps_ports_and_data(services, folder):
    services("up")
    dsn = exports(services("env")[1])["GREENHOUSE_TEST_DSN"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    for pid in pids(folder):
        os.kill(pid, signal.SIGKILL)
    code, _, messages = services("up")
    assert code == 0, messages
    assert exports(services("env")[1])["GREENHOUSE_TEST_DSN"] == dsn
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_down_leaves_a_stranger_with_a_noted_pid_alone(services, folder):
    services("up")
    services("down")
    state = json.loads((folder / "state.json").read_text())
    # After a restart of the machine a noted pid may be anybody's.
    for name in ("database", "broker"):
        state[name]["identity"]["pid"] = os.getpid()
    (folder / "state.json").write_text(json.dumps(state))
    assert services("down")[0] == 0
    assert services("status")[0] == 4


def test_run_hands_the_services_over_and_stops_them(services, folder):
    program = "import os; print(os.environ['GREENHOUSE_TEST_DSN']); raise SystemExit(7)"
    code, output, _ = services("run", sys.executable, "-c", program)
    assert code == 7
    assert output.startswith("postgresql://")
    assert services("status")[0] == 4


def test_run_leaves_running_what_somebody_wanted_up(services, folder):
    services("up")
    before = pids(folder)
    assert services("run", "true")[0] == 0
    assert services("status")[0] == 0
    assert pids(folder) == before


def test_run_leaves_running_what_another_run_still_uses(services, folder, eventually):
    other = subprocess.Popen(
        [SERVICES, "run", sys.executable, "-c", "print('up', flush=True); input()"],
        env=environment_of(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert other.stdout.readline() == "up\n"
    assert services("run", "true")[0] == 0
    assert services("status")[0] == 0
    other.communicate("\n")
    assert other.returncode == 0
    assert services("status")[0] == 4


def test_a_variable_that_is_set_already_wins(services):
    program = "import os; print(os.environ['GREENHOUSE_TEST_DSN'])"
    code, output, _ = services(
        "run", sys.executable, "-c", program, GREENHOUSE_TEST_DSN="postgresql://mine/here"
    )
    assert (code, output) == (0, "postgresql://mine/here\n")


def plain_user(tmp_path, *command):
    """Run *command* as a user without rights and without docker."""
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command],
        cwd="/",
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(tmp_path),
            "GREENHOUSE_SERVICES_DIR": str(tmp_path / "services"),
            "DOCKER_HOST": "unix:///nowhere",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def rig_of_a_plain_user(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    # Where a plain user can read it, wherever this repository lies.
    with_rights = Path("/tmp") / f"greenhouse-rig-{os.getpid()}"
    (with_rights / "tests").mkdir(parents=True)
    subprocess.run(["cp", "-r", ROOT / "tests/rig", with_rights / "tests/rig"], check=True)
    (with_rights / "services").mkdir()
    subprocess.run(["chmod", "-R", "a+rwX", with_rights], check=True)
    yield with_rights
    subprocess.run(["rm", "-rf", with_rights], check=True)


def test_plain_user_is_told_plainly(rig_of_a_plain_user):
    python = Path("/usr/bin/python3")
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 11))"],
                             capture_output=True, text=True, check=False)  # fmt: skip
    if version.stdout.strip() != "True":
        pytest.skip("the system's own Python is older than 3.11")
    command = (str(python), "-B", "-m", "tests.rig.shared")
    refused = plain_user(rig_of_a_plain_user, *command, "up")
    assert refused.returncode == 3
    assert "no docker engine answers, and building the services needs root" in refused.stderr
    assert "Traceback" not in refused.stderr

    told = plain_user(
        rig_of_a_plain_user, *command, "run", "sh", "-c", "echo $GREENHOUSE_TEST_SERVICES_MISSING"
    )
    assert told.returncode == 0
    assert "needs root" in told.stdout


def test_build_that_was_interrupted_does_not_count_as_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENHOUSE_SERVICES_DIR", str(tmp_path))
    (tmp_path / "root.partial/etc").mkdir(parents=True)
    assert find_root() is None
    (tmp_path / "root/etc").mkdir(parents=True)
    assert find_root() is None


def test_wrong_verb_is_refused(services):
    code, _, messages = services("start")
    assert code == 2
    assert "usage" in messages
