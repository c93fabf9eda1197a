"""The MEGA connections of one listener."""

from __future__ import annotations

from typing import Final

from megabroker.interfaces import IBroker
from megabroker.model import Acks, Listener
from megabroker.net.factory import BrokerFactory
from megabroker.protocols.mega.protocol import MegaConnection
from megabroker.protocols.mega.settings import MegaSettings
from megabroker.protocols.reading import ReadCache

__all__ = ["MegaFactory"]

_ACKS: Final = {"0": Acks.NONE, "1": Acks.WRITTEN, "all": Acks.DURABLE}
_LARGEST_BATCH_MESSAGES = 1000
_BATCH_OVERHEAD_BYTES = 1024
_READ_CACHE_BYTES = 64 << 20


class MegaFactory(BrokerFactory):
    """Makes MEGA connections.

    Attributes:
        acks: when a produce is answered.
        read_cache: bound on the decoded batches that consuming connections hold.
        batch_messages: the most messages that become one batch.
    """

    def __init__(self, broker: IBroker, settings: MegaSettings, listener: Listener) -> None:
        super().__init__(broker, listener, MegaConnection)
        self.settings = settings
        self.acks = _ACKS[settings.acks]
        self.read_cache = ReadCache(_READ_CACHE_BYTES)
        # An empty queue takes any one batch, so batches made here keep its bound themselves.
        self.batch_messages: int = min(_LARGEST_BATCH_MESSAGES, broker.settings.partition_channel_buffer_size)

    def topic_configs(self) -> dict[str, str | None]:
        """Return what is set on a topic made here: room for the largest payload, if it is not there."""
        wanted = self.settings.max_payload_bytes + _BATCH_OVERHEAD_BYTES
        if wanted <= self.broker.settings.topics.max_message_bytes:
            return {}
        return {"max.message.bytes": str(wanted)}
