"""MQTT 3.1.1 on paho-mqtt, for brokers that speak nothing newer.

paho is used as a codec.  It wants to own a socket and to connect it with blocking calls; it is
given an object that looks like one instead, so that the network, TLS, back-pressure and keepalive
are those of `Connection`.  Only whole packets reach it, and no topic that it chokes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from ingest.collector import Arrival, ArrivalFlag
from ingest.mqtt.connection import Connection, Session
from ingest.mqtt.failures import BrokerViolation, LinkLost, MqttError, refusal
from ingest.mqtt.frame import packet_size, read_topic
from ingest.mqtt.inbound import PUBACK, PUBCOMP, PUBREC, Chunk
from ingest.mqtt.settings import MqttSettings

_CONNACK, _PUBLISH, _PUBREL, _SUBACK, _UNSUBACK, _PINGRESP = 2, 3, 6, 9, 11, 13
_FROM_BROKER = frozenset((_CONNACK, _PUBLISH, _PUBREL, _SUBACK, _UNSUBACK, _PINGRESP))
# Return code of CONNACK -> reason code of MQTT 5.
_REFUSALS = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
_QOS_BITS = 0b0110
_QOS1_BITS = 0b0010


class Mqtt311Connection(Connection):
    """One MQTT 3.1.1 connection; the contract is `Connection`.

    What this version cannot do: limit how many unacknowledged messages the broker sends (reading
    stops at the settings' limits instead), limit the packet size before it is sent, say why a
    connection ends, and leave retained messages out of a repeated subscription (they come again,
    marked).
    """

    version = "3.1.1"

    def __init__(self, settings: MqttSettings) -> None:
        super().__init__(settings)
        self._outgoing = bytearray()
        self._arrivals: list[Arrival] = []
        self._acks: list[int] = []
        self._puback = PUBACK
        self._pipe = _Pipe(self._outgoing.extend)
        client = _Client(self._pipe, settings.client_id)
        if settings.username is not None:
            # paho says str and takes bytes as well; a password need not be text.
            client.username_pw_set(settings.username, settings.password)  # type: ignore[arg-type]
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        self._client = client

    def _hello(self) -> bytes:
        settings = self._settings
        self._client.connect(settings.host, settings.port, math.ceil(settings.keepalive_s))
        return self._written()

    def _subscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        filters = [(topic_filter, 1) for topic_filter in topic_filters]
        return self._request(self._client.subscribe(filters))

    def _unsubscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        return self._request(self._client.unsubscribe(list(topic_filters)))

    def _goodbye(self, failure: MqttError | None) -> bytes:
        # A DISCONNECT after a violation would tell the broker that all was well.
        return b"" if isinstance(failure, BrokerViolation) else b"\xe0\x00"

    def _consume(self, view: memoryview) -> int:
        used = 0
        try:
            while (size := packet_size(view[used:])) is not None and used + size <= len(view):
                self._packet(view[used : used + size])
                used += size
        finally:
            if self._arrivals:
                self._received(Chunk(self._arrivals, self._acks, used))
                self._arrivals, self._acks = [], []
            if self._outgoing:
                self._send(self._written())
        return used

    def _packet(self, packet: memoryview) -> None:
        kind = packet[0] >> 4
        if kind not in _FROM_BROKER or (kind == _CONNACK) == self._greeted.done():
            raise BrokerViolation(f"a packet of type {kind} out of its turn")
        if kind == _PUBLISH:
            self._publish(packet)
        elif kind == _PUBREL and len(packet) == 4:
            self._outgoing += (PUBCOMP | int.from_bytes(packet[-2:])).to_bytes(4)
        elif kind == _CONNACK and packet[-1] in _REFUSALS:
            # paho keeps some of these to itself.
            settings = self._settings
            raise refusal(_REFUSALS[packet[-1]], settings.where, settings.client_id)
        else:
            self._hand_over(packet)

    def _publish(self, packet: memoryview) -> None:
        qos = (packet[0] & _QOS_BITS) >> 1
        if qos == 3:
            raise BrokerViolation("a message with QoS 3")
        read_topic(packet)
        self._puback = PUBACK
        if qos == 2:
            # paho would send PUBREC at once, and with that the broker gives the message away
            # before it is durable here.  Told that it is QoS 1, paho leaves the answer to us.
            self._puback = PUBREC
            packet = memoryview(bytes([packet[0] & ~_QOS_BITS | _QOS1_BITS]) + packet[1:])
        self._hand_over(packet)

    def _hand_over(self, packet: memoryview) -> None:
        self._pipe.feed(packet)
        code = self._client.loop_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or not self._pipe.is_empty:
            raise BrokerViolation(
                f"a packet of type {packet[0] >> 4} that cannot be read: {paho.error_string(code)}"
            )

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            raise BrokerViolation(f"a CONNACK with a code that MQTT 3.1.1 does not have: {reason}")
        self._greet(Session(flags.session_present, keeps=True))

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        flags = ArrivalFlag.RETAINED if message.retain else ArrivalFlag.NONE
        if message.qos == 0:
            flags |= ArrivalFlag.QOS0
        elif message.mid == 0:
            raise BrokerViolation("a message without a packet id")
        else:
            self._acks.append(self._puback | message.mid)
        self._arrivals.append(
            Arrival("mqtt", message.topic, bytes(message.payload), self.heard_at_us, int(flags))
        )

    def _on_subscribe(
        self, client: Any, userdata: Any, mid: int, reasons: list[Any], properties: Any
    ) -> None:
        self._answer(mid, [reason.value for reason in reasons])

    def _on_unsubscribe(
        self, client: Any, userdata: Any, mid: int, reasons: list[Any], properties: Any
    ) -> None:
        self._answer(mid, [])

    def _request(self, sent: tuple[MQTTErrorCode, int | None]) -> tuple[int, bytes]:
        code, packet_id = sent
        if packet_id is None:
            raise LinkLost(f"nothing can be sent any more: {paho.error_string(code)}")
        return packet_id, self._written()

    def _written(self) -> bytes:
        packet = bytes(self._outgoing)
        self._outgoing.clear()
        return packet


class _Client(paho.Client):
    """paho without a socket: bytes come from, and go to, a `_Pipe`."""

    def __init__(self, pipe: _Pipe, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            # Otherwise paho answers some refusals by another CONNECT, with an older protocol.
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._pipe = pipe

    def _create_socket(self) -> _Pipe:
        return self._pipe


class _Pipe:
    """What paho takes for its socket."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._bytes = b""
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._bytes)

    def feed(self, packet: memoryview) -> None:
        self._bytes, self._at = bytes(packet), 0

    def recv(self, size: int) -> bytes:
        if self.is_empty:
            raise BlockingIOError
        part = self._bytes[self._at : self._at + size]
        self._at += len(part)
        return part

    def send(self, data: bytes | bytearray) -> int:
        self._write(bytes(data))
        return len(data)

    def close(self) -> None:
        """Nothing to close: the transport is the connection's."""

    def fileno(self) -> int:
        raise OSError("there is no file behind this")

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""
