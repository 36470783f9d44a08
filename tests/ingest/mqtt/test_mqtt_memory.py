"""The file that outlives the process."""

from __future__ import annotations

import pytest

from ingest.mqtt.coverage import Memory
from ingest.mqtt.memory import MemoryFile, MemoryUnreadable

MEMORY = Memory("b:1883", "collector", ("gh/+/+", "温室/#"), 123, True, True, "session_lost")


def test_what_is_saved_is_loaded(tmp_path):
    file = MemoryFile(tmp_path / "session.json")
    assert file.load() is None
    file.save(MEMORY)
    assert file.load() == MEMORY
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


def test_a_crash_while_saving_leaves_what_was_there(tmp_path):
    file = MemoryFile(tmp_path / "session.json")
    file.save(MEMORY)
    (tmp_path / ".session.json.new").write_bytes(b"half of a n")
    assert file.load() == MEMORY
    file.save(MEMORY)
    assert file.load() == MEMORY
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"broker": 1}', b"\xff\xfe"])
def test_junk_is_refused_with_the_file_named(tmp_path, junk):
    path = tmp_path / "session.json"
    path.write_bytes(junk)
    with pytest.raises(MemoryUnreadable, match=r"session\.json is not what we wrote"):
        MemoryFile(path).load()
