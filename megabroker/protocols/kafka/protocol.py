"""One Kafka connection: frames to requests, requests to handlers, answers in order.

    i32 size | i16 api key | i16 api version | i32 correlation id | nullable string client id
             | tagged fields (flexible versions) | body

    i32 size | i32 correlation id | tagged fields (flexible versions, never ApiVersions) | body

Produce, Fetch and ShareFetch are handled by functions of their own with no coroutine
(``apis.k00_produce``, ``apis.k01_fetch``, ``apis.k78_share_fetch``); everything else goes through the
dispatch table. A frame that is not the protocol, an unknown API or a version that is not served closes the
connection, as Apache Kafka does; only ApiVersions and the oldest Produce versions have an answer to that.

Requests of clients that quotas limit are metered (``metering``), and do without the short way of produce
requests; for all others that is one comparison.

Requests are carried out one after the other, as Apache Kafka does; only those three, whose answers
keep their order but may be long in coming, do not hold up those behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.codec.framing import FrameReader
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ProtocolError
from megabroker.interfaces import IBroker
from megabroker.model import PEER, Listener
from megabroker.net.admission import Admission
from megabroker.net.asked import Asked
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.wire import Answer, Room
from megabroker.protocols.gate import Gate
from megabroker.protocols.kafka.answers import encode_answer, frame_answer
from megabroker.protocols.kafka.apis import k00_produce, k01_fetch, k18_api_versions, k78_share_fetch
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata, subscribed_topics
from megabroker.protocols.kafka.controlling import FORWARDED, carry_out, is_for_controller, longest_bytes
from megabroker.protocols.kafka.dispatch import INTERNAL, SERVED, Context
from megabroker.protocols.kafka.fetch_sessions import FetchSessions
from megabroker.protocols.kafka.metering import Metered
from megabroker.protocols.kafka.produce_runs import Targets, expect
from megabroker.protocols.kafka.produce_template import NO_MATCH, ProduceTemplate
from megabroker.protocols.kafka.record_rules import Look
from megabroker.protocols.kafka.schema import produce
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.headers import read_client_id
from megabroker.protocols.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from megabroker.protocols.kafka.sasl import SaslConnection

__all__ = ["MIN_FRAME_BYTES", "InternalFactory", "KafkaConnection", "KafkaFactory", "make_factory"]

_log = Logger()

_HEAD = struct.Struct(">hhi")
_SIZE = struct.Struct(">i")
MIN_FRAME_BYTES = _HEAD.size
"""A request has its header at least."""

_PRODUCE = 0
_FETCH = 1
_SHARE_FETCH = 78
_API_VERSIONS = 18
_MAX_TEMPLATES = 256
"""Produce requests remembered of a connection beside the last one; about two kilobytes each at most."""

_MAX_TEMPLATE_BYTES = 512
"""Longest head of one of them."""

_UNLIMITED = 1 << 62
_MAX_ALL_TEMPLATES = 20_000
"""Remembered of all connections of a listener together."""


class KafkaConnection(BrokerConnection):
    """A Kafka client's connection.

    Attributes:
        fetches: those that wait for data.
        template: the last produce request of a shape that is likely to come again; others are remembered
            beside it, since a producer of several topics takes turns.
        produced: how long produce requests take.
        looks: batches that other threads look into, by their place in the produce request that waits.
    """

    factory: KafkaFactory

    def __init__(self, factory: KafkaFactory) -> None:
        super().__init__(factory)
        self.produced = factory.produced
        self.fetches: dict[k01_fetch.FetchAnswer | k78_share_fetch.ShareFetchAnswer, None] = {}
        self.template: ProduceTemplate | None = None
        self._templates: dict[int, dict[bytes, ProduceTemplate]] = {}  # by length of what repeats, and that
        self._template_count = 0
        self.looks: dict[int, Look] = {}
        self._gate = Gate()

    def make_reader(self) -> FrameReader:
        """A frame is a size and that many bytes, eight of header at least."""
        return FrameReader(self.factory.broker.settings.limits.max_request_bytes, MIN_FRAME_BYTES)

    @property
    def sasl(self) -> SaslConnection | None:
        """The connection itself where clients must say who they are."""
        return None

    def handle(self, event: memoryview) -> Room | None:
        """Take one request frame."""
        if self._gate.closed:
            return self._gate
        if self.template is not None:
            full = self.template.take(self, event)
            if full is NO_MATCH and event[1] == _PRODUCE == event[0]:
                full = self._take_by_another(self.template, event)
            if full is not NO_MATCH:
                return full
        key, version, correlation_id = _HEAD.unpack_from(event)
        served = self.factory.served.get(key)
        if served is None:
            raise ProtocolError(f"API key {key} is not served")
        if not served.api.first_version <= version <= served.last_version:
            self._refuse_version(key, version, correlation_id, event)
            return None
        end = len(event)
        decode, flexible = served.readers.get(version) or served.reader(version)
        self.client_id, pos = read_client_id(event, end, flexible)
        client_id = self.client_id
        metered: Metered | None = None
        if self.broker.quotas.limits_clients:
            metered = self._metered(client_id, key, version)
        request: Any = decode(event, pos, end)[0]
        if key == _PRODUCE:
            return k00_produce.receive(self, event, request, version, correlation_id, metered)
        if key == _FETCH:
            k01_fetch.receive(self, request, version, correlation_id, end, metered)
            return None
        if key == _SHARE_FETCH:
            k78_share_fetch.receive(self, request, version, correlation_id, end, metered)
            return None
        if key in FORWARDED and is_for_controller(self.broker, key, request):
            self._forward(event, key, metered, Asked(self, served.api.name, version, end))
            return None
        context = Context(
            self.broker,
            self.factory.settings,
            key,
            version,
            client_id,
            self.peer_host,
            self.factory.listener.name,
            self.principal,
            metered,
            self.sasl,
        )
        asked = Asked(self, served.api.name, version, end)
        response = served.carry_out(context, request)
        if isinstance(response, Message):
            parts = _encode(response, context, correlation_id)
            self.answer(parts)
            asked.answered(parts)
        else:
            self._answer_later(response, context, correlation_id, asked)
        return None

    def _forward(self, event: memoryview, key: int, metered: Metered | None, one: Asked) -> None:
        """Have the controller carry out a request, and pass on what it answers."""
        slot = self.reserve(len(event))
        self._gate.close()
        if metered is not None:
            metered.pause()

        def answered(response: Any) -> None:
            if not self.closed:
                if metered is not None:
                    metered.resume()
                    metered.settle()
                if response.throttle_ms:
                    self.mute(response.throttle_ms)
                slot.fill([_SIZE.pack(len(response.frame)), response.frame])
                one.answered((response.frame,))
                self._gate.open()

        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, BrokerError):
                _log.failure("forwarding", failure)
            why = failure.getErrorMessage()
            self.close(f"the controller did not answer a request of API key {key}: {why}")

        listener = self.factory.listener.name
        asked = carry_out(self.broker, event, self.principal, self.peer_host, listener)
        asked.addCallbacks(answered, failed)

    def _metered(self, client_id: str, key: int, version: int) -> Metered | None:
        meter = self.broker.quotas.meter(self.principal.name, client_id)
        return None if meter is None else Metered(self, meter, key, version)

    def remember(self, template: ProduceTemplate | None) -> None:
        """Expect requests like the one that a template was made of."""
        self.template = template
        if template is None:
            return
        if self.expects:
            expect(self, template)
        alike = self._templates.get(template.pos, {})
        if template.key not in alike:
            if self._template_count >= _MAX_TEMPLATES:
                self._forget_templates()
            if template.pos > _MAX_TEMPLATE_BYTES or self.factory.template_count >= _MAX_ALL_TEMPLATES:
                return
            self._template_count += 1
            self.factory.template_count += 1
            alike = self._templates.setdefault(template.pos, {})
        alike[template.key] = template

    def _forget_templates(self) -> None:
        self._templates.clear()
        self.factory.template_count -= self._template_count
        self._template_count = 0

    def _take_by_another(self, last: ProduceTemplate, event: memoryview) -> Room | None:
        """Take a request by the template whose bytes it has, if those are not the last one's."""
        for pos, templates in self._templates.items():
            other = templates.get(bytes(event[:4]) + bytes(event[8:pos]))
            if other is not None and other is not last:
                full = other.take(self, event)
                if full is not NO_MATCH:
                    self.template = other
                return full
        return NO_MATCH  # type: ignore[no-any-return]

    def _answer_later(
        self, response: Awaitable[Message], context: Context, correlation_id: int, asked: Asked
    ) -> None:
        slot = self.reserve(asked.size_bytes)
        asked.waits()
        self._gate.close()
        if context.metered is not None:
            context.metered.pause()
        waiting: Deferred[Message]
        if isinstance(response, Deferred):
            waiting = response
        else:
            assert isinstance(response, Coroutine)
            waiting = ensureDeferred(response)
        waiting.addCallback(self._answer_ready, slot, context, correlation_id, asked)
        waiting.addErrback(self._answer_failed, context)

    def _answer_ready(
        self, response: Message, slot: Answer, context: Context, correlation_id: int, asked: Asked
    ) -> None:
        if not self.closed:
            if context.metered is not None:
                context.metered.resume()
            parts = _encode(response, context, correlation_id)
            slot.fill(parts)
            asked.answered(parts)
            self._gate.open()

    def _answer_failed(self, failure: Failure, context: Context) -> None:
        _log.failure(
            "Kafka API {key} version {version} from {peer}",
            failure,
            key=context.key,
            version=context.version,
            peer=self.peer,
        )
        self.close("internal error, logged above")

    def _refuse_version(self, key: int, version: int, correlation_id: int, event: memoryview) -> None:
        if key == _API_VERSIONS:
            self.answer(encode_answer(k18_api_versions.unsupported(), key, 0, correlation_id))
        elif key == _PRODUCE and 0 <= version < produce.Request.__schema__.versions[0]:
            acks, body = k00_produce.refuse_old(event, version)
            if acks:
                self.answer([frame_answer(correlation_id, body)])
        else:
            raise ProtocolError(f"version {version} of API key {key} is not served")

    def finish(self) -> None:
        """Take no more requests; what waits for data is answered with what there is."""
        super().finish()
        for fetch in list(self.fetches):
            fetch.expire()

    def connection_closed(self) -> None:
        """Forget waits and templates; what members of share groups had acquired over it is free again."""
        self._forget_templates()
        for fetch in list(self.fetches):
            fetch.cancel()
        self.broker.shares.connection_closed(self)


