"""How streams groups are kept: limits and times; the defaults are Apache Kafka's."""

from __future__ import annotations

import attrs

__all__ = ["StreamsSettings"]


@attrs.frozen
class StreamsSettings:
    """Settings of all streams groups of one broker; the units are in the names.

    Attributes:
        standby_replicas: copies of the state of each task that are kept beside the active one.
        topics_interval_ms: how often groups look whether topics have changed.
    """

    heartbeat_interval_ms: int = 5_000
    session_timeout_ms: int = 45_000
    standby_replicas: int = 0
    group_max_size: int = 10_000
    topics_interval_ms: int = 1_000
