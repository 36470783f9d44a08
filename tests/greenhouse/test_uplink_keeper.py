"""The latest frames of LoRaWAN devices outlive the process."""

from __future__ import annotations

import asyncio

from devices.codecs.sample import Uplink
from greenhouse.uplink_keeper import UplinkKeeper
from ingest.uplinks import LATEST, Uplinks

FRAME = Uplink(7, "07000048", b"\x01\x00\xd7")


async def _kept(uplinks, file, every_s=60.0):
    """Run a keeper until it has begun to wait, then cancel it."""
    keeper = UplinkKeeper(uplinks, file)
    task = asyncio.create_task(keeper.run(every_s))
    await asyncio.sleep(0)
    return keeper, task


async def _end(task):
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_frame_of_an_earlier_run_is_known_again(tmp_path):
    file = tmp_path / "uplinks.json"
    before = Uplinks()
    _, task = await _kept(before, file)
    assert before.first_us("node", FRAME, 100) == 100
    await _end(task)

    after = Uplinks()
    await UplinkKeeper(after, file).recall()
    assert after.first_us("node", FRAME, 900) == 100
    assert after.first_us("other", FRAME, 900) == 900
    for counter in range(10, 10 + LATEST):
        after.first_us("node", Uplink(counter, "", b"x"), counter)
    assert after.first_us("node", FRAME, 950) == 950, "more is remembered than before"


async def test_what_is_new_is_kept_while_the_service_runs(tmp_path, eventually):
    file = tmp_path / "uplinks.json"
    uplinks = Uplinks()
    _, task = await _kept(uplinks, file, every_s=0.01)
    uplinks.first_us("node", FRAME, 100)
    await eventually(file.exists)
    again = Uplinks()
    await UplinkKeeper(again, file).recall()
    assert again.first_us("node", FRAME, 900) == 100
    await _end(task)


async def test_nothing_new_is_nothing_to_write(tmp_path):
    file = tmp_path / "uplinks.json"
    _, task = await _kept(Uplinks(), file)
    await _end(task)
    assert not file.exists()


async def test_a_file_of_junk_is_told_and_forgotten(tmp_path, caplog):
    file = tmp_path / "uplinks.json"
    await UplinkKeeper(Uplinks(), file).recall()
    assert caplog.text == ""
    file.write_bytes(b"{")
    uplinks = Uplinks()
    await UplinkKeeper(uplinks, file).recall()
    assert "the frames of an earlier run cannot be read" in caplog.text
    assert uplinks.first_us("node", FRAME, 100) == 100


async def test_a_disk_that_refuses_is_told_and_stops_nobody(tmp_path, caplog):
    uplinks = Uplinks()
    _, task = await _kept(uplinks, tmp_path / "no such folder" / "uplinks.json")
    uplinks.first_us("node", FRAME, 100)
    await _end(task)
    assert "the frames of LoRaWAN devices cannot be kept" in caplog.text
