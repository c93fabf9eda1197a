"""Messages of the later dialect as records of the log, and back.

Owns the names of the headers. The payload is the record's value and the key its key, so that clients of
other wires read them as they are; what else a message says is in headers, each only where there is
something to say:

    event_type, metadata                        text
    schema_version, aggregate_version           decimal numbers
    cursus.producer                             <epoch>:<seq>:<producer id>, as its client gave them

Invariant: ``message_of`` gives back what ``record_of`` was given, offsets apart. Records of other wires are
messages too; what cannot be said of them in a batch (longer keys, other headers) is left out.
"""

from __future__ import annotations

from typing import Final

from megabroker.codec.records import RecordInput
from megabroker.model import Header, Record
from megabroker.protocols.cursus.later.batch import LONGEST_TEXT_BYTES, BatchMessage

__all__ = ["aggregate_version_of", "message_of", "record_of"]

_EVENT_TYPE: Final = "event_type"
_METADATA: Final = "metadata"
_SCHEMA_VERSION: Final = "schema_version"
_AGGREGATE_VERSION: Final = "aggregate_version"
_PRODUCER: Final = "cursus.producer"

_LONGEST_NUMBER = 20
_UINT32 = 1 << 32
_UINT64 = 1 << 64
_INT64 = 1 << 63


def record_of(message: BatchMessage, now_ms: int) -> RecordInput:
    """Return what is stored of a message; an empty key is none."""
    headers: list[tuple[str, bytes | None]] = []
    if message.event_type:
        headers.append((_EVENT_TYPE, message.event_type))
    if message.schema_version:
        headers.append((_SCHEMA_VERSION, b"%d" % message.schema_version))
    if message.aggregate_version:
        headers.append((_AGGREGATE_VERSION, b"%d" % message.aggregate_version))
    if message.metadata:
        headers.append((_METADATA, message.metadata))
    if message.producer_id or message.seq or message.epoch:
        producer = b"%d:%d:%b" % (message.epoch, message.seq, message.producer_id)
        headers.append((_PRODUCER, producer))
    return message.key or None, message.payload, headers, now_ms


def message_of(record: Record) -> BatchMessage:
    """Return a record as a message."""
    key = record.key or b""
    if len(key) > LONGEST_TEXT_BYTES:
        key = b""
    payload = record.value or b""
    headers = record.headers
    if not headers:
        return BatchMessage(record.offset, 0, payload, key)
    event_type = metadata = producer_id = b""
    schema_version = aggregate_version = epoch = seq = 0
    for name, value in headers:
        if value is None or len(value) > LONGEST_TEXT_BYTES:
            continue
        if name == _PRODUCER:
            epoch, seq, producer_id = _producer(value)
        elif name == _EVENT_TYPE:
            event_type = value
        elif name == _METADATA:
            metadata = value
        elif name == _SCHEMA_VERSION:
            schema_version = _number(value, _UINT32)
        elif name == _AGGREGATE_VERSION:
            aggregate_version = _number(value, _UINT64)
    return BatchMessage(
        record.offset,
        seq,
        payload,
        key,
        producer_id,
        epoch,
        event_type,
        schema_version,
        aggregate_version,
        metadata,
    )


def aggregate_version_of(headers: tuple[Header, ...]) -> int:
    """Return which event of its aggregate a record is; 0 for what is none."""
    for name, value in headers:
        if name == _AGGREGATE_VERSION and value is not None:
            return _number(value, _UINT64)
    return 0


def _number(value: bytes, below: int) -> int:
    if not value.isdigit() or len(value) > _LONGEST_NUMBER:
        return 0
    number = int(value)
    return number if number < below else 0


def _producer(value: bytes) -> tuple[int, int, bytes]:
    epoch, _, rest = value.partition(b":")
    seq, _, producer_id = rest.partition(b":")
    is_negative = epoch.startswith(b"-")
    number = _number(epoch[is_negative:], _INT64)
    return -number if is_negative else number, _number(seq, _UINT64), producer_id
