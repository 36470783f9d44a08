import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from devices.reading import Batch

_rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.floats(allow_nan=False, width=32)),
    max_size=60,
)


def _batch(rows):
    return Batch.of(
        [row[0] for row in rows],
        [row[1] for row in rows],
        list(range(len(rows))),
        [row[2] for row in rows],
        [0] * len(rows),
    )


@given(_rows)
def test_the_first_arrival_of_each_key_is_kept_and_nothing_is_lost(rows):
    unique, rest = _batch(rows).sorted_unique()
    first: dict[tuple[int, int], float] = {}
    for series, at, value in rows:
        first.setdefault((series, at), value)
    keys = list(zip(unique.series_id.tolist(), unique.observed_at_us.tolist(), strict=True))
    assert keys == sorted(first)
    assert unique.value.tolist() == [first[key] for key in keys]
    assert len(unique) + len(rest) == len(rows)


@given(st.lists(_rows, max_size=5))
def test_concatenation_keeps_every_row_in_order(parts):
    whole = Batch.concatenate([_batch(rows) for rows in parts])
    assert whole.value.tolist() == [row[2] for rows in parts for row in rows]
    assert whole.series_id.dtype == np.int32
    assert whole.observed_at_us.dtype == np.int64


def test_a_batch_is_taken_apart_by_mask():
    batch = _batch([(1, 1, 1.0), (2, 2, 2.0), (3, 3, 3.0)])
    assert batch.take(batch.value > 1.5).series_id.tolist() == [2, 3]
    assert len(Batch.empty()) == 0
