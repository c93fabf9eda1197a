"""The names of topics, and topics as rows of the metadata store."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Topic

__all__ = ["DELETED_TABLE", "TOPICS_TABLE", "is_topic_name", "metric_name", "topic_from_row", "topic_row"]

TOPICS_TABLE: Final = "topics"
"""Name -> id, partitions, configurations."""

DELETED_TABLE: Final = "deleted_topics"
"""Id -> name and partitions of a topic whose logs may not all be removed yet."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def is_topic_name(name: str) -> bool:
    """Whether a topic may have this name."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def metric_name(name: str) -> str:
    """Return what Kafka makes of a topic's name in names of metrics, where two must not be the same."""
    return name.replace(".", "_")


def topic_row(topic: Topic) -> dict[str, Any]:
    """Return the value to be stored."""
    row: dict[str, Any] = {"id": topic.id.hex, "partitions": topic.partitions, "configs": dict(topic.configs)}
    if topic.internal:
        row["internal"] = True
    if topic.leader_epoch:
        row["leader_epoch"] = topic.leader_epoch
    return row


def topic_from_row(name: str, row: Any) -> Topic:
    """Return the topic that a row of the table tells of. Raises StorageError: it is no such row."""
    try:
        return Topic(
            name,
            UUID(hex=row["id"]),
            int(row["partitions"]),
            dict(row["configs"]),
            bool(row.get("internal")),
            int(row.get("leader_epoch", 0)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            ErrorCode.STORAGE, f"metadata row {TOPICS_TABLE}/{name} is damaged: {error!r}", retriable=False
        ) from error
