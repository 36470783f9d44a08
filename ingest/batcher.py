"""Gathers small things into batches.  Pure: fed the time, never waits."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """A batch is due when it weighs *max_weight*, or *linger_s* after its first item came.

    It holds what it is given: whoever adds without taking is the one to bound that.
    """

    def __init__(self, max_weight: int, linger_s: float) -> None:
        self._max_weight = max_weight
        self._linger_s = linger_s
        self._items: deque[tuple[Item, int, float]] = deque()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item, weight: int, now_s: float) -> None:
        """Add *item*, which came at *now_s*."""
        self._items.append((item, weight, now_s))
        self._weight += weight

    def due_at_s(self) -> float | None:
        """Return when the next batch is due (it may be past), or None while there is nothing."""
        if not self._items:
            return None
        _, _, came_at_s = self._items[0]
        return came_at_s if self._weight >= self._max_weight else came_at_s + self._linger_s

    def take_if_due(self, now_s: float) -> list[Item]:
        """Return the next batch if it is due at *now_s*, else nothing."""
        due_at_s = self.due_at_s()
        return self.take() if due_at_s is not None and now_s >= due_at_s else []

    def take(self) -> list[Item]:
        """Return the next batch, due or not: items in order, one at least, within the weight."""
        batch: list[Item] = []
        weight = 0
        while self._items and (not batch or weight + self._items[0][1] <= self._max_weight):
            item, its_weight, _ = self._items.popleft()
            weight += its_weight
            batch.append(item)
        self._weight -= weight
        return batch
