"""The load tool on a real broker: every message once, and a ledger that says what was promised."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from click.testing import CliRunner

from devices.site_file import read_site_file
from firmware_sims.load import (
    Ledger,
    Load,
    LoadReport,
    device_code,
    main,
    publish,
    read_entries,
    read_ledger,
    reading_value,
    site_file_text,
)
from tests.firmware_sims.listening import Listener

WIDE = ("max_inflight_messages 1000", "max_queued_messages 0")
START_MS = 1_795_000_000_000


def _moments(listener: Listener) -> list[tuple[str, int]]:
    return [(m.topic, sample["t"]) for m in listener.data() for sample in m.samples]


@pytest.mark.parametrize("readings", [1, 4])
def test_every_message_arrives_once_with_its_own_moment_and_value(broker, eventually, readings):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 3000, 7, readings, start_ms=START_MS)
    with Listener(server.host, server.port) as listener:
        report = publish(load)
        eventually(lambda: len(listener.messages) == 3000)
    assert (report.sent, report.acknowledged, report.refused) == (3000, 3000, 0)
    moments = _moments(listener)
    assert len(set(moments)) == 3000
    assert set(moments) == {
        (f"gh/load/{device_code(n % 7)}", START_MS + n // 7 * 10) for n in range(3000)
    }
    for message in listener.messages:
        assert message.qos == 1
        sample = json.loads(message.payload)
        assert len(sample["v"]) == readings
        for quantity, value in sample["v"].items():
            assert value == reading_value(quantity, sample["t"])


@pytest.mark.parametrize("most", [1, 20])
def test_no_more_is_in_flight_than_the_broker_allows(broker, eventually, most: int):
    server = broker(f"max_inflight_messages {most}", "max_queued_messages 0")
    with Listener(server.host, server.port) as listener:
        report = publish(Load(server.host, server.port, 300, 5, start_ms=START_MS))
        eventually(lambda: len(listener.messages) == 300)
    assert report.reconnects == 0  # this broker throws out who sends more
    assert len(set(_moments(listener))) == 300


def test_the_ledger_holds_what_was_promised(broker, eventually, tmp_path):
    server = broker(*WIDE)
    ledger = Ledger(tmp_path / "ledger")
    with Listener(server.host, server.port) as listener:
        publish(Load(server.host, server.port, 2500, 11, start_ms=START_MS), ledger)
        eventually(lambda: len(listener.messages) == 2500)
    ledger.close()
    entries = list(read_entries(tmp_path / "ledger"))
    assert {entry.seq for entry in entries} == set(range(2500))
    assert {entry.reason_code for entry in entries} == {0}
    assert {(entry.topic, entry.at_ms) for entry in entries} == set(_moments(listener))
    for entry in entries:
        assert entry.value == reading_value("air_temperature", entry.at_ms)
        assert abs(entry.answered_at_ms - time.time() * 1000) < 120_000
    promised = list(read_ledger(tmp_path / "ledger"))
    assert promised == [(entry.device, entry.at_ms) for entry in entries]


def test_an_answer_without_a_receiver_is_no_promise(broker, tmp_path):
    server = broker(*WIDE)
    ledger = Ledger(tmp_path / "ledger")
    report = publish(Load(server.host, server.port, 50, 5, start_ms=START_MS), ledger)
    ledger.close()
    assert (report.acknowledged, report.refused) == (0, 50)
    assert {entry.reason_code for entry in read_entries(tmp_path / "ledger")} == {0x10}
    assert list(read_ledger(tmp_path / "ledger")) == []


def test_a_ledger_that_was_cut_off_in_the_middle_of_a_line_is_read_up_to_there(tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    for seq in range(3):
        ledger.note("gh/load/load-0002", START_MS + seq, seq, 0)
    ledger.close()
    path.write_bytes(path.read_bytes()[:-5])
    assert list(read_ledger(path)) == [(2, START_MS), (2, START_MS + 1)]


async def test_a_broker_that_goes_away_and_comes_back_loses_nothing(broker, eventually, tmp_path):
    server = broker(*WIDE, persistence=True)
    load = Load(server.host, server.port, 4000, 5, rate=2500, start_ms=START_MS)
    ledger = Ledger(tmp_path / "ledger")
    with Listener(server.host, server.port) as listener:
        run = asyncio.create_task(asyncio.to_thread(publish, load, ledger))
        await eventually(lambda: len(listener.messages) > 500)
        await asyncio.to_thread(server.restart)
        report: LoadReport = await run
        await eventually(lambda: len(set(_moments(listener))) == 4000, timeout_s=20)
    ledger.close()
    assert report.reconnects >= 1 and report.acknowledged == 4000
    arrived = set(_moments(listener))
    promised = {(e.topic, e.at_ms) for e in read_entries(tmp_path / "ledger")}
    assert promised == arrived


def test_a_connection_that_is_cut_in_flight_is_made_again(broker, proxy, eventually):
    server = broker(*WIDE)
    between = proxy(server.host, server.port)
    between.delay(to_client_s=0.01)
    load = Load(between.host, between.port, 3000, 5, rate=3000, start_ms=START_MS)
    with Listener(server.host, server.port) as listener:
        reports: list[LoadReport] = []
        thread = threading.Thread(target=lambda: reports.append(publish(load)))
        thread.start()
        for count in (300, 1200):
            eventually(lambda count=count: len(listener.messages) > count)
            between.cut()
        thread.join(30)
        eventually(lambda: len(set(_moments(listener))) == 3000)
    assert reports[0].reconnects == 2
    assert reports[0].acknowledged == 3000


def test_a_rate_is_kept_and_live_moments_are_those_of_sending(broker, eventually):
    server = broker(*WIDE)
    load = Load(server.host, server.port, 400, 50, rate=400, live=True)
    with Listener(server.host, server.port) as listener:
        began_ms = time.time() * 1000
        report = publish(load)
        eventually(lambda: len(listener.messages) == 400)
    assert 0.9 < report.seconds < 5
    stamps = [at_ms for _, at_ms in _moments(listener)]
    assert min(stamps) >= began_ms - 1
    assert max(stamps) - min(stamps) > 800
    assert len(set(_moments(listener))) == 400


def test_without_a_broker_it_gives_up():
    with pytest.raises(ConnectionError):
        publish(Load("127.0.0.1", 9, 10, give_up_s=0.2))


def test_its_site_file_is_sound_and_its_topics_are_those_of_the_file():
    load = Load("127.0.0.1", 1883, 10, devices=3, readings=2)
    site = read_site_file(site_file_text(load, "127.0.0.1", 1883), "load.yaml")
    assert [device.code for device in site.registry.devices] == [device_code(n) for n in range(3)]
    assert site.broker is not None and site.broker.topic == "gh/{site}/{device}"
    for device in site.registry.devices:
        assert device.site == "load"
        assert [series.key for series in device.series] == ["air_temperature", "relative_humidity"]


def test_the_command_publishes_and_says_what_was_acknowledged(broker, tmp_path):
    server = broker(*WIDE)
    with Listener(server.host, server.port):
        options = [f"--port={server.port}", "--messages=500", "--devices=5", "--readings=1"]
        result = CliRunner().invoke(main, [*options, f"--ledger={tmp_path / 'l'}"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("500 acknowledged, 0 refused, 500 sent in ")
    assert len(list(read_ledger(tmp_path / "l"))) == 500
    printed = CliRunner().invoke(main, ["--site-file", "--devices=2"]).output
    assert len(read_site_file(printed, "printed").registry.devices) == 2
