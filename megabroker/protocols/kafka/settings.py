"""What can be configured of the Kafka protocol."""

from __future__ import annotations

from typing import ClassVar

import attrs

from megabroker.config import fields
from megabroker.config.protocol import ProtocolSettings

__all__ = ["KafkaSettings"]


@attrs.frozen(kw_only=True)
class KafkaSettings(ProtocolSettings):
    """The section ``protocols.kafka``."""

    ways_to_authenticate: ClassVar[frozenset[str]] = frozenset({"sasl"})

    max_fetch_bytes: int = fields.size_bytes(
        57_671_680,
        minimum=1024,
        maximum=1 << 30,
        doc="Maximum bytes of records in one fetch response, whatever the client requests; "
        "Kafka's fetch.max.bytes.",
        reloadable=True,
    )
    max_fetch_wait_ms: int = fields.duration_ms(
        60_000, minimum=0, maximum=600_000, doc="Longest time a fetch waits for data.", reloadable=True
    )
    max_fetch_sessions: int = fields.integer(
        1000,
        minimum=0,
        maximum=100_000,
        unit="sessions",
        doc="Maximum number of fetch sessions (KIP-227); 0 for none.",
        reloadable=True,
    )
