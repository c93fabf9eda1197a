"""PUBLISH and batches: messages built into one record batch, and handed to whoever leads their partition.

Owns how a producer of this dialect is told apart: it names itself as it likes and counts its messages in
each partition from 1, in an epoch of 64 bits. To the core it is an idempotent producer whose number is a
hash of its name and of the high bits of its epoch; the low 15 bits are its epoch there. So whatever Kafka's
rules keep of such producers, on the disk and over a restart, holds for these too.

Invariant: a message of an idempotent batch is stored once, however often and in whatever batches it comes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.codec.batch import build, read_header
from megabroker.codec.records import RecordInput
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, StateError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import NAMED_PRODUCERS, Acks, BatchHeader, ProducerIdentity, Topic
from megabroker.protocols.cursus.later.batch import BatchMessage, decode_batch
from megabroker.protocols.cursus.later.calling import Call, Reply, room, told, turn, waited
from megabroker.protocols.cursus.later.errands import Carried, Errand, found_topic, partition_of_key
from megabroker.protocols.cursus.later.records import record_of
from megabroker.protocols.cursus.later.refusals import Refusal, quoted

__all__ = [
    "EVENT_SOURCING",
    "MAX_BATCH_MESSAGES",
    "append",
    "choose_partition",
    "errands",
    "has_streams",
    "publish",
    "publish_batch",
]

EVENT_SOURCING: Final = "cursus.event.sourcing"
"""The configuration that makes a topic one of event streams."""

MAX_BATCH_MESSAGES: Final = 10_000
"""Most messages of one batch."""

_SLICE_MESSAGES: Final = 1000
_ACKS: Final = {"0": Acks.NONE, "1": Acks.WRITTEN, "-1": Acks.DURABLE, "all": Acks.DURABLE}
_STORED: Final = "OK"
_EPOCH_BITS = 15
_MAX_SEQUENCE = (1 << 31) - 1
_NO_SEQUENCE = -1


async def publish(call: Call) -> Reply:
    """PUBLISH: one message."""
    topic = found_topic(call.broker, call["topic"])
    message = BatchMessage(
        0,
        call["seqNum"],
        call["message"],
        (call["key"] or "").encode(),
        call["producerId"].encode(),
        call["epoch"],
    )
    index = choose_partition(call, topic, call["partition"], call["key"])
    return await _store(call, topic, index, call["acks"], [message], idempotent=call["isIdempotent"])


async def publish_batch(call: Call, body: bytes) -> Reply:
    """A batch, which names its topic and partition itself."""
    try:
        batch = decode_batch(body, MAX_BATCH_MESSAGES)
    except ProtocolError as error:
        raise Refusal("batch_decode_failed", str(error)) from None
    call.need(Operation.WRITE, ResourceType.TOPIC, batch.topic)
    if batch.acks and batch.acks.lower() not in _ACKS:
        raise Refusal("invalid_acks", value=quoted(batch.acks), expected=quoted("0, 1, -1 or all"))
    if not batch.messages:
        raise Refusal("empty_messages", "a batch has at least one message")
    if len(batch.messages) > _SLICE_MESSAGES:
        await turn(call.broker)  # it has taken its time, and what is to be built of it takes as long
    topic = found_topic(call.broker, batch.topic)
    if any(message.aggregate_version for message in batch.messages) and has_streams(topic):
        raise Refusal("invalid_version", "events are added to a stream by APPEND_STREAM")
    acks = batch.acks.lower() or None
    return await _store(call, topic, batch.partition, acks, batch.messages, idempotent=batch.idempotent)


def choose_partition(call: Call, topic: Topic, wanted: int | None, key: str | None) -> int:
    """Return the partition wanted, else that of the key, else the next one in turn."""
    if wanted is not None and wanted >= 0:
        return wanted
    if key:
        return partition_of_key(key, topic.partitions)
    return int(call.client.factory.next_turn() % topic.partitions)


def has_streams(topic: Topic) -> bool:
    """Whether it is a topic of event streams."""
    return topic.configs.get(EVENT_SOURCING) == "true"


async def _store(
    call: Call,
    topic: Topic,
    index: int,
    acks: str | None,
    messages: Sequence[BatchMessage],
    *,
    idempotent: bool,
) -> Reply:
    partition = _partition(call.broker, topic, index)
    if partition.needs_keys and not all(message.key for message in messages):
        raise Refusal("missing_key", f"{topic.name} is compacted and takes no message without a key")
    number, epoch = _identity(messages) if idempotent else (_NO_SEQUENCE, _NO_SEQUENCE)
    wanted = call.client.factory.acks if acks is None else _ACKS[acks]
    last_offset = -1
    left = list(messages)
    while left:
        first = left[0].seq - 1 if idempotent else _NO_SEQUENCE
        now_ms = call.broker.now_ms()
        records: list[RecordInput] = []
        for at in range(0, len(left), _SLICE_MESSAGES):
            records += [record_of(message, now_ms) for message in left[at : at + _SLICE_MESSAGES]]
            if len(left) > _SLICE_MESSAGES:
                await turn(call.broker)
        data = build(
            records,
            producer_id=number,
            producer_epoch=epoch,
            base_sequence=first,
        )
        if call.broker.quotas.limits_clients:
            call.client.count_produced(len(data))
        fields = await append(call, topic.name, index, bytes(data), wanted)
        last_offset = fields["last_offset"]
        known = fields.get("known")
        if known is None:
            break
        # Some of them are stored: whoever sends anew may cut its batches in another way.
        left = [message for message in left if message.seq - 1 >= known]
    if wanted is Acks.NONE:
        return _STORED
    return json.dumps(
        {
            "status": "OK",
            "last_offset": last_offset,
            "producer_epoch": messages[-1].epoch,
            "producer_id": messages[-1].producer_id.decode("utf-8", "replace"),
            "seq_start": messages[0].seq,
            "seq_end": messages[-1].seq,
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _partition(broker: IBroker, topic: Topic, index: int) -> IPartition:
    if topic.internal:
        raise Refusal("internal_topic_write_forbidden", topic=topic.name)
    try:
        return broker.partitions.partition(topic.name, index)
    except BrokerError as error:
        if error.code is ErrorCode.UNKNOWN_PARTITION:
            raise Refusal("partition_not_found", partition=index) from None
        raise


def _identity(messages: Sequence[BatchMessage]) -> tuple[int, int]:
    """Return what the core knows the producer of a batch by. Raises Refusal unless it has just one."""
    first = messages[0]
    for at, message in enumerate(messages):
        if (message.producer_id, message.epoch) != (first.producer_id, first.epoch):
            raise Refusal("batch_decode_failed", "an idempotent batch is of one producer and one epoch")
        if message.seq != first.seq + at:
            raise Refusal("idempotency_gap", expected=first.seq + at, got=message.seq)
    if not first.producer_id:
        raise Refusal("missing_producer_id", "an idempotent producer has an id")
    if not 0 < first.seq <= messages[-1].seq <= _MAX_SEQUENCE:
        raise Refusal("invalid_seq_num", f"an idempotent producer counts from 1 to {_MAX_SEQUENCE}")
    if first.epoch < 0:
        raise Refusal("invalid_epoch", value=first.epoch, expected=quoted("0 or more"))
    name = b"%d:%b" % (first.epoch >> _EPOCH_BITS, first.producer_id)
    digest = hashlib.blake2b(name, digest_size=8).digest()
    number = NAMED_PRODUCERS + int.from_bytes(digest, "big") % NAMED_PRODUCERS
    return number, first.epoch & ((1 << _EPOCH_BITS) - 1)


async def append(
    call: Call, topic: str, partition: int, data: bytes, acks: Acks, **more: Any
) -> Mapping[str, Any]:
    """Have a record batch appended by whoever leads its partition."""
    fields, _ = await call.office.at_leader(topic, partition, "append", data, acks=int(acks), **more)
    return fields


# --- where the partition is led --------------------------------------------------------------------


class _Appending:
    def __init__(self, broker: IBroker) -> None:
        self._broker = broker

    async def append(self, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Append a record batch.

        Answers with ``last_offset``, and with ``known``, the sequence expected, instead of storing a batch
        that begins with messages which are stored.
        """
        partition = self._broker.topics.partition(fields["topic"], fields["partition"])
        data = bytearray(blob)
        header = read_header(data, 0, len(data))
        await room(partition, header.record_count, len(data))
        if "transactional_id" in fields:
            await self._admitted(partition, fields["transactional_id"], header)
        if header.producer_id >= 0:
            known = _expected(partition, header)
            if known is not None:
                return {"last_offset": partition.log.next_offset - 1, "known": known}, b""
        acks = Acks(fields["acks"])
        if acks is Acks.NONE:
            base_offset = partition.append(header, data, acks, None)
        else:
            offsets: list[int] = []
            await told(lambda done: offsets.append(partition.append(header, data, acks, done)))
            (base_offset,) = offsets
        return {"last_offset": base_offset + header.record_count - 1}, b""

    async def _admitted(self, partition: IPartition, transactional_id: str, header: BatchHeader) -> None:
        """Wait until the transaction takes the batch, its partition being added to it (KIP-890)."""
        identity = ProducerIdentity(header.producer_id, header.producer_epoch)
        transactions, place = self._broker.transactions, partition.topic_partition
        while (full := transactions.admit(transactional_id, identity, place, implicit=True)) is not None:
            await waited(full)


def _expected(partition: IPartition, header: BatchHeader) -> int | None:
    """Return the sequence expected of a producer that begins with what is stored, else None.

    Raises StateError(OUT_OF_ORDER_SEQUENCE) for one that nothing is known of and that does not begin.
    """
    known = partition.describe_producer(header.producer_id)
    if known is None:
        if header.base_sequence:
            raise StateError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE,
                f"the first message of a producer has seqNum 1, not {header.base_sequence + 1}",
            )
        return None
    if known.producer_epoch != header.producer_epoch or header.base_sequence > known.last_sequence:
        return None
    return known.last_sequence + 1


def errands(broker: IBroker) -> Mapping[str, Errand]:
    """Return what is carried out where the partition is led."""
    return {"append": _Appending(broker).append}
