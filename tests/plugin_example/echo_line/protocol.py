"""A line protocol on a plain Twisted LineReceiver, over the broker's core.

    PUT topic text     -> the offset of the stored message; the topic is created when it is not there
    GET topic offset   -> the text
    anything else      -> ERROR and what was wrong

Owns the lines and nothing of the broker: all it is given is an ``IBroker``, its settings and the name of its
listener. Answers come in the order of the requests, because each line waits for the one before it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from echo_line.settings import EchoLineSettings
from megabroker.codec.batch import build_single, read_header
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import Acks, Listener
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["EchoLine", "EchoLineFactory"]

_log = Logger()

_CACHE_BYTES = 1 << 20


class EchoLine(LineReceiver):
    """One client."""

    delimiter = b"\n"

    def __init__(self, broker: IBroker, settings: EchoLineSettings, cache: ReadCache) -> None:
        self._broker = broker
        self._settings = settings
        self._cache = cache
        self.MAX_LENGTH = settings.max_line_bytes

    def connectionMade(self) -> None:
        """IProtocol: greet."""
        if self._settings.greeting:
            self.sendLine(self._settings.greeting.encode())

    def lineReceived(self, line: bytes) -> None:
        """LineReceiver: carry out one line; those behind it wait."""
        self.pauseProducing()
        outcome = ensureDeferred(self._carry_out(line.rstrip(b"\r")))
        outcome.addCallbacks(self._answer, self._failed)
        outcome.addErrback(lambda failure: _log.failure("echo-line", failure))

    def _answer(self, text: bytes) -> None:
        self.sendLine(text)
        self.resumeProducing()

    def _failed(self, failure: Failure) -> None:
        failure.trap(BrokerError)
        self._answer(f"ERROR {failure.getErrorMessage()}".encode())

    async def _carry_out(self, line: bytes) -> bytes:
        words = line.split(b" ", 2)
        if len(words) != 3 or words[0] not in (b"PUT", b"GET"):
            raise RequestError(ErrorCode.INVALID_REQUEST, "expected PUT topic text, or GET topic offset")
        topic = words[1].decode("utf-8", "replace")
        if words[0] == b"PUT":
            return b"%d" % await self._put(topic, words[2])
        if not words[2].isdigit():
            raise RequestError(ErrorCode.INVALID_REQUEST, "expected an offset that is a number")
        return self._get(self._broker.topics.partition(topic, 0), int(words[2][:19]))

    async def _put(self, topic: str, text: bytes) -> int:
        topics = self._broker.topics
        if topics.get(topic) is None:
            try:
                await topics.create(topic, 1)
            except StateError as error:
                if error.code is not ErrorCode.TOPIC_EXISTS:
                    raise
        partition = topics.partition(topic, 0)
        data = build_single(None, text, self._broker.now_ms())
        while not partition.has_room(1, len(data)):
            await _room(partition)
        stored: Deferred[BrokerError | None] = Deferred()
        offset = partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, stored.callback)
        error = await stored
        if error is not None:
            raise error
        return offset

    def _get(self, partition: IPartition, offset: int) -> bytes:
        record = RecordReader(partition, offset, self._cache).next()
        if record is None:
            raise RequestError(ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {offset} is not written yet")
        return (record.value or b"").replace(b"\n", b" ")


def _room(partition: IPartition) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    partition.when_room(lambda: waiting.callback(None))
    return waiting


class EchoLineFactory(Factory):
    """Makes the connections of one listener."""

    def __init__(self, broker: IBroker, settings: EchoLineSettings, listener: Listener) -> None:
        self.broker = broker
        self.settings = settings
        self.listener = listener
        self.cache = ReadCache(_CACHE_BYTES)

    def buildProtocol(self, addr: IAddress | None) -> EchoLine:  # type: ignore[override]
        """Factory: one more client."""
        return EchoLine(self.broker, self.settings, self.cache)
