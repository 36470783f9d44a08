from __future__ import annotations

from dataclasses import fields

from ingest.counters import HELP, Counters


def test_every_counter_is_described_and_every_description_counts():
    assert [field.name for field in fields(Counters)] == list(HELP)


def test_snapshot_names_numbers_and_labels():
    counters = Counters()
    counters.bytes_accepted += 7
    counters.dead_letters["E-JSON"] += 2
    counters.dead_letters["E-TIME"] += 1
    numbers = counters.snapshot()
    assert numbers["bytes_accepted", ()] == 7
    assert numbers["dead_letters", (("code", "E-JSON"),)] == 2
    assert numbers["dead_letters", (("code", "E-TIME"),)] == 1
    assert numbers["unknown_keys", ()] == 0
    assert not [name for name, _ in numbers if name == "gaps"], "nothing happened, no line"
