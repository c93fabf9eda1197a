"""Keys that compacted topics insist on: a record without one could never be replaced nor removed.

Owns the check and how a refusal is told, record by record. Never changes a batch. Batches are taken apart for
topics whose ``cleanup.policy`` has ``compact`` in it and for no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from megabroker.codec.records import records
from megabroker.errors import ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import BatchHeader, Buffer

__all__ = ["KeylessRecords", "check_keys", "is_compacted"]

_POLICY: Final = "cleanup.policy"
_COMPACT: Final = "compact"
_MAX_TOLD: Final = 1000


class KeylessRecords(RequestError):
    """Records of a batch have no key.

    Args:
        indexes: their places in the batch, up to a thousand of them.
    """

    def __init__(self, partition: IPartition, indexes: Sequence[int]) -> None:
        super().__init__(ErrorCode.INVALID_RECORD, "one or more records were rejected")
        self.indexes = indexes
        self.record_message = (
            f"a compacted topic takes no record without a key: {partition.topic.name}-{partition.index}"
        )


def is_compacted(broker: IBroker, topic: str) -> bool:
    """Whether a topic is compacted, or compacted as well as deleted from."""
    return _COMPACT in broker.topics.config(topic, _POLICY)


def check_keys(broker: IBroker, partition: IPartition, header: BatchHeader, batch: Buffer) -> None:
    """Refuse a batch for a compacted topic in which keys are missing.

    Raises:
        KeylessRecords: they are.
        RequestError: INVALID_RECORD when the records cannot be read.
    """
    if not is_compacted(broker, partition.topic.name):
        return
    keyless: list[int] = []
    try:
        for place, record in enumerate(records(batch, header)):
            if record.key is None and len(keyless) < _MAX_TOLD:
                keyless.append(place)
    except ProtocolError as error:
        raise RequestError(ErrorCode.INVALID_RECORD, str(error)) from None
    if keyless:
        raise KeylessRecords(partition, keyless)
