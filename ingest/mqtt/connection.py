"""One connection to a broker: the contract, and what MQTT 5 and 3.1.1 have in common.

    transport --bytes--> buffer --_consume--> Inbound --receive--> the collector
        ^------------------------------------------------acknowledge-------'

The two versions differ in how bytes become messages (`_consume`) and in three packets.  The rest is
here, once: bounded memory, keepalive, acknowledgements, an orderly end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ingest.mqtt.failures import BrokerViolation, LinkLost, MqttError
from ingest.mqtt.frame import PINGREQ, packet_size
from ingest.mqtt.inbound import Chunk, Delivery, Inbound
from ingest.mqtt.keepalive import Keepalive, Pulse
from ingest.mqtt.settings import MqttSettings
from ingest.mqtt.tls import tls_failure

_BUFFER_BYTES = 64 * 1024  # about a thousand messages, three milliseconds of decoding
_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Session:
    """What the broker said when it took us.

    *present*: it knows us from before.  *keeps*: it will keep our session when we go.  *remarks*
    are sentences for the log about what is less than we asked for.
    """

    present: bool
    keeps: bool
    remarks: tuple[str, ...] = ()


class Connection(ABC, asyncio.BufferedProtocol):
    """One connection to a broker, used once and never again.

    `open`, `subscribe`, then `receive` and `acknowledge` in turn until `receive` raises or, after
    `finish`, returns None; at last `close` or `abort`, whatever happened before.  Messages come
    from the moment of `open` on: a broker with a session does not wait for us to subscribe.

    Nothing is acknowledged but by `acknowledge`.  What is received and not yet acknowledged is
    bounded by the settings: at the limit the socket is not read.  After a loss `receive` still
    hands out what came before it, which can no longer be acknowledged (the broker sends it again).
    """

    version: str

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self.inbound = Inbound(settings.max_inflight_messages, settings.max_inflight_bytes)
        self.heard_at_us = 0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_BUFFER_BYTES)
        self._filled = 0
        self._needed = 0
        self._keepalive = Keepalive(settings.keepalive_s, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._failure: MqttError | None = None
        self._finishing = False
        self._session: Session | None = None
        self._greeted: asyncio.Future[Session] = self._loop.create_future()
        self._replies: dict[int, asyncio.Future[list[int]]] = {}
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._stuck_since_s: float | None = None

    # What the collector calls.

    async def open(self) -> Session:
        """Connect and say hello; return what the broker answered.

        Raises `LinkLost`, `Refused` or `BrokerViolation`.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await self._loop.create_connection(
                    lambda: self, settings.host, settings.port, ssl=settings.tls
                )
                self._send(self._hello())
                self._session = await self._greeted
        except TimeoutError as error:
            raise LinkLost(
                f"no answer from the broker at {settings.where} "
                f"within {settings.connect_timeout_s:g} s"
            ) from error
        except ssl.SSLError as error:
            raise tls_failure(error, settings.where) from error
        except OSError as error:
            raise LinkLost(
                f"cannot reach the broker at {settings.where}: {_words_of(error)}"
            ) from error
        return self._session

    async def subscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """Subscribe at QoS 1; return the broker's code for each filter (0x80 and up: refused)."""
        codes = await self._ask(*self._subscription(topic_filters))
        if len(codes) != len(topic_filters):
            raise self._violated(
                BrokerViolation(f"{len(codes)} answers to {len(topic_filters)} subscriptions")
            )
        return codes

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """End subscriptions that an earlier configuration left in our session."""
        await self._ask(*self._unsubscription(topic_filters))

    async def receive(self) -> Delivery | None:
        """Wait for messages and return the oldest; None after `finish` when none are left.

        Raises what ended the connection, once all that came before has been handed out.
        """
        while self.inbound.is_empty:
            if self._failure is not None:
                raise self._failure
            if self._finishing:
                return None
            self._news.clear()
            await self._news.wait()
        return self.inbound.take()

    async def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that *delivery* is ours now; nothing happens on a lost connection.

        Waits while the broker does not read.  Raises ValueError for another connection's delivery.
        """
        words = self.inbound.settle(delivery)
        if self.is_lost:
            return
        if words:
            self._send(struct.pack(f">{len(words)}I", *words))
        if self.inbound.has_room:
            self._read_on()
        await self._writable.wait()

    def finish(self) -> None:
        """Read no more; `receive` hands out what is here and then returns None."""
        self._finishing = True
        self._stop_reading()
        self._news.set()

    async def wait_ended(self) -> None:
        """Return when the connection is gone or has to `finish`."""
        while not self.is_lost and not self._finishing:
            self._news.clear()
            await self._news.wait()

    @property
    def failure(self) -> MqttError | None:
        """What ended the connection, or will when all that came before it is handed out."""
        return self._failure

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._gone.is_set()

    @property
    def is_reading(self) -> bool:
        """Whether we take what the broker sends."""
        return not self._keepalive.deaf

    async def close(self) -> None:
        """Say goodbye (the session stays with the broker) and close; at most a second."""
        if self._transport is None or self.is_lost:
            self.abort()
            return
        if self._session is not None:
            self._send(self._goodbye(self._failure))
        self._stop_timer()
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._gone.wait()
        except TimeoutError:
            pass  # The peer does not read; abort does not ask it.
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once; harmless when it is gone."""
        self._lose(LinkLost("we dropped the connection"))
        if self._transport is not None:
            self._transport.abort()

    # What a version of MQTT adds.

    @abstractmethod
    def _hello(self) -> bytes:
        """Return the CONNECT packet."""

    @abstractmethod
    def _subscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        """Return a packet id and the SUBSCRIBE packet with it, all filters at QoS 1."""

    @abstractmethod
    def _unsubscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        """Return a packet id and the UNSUBSCRIBE packet with it."""

    @abstractmethod
    def _goodbye(self, failure: MqttError | None) -> bytes:
        """Return the DISCONNECT packet that keeps the session; *failure* is why we leave."""

    @abstractmethod
    def _consume(self, view: memoryview) -> int:
        """Decode the whole packets at the start of *view* and return how many bytes they were.

        Hands messages to `_received` and answers to `_greet` and `_answer`; nothing of *view* may
        be kept.  Raises `MqttError` for what ends the connection, after handing over what came
        before it.
        """

    # What `_consume` calls.

    def _received(self, chunk: Chunk) -> None:
        self.inbound.add(chunk)
        self._news.set()

    def _greet(self, session: Session) -> None:
        if self._greeted.done():
            raise BrokerViolation("a second CONNACK")
        self._greeted.set_result(session)

    def _answer(self, packet_id: int, codes: list[int]) -> None:
        reply = self._replies.pop(packet_id, None)
        if reply is None:
            raise BrokerViolation(f"an answer to packet {packet_id}, which we did not send")
        if not reply.done():
            reply.set_result(codes)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and start to watch the time."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._keepalive.heard(self._loop.time())
        self._set_timer()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go; never empty."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Decode what has come, keep the packet that is not whole yet, stop at the limits."""
        if self._failure is not None:
            return
        self._filled += nbytes
        self.heard_at_us = time.time_ns() // 1000
        self._keepalive.heard(self._loop.time())
        if self._filled < self._needed:
            return  # One large packet in many pieces: nothing to see before it is whole.
        try:
            used = self._consume(memoryview(self._buffer)[: self._filled])
            self._keep_rest(used)
        except MqttError as failure:
            self._violated(failure)
            return
        if self.inbound.is_full:
            self._stop_reading()

    def eof_received(self) -> bool:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        where = self._settings.where
        if isinstance(exc, ssl.SSLError):
            self._lose(tls_failure(exc, where))
            return
        how = "closed the connection" if exc is None else f"is gone ({_words_of(exc)})"
        if not self._greeted.done():
            wish = "TLS" if self._settings.tls is None else "another certificate of ours"
            how += f" before it answered; does it expect {wish}?"
        self._lose(LinkLost(f"the broker at {where} {how}"))

    def pause_writing(self) -> None:
        """Read no more while the broker does not: its packets may all ask for answers."""
        self._writable.clear()
        self._stuck_since_s = self._loop.time()
        self._stop_reading()

    def resume_writing(self) -> None:
        """Go on: the broker reads again."""
        self._writable.set()
        self._stuck_since_s = None
        if not self.inbound.is_full:
            self._read_on()

    # The inside.

    def _send(self, packet: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(packet)
            self._keepalive.spoke(self._loop.time())

    def _keep_rest(self, used: int) -> None:
        rest = self._filled - used
        self._buffer[:rest] = self._buffer[used : self._filled]
        self._filled = rest
        size = packet_size(memoryview(self._buffer)[:rest]) or 0
        if size > self._settings.max_packet_bytes:
            raise BrokerViolation(
                f"a packet of {size} bytes, more than the {self._settings.max_packet_bytes} that "
                "we take; set the broker's own limit on packet size"
            )
        if 0 < size <= rest:
            raise BrokerViolation(f"a packet of {size} bytes that holds less than it should")
        self._needed = size
        room = max(size, _BUFFER_BYTES)
        if room != len(self._buffer):
            # A new one: the transport may still look at the old one.
            grown = bytearray(room)
            grown[:rest] = self._buffer[:rest]
            self._buffer = grown

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.is_lost and not self._keepalive.deaf:
            self._transport.pause_reading()
        self._keepalive.deaf = True

    def _read_on(self) -> None:
        may_read = not self._finishing and self._failure is None and self._writable.is_set()
        if may_read and self._keepalive.deaf and self._transport is not None:
            self._keepalive.listen_again(self._loop.time())
            self._transport.resume_reading()

    def _violated(self, failure: MqttError) -> MqttError:
        """End the inflow; what came before can still be received, accepted and acknowledged."""
        if self._failure is None:
            self._failure = failure
            self._stop_reading()
            self._wake(failure)
        return failure

    def _lose(self, failure: MqttError) -> None:
        self._stop_timer()
        self._gone.set()
        self._writable.set()
        if self._failure is None:
            self._failure = failure
        self._wake(self._failure)

    def _wake(self, failure: MqttError) -> None:
        self._news.set()
        waiters: list[asyncio.Future[Any]] = [self._greeted, *self._replies.values()]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(failure)
                waiter.exception()  # Seen: nobody may be waiting for it any more.
        self._replies.clear()

    def _beat(self) -> None:
        now_s = self._loop.time()
        if (why := self._why_dead(now_s)) is not None:
            self._lose(LinkLost(why))
            assert self._transport is not None
            self._transport.abort()
            return
        self._set_timer()

    def _why_dead(self, now_s: float) -> str | None:
        settings = self._settings
        pulse = self._keepalive.look(now_s)
        if pulse is Pulse.DEAD:
            return f"silence of {settings.keepalive_s:g} s from the broker at {settings.where}"
        if self._stuck_since_s is not None and now_s > self._stuck_since_s + settings.keepalive_s:
            return f"the broker at {settings.where} does not read what we send"
        if pulse is Pulse.PING:
            self._send(PINGREQ)
        return None

    def _shorten_keepalive(self, interval_s: float) -> None:
        """Heed the broker's wish to hear from us more often than we had planned."""
        self._keepalive.shorten(interval_s)
        self._set_timer()

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(self._keepalive.next_look_s(), self._beat)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _ask(self, packet_id: int, packet: bytes) -> list[int]:
        """Send *packet* and return the broker's codes for it."""
        if self._failure is not None:
            raise self._failure
        timeout_s = self._settings.connect_timeout_s
        reply: asyncio.Future[list[int]] = self._loop.create_future()
        self._replies[packet_id] = reply
        self._send(packet)
        while True:
            await asyncio.wait([reply], timeout=timeout_s)
            if reply.done():
                return reply.result()
            if self.is_reading:
                # While the spool is full we do not read; then the answer may well be there.
                raise self._violated(
                    BrokerViolation(f"no answer within {timeout_s:g} s to a packet that needs one")
                )


def _words_of(error: Exception) -> str:
    """Return what the system says about *error*, without numbers and class names."""
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
