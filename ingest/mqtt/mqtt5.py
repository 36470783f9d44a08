"""MQTT 5 on the codec package `mqtt5`: one loop over each buffer, no waiting for a message."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import mqtt5

from ingest.collector import Arrival, ArrivalFlag
from ingest.mqtt.connection import Connection, Session
from ingest.mqtt.failures import BrokerViolation, MqttError, dismissal, refusal
from ingest.mqtt.frame import packet_size, read_topic
from ingest.mqtt.inbound import PUBACK, PUBCOMP, PUBREC, Chunk
from ingest.mqtt.settings import MqttSettings

# The first byte of a packet is looked at before the codec is asked.
_read_message = cast(Callable[[memoryview], tuple[mqtt5.PublishPacket, int]], mqtt5.read)

_QOS0 = int(ArrivalFlag.QOS0)
_RETAINED = int(ArrivalFlag.RETAINED)
_PUBLISH = 0x30
_TOPICS_KEPT = 16_384  # topics that need no second look, and no second copy in memory
_TOPIC_BYTES_KEPT = 256
_NOT_MQTT5 = b"\x20\x02"  # a CONNACK as MQTT 3.1.1 writes it


class Mqtt5Connection(Connection):
    """One MQTT 5 connection; the contract is `Connection`.

    QoS 2 should not come, for we subscribe at QoS 1.  Where it does, PUBREC (by which the broker
    hands the message over) waits for the inlet like PUBACK does; a message that comes twice is
    harmless, so no list of its packet ids is kept.
    """

    version = "5"

    def __init__(self, settings: MqttSettings) -> None:
        super().__init__(settings)
        self._topics: dict[bytes, str] = {}
        self._packet_id = 0

    def _hello(self) -> bytes:
        settings = self._settings
        return mqtt5.ConnectPacket(
            settings.client_id,
            username=settings.username,
            password=settings.password,
            clean_start=False,
            keep_alive=math.ceil(settings.keepalive_s),
            session_expiry_interval=settings.session_expiry_s,
            receive_max=settings.receive_maximum,
            topic_alias_max=0,
            max_packet_size=settings.max_packet_bytes,
        ).write()

    def _subscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        # Retained messages come once, when the subscription is new, and marked: with "as
        # published" a live message that a device sent with the retain flag would look like an old
        # one.
        filters = [
            mqtt5.TopicFilter(
                topic_filter,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for topic_filter in topic_filters
        ]
        packet_id = self._next_packet_id()
        return packet_id, mqtt5.SubscribePacket(packet_id, filters).write()

    def _unsubscription(self, topic_filters: Sequence[str]) -> tuple[int, bytes]:
        packet_id = self._next_packet_id()
        return packet_id, mqtt5.UnsubscribePacket(packet_id, list(topic_filters)).write()

    def _goodbye(self, failure: MqttError | None) -> bytes:
        code = mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION
        if isinstance(failure, BrokerViolation):
            code = mqtt5.DisconnectReasonCode.PROTOCOL_ERROR
        return mqtt5.DisconnectPacket(reason_code=code).write()

    def _consume(self, view: memoryview) -> int:
        arrivals: list[Arrival] = []
        acks: list[int] = []
        data = bytes(view)
        view = memoryview(data)
        start, end = 0, len(data)
        received_at_us = self.heard_at_us
        read, topics = _read_message, self._topics
        is_open = self._greeted.done()
        try:
            while start < end:
                if data[start] & 0xF0 != _PUBLISH or not is_open:
                    start += self._control(view[start:])
                    is_open = self._greeted.done()
                    continue
                # The topic is looked at before the codec is: text that is not UTF-8 makes it panic.
                at = start + 2
                while data[at - 1] & 0x80:
                    at += 1
                raw = data[at + 2 : at + 2 + (data[at] << 8 | data[at + 1])]
                topic = topics.get(raw) or self._new_topic(raw, view[start:])
                packet, size = read(view[start:])
                flags = _RETAINED if packet.retain else 0
                if packet.qos == 1:
                    acks.append(PUBACK | _known_id(packet.packet_id))
                elif packet.qos == 0:
                    flags |= _QOS0
                else:
                    acks.append(PUBREC | _known_id(packet.packet_id))
                arrivals.append(Arrival("mqtt", topic, packet.payload, received_at_us, flags))
                start += size
        except IndexError:
            pass  # Ours and the codec's word for a packet that is not all there yet.
        except ValueError as error:
            raise self._unreadable(view[start:], error) from error
        except BaseException as error:
            # A panic in Rust is no Exception, and its class cannot be imported: text in some
            # property is not UTF-8.  It ends the connection, which is counted and told.
            if type(error).__name__ != "PanicException":
                raise
            raise BrokerViolation("a packet with text that is not UTF-8") from error
        finally:
            if arrivals:
                self._received(Chunk(arrivals, acks, start))
        return start

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def _new_topic(self, raw: bytes, view: memoryview) -> str:
        size = packet_size(view)
        if size is None or size > len(view):
            raise IndexError("not all there yet")
        topic = read_topic(view[:size])
        if len(self._topics) >= _TOPICS_KEPT:
            self._topics.clear()
        if len(raw) <= _TOPIC_BYTES_KEPT:
            self._topics[raw] = topic
        return topic

    def _control(self, view: memoryview) -> int:
        """Take the packet at the start of *view*, anything but a message; return its size."""
        packet, size = mqtt5.read(view)
        if isinstance(packet, mqtt5.ConnAckPacket):
            self._welcome(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            code, told = int(packet.reason_code), packet.reason_str or ""
            raise dismissal(code, self._settings.where, self._settings.client_id, told)
        elif not self._greeted.done():
            raise BrokerViolation(f"a packet of type {view[0] >> 4} before CONNACK")
        elif isinstance(packet, mqtt5.SubAckPacket | mqtt5.UnsubAckPacket):
            self._answer(packet.packet_id, [int(code) for code in packet.reason_codes])
        elif isinstance(packet, mqtt5.PubRelPacket):
            self._send((PUBCOMP | packet.packet_id).to_bytes(4))
        elif not isinstance(packet, mqtt5.PingRespPacket):
            raise BrokerViolation(f"a packet of type {view[0] >> 4}, which no broker sends to us")
        return size

    def _welcome(self, packet: mqtt5.ConnAckPacket) -> None:
        settings = self._settings
        code = packet.reason_code
        if code != mqtt5.ConnAckReasonCode.SUCCESS:
            told = packet.reason_str or packet.server_reference or ""
            raise refusal(int(code), settings.where, settings.client_id, told)
        expiry_s = packet.session_expiry_interval
        if expiry_s is None:
            expiry_s = settings.session_expiry_s
        remarks = []
        if expiry_s < settings.session_expiry_s:
            remarks.append(
                f"keeps our session for {expiry_s} s only, not {settings.session_expiry_s} s"
            )
        if packet.max_qos == mqtt5.QoS.AT_MOST_ONCE:
            remarks.append("delivers at QoS 0 only: nothing it sends is guaranteed")
        if packet.server_keep_alive:
            self._shorten_keepalive(packet.server_keep_alive)
        self._greet(Session(packet.session_present, expiry_s > 0, tuple(remarks)))

    def _unreadable(self, view: memoryview, error: ValueError) -> MqttError:
        if not self._greeted.done() and view[:2] == _NOT_MQTT5:
            settings = self._settings
            return refusal(0x84, settings.where, settings.client_id)
        return BrokerViolation(f"a packet that cannot be read: {error}")


def _known_id(packet_id: int | None) -> int:
    if not packet_id:
        raise BrokerViolation("a message without a packet id")
    return packet_id
