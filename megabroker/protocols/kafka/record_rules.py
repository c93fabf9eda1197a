"""Rules that hold for each record of a batch, and how a refusal is told record by record.

Two of them: in a compacted topic a record needs a key, or it could never be replaced nor removed; and with
CreateTime its timestamp must not lie further from now than ``message.timestamp.before.max.ms`` and
``message.timestamp.after.max.ms``. Owns these checks. Never changes a batch.

Batches are taken apart for topics that are compacted or bound the past, and for no others: that nothing lies
in the future is seen from a batch's head, and only a batch that is refused for it is looked into. One of very
many records, a few kilobytes if they are compressed, is taken apart by another thread (``Look``), while its
request waits and nobody else does. So is one that is to be stored in another codec, unless it is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.codec.batch import MAX_DECOMPRESSED_BYTES, BatchError, validate_produce
from megabroker.codec.records import records
from megabroker.codec.rewriting import recompressed
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import NO_TIMESTAMP, BatchHeader, Buffer, TimestampType

__all__ = ["Look", "RejectedRecords", "check_records", "looks_inside", "rejected_times", "takes_long"]

_log = Logger()

_MANY_RECORDS: Final = 20_000
"""To take so many apart takes 20 ms and more."""
_LARGE_BYTES: Final = 64 << 10
"""To compress so much takes 6 ms by gzip and 40 by the highest levels of zstd."""
_CODEC: Final = 0x07

_BEFORE: Final = "message.timestamp.before.max.ms"
_AFTER: Final = "message.timestamp.after.max.ms"
_TIMESTAMP_TYPE: Final = "message.timestamp.type"
_UNLIMITED: Final = 2**63 - 1
_MAX_TOLD: Final = 1000


class RejectedRecords(RequestError):
    """Records of a batch break a rule, so that none of it is stored.

    Args:
        errors: (place in the batch, what is wrong), up to a thousand of them.
    """

    def __init__(self, code: ErrorCode, errors: Sequence[tuple[int, str]]) -> None:
        super().__init__(code, "one or more records were rejected")
        self.errors = errors


def looks_inside(partition: IPartition) -> bool:
    """Whether every batch for a partition is taken apart."""
    return partition.needs_keys or partition.policy.timestamp_before_max_ms != _UNLIMITED


def check_records(broker: IBroker, partition: IPartition, header: BatchHeader, batch: Buffer) -> None:
    """Refuse a batch of a topic that ``looks_inside``, with records that break a rule of it.

    Raises:
        RejectedRecords: INVALID_TIMESTAMP if a timestamp is among what is wrong, else INVALID_RECORD.
        RequestError: INVALID_RECORD when the records cannot be read.
    """
    bounds = _bounds(broker, partition.topic.name)
    _refuse(_broken(partition, header, batch, partition.needs_keys, *bounds))


def takes_long(partition: IPartition, count: int, attributes: int, size_bytes: int) -> bool:
    """Whether a batch is for another thread: what its records take is not known before that."""
    if partition.codec is not None and partition.codec[0] != attributes & _CODEC:
        return size_bytes > _LARGE_BYTES or attributes & _CODEC != 0
    return count > _MANY_RECORDS and looks_inside(partition)


class Look:
    """A batch on its way through another thread, one of a broker's at a time; a ``Room``.

    Attributes:
        over: whether that is done.
        error: why it is refused then, or None.
        batch: what is to be stored in its place, if its topic asks for another codec.
    """

    def __init__(self, broker: IBroker, partition: IPartition, batch: Buffer) -> None:
        self.over = False
        self.error: BrokerError | None = None
        self.batch: bytearray | None = None
        self._callbacks: list[Callable[[], None]] = []
        inside = looks_inside(partition)
        bounds = _bounds(broker, partition.topic.name)
        needs_keys, data = partition.needs_keys, bytes(batch)
        codec = partition.codec if len(data) <= partition.policy.max_message_bytes else None

        def look() -> bytearray | None:
            try:
                header = validate_produce(data)
                if inside:
                    _refuse(_broken(partition, header, data, needs_keys, *bounds))
                if codec is None or codec[0] == header.compression:
                    return None
                return recompressed(header, data, *codec, MAX_DECOMPRESSED_BYTES)[1]
            except BatchError as error:
                raise RequestError(error.code, str(error)) from None
            except ProtocolError as error:
                raise RequestError(ErrorCode.INVALID_RECORD, str(error)) from None

        reactor = broker.reactor
        turn = _turns.setdefault(broker, DeferredLock())
        looked: Deferred[bytearray | None] = turn.run(
            deferToThreadPool, reactor, reactor.getThreadPool(), look
        )
        looked.addErrback(self._refused).addCallback(self._told)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when it is over."""
        if self.over:
            callback()
        else:
            self._callbacks.append(callback)

    def _refused(self, failure: Failure) -> None:
        if isinstance(failure.value, BrokerError):
            self.error = failure.value
        else:
            _log.failure("a batch could not be looked into", failure)
            self.error = RequestError(ErrorCode.INVALID_RECORD, "the records cannot be read")

    def _told(self, batch: bytearray | None) -> None:
        self.over = True
        self.batch = batch
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


_turns: WeakKeyDictionary[IBroker, DeferredLock] = WeakKeyDictionary()


def rejected_times(broker: IBroker, partition: IPartition, header: BatchHeader, batch: Buffer) -> None:
    """Say which records of a batch, whose head shows that there are some, have times out of bounds.

    Raises:
        RejectedRecords: INVALID_TIMESTAMP.
        RequestError: INVALID_RECORD when the records cannot be read.
    """
    _refuse(_broken(partition, header, batch, False, *_bounds(broker, partition.topic.name)))


def _bounds(broker: IBroker, topic: str) -> tuple[int, int]:
    config = broker.topics.config
    if config(topic, _TIMESTAMP_TYPE) == TimestampType.LOG_APPEND_TIME.value:
        return -(2**63), 2**63
    now_ms = broker.now_ms()
    return now_ms - int(config(topic, _BEFORE)), now_ms + int(config(topic, _AFTER))


def _broken(
    partition: IPartition, header: BatchHeader, batch: Buffer, needs_key: bool, earliest: int, latest: int
) -> list[tuple[ErrorCode, int, str]]:
    found: list[tuple[ErrorCode, int, str]] = []
    try:
        for place, record in enumerate(records(batch, header)):
            if needs_key and record.key is None:
                message = (
                    "a compacted topic takes no record without a key: "
                    f"{partition.topic.name}-{partition.index}"
                )
                code = ErrorCode.INVALID_RECORD
            elif record.timestamp_ms != NO_TIMESTAMP and not earliest <= record.timestamp_ms <= latest:
                message = f"timestamp {record.timestamp_ms} is not within {earliest} and {latest}"
                code = ErrorCode.INVALID_TIMESTAMP
            else:
                continue
            if len(found) < _MAX_TOLD:
                found.append((code, place, message))
    except ProtocolError as error:
        raise RequestError(ErrorCode.INVALID_RECORD, str(error)) from None
    return found


def _refuse(found: Sequence[tuple[ErrorCode, int, str]]) -> None:
    if found:
        times = any(code is ErrorCode.INVALID_TIMESTAMP for code, _, _ in found)
        raise RejectedRecords(
            ErrorCode.INVALID_TIMESTAMP if times else ErrorCode.INVALID_RECORD,
            [(place, message) for _, place, message in found],
        )
