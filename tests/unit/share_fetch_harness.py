"""Members of share groups over connections to a broker in memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from megabroker.codec.batch import build, read_header
from megabroker.model import Acks, Topic
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.schema import share_acknowledge, share_fetch, share_group_heartbeat
from megabroker.protocols.kafka.schema.registry import request_header_version, response_header_version
from tests.unit.test_kafka_produce import ProduceCase

__all__ = ["ACCEPT", "GAP", "REJECT", "RELEASE", "RENEW", "ShareCase", "ShareMember"]

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)

Acknowledgement = tuple[Any, ...]
"""(first offset, last offset, types...)"""


class ShareCase(ProduceCase):
    """Requests of any kind over connections; topic ``t`` has two partitions."""

    def send(self, message: Any, version: int, connection: Any = None) -> None:
        """Send a request; its answer stays in the transport."""
        connection = connection or self.connection
        key = type(message).__schema__.key
        head = struct.pack(">hhih", key, version, 7, 2) + b"me"
        head += b"\0" if request_header_version(key, version) == 2 else b""
        body = message.encode(version)
        connection.dataReceived(struct.pack(">i", len(head) + len(body)) + head + body)

    def received(self, key: int, version: int, connection: Any = None) -> Any | None:
        """Return the one answer there is, None when there is none yet."""
        connection = connection or self.connection
        self.turns()
        data = connection.transport.value()
        connection.transport.clear()
        if not data:
            return None
        self.assertEqual(struct.unpack_from(">i", data)[0], len(data) - 4)
        response = SERVED[key].api.response
        answer, end = response.decoder(version)(data, 8 + response_header_version(key, version), len(data))
        self.assertEqual(end, len(data))
        return answer

    def ask(self, message: Any, version: int, connection: Any = None) -> Any:
        """Send a request and return its answer, which must come at once."""
        self.send(message, version, connection)
        answer = self.received(type(message).__schema__.key, version, connection)
        self.assertIsNotNone(answer)
        return answer

    def turns(self, seconds: float = 0) -> None:
        for _ in range(30):
            self.clock.advance(seconds / 30)

    def produce(self, *values: bytes, index: int = 0, topic: str = "t", **batch: Any) -> None:
        """Store one batch."""
        data = build([(None, value, (), 5) for value in values], **batch)
        self.service.core.topics.partition(topic, index).append(
            read_header(data, 0, len(data)), data, Acks.DURABLE, None
        )
        self.turns()

    def configure(self, group: str = "g", **configs: str) -> None:
        """Set configurations of a group; names have underscores for dots."""
        self.done(
            self.service.core.group_configs.set(
                group, {name.replace("_", "."): value for name, value in configs.items()}
            )
        )


class ShareMember:
    """One member of a group, on a connection of its own.

    Attributes:
        epoch: of its share session's next request.
    """

    def __init__(self, case: ShareCase, name: str, group: str = "g", *topics: str) -> None:
        self.case = case
        self.name = name
        self.group = group
        self.connection = case.connect()
        self.epoch = 0
        answer = case.ask(
            share_group_heartbeat.Request(
                group_id=group,
                member_id=name,
                member_epoch=0,
                subscribed_topic_names=list(topics) or ["t"],
            ),
            1,
            self.connection,
        )
        case.assertEqual((answer.error_code, answer.error_message), (0, None))
        self.assignment = answer.assignment

    def request(
        self,
        *acknowledgements: Acknowledgement,
        topic: Topic | UUID | None = None,
        indexes: Sequence[int] = (0,),
        epoch: int | None = None,
        **fields: Any,
    ) -> share_fetch.Request:
        topic_id = topic if isinstance(topic, UUID) else (topic or self.case.topic).id
        wanted = share_fetch.Request.Topic.Partition
        partitions = [wanted(partition_index=index) for index in indexes]
        for first, last, *types in acknowledgements:
            partitions[0].acknowledgement_batches.append(
                wanted.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=types)
            )
        settings: dict[str, Any] = {"max_wait_ms": 100, "min_bytes": 1, "max_records": 500, "batch_size": 500}
        request = share_fetch.Request(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self.epoch if epoch is None else epoch,
            topics=[share_fetch.Request.Topic(topic_id=topic_id.bytes, partitions=partitions)],
            **{**settings, **fields},
        )
        if epoch is None:
            self.epoch += 1
        return request

    def send(self, *acknowledgements: Acknowledgement, version: int = 2, **fields: Any) -> None:
        self.case.send(self.request(*acknowledgements, **fields), version, self.connection)

    def received(self, version: int = 2) -> Any:
        return self.case.received(78, version, self.connection)

    def fetch(self, *acknowledgements: Acknowledgement, version: int = 2, **fields: Any) -> Any:
        """Fetch and return the whole answer; the time goes by if there is nothing."""
        self.send(*acknowledgements, version=version, **fields)
        answer = self.received(version)
        if answer is None:
            self.case.turns(0.2)
            answer = self.received(version)
        self.case.assertIsNotNone(answer)
        return answer

    def acquire(self, *acknowledgements: Acknowledgement, **fields: Any) -> list[tuple[int, int, int]]:
        """Fetch and return what is acquired: (first offset, last offset, delivery count)."""
        answer = self.fetch(*acknowledgements, **fields)
        self.case.assertEqual((answer.error_code, answer.error_message), (0, None))
        return acquired(answer)

    def acknowledge(
        self,
        *acknowledgements: Acknowledgement,
        version: int = 2,
        epoch: int | None = None,
        renews: bool = False,
    ) -> int:
        """Acknowledge by a request of its own; return the error code of the partition, or of all."""
        wanted = share_acknowledge.Request.Topic.Partition
        batches = [
            wanted.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=types)
            for first, last, *types in acknowledgements
        ]
        request = share_acknowledge.Request(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self.epoch if epoch is None else epoch,
            is_renew_ack=renews,
            topics=[
                share_acknowledge.Request.Topic(
                    topic_id=self.case.topic.id.bytes,
                    partitions=[wanted(partition_index=0, acknowledgement_batches=batches)],
                )
            ],
        )
        answer = self.case.ask(request, version, self.connection)
        if answer.error_code or not answer.responses:
            return int(answer.error_code)
        if epoch is None:
            self.epoch += 1
        return int(answer.responses[0].partitions[0].error_code)


def acquired(answer: Any) -> list[tuple[int, int, int]]:
    return [
        (one.first_offset, one.last_offset, one.delivery_count)
        for topic in answer.responses
        for partition in topic.partitions
        for one in partition.acquired_records
    ]
