"""The MQTT collector: keeps a connection, hands what comes to the inlet, then acknowledges it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from devices.gap import Gap
from ingest.collector import ArrivalFlag, GapLedger, Inlet, SpoolFull
from ingest.counters import Counters
from ingest.mqtt.connection import Connection, Session
from ingest.mqtt.coverage import Coverage, Memory
from ingest.mqtt.failures import MqttError, subscription_refusal
from ingest.mqtt.inbound import Delivery
from ingest.mqtt.memory import MemoryFile, MemoryUnreadable
from ingest.mqtt.redial import Outage, Redial
from ingest.mqtt.settings import MqttSettings
from ingest.retry import Backoff

log = logging.getLogger(__name__)

_MEMORY_EVERY_S = 30.0
_SPOOL_RETRY_S = (0.1, 2.0)  # first pause and longest
_SPOOL_CALM_S = 10.0  # as long without a refusal, and the spool is no longer called full


@dataclass(frozen=True, slots=True)
class MqttStatus:
    """How a collector is doing, for health pages.

    *problem* is one sentence, empty when all is well; *since_us* (microseconds UTC) is when
    *connected* last changed; *subscribed* is whether the broker has answered our subscriptions,
    *refused_filters* those that it answered with no; *unaccepted* counts messages that are received
    and not yet durable.
    """

    connected: bool
    subscribed: bool
    since_us: int
    problem: str
    refused_filters: tuple[str, ...]
    unaccepted: int
    spool_full: bool


class MqttCollector:
    """Receives from one broker, for as long as the service runs.

    *connect* makes a fresh connection of either version.  *memory* is the file that tells a later
    process what session to expect; without one, a session that the broker lost while no process
    ran cannot be noticed.

    A message is acknowledged only after `Inlet.accept` returned, in receive order, on the
    connection that brought it.  When a connection is lost, what it brought is still accepted; the
    broker sends it again and that is harmless.  When the spool is full nothing is acknowledged, the
    same messages are offered again until they are taken, and the socket is not read beyond the
    settings' limits.  `Coverage` says what is recorded as a gap.
    """

    def __init__(
        self,
        settings: MqttSettings,
        connect: Callable[[MqttSettings], Connection],
        inlet: Inlet,
        gaps: GapLedger,
        counters: Counters,
        memory: MemoryFile | None = None,
        stop_timeout_s: float = 3.0,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._inlet = inlet
        self._gaps = gaps
        self._counters = counters
        self._memory = memory
        self._saved: Memory | None = None
        self._stop_timeout_s = stop_timeout_s
        self._stop = asyncio.Event()
        self._coverage = Coverage(settings.broker, settings.client_id, settings.topic_filters)
        self._redial = Redial(settings.retry_cap_s, settings.slow_retry_s, random.random)
        self._outage = Outage()
        self._connection: Connection | None = None
        self._opened_at_s: float | None = None
        self._since_us = _now_us()
        self._problem = "not connected yet"
        self._refused: tuple[str, ...] = ()
        self._filters_changed = asyncio.Event()
        self._memory_failed = False
        self._spool_full = False
        self._full_since_us: int | None = None
        self._full_at_s = 0.0

    @property
    def status(self) -> MqttStatus:
        """How it is going at this moment."""
        connection = self._connection
        problem = self._problem
        if connection is not None and self._refused:
            problem = f"the broker refuses {', '.join(self._refused)}"
        return MqttStatus(
            connected=connection is not None,
            subscribed=self._coverage.is_subscribed,
            since_us=self._since_us,
            problem=problem,
            refused_filters=self._refused,
            unaccepted=connection.inbound.messages if connection is not None else 0,
            spool_full=self._spool_full,
        )

    def listen_to(self, topic_filters: tuple[str, ...]) -> None:
        """Be subscribed to *topic_filters* and nothing else, soon; returns at once.

        What stays is not interrupted.  Raises `SettingsError` for a filter that cannot be meant.
        """
        if set(topic_filters) == set(self._settings.topic_filters):
            return
        self._settings = replace(self._settings, topic_filters=topic_filters)
        self._coverage.want(topic_filters)
        self._filters_changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until *stop* is set; then accept and acknowledge what is in hand, and leave.

        Returns at the latest *stop_timeout_s* (and a second for the goodbye) after *stop*.
        """
        self._stop = stop
        await self._recall()
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._keep_connected(), name="mqtt-connections")
            await stop.wait()
            if self._connection is not None:
                self._connection.finish()
                await asyncio.wait([work], timeout=self._stop_timeout_s)
            work.cancel()

    # Connections, one after the other.

    async def _keep_connected(self) -> None:
        while not self._stop.is_set():
            self._opened_at_s = None
            failure = await self._one_connection()
            if failure is None:
                return
            held_s = 0.0 if self._opened_at_s is None else _now_s() - self._opened_at_s
            self._say_lost(failure)
            await asyncio.sleep(self._redial.pause_s(failure, held_s, _now_s()))

    async def _one_connection(self) -> MqttError | None:
        """Return what ended the connection; None when we did, because of *stop*."""
        connection = self._connect(self._settings)
        try:
            session = await connection.open()
            self._opened(connection, session)
            return await self._serve(connection, session)
        except MqttError as failure:
            return failure
        finally:
            await connection.close()
            if self._connection is connection:
                await self._closed(connection)

    async def _serve(self, connection: Connection, session: Session) -> MqttError | None:
        async with asyncio.TaskGroup() as tasks:
            beside = (
                tasks.create_task(self._subscribe(connection, session), name="mqtt-subscriptions"),
                tasks.create_task(self._keep_memory(connection), name="mqtt-memory"),
            )
            failure = await self._pump(connection)
            for task in beside:
                task.cancel()
        return failure

    def _opened(self, connection: Connection, session: Session) -> None:
        self._connection = connection
        self._opened_at_s = _now_s()
        self._since_us, self._problem = _now_us(), ""
        self._counters.mqtt_connections += 1
        self._say_back(session)
        if self._coverage.expects_session and not session.present:
            self._counters.sessions_lost += 1
        self._coverage.connected(session.present, session.keeps, self._since_us)

    async def _closed(self, connection: Connection) -> None:
        self._connection = None
        self._refused = ()
        self._since_us = now_us = _now_us()
        await self._say_room()
        inbound, coverage = connection.inbound, self._coverage
        oldest_us = inbound.oldest_received_at_us
        coverage.heard(connection.heard_at_us, oldest_us)
        await self._record(coverage.ended(now_us))
        if inbound.qos0_messages and oldest_us is not None:
            self._counters.mqtt_dropped += inbound.qos0_messages
            await self._record(coverage.dropped(inbound.qos0_messages, oldest_us, now_us))
        await self._save()

    # Messages.

    async def _pump(self, connection: Connection) -> MqttError | None:
        while True:
            try:
                delivery = await connection.receive()
            except MqttError as failure:
                return failure
            if delivery is None:
                return None
            if delivery.qos0_messages:
                self._note_qos0(delivery)
            if not await self._accept(connection, delivery):
                return connection.failure
            await connection.acknowledge(delivery)
            if not connection.is_lost:
                self._counters.mqtt_acknowledged += len(delivery.acks)

    async def _accept(self, connection: Connection, delivery: Delivery) -> bool:
        """Have *delivery* accepted, however long it takes; False when it is to be left.

        It is left when the spool is full and the connection is lost or is to end: then the broker
        still has it.
        """
        backoff = Backoff(*_SPOOL_RETRY_S, random.random)
        while True:
            is_last_try = connection.is_lost or self._stop.is_set()
            try:
                await self._inlet.accept(delivery.arrivals)
            except SpoolFull as refusal:
                self._say_full(refusal)
                if is_last_try:
                    return False
                await _within(backoff.failed(_now_s()), connection.wait_ended())
            else:
                self._spool_full = False
                return True

    def _note_qos0(self, delivery: Delivery) -> None:
        if any(arrival.flags == ArrivalFlag.QOS0 for arrival in delivery.arrivals):
            self._coverage.saw_qos0()

    # Subscriptions.

    async def _subscribe(self, connection: Connection, session: Session) -> None:
        """Subscribe to everything, again and again to what was refused, and to what comes new."""
        # The new session of a broker that lost the old one must not look like the old one to a
        # later process, so what was lost is written down before anything is asked for.
        await self._save()
        granted: set[str] = set()
        may_have_old = session.present
        try:
            while True:
                self._filters_changed.clear()
                refused = await self._subscribe_to_rest(connection, granted, may_have_old)
                may_have_old = True
                pause_s = self._settings.slow_retry_s * (0.5 + random.random())
                await _within(pause_s if refused else None, self._filters_changed.wait())
        except MqttError:
            return  # `receive` raises the same, and what came before it is not lost.

    async def _subscribe_to_rest(
        self, connection: Connection, granted: set[str], may_have_old: bool
    ) -> tuple[str, ...]:
        """Subscribe to what is not *granted* yet, end what is wanted no more; return the refused.

        In this order: a filter that takes another one's place leaves no moment between them.
        """
        unwanted = self._coverage.unwanted_filters if may_have_old else ()
        granted.intersection_update(self._settings.topic_filters)
        wanted = tuple(one for one in self._settings.topic_filters if one not in granted)
        codes = await connection.subscribe(wanted) if wanted else []
        if unwanted:
            log.info("mqtt: ending old subscriptions %s", ", ".join(unwanted))
            await connection.unsubscribe(unwanted)
        refused = await self._subscribed(dict(zip(wanted, codes, strict=True)))
        granted.update(set(wanted) - set(refused))
        return refused

    async def _subscribed(self, codes: dict[str, int]) -> tuple[str, ...]:
        """Take in the broker's *codes* for filters; return those that it refused."""
        where = self._settings.where
        refused = tuple(name for name, code in codes.items() if code >= 0x80)
        news = [name for name in refused if name not in self._refused]
        self._counters.mqtt_subscriptions_refused += len(refused)
        for name in news:
            log.error("mqtt: %s", subscription_refusal(name, codes[name], where))
        for name, code in codes.items():
            if code == 0:
                self._coverage.saw_qos0()
                log.warning("mqtt: %s grants %r at QoS 0 only; it may lose messages", where, name)
            if code < 0x80 and name in self._refused:
                log.info("mqtt: %s grants the subscription %r now", where, name)
        if news or set(refused) != set(self._refused) or not self._refused:
            self._refused = refused
            await self._record(self._coverage.subscribed(bool(refused), _now_us()))
            await self._save()
        return refused

    # What outlives the process.

    async def _recall(self) -> None:
        if self._memory is None:
            return
        try:
            memory = await asyncio.to_thread(self._memory.load)
        except (OSError, MemoryUnreadable) as error:
            log.error("mqtt: cannot tell whether the broker lost our session: %s", error)
            return
        settings = self._settings
        self._coverage = Coverage(
            settings.broker, settings.client_id, settings.topic_filters, memory
        )

    async def _keep_memory(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(_MEMORY_EVERY_S)
            self._coverage.heard(connection.heard_at_us, connection.inbound.oldest_received_at_us)
            await self._save()
            await self._say_room()

    async def _save(self) -> None:
        memory = self._coverage.memory
        if self._memory is None or memory is None or memory == self._saved:
            return
        try:
            await asyncio.to_thread(self._memory.save, memory)
        except OSError as error:
            if not self._memory_failed:
                log.error("mqtt: cannot keep what we know of our session: %s", error)
            self._memory_failed = True
        else:
            self._saved, self._memory_failed = memory, False

    # What people hear.

    async def _record(self, gap: Gap | None) -> None:
        if gap is None:
            return
        log.error(
            "mqtt: messages may be missing from %s to %s: %s",
            _clock(gap.started_at_us),
            _clock(gap.ended_at_us),
            gap.text,
        )
        await self._gaps.record(gap)

    def _say_lost(self, failure: MqttError) -> None:
        self._problem = str(failure)
        self._counters.mqtt_failures[failure.word] += 1
        if self._outage.lost(failure, _now_s()):
            level = logging.ERROR if failure.needs_a_person else logging.WARNING
            log.log(level, "mqtt: %s; trying again until it works", failure)

    def _say_back(self, session: Session) -> None:
        failures = self._outage.failures
        away_s = self._outage.back(_now_s())
        where, client_id = self._settings.where, self._settings.client_id
        known = "knows our session" if session.present else "has no session of ours"
        if away_s is not None:
            log.info(
                "mqtt: %s is back after %.1f s, %d tries; it %s", where, away_s, failures, known
            )
        elif failures == 0:
            log.info("mqtt: connected to %s as %r; it %s", where, client_id, known)
        for remark in session.remarks:
            log.warning("mqtt: the broker at %s %s", where, remark)

    def _say_full(self, refusal: SpoolFull) -> None:
        self._spool_full, self._full_at_s = True, _now_s()
        if self._full_since_us is None:
            self._full_since_us = _now_us()
            log.error("mqtt: nothing is acknowledged until the spool has room: %s", refusal)

    async def _say_room(self) -> None:
        """End a time of a full spool, once it has had room for a while.

        A spool that drains has room and is full again many times a minute; that is one time.
        """
        since_us = self._full_since_us
        if since_us is None or self._spool_full or _now_s() < self._full_at_s + _SPOOL_CALM_S:
            return
        self._full_since_us = None
        log.info("mqtt: the spool has room again")
        await self._record(self._coverage.spool_was_full(since_us, _now_us()))


async def _within(timeout_s: float | None, waiting: Coroutine[Any, Any, object]) -> None:
    """Wait for *waiting*, at most *timeout_s* where that is not None."""
    try:
        async with asyncio.timeout(timeout_s):
            await waiting
    except TimeoutError:
        pass  # The time was the other thing to wait for.


def _now_us() -> int:
    return time.time_ns() // 1000


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _clock(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