def _encode(response: Message, context: Context, correlation_id: int) -> list[Any]:
    """Return the answer, with how long the client has to wait."""
    if context.metered is not None:
        throttle_ms = context.metered.settle()
        if throttle_ms and hasattr(response, "throttle_time_ms"):
            response.throttle_time_ms = throttle_ms
    return encode_answer(response, context.key, context.version, correlation_id)


class KafkaFactory(BrokerFactory):
    """Makes Kafka connections.

    Attributes:
        timers: one wheel for all waits of this listener's fetches.
        fetch_sessions: what its consumers fetch.
        produced, fetched: how long produce requests and fetches take.
        run_targets: partitions that take what several connections send together.
        template_count: produce requests that its connections remember beside their last ones.
        served: the requests that are served here.
        mechanisms: by which SASL mechanisms clients must say who they are; empty if they need not.
    """

    def __init__(self, broker: IBroker, settings: KafkaSettings, listener: Listener) -> None:
        super().__init__(broker, listener, KafkaConnection)
        self.settings = settings
        self.timers = TimerWheel(broker.reactor, granularity_ms=5)
        self.template_count = 0
        self.served = SERVED
        self.mechanisms: tuple[str, ...] = ()
        self.produced = self.counts.latency("Produce")
        self.fetched = self.counts.latency("Fetch")
        self.run_targets = Targets(broker, self.counts)
        self.fetch_sessions = FetchSessions(lambda: self.settings.max_fetch_sessions, broker.reactor.seconds)


