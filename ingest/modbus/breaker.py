"""Sets a slave aside that does not answer, so that it delays nobody; pure, fed *now*."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SlaveState(StrEnum):
    """How a slave stands with us."""

    UNKNOWN = "unknown"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """*failures* in a row set a slave aside; it is probed after *probe_s*, later *probe_max_s*."""

    failures: int = 3
    probe_s: float = 30.0
    probe_max_s: float = 60.0


@dataclass(slots=True)
class Breaker:
    """One slave's state.

    Closed, it is polled at its own pace.  Open, it is only probed, at the end of a round, and each
    probe in vain doubles the wait up to the limit.  One answer closes it.
    """

    settings: BreakerSettings
    state: SlaveState = SlaveState.UNKNOWN
    failures: int = 0
    probe_at_s: float = 0.0
    _wait_s: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the slave is set aside."""
        return self.state is SlaveState.DOWN

    def succeed(self) -> bool:
        """Note an answer; return whether that brought the slave back."""
        back = self.state is SlaveState.DOWN
        self.state, self.failures = SlaveState.UP, 0
        return back

    def fail(self, now_s: float) -> bool:
        """Note a turn without an answer; return whether the slave is set aside by this one."""
        self.failures += 1
        if self.state is SlaveState.DOWN:
            self._wait_s = min(2 * self._wait_s, self.settings.probe_max_s)
            self.probe_at_s = now_s + self._wait_s
            return False
        if self.failures < self.settings.failures:
            self.state = SlaveState.SUSPECT
            return False
        self.state = SlaveState.DOWN
        self._wait_s = self.settings.probe_s
        self.probe_at_s = now_s + self._wait_s
        return True

    def probe_soon(self, now_s: float) -> None:
        """Probe at the next chance: the line was repaired, so the silence may not be its fault."""
        if self.is_open:
            self._wait_s = self.settings.probe_s
            self.probe_at_s = now_s
