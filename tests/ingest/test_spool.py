from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from ingest.collector import Arrival, ArrivalFlag, SpoolFull
from ingest.counters import Counters
from ingest.segment import Disk
from ingest.spool import Spool, SpoolUnusable


def _arrivals(*numbers: int, size: int = 20) -> list[Arrival]:
    return [Arrival("mqtt", f"gh/h1/d{n}", b"%0*d" % (size, n), 1_000_000 * n) for n in numbers]


def _numbers(portions) -> list[int]:
    return [int(arrival.topic[7:]) for portion in portions for arrival in portion.arrivals]


def _segments(folder: Path, suffix: str = "segment") -> list[Path]:
    return sorted(folder.glob(f"*.{suffix}"))


async def _read_all(spool: Spool, release: bool = True) -> list[int]:
    """Everything that is ready in the backlog."""
    numbers: list[int] = []
    while spool.backlog_bytes:
        portions = await spool.read_backlog()
        numbers += _numbers(portions)
        if release:
            spool.release(portions)
    return numbers


async def _left_in(folder: Path, counters: Counters | None = None) -> list[int]:
    """What the next process finds in *folder*; it is gone afterwards."""
    async with Spool(folder, counters or Counters()) as spool:
        return await _read_all(spool)


async def test_what_was_accepted_is_handed_on_in_order(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        await spool.accept(_arrivals(1, 2))
        await spool.accept(_arrivals(3))
        await spool.wait_fresh()
        portions = spool.take_fresh(100)
        assert _numbers(portions) == [1, 2, 3]
        assert all(portion.fresh and not portion.seen for portion in portions)
        assert spool.take_fresh(100) == []


async def test_what_was_not_released_is_there_after_a_restart(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        for number in range(5):
            await spool.accept(_arrivals(number))
        spool.release(spool.take_fresh(1))
    async with Spool(tmp_path, Counters()) as spool:
        assert spool.lag(9_000_000).records == 5, "the segment is kept while any of it is wanted"
        await spool.wait_backlog()
        portions = await spool.read_backlog()
        assert _numbers(portions) == [0, 1, 2, 3, 4]
        assert not any(portion.fresh for portion in portions)
        assert portions[3].arrivals == _arrivals(3)


async def test_what_was_released_is_gone(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        await spool.accept(_arrivals(*range(100)))
        spool.release(spool.take_fresh(1000))
    assert _segments(tmp_path) == []
    assert await _left_in(tmp_path) == []


async def test_calls_that_come_together_share_one_sync(tmp_path):
    counters = Counters()
    async with Spool(tmp_path, counters) as spool:
        await asyncio.gather(*(spool.accept(_arrivals(number)) for number in range(200)))
        assert sorted(_numbers(spool.take_fresh(1000))) == list(range(200))
    assert counters.spool_commits <= 3
    assert counters.arrivals_accepted == counters.arrivals_received == {"mqtt": 200}
    assert counters.bytes_accepted == 200 * 20


async def test_marks_are_kept_and_counted(tmp_path):
    counters = Counters()
    flags = ArrivalFlag.QOS0 | ArrivalFlag.RETAINED
    async with Spool(tmp_path, counters, fresh_bytes=0) as spool:
        await spool.accept([Arrival("http", "x", b"", 5, flags), Arrival("mqtt", "y", b"", 6)])
        (portion,) = await spool.read_backlog()
        assert portion.arrivals[0] == Arrival("http", "x", b"", 5, flags)
    assert (counters.qos0_received, counters.retained_received) == (1, 1)
    assert counters.arrivals_accepted == {"http": 1, "mqtt": 1}


async def test_what_does_not_fit_in_memory_is_read_from_the_disk(tmp_path):
    async with Spool(tmp_path, Counters(), fresh_bytes=2000) as spool:
        for start in range(0, 300, 10):
            await spool.accept(_arrivals(*range(start, start + 10)))
        fresh = spool.take_fresh(1000)
        backlog = await _read_all(spool)
        assert len(_numbers(fresh)) < 60
        assert backlog + _numbers(fresh) == list(range(300)), "the oldest left memory first"
        spool.release(fresh)
    assert await _left_in(tmp_path) == []


async def test_what_is_put_back_comes_again_with_its_mark(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        for number in range(6):
            await spool.accept(_arrivals(number))
        one, two, three, *rest = spool.take_fresh(6)
        spool.release([one])
        spool.put_back([two, three], seen=True)
        spool.put_back(rest[:1], seen=False)
        first = await spool.read_backlog()
        assert (_numbers(first), [portion.seen for portion in first]) == ([1, 2], [True, True])
        second = await spool.read_backlog()
        assert (_numbers(second), second[0].seen) == ([3], False)
        assert spool.backlog_bytes == 0
        spool.release([*first, *second, *rest[1:]])
        assert spool.lag(0).records == 0
    assert _segments(tmp_path) == []


async def test_a_segment_is_removed_as_soon_as_all_in_it_is_released(tmp_path):
    async with Spool(tmp_path, Counters(), segment_bytes=500) as spool:
        for number in range(60):
            await spool.accept(_arrivals(number))
        before = len(_segments(tmp_path))
        assert before > 5
        portions = spool.take_fresh(1000)
        spool.release(portions[: len(portions) // 2])
        await _settled(spool)
        middle = len(_segments(tmp_path))
        assert middle < before
        assert spool.used_bytes == sum(path.stat().st_size for path in _segments(tmp_path))
        spool.release(portions[len(portions) // 2 :])
    assert _segments(tmp_path) == []


async def _settled(spool: Spool) -> None:
    """Let the reading thread finish what it was given to remove."""
    await asyncio.get_running_loop().run_in_executor(spool._reading, lambda: None)


async def test_a_drained_segment_goes_before_it_is_full(tmp_path):
    """So that a crash of a process that keeps up brings back little."""
    async with Spool(tmp_path, Counters()) as spool:
        for _ in range(3):
            await spool.accept(_arrivals(*range(1000), size=1500))
            spool.release(spool.take_fresh(5000))
            await _settled(spool)
            assert _segments(tmp_path) == []


async def test_lag_says_how_much_and_how_old(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        assert spool.lag(50_000_000) == spool.lag(0)
        for number in (10, 20, 30):
            await spool.accept(_arrivals(number))
        lag = spool.lag(50_000_000)
        assert (lag.records, lag.age_s) == (3, 40.0)
        assert lag.bytes == _segments(tmp_path)[0].stat().st_size
        first, second, third = spool.take_fresh(3)
        spool.release([first])
        spool.put_back([second], seen=True)
        lag = spool.lag(50_000_000)
        assert (lag.records, lag.age_s) == (2, 30.0)
        spool.release([third, *(await spool.read_backlog())])
        lag = spool.lag(50_000_000)
        assert (lag.bytes, lag.records, lag.age_s) == (0, 0, 0.0)


async def test_a_replay_of_old_letters_does_not_look_like_a_lag(tmp_path):
    replayed = Arrival("mqtt", "gh/h1/d1", b"{", 5, ArrivalFlag.REPLAYED)
    async with Spool(tmp_path, Counters()) as spool:
        await spool.accept([replayed])
        assert spool.lag(50_000_000).age_s == 0
        spool.put_back(spool.take_fresh(1), seen=True)
        assert spool.lag(50_000_000).age_s == 0
        await spool.accept(_arrivals(30))
        assert spool.lag(50_000_000).age_s == 20
        assert spool.lag(50_000_000).records == 2


async def test_lag_after_a_restart_counts_every_segment(tmp_path):
    async with Spool(tmp_path, Counters(), segment_bytes=400) as spool:
        for number in range(1, 41):
            await spool.accept(_arrivals(number))
    assert len(_segments(tmp_path)) > 3
    async with Spool(tmp_path, Counters()) as spool:
        lag = spool.lag(41_000_000)
        assert (lag.records, lag.age_s) == (40, 40.0)
        assert await _read_all(spool) == list(range(1, 41))


async def test_a_cancelled_caller_disturbs_nobody(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        first = asyncio.create_task(spool.accept(_arrivals(1)))
        second = asyncio.create_task(spool.accept(_arrivals(2)))
        await asyncio.sleep(0)
        first.cancel()
        await second
        await asyncio.wait([first])
        assert 2 in _numbers(spool.take_fresh(10))


async def test_a_caller_may_use_its_list_again(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        mine = _arrivals(1, 2)
        await spool.accept(mine)
        mine.clear()
        assert _numbers(spool.take_fresh(10)) == [1, 2]


async def test_nothing_is_accepted_after_closing(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        pass
    with pytest.raises(SpoolFull, match="closed"):
        await spool.accept(_arrivals(1))


async def test_closing_waits_for_what_is_being_written(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        tasks = [asyncio.create_task(spool.accept(_arrivals(number))) for number in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert sorted(await _left_in(tmp_path)) == list(range(20))


# What a folder must be.


async def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(SpoolUnusable, match=rf"/none: not there.*uid {os.geteuid()}"):
        await _left_in(tmp_path / "none")


async def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnusable, match="not a folder"):
        await _left_in(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else_is_refused(tmp_path):
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(SpoolUnusable, match="owned by uid 12345, this process is 0"):
        await _left_in(tmp_path)


async def test_two_processes_never_share_a_folder(tmp_path):
    async with Spool(tmp_path, Counters()):
        with pytest.raises(SpoolUnusable, match="another process is using it"):
            await _left_in(tmp_path)
    assert await _left_in(tmp_path) == []


# A full disk.


async def test_beyond_the_quota_nothing_is_accepted_until_something_is_released(tmp_path):
    counters = Counters()
    async with Spool(tmp_path, counters, quota_bytes=20_000, segment_bytes=4_000) as spool:
        accepted = 0
        with pytest.raises(SpoolFull, match="the quota is used up"):
            while True:
                await spool.accept(_arrivals(*range(accepted, accepted + 10), size=100))
                accepted += 10
        assert 80 < accepted < 200
        assert spool.used_bytes <= 20_000
        portions = spool.take_fresh(10_000)
        assert _numbers(portions) == list(range(accepted))
        spool.release(portions)
        await spool.accept(_arrivals(7))
    assert (counters.spool_full, counters.arrivals_refused) == (1, {"mqtt": 10})
    assert counters.arrivals_accepted == {"mqtt": accepted + 1}


async def test_a_share_of_the_disk_is_left_to_others(tmp_path):
    class Crowded(Disk):
        def room(self, folder):
            return 1_040_000, 100_000_000

    async with Spool(tmp_path, Counters(), min_free_share=0.01, disk=Crowded()) as spool:
        await spool.accept(_arrivals(1))
        with pytest.raises(SpoolFull, match="1040000 bytes of the file system are free"):
            await spool.accept(_arrivals(2, size=50_000))
        assert _numbers(spool.take_fresh(10)) == [1]


async def test_too_much_waiting_for_the_disk_is_refused_at_once(tmp_path):
    async with Spool(tmp_path, Counters(), pending_bytes=1000) as spool:
        calls = [spool.accept(_arrivals(number, size=300)) for number in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [isinstance(result, SpoolFull) for result in results]
        assert 4 <= refused.count(True) <= 7
        kept = [number for number in range(10) if not refused[number]]
        assert _numbers(spool.take_fresh(10)) == kept


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_keeps_all_that_was_accepted_and_drains(small_disk):
    counters = Counters()
    options = {"min_free_share": 0.0, "segment_bytes": 200_000}
    async with Spool(small_disk, counters, **options) as spool:
        accepted = []
        with pytest.raises(SpoolFull):
            for number in range(100_000):
                await spool.accept(_arrivals(number, size=700))
                accepted.append(number)
        assert len(accepted) > 1000
        for _ in range(3):  # a full disk stays full, and says so each time
            with pytest.raises(SpoolFull):
                await spool.accept(_arrivals(-1, size=700))
    assert counters.spool_full == 4
    assert os.statvfs(small_disk).f_bavail * 4096 < 8192, "the disk was really full"
    # The next process finds it full, reads everything, and frees it without needing room.
    async with Spool(small_disk, counters, **options) as spool:
        with pytest.raises(SpoolFull):
            await spool.accept(_arrivals(-1, size=700))
        assert await _read_all(spool) == accepted
        await spool.accept(_arrivals(7))
        assert _numbers(spool.take_fresh(10)) == [7]
    assert counters.spool_corrupt_bytes == counters.spool_torn_bytes == 0


async def test_a_small_drained_segment_makes_way_on_a_full_disk(small_disk):
    filler = small_disk / "filler"
    async with Spool(small_disk, Counters(), min_free_share=0.0) as spool:
        await spool.accept(_arrivals(1, size=8000))
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        with pytest.raises(SpoolFull):
            await spool.accept(_arrivals(2, size=8000))
        spool.release(spool.take_fresh(1))
        await _settled(spool)
        await spool.accept(_arrivals(2, size=4000))


# A sick disk.


class Sick(Disk):
    """Fails the calls named in *plan* at their turn: {"sync": {2: errno.EIO}}."""

    def __init__(self, **plan: dict[int, int]) -> None:
        self.plan = plan
        self.calls: dict[str, int] = {}
        self.synced: list[int] = []

    def _turn(self, name: str) -> None:
        self.calls[name] = turn = self.calls.get(name, 0) + 1
        if code := self.plan.get(name, {}).get(turn):
            raise OSError(code, os.strerror(code))

    def create(self, path):
        self._turn("create")
        return super().create(path)

    def write(self, fd, data):
        self._turn("write")
        return super().write(fd, data[:64])  # and never more than a little at once

    def sync(self, fd):
        self.synced.append(os.fstat(fd).st_ino)
        self._turn("sync")
        super().sync(fd)

    def truncate(self, fd, size):
        self._turn("truncate")
        super().truncate(fd, size)


@pytest.mark.parametrize("call", ["sync", "write"])
async def test_a_segment_that_failed_is_never_written_again(tmp_path, call):
    counters, disk = Counters(), Sick(**{call: {3: errno.EIO}})
    async with Spool(tmp_path, counters, disk=disk) as spool:
        for number in range(6):
            await spool.accept(_arrivals(number))
        assert _numbers(spool.take_fresh(10)) == list(range(6))
    first, _ = _segments(tmp_path)
    assert counters.spool_errors == 1
    if call == "sync":
        assert disk.synced.count(first.stat().st_ino) == 3, "not synced after it failed"
    assert sorted(set(await _left_in(tmp_path, counters))) == list(range(6))
    assert counters.spool_lost_records == 0


async def test_a_disk_that_fails_everywhere_accepts_nothing(tmp_path):
    disk = Sick(sync={turn: errno.EIO for turn in range(2, 50)})
    counters = Counters()
    async with Spool(tmp_path, counters, disk=disk) as spool:
        await spool.accept(_arrivals(1))
        with pytest.raises(SpoolFull, match=r"the disk takes nothing.*Input/output error"):
            await spool.accept(_arrivals(2))
        disk.plan.clear()
        await spool.accept(_arrivals(3))
        assert _numbers(spool.take_fresh(10)) == [1, 3]
    assert counters.spool_errors == 2
    assert counters.arrivals_refused == {"mqtt": 1}


async def test_an_unfinished_write_is_cut_off_when_the_disk_is_full(tmp_path):
    disk = Sick(write={4: errno.ENOSPC})
    async with Spool(tmp_path, Counters(), disk=disk) as spool:
        await spool.accept(_arrivals(1))  # two writes
        with pytest.raises(SpoolFull, match="No space left"):
            await spool.accept(_arrivals(2, size=500))
        await spool.accept(_arrivals(3))
        assert _numbers(spool.take_fresh(10)) == [1, 3]
        (segment,) = _segments(tmp_path)
        assert segment.stat().st_size == spool.used_bytes
    assert await _left_in(tmp_path) == [1, 3]


async def test_a_segment_that_cannot_be_cut_back_is_given_up(tmp_path):
    disk = Sick(write={4: errno.ENOSPC}, truncate={1: errno.EIO})
    counters = Counters()
    async with Spool(tmp_path, counters, disk=disk) as spool:
        await spool.accept(_arrivals(1))
        await spool.accept(_arrivals(2, size=500))  # goes to another segment
        assert _numbers(spool.take_fresh(10)) == [1, 2]
    assert await _left_in(tmp_path, counters) == [1, 2]
    assert counters.spool_lost_records == 0


async def test_no_room_for_a_new_segment_is_a_full_disk(tmp_path):
    disk = Sick(create={1: errno.ENOSPC})
    async with Spool(tmp_path, Counters(), disk=disk) as spool:
        with pytest.raises(SpoolFull, match="No space left"):
            await spool.accept(_arrivals(1))
        await spool.accept(_arrivals(2))


# Damage.


async def _thirty_blocks(folder: Path) -> Path:
    """A segment with the arrivals 5000 to 5029, each in a block of the same size."""
    async with Spool(folder, Counters()) as spool:
        for number in range(5000, 5030):
            await spool.accept(_arrivals(number))
    (segment,) = _segments(folder)
    return segment


async def test_a_damaged_block_costs_itself_only_and_its_bytes_are_kept(tmp_path, caplog):
    segment = await _thirty_blocks(tmp_path)
    data = bytearray(segment.read_bytes())
    block = len(data) // 30
    data[10 * block + 50] ^= 1
    segment.write_bytes(data)
    counters = Counters()
    assert await _left_in(tmp_path, counters) == [n for n in range(5000, 5030) if n != 5010]
    assert counters.spool_corrupt_bytes == block
    assert counters.spool_lost_records == 1
    assert f"bytes {10 * block} to {11 * block} of" in caplog.text
    (kept,) = _segments(tmp_path, "corrupt")
    assert kept.read_bytes() == data
    assert await _left_in(tmp_path) == [], "what is kept aside is not read again"


async def test_kept_damage_counts_towards_the_quota(tmp_path):
    segment = await _thirty_blocks(tmp_path)
    segment.rename(segment.with_suffix(".corrupt"))
    async with Spool(tmp_path, Counters()) as spool:
        assert spool.used_bytes == segment.with_suffix(".corrupt").stat().st_size
        assert spool.lag(0).records == 0


async def test_a_torn_tail_is_ignored(tmp_path):
    segment = await _thirty_blocks(tmp_path)
    os.truncate(segment, segment.stat().st_size - 7)
    counters = Counters()
    assert await _left_in(tmp_path, counters) == list(range(5000, 5029))
    assert counters.spool_torn_bytes > 0
    assert counters.spool_corrupt_bytes == counters.spool_lost_records == 0
    assert _segments(tmp_path, "corrupt") == []


async def test_a_segment_of_garbage_does_not_stop_the_others(tmp_path):
    await _thirty_blocks(tmp_path)
    (tmp_path / "9999999999999998-0badf00d.segment").write_bytes(os.urandom(100_000))
    (tmp_path / "9999999999999999-0badf00d.segment").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not ours")
    counters = Counters()
    assert await _left_in(tmp_path, counters) == list(range(5000, 5030))
    assert counters.spool_corrupt_bytes == 100_000
    assert (tmp_path / "notes.txt").exists()


async def test_a_segment_that_vanished_is_reported_and_passed_over(tmp_path, caplog):
    async with Spool(tmp_path, Counters(), segment_bytes=400) as spool:
        for number in range(20):
            await spool.accept(_arrivals(number))
    counters = Counters()
    async with Spool(tmp_path, counters) as spool:
        gone, *_ = _segments(tmp_path)
        gone.unlink()
        numbers = await _read_all(spool)
    assert numbers == list(range(20))[-len(numbers) :]
    assert counters.spool_lost_records == 20 - len(numbers) > 0


async def test_pages_that_cannot_be_read_cost_only_their_blocks(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        for number in range(40):
            await spool.accept(_arrivals(number, size=1000))

    class Unreadable(Disk):
        def read(self, fd, size, start):
            if start < 20_000 < start + size:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(fd, size, start)

    counters = Counters()
    async with Spool(tmp_path, counters, disk=Unreadable()) as spool:
        numbers = await _read_all(spool)
    lost = sorted(set(range(40)) - set(numbers))
    assert 4 <= len(lost) <= 6
    assert lost == list(range(lost[0], lost[0] + len(lost)))
    assert counters.spool_lost_records == len(lost)


async def test_a_block_larger_than_what_is_read_at_once_is_read(tmp_path):
    async with Spool(tmp_path, Counters()) as spool:
        await spool.accept(_arrivals(1))
        await spool.accept(_arrivals(2, size=5_000_000))
        await spool.accept(_arrivals(3))
    assert await _left_in(tmp_path) == [1, 2, 3]
