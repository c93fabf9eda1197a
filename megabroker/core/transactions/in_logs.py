"""Transactions as the logs of this process know them: begun, and without a marker yet."""

from __future__ import annotations

from collections.abc import Iterator

from megabroker.errors import BrokerError
from megabroker.interfaces import ITopicService
from megabroker.model import ProducerIdentity, TopicPartition

__all__ = ["OpenTransaction", "open_transactions"]

OpenTransaction = tuple[TopicPartition, ProducerIdentity]
"""Where a transaction is open, and whose it is."""


def open_transactions(topics: ITopicService) -> Iterator[OpenTransaction]:
    """Yield what is open in the partitions led here, but in those whose logs are out of order."""
    for topic in topics.all():
        for index in range(topic.partitions):
            where = TopicPartition(topic.name, index)
            try:
                unmarked = topics.partition(*where).open_transactions()
            except BrokerError:
                continue
            for identity in unmarked:
                yield where, identity
