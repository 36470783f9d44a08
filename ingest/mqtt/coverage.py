"""Up to when we know that nothing passed us by, and what to say when something may have.

Messages of QoS 1 are not lost while we are away: the broker keeps them in our session.  So a
disconnection alone is no gap.  It is one only

- ``session_lost``: the broker had a session for us and has it no more (restart without
  persistence, expiry, a client that came with our id and a clean start);
- ``disconnected``: the broker was known not to keep a session, or devices publish at QoS 0, which
  it does not keep;
- ``subscription_refused``: connected, but the broker does not give us what we asked for;
- ``dropped``: we ourselves gave up messages that exist nowhere else (QoS 0, while the spool was
  full).

What is known must outlive the process, for the session does: `Coverage.memory` goes to a file and
comes back.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.gap import Gap


@dataclass(frozen=True, slots=True)
class Memory:
    """What one collector knows about its session at its broker.

    *broker* is ``host:port``; *covered_until_us* (microseconds UTC) is the last moment up to which
    nothing can have been missed; *keeps* whether the broker keeps a session for us while we are
    away; *qos0* whether devices publish what no broker keeps; *broken* the reason of a gap that is
    still open.
    """

    broker: str
    client_id: str
    topic_filters: tuple[str, ...]
    covered_until_us: int
    keeps: bool
    qos0: bool = False
    broken: str = ""


_TEXTS = {
    "session_lost": "the broker lost our session, and with it what was published meanwhile",
    "disconnected": "not connected, and the broker does not keep what was published meanwhile",
    "subscription_refused": "the broker refused a subscription",
}


class Coverage:
    """Follows one collector through its connections and says where a gap was.

    *memory* is what an earlier process left; one of another broker or client id counts as none.
    Times are microseconds UTC.
    """

    def __init__(
        self,
        broker: str,
        client_id: str,
        topic_filters: tuple[str, ...],
        memory: Memory | None = None,
    ) -> None:
        self._broker = broker
        self._client_id = client_id
        self._filters = topic_filters
        if memory is not None and (memory.broker, memory.client_id) != (broker, client_id):
            memory = None
        self._old_filters = memory.topic_filters if memory else ()
        self._until_us = memory.covered_until_us if memory else None
        self._keeps = memory.keeps if memory else False
        self._qos0 = memory.qos0 if memory else False
        self._broken = memory.broken if memory else ""
        self._subscribed = False

    @property
    def memory(self) -> Memory | None:
        """What a later process must know; None before the first contact."""
        if self._until_us is None:
            return None
        return Memory(
            self._broker,
            self._client_id,
            self._old_filters,
            self._until_us,
            self._keeps,
            self._qos0,
            self._broken,
        )

    def want(self, topic_filters: tuple[str, ...]) -> None:
        """Note that we are about to subscribe to *topic_filters* and to nothing else."""
        self._filters = topic_filters

    @property
    def unwanted_filters(self) -> tuple[str, ...]:
        """What the session may still be subscribed to from earlier, and no longer should be."""
        return tuple(sorted(set(self._old_filters) - set(self._filters)))

    @property
    def is_subscribed(self) -> bool:
        """Whether the broker has answered our subscriptions on the connection there is."""
        return self._subscribed

    @property
    def expects_session(self) -> bool:
        """Whether the broker should know us."""
        return self._until_us is not None and self._keeps

    def connected(self, session_present: bool, keeps: bool, now_us: int) -> None:
        """Note that the broker took us; *keeps*: it will keep the session when we go."""
        if self._until_us is None:
            self._until_us = now_us
        elif session_present:
            if self._qos0 and not self._broken:
                self._broken = "disconnected"
        elif self._broken != "session_lost":
            self._broken = "session_lost" if self._keeps else "disconnected"
        self._keeps = keeps

    def subscribed(self, refused: bool, now_us: int) -> Gap | None:
        """Note the broker's answer to all our filters; return the gap that this ends or begins.

        While a filter stays refused, say so once; `ended` closes the rest.
        """
        reason = self._broken or ("subscription_refused" if refused else "")
        self._broken = "subscription_refused" if refused else ""
        self._subscribed = True
        self._old_filters = self._filters
        return self._gap(reason, now_us) if reason else None

    def heard(self, at_us: int, oldest_unaccepted_us: int | None = None) -> None:
        """Note that all is well up to *at_us*, or up to the oldest message we still hold."""
        if self._subscribed and not self._broken and self._until_us is not None:
            known_us = at_us if oldest_unaccepted_us is None else min(at_us, oldest_unaccepted_us)
            self._until_us = max(self._until_us, known_us)

    def saw_qos0(self) -> None:
        """Note that a device publishes what no broker keeps."""
        self._qos0 = True

    def ended(self, now_us: int) -> Gap | None:
        """Note that the connection is over; return the part of an open gap that it had."""
        was_refused = self._subscribed and self._broken == "subscription_refused"
        self._subscribed = False
        return self._gap("subscription_refused", now_us) if was_refused else None

    def spool_was_full(self, since_us: int, now_us: int) -> Gap | None:
        """Return the gap of a time in which we did not read, if something was lost by that."""
        if not self._qos0:
            return None
        text = "the spool was full and the broker does not keep messages of QoS 0"
        return Gap(self._source, since_us, max(since_us, now_us), "spool_full", text)

    def dropped(self, messages: int, since_us: int, now_us: int) -> Gap:
        """Return the gap of *messages* at QoS 0 that we held and could not keep."""
        text = f"{messages} messages of QoS 0 were received and could not be kept"
        return Gap(self._source, since_us, max(since_us, now_us), "dropped", text)

    @property
    def _source(self) -> str:
        return f"mqtt:{self._broker}"

    def _gap(self, reason: str, now_us: int) -> Gap:
        started_us = now_us if self._until_us is None else min(self._until_us, now_us)
        self._until_us = now_us
        return Gap(self._source, started_us, now_us, reason, _TEXTS[reason])
