"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest import whole_file
from ingest.whole_file import remove, write_each_whole, write_new, write_whole

# Writes a megabyte of one letter to one path, again and again, until it is killed.
_WRITER = """
import sys
from pathlib import Path
from ingest.whole_file import write_whole
while True:
    write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 1_000_000)
    print(flush=True)
"""


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_replaced_and_no_draft_stays(tmp_path):
    path = tmp_path / "state.json"
    write_whole(path, b"the first, which is longer")
    write_whole(path, memoryview(b"second"))
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["state.json"]


def test_what_a_crash_left_beside_it_is_taken_over(tmp_path):
    path = tmp_path / "state.json"
    (tmp_path / ".state.json.new").write_bytes(b"half of something longer")
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("step", ["fsync", "ftruncate", "fchmod"])
def test_a_disk_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "state.json"
    write_whole(path, b"before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["state.json"]


def test_threads_that_write_one_file_do_not_mix_it(tmp_path):
    path = tmp_path / "state.json"
    contents = [bytes([65 + number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda content: write_whole(path, content), contents))
            assert path.read_bytes() in contents
    assert names(tmp_path) == ["state.json"]


def test_a_process_killed_while_it_writes_leaves_a_whole_file_and_at_most_one_draft(tmp_path):
    path = tmp_path / "state.json"
    for number in range(6):
        arguments = [sys.executable, "-c", _WRITER, str(path), "ab"[number % 2]]
        writer = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        try:
            assert writer.stdout is not None
            for _ in range(3):
                writer.stdout.readline()
            time.sleep(0.0007 * number)  # no wait for anything: it is to be killed at any moment
        finally:
            writer.kill()
            writer.wait()
            writer.stdout.close()
        content = path.read_bytes()
        assert (len(content), len(set(content))) == (1_000_000, 1)
        assert set(names(tmp_path)) <= {"state.json", ".state.json.new"}
    write_whole(path, b"after all")
    assert names(tmp_path) == ["state.json"]


def test_several_files_share_one_sync_of_their_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(whole_file, "sync_folder", synced.append)
    write_each_whole({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert synced == [tmp_path]
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"1", b"2"]


def test_of_new_files_all_stay_or_none(tmp_path):
    (tmp_path / "a file").touch()
    mistaken = {tmp_path / "sub" / "one.yaml": "a: 1\n", tmp_path / "a file" / "two.yaml": ""}
    with pytest.raises(FileExistsError):
        write_new(mistaken)
    assert names(tmp_path) == ["a file"]
    good = {tmp_path / "sub" / "one.yaml": "温室: 1\n", tmp_path / "two.yaml": "b: 2\n"}
    write_new(good)
    assert {file: file.read_text("utf-8") for file in good} == good
    remove([*good, tmp_path / "never there"])
    assert names(tmp_path) == ["a file"]
