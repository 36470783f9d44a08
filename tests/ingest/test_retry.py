from __future__ import annotations

import random

from ingest.retry import Backoff


def test_delays_double_up_to_the_cap():
    backoff = Backoff(0.2, 30.0, lambda: 1.0)
    delays = [backoff.failed(0.0) for _ in range(10)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_jitter_takes_any_part_of_the_delay():
    draw = random.Random(7).random
    backoff = Backoff(8.0, 8.0, draw)
    delays = [backoff.failed(0.0) for _ in range(500)]
    assert 0 <= min(delays) < 0.2
    assert 7.8 < max(delays) <= 8.0


def test_success_begins_anew():
    backoff = Backoff(0.2, 30.0, lambda: 1.0)
    backoff.failed(5.0)
    backoff.failed(6.0)
    assert (backoff.failures, backoff.failing_since_s) == (2, 5.0)
    backoff.succeeded()
    assert (backoff.failures, backoff.failing_since_s) == (0, None)
    assert backoff.failed(9.0) == 0.2
    assert backoff.failing_since_s == 9.0