def make_factory(broker: IBroker, settings: KafkaSettings, listener: Listener) -> KafkaFactory:
    """The plugin's factory; also teaches the groups to read Kafka's subscriptions."""
    broker.groups.subscribed_topics = subscribed_topics
    broker.groups.consumer_metadata = ConsumerMetadata()
    factory = KafkaFactory(broker, settings, listener)
    wanted = settings.listener(listener.name)
    if wanted is not None and wanted.sasl:
        from megabroker.protocols.kafka.sasl import SaslConnection

        factory.mechanisms = wanted.sasl
        factory.connection_class = SaslConnection
    return factory


class InternalConnection(KafkaConnection):
    """Another process of this broker; it may be silent and do everything, and no quota holds for it."""

    idle_exempt = True

    def __init__(self, factory: KafkaFactory) -> None:
        super().__init__(factory)
        self.principal = PEER

    def make_reader(self) -> FrameReader:
        """Frames may be longer than those of clients."""
        limit = longest_bytes(self.factory.broker.settings.limits.max_request_bytes)
        return FrameReader(limit, MIN_FRAME_BYTES)

    def _metered(self, client_id: str, key: int, version: int) -> Metered | None:
        return None


class InternalFactory(KafkaFactory):
    """Makes the connections of other processes of this broker, which may ask more than clients.

    What they have under way they bound themselves, and it is no part of the budget for clients' requests: of
    two processes whose budgets are used up by requests for the other, neither could answer the other.
    """

    is_bounded = False

    def __init__(self, broker: IBroker, settings: KafkaSettings, listener: Listener) -> None:
        super().__init__(broker, settings, listener)
        self.admission = Admission(_UNLIMITED, _UNLIMITED, _UNLIMITED)
        self.connection_class = InternalConnection
        self.served = INTERNAL
