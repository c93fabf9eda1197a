"""The cursus connections of one listener, and what they share.

Owns the settings as they are in force, the numbers that connections and messages get, the log of commands.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from megabroker.interfaces import IBroker
from megabroker.model import Acks, Durability, Listener
from megabroker.net.factory import BrokerFactory
from megabroker.protocols.cursus.later.errands import Desk
from megabroker.protocols.cursus.protocol import CursusConnection
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.reading import ReadCache

__all__ = ["CursusFactory"]

_log = Logger()

_ACKS: Final = {"0": Acks.NONE, "1": Acks.WRITTEN, "all": Acks.DURABLE}

_LARGEST_BATCH_MESSAGES = 1000
_BATCH_OVERHEAD_BYTES = 1024
_READ_CACHE_BYTES = 64 << 20
_LOG_EVERY = 1024  # of the publishes


class CursusFactory(BrokerFactory):
    """Makes cursus connections.

    Attributes:
        acks: when a publish is answered.
        acks_of_outcome: when a publish has its outcome, for repeats and for commands behind it: as ``acks``,
            but never before it is written, nor before the journal has it where written is all there is.
        compression: how request bodies are compressed.
        read_cache: bound on the decoded batches that streams hold.
        batch_messages: the most messages that become one batch.
        published: how long publishes take.
    """

    def __init__(self, broker: IBroker, settings: CursusSettings, listener: Listener) -> None:
        super().__init__(broker, listener, CursusConnection)
        wanted = settings.listener(listener.name)
        if wanted is not None and wanted.auth == "required":
            from megabroker.protocols.cursus.authentication import AuthConnection

            self.connection_class = AuthConnection
        self.settings = settings
        self.acks = _ACKS[settings.acks]
        self.acks_of_outcome = self.acks or Acks.WRITTEN
        if broker.settings.durability is Durability.OS:
            self.acks_of_outcome = Acks.DURABLE
        self.compression = settings.compression
        if settings.compression == "none" and broker.settings.enable_gzip:
            self.compression = "gzip"
        self.read_cache = ReadCache(_READ_CACHE_BYTES)
        # An empty queue takes any one batch, so batches made here keep its bound themselves.
        self.batch_messages: int = min(_LARGEST_BATCH_MESSAGES, broker.settings.partition_channel_buffer_size)
        self.published = self.counts.latency("PUBLISH")
        self._consumers = 0
        self._publishes = 0
        self._rotation = 0
        broker.errands.setdefault("cursus", Desk(broker))

    def next_turn(self) -> int:
        """Number a message that may go to any partition."""
        self._rotation += 1
        return self._rotation

    def next_consumer_id(self) -> int:
        """Number a connection."""
        self._consumers += 1
        return self._consumers

    def topic_configs(self) -> dict[str, str | None]:
        """Return what is set on a topic made here: room for the largest message, if it is not there."""
        wanted = self.settings.max_frame_bytes + _BATCH_OVERHEAD_BYTES
        if wanted <= self.broker.settings.topics.max_message_bytes:
            return {}
        return {"max.message.bytes": str(wanted)}

    def log_command(self, word: str, text: str, peer: str) -> None:
        """Log the outcome of a command; publishes that succeed are only counted."""
        if text.startswith("ERROR"):
            _log.debug("[CMD] FAILURE {command} from {peer}: {reply}", command=word, peer=peer, reply=text)
        else:
            _log.debug("[CMD] SUCCESS {command} from {peer}", command=word, peer=peer)

    def count_publish(self) -> None:
        """Log one in many of the publishes that succeed."""
        self._publishes += 1
        if self._publishes % _LOG_EVERY == 1:
            _log.debug("[CMD] SUCCESS PUBLISH, {count} so far", count=self._publishes)
