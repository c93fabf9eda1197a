"""Streams groups (KIP-1071): the broker hands the tasks of a Kafka Streams application to its members."""

from megabroker.core.groups.streams.service import STREAMS_GROUPS_TABLE, MayNotCreate, StreamsGroups
from megabroker.core.groups.streams.settings import StreamsSettings

__all__ = ["STREAMS_GROUPS_TABLE", "MayNotCreate", "StreamsGroups", "StreamsSettings"]
