"""docker-compose.yml, the Dockerfile and the broker's configuration, read as data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from devices.site_file import read_site_file
from greenhouse.settings import setting_names
from tests.rig.docker import pinned_image

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def mosquitto_options():
    """(option, value) lines of the broker's configuration, grouped by listener; '' before any."""
    groups: dict[str, dict[str, list[str]]] = {"": {}}
    current = ""
    for line in (ROOT / "deploy/mosquitto/mosquitto.conf").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        option, _, value = line.partition(" ")
        if option == "listener":
            current = value
            groups[current] = {}
            continue
        groups[current].setdefault(option, []).append(value)
    return groups


def test_database_broker_and_service_are_there():
    assert SERVICES.keys() == {"database", "broker", "service"}


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned_to_a_version(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.match(r"\d+\.\d+\.\d+", tag), SERVICES[name]["image"]


def test_images_are_the_editions_that_are_promised():
    # Without "-oss", which is the Apache edition.
    assert re.fullmatch(r"timescale/timescaledb:2\.29\.\d+-pg17", SERVICES["database"]["image"])
    assert re.fullmatch(r"eclipse-mosquitto:2\.1\.\d+-alpine", SERVICES["broker"]["image"])


def test_tests_take_the_same_images():
    assert pinned_image("database") == SERVICES["database"]["image"]
    assert pinned_image("broker") == SERVICES["broker"]["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_checked_and_what_falls_over_is_started_again(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD" and len(check["test"]) > 1
    assert {"interval", "timeout", "retries"} <= check.keys()
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_service_waits_until_database_and_broker_are_healthy():
    waits = SERVICES["service"]["depends_on"]
    assert {name: wait["condition"] for name, wait in waits.items()} == {
        "database": "service_healthy",
        "broker": "service_healthy",
    }


def test_secrets_are_files_and_nowhere_inline():
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|DSN|SECRET|KEY", key):
                assert key.endswith("_FILE"), f"{name}: {key}"
                secret = value.removeprefix("/run/secrets/")
                assert secret in service["secrets"], f"{name}: {key}"
    assert not re.search(r"://[^/\s]+:[^@\s]+@", (ROOT / "docker-compose.yml").read_text())


def test_every_secret_is_declared_made_and_kept_out_of_git():
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()
    maker = (ROOT / "deploy/make-secrets").read_text() + (ROOT / "deploy/broker-user").read_text()
    for secret in COMPOSE["secrets"].values():
        folder, _, name = secret["file"].rpartition("/")
        assert folder == "deploy/secrets"
        assert name in maker
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_named_volumes_hold_what_must_last():
    mounts = {
        name: {
            source: target
            for source, target, *_ in (mount.split(":") for mount in service["volumes"])
            if not source.startswith(".")
        }
        for name, service in SERVICES.items()
    }
    assert mounts == {
        "database": {"database": "/var/lib/postgresql/data"},
        "broker": {"broker": "/mosquitto/data"},
        "service": {"spool": "/var/lib/greenhouse"},
    }
    assert COMPOSE["volumes"].keys() == {"database", "broker", "spool"}


def test_mounted_files_exist_and_cannot_be_written():
    for service in SERVICES.values():
        for mount in service["volumes"]:
            source, _, *mode = mount.split(":")
            if source.startswith("."):
                assert (ROOT / source).is_file()
                assert mode == ["ro"]


@pytest.mark.parametrize("name", ["broker", "service"])
def test_container_has_no_rights_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith(("0", "root"))


def test_only_tls_and_the_api_are_published():
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert published["database"] == []
    assert [port.rpartition(":")[2] for port in published["broker"]] == ["8883"]
    assert published["service"] == ["${GREENHOUSE_PUBLISH:-127.0.0.1:8000}:8000"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert SERVICES["database"]["networks"] == ["inside"]


def test_service_is_given_settings_that_it_knows():
    environment = SERVICES["service"]["environment"]
    assert environment.keys() <= setting_names()
    assert environment["GREENHOUSE_SPOOL_DIR"].startswith("/var/lib/greenhouse/")
    (site,) = [each for each in SERVICES["service"]["volumes"] if "site.yaml" in each]
    assert SERVICES["service"]["command"] == ["run", site.split(":")[1]]


def test_site_file_that_is_run_has_no_mistake_and_names_this_broker():
    path = ROOT / "deploy/site.yaml"
    broker = read_site_file(path.read_text(), str(path)).broker
    assert broker is not None
    assert (broker.host, broker.port) == ("broker", 1883)
    # Because of use_username_as_clientid.
    assert broker.client_id == broker.username == "collector"
    assert f"user {broker.username}\n" in (ROOT / "deploy/mosquitto/acl").read_text()
    assert str(broker.password_file) == "/run/secrets/collector_password"
    assert "collector_password" in SERVICES["service"]["secrets"]


def test_broker_keeps_what_it_acknowledges_through_a_kill():
    options = mosquitto_options()[""]
    assert "/usr/lib/mosquitto_persist_sqlite.so" in options["plugin"]
    assert options["plugin_opt_flush_period"] == ["0"]
    assert options["plugin_opt_sync"] == ["full"]
    # The two ways of persistence exclude each other.
    assert "persistence" not in options
    (db_file,) = options["plugin_opt_db_file"]
    assert db_file.startswith("/mosquitto/data/")


def test_broker_is_closed_and_bounded():
    groups = mosquitto_options()
    options = groups[""]
    assert options["allow_anonymous"] == ["false"]
    assert {"/usr/lib/mosquitto_password_file.so", "/usr/lib/mosquitto_acl_file.so"} <= set(
        options["plugin"]
    )
    assert int(options["max_queued_messages"][0]) >= 1_000_000
    assert 0 < int(options["max_inflight_messages"][0]) <= 65535
    assert int(options["max_packet_size"][0]) >= 65536
    assert options["persistent_client_expiration"] == ["14d"]
    assert groups.keys() == {"", "1883", "8883"}
    for listener in ("1883", "8883"):
        assert groups[listener]["use_username_as_clientid"] == ["true"]
    assert groups["8883"]["tls_version"] == ["tlsv1.2"]
    assert groups["8883"]["keyfile"] == ["/run/secrets/broker_key"]


def test_listener_options_stand_in_listeners():
    # Before the first listener they open one more on port 1883, and the broker does not start.
    of_listeners = {
        "use_username_as_clientid", "max_connections", "max_topic_alias", "mount_point",
        "protocol", "bind_interface", "certfile", "keyfile", "cafile", "tls_version",
        "require_certificate", "use_identity_as_username", "max_qos", "socket_domain",
    }  # fmt: skip
    assert of_listeners.isdisjoint(mosquitto_options()[""])


def test_devices_publish_as_themselves_only():
    rules = [
        line
        for line in (ROOT / "deploy/mosquitto/acl").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules == [
        "user collector",
        "topic read gh/#",
        "pattern write gh/+/%u",
        "pattern write gh/+/%u/#",
    ]


def test_image_is_locked_by_hash_and_runs_without_rights():
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    installs = re.findall(r"pip install[^&]*", DOCKERFILE.replace("\\\n", " "))
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-build-isolation" in install
    assert "dev.txt" not in DOCKERFILE
    last_stage = DOCKERFILE.split("\nFROM ")[-1]
    assert "\nUSER greenhouse\n" in last_stage
    assert last_stage.rstrip().endswith('ENTRYPOINT ["greenhouse"]\nCMD ["--help"]')
    assert "--uid 10001" in last_stage and SERVICES["service"]["user"] == "10001:10001"


def test_image_is_built_from_the_rooms_only():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert "*" in lines
    assert allowed == rooms | {"requirements", "pyproject.toml", "README.md", "LICENSE"}
    assert "**/*.secret" in lines
