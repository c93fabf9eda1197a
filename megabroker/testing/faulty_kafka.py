"""Kafka's protocol with faults in it: connections that look at each request before the broker does.

Stands around the plugin, so that a broker that was started in any other way has nothing of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from zope.interface import implementer

from megabroker.interfaces import IBroker, IProtocolPlugin
from megabroker.model import Listener
from megabroker.net.wire import Room
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema.fields import Message, Struct
from megabroker.protocols.kafka.schema.headers import read_client_id
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.testing.faults import BEFORE, Fault, Faults

__all__ = ["FaultyKafka", "kafka_faults", "refusal"]

_HEAD = struct.Struct(">hhi")
_PRODUCE: Final = 0

_CALLED: Final = {
    "coordinators": ("coordinator_keys",),
    "groups": ("groups", "group_ids"),
    "index": ("partition", "partition_index"),
    "key": ("coordinator_key",),
    "partition_index": ("partition", "index"),
    "partition_responses": ("partition_data",),
    "partitions": ("partitions", "partition_indexes"),
    "responses": ("topic_data", "topics", "resources"),
    "filter_results": ("filters",),
    "results": ("resources", "topics", "groups_names", "creations"),
    "results_by_partition": ("partitions",),
    "results_by_topic_v3_and_below": ("v3_and_below_topics",),
    "topic_name": ("name",),
    "transaction_states": ("transactional_ids",),
    "user": ("name",),
    "topics": ("topics", "topic_names"),
}
"""What requests call the fields of which answers repeat them, where that is not the same."""


_GATHERED: Final[Mapping[int, Callable[[Any], list[Any]]]] = {
    34: lambda request: [topic for place in request.dirs for topic in place.topics],
    51: lambda request: [*request.deletions, *request.upsertions],
}
"""Where the rows of an answer are of several fields of the request."""


def kafka_faults() -> Faults:
    """Return an empty list of faults that may happen to Kafka's requests."""
    return Faults({APIS[key].name: key for key in SERVED}, {error.name: int(error) for error in KafkaError})


def refusal(key: int, request: Any, code: int) -> Message:
    """Return the answer that has an error wherever it can have one."""
    answer: Any = _mirrored(APIS[key].response, request, code)
    if key in _GATHERED:
        (field,) = (field for field in type(answer).__schema__.fields if field.name == "results")
        answer.results = [_mirrored(field.item.struct, row, code) for row in _GATHERED[key](request)]
    return answer  # type: ignore[no-any-return]


def _mirrored(kind: type[Struct], asked: Any, code: int) -> Any:
    row: Any = kind()
    for field in kind.__schema__.fields:
        name = field.name
        if name.endswith("error_code"):
            setattr(row, name, code)
            continue
        if not isinstance(asked, Struct):
            if field.item is None and isinstance(asked, type(getattr(row, name))) and name != "error_message":
                setattr(row, name, asked)
                asked = None
            continue
        source = next((one for one in (name, *_CALLED.get(name, ())) if one in asked.__slots__), None)
        if source is None:
            continue
        value = getattr(asked, source)
        if field.item is not None and field.item.struct is not None:
            setattr(row, name, [_mirrored(field.item.struct, one, code) for one in value or ()])
        elif isinstance(value, (str, int, bytes)) and isinstance(getattr(row, name), type(value)):
            setattr(row, name, value)
    return row


class _Delay:
    """Room once some time has passed."""

    def __init__(self, reactor: Any, delay_ms: int) -> None:
        self._reactor = reactor
        self._delay_ms = delay_ms
        self._call: Any = None

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when it has."""
        self._call = self._reactor.callLater(self._delay_ms / 1000, callback)

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


def _faulty(connection_class: type[Any], faults: Faults) -> type[Any]:
    """Return connections of a class whose requests meet faults."""

    class FaultyConnection(connection_class):  # type: ignore[misc]
        """See the module."""

        expects = False  # the compiled turn would not ask here

        def __init__(self, factory: Any) -> None:
            super().__init__(factory)
            self._is_decided = False
            self._fault: Fault | None = None
            self._lost: Any = None
            self._delay: _Delay | None = None

        def handle(self, event: memoryview) -> Room | None:
            """Decide once for a request, which may be offered several times."""
            if self._gate.closed:
                return super().handle(event)  # type: ignore[no-any-return]
            if not self._is_decided:
                self._fault = self._decide(event) if faults else None
                self._is_decided = True
                if self._fault is not None and self._fault.delay_ms:
                    self._delay = _Delay(self.broker.reactor, self._fault.delay_ms)
                    return self._delay
            full = self._carry_out(event)
            self._is_decided = full is not None
            return full

        def connection_closed(self) -> None:
            """Wait no longer."""
            if self._delay is not None:
                self._delay.cancel()
            super().connection_closed()

        def _decide(self, event: memoryview) -> Fault | None:
            key, version, _ = _HEAD.unpack_from(event)
            served = self.factory.served.get(key)
            if served is None or not served.api.first_version <= version <= served.last_version:
                return None
            _, flexible = served.readers.get(version) or served.reader(version)
            return faults.next(key, read_client_id(event, len(event), flexible)[0])

        def _carry_out(self, event: memoryview) -> Room | None:
            fault = self._fault
            if fault is None or (fault.error is None and fault.drop is None):
                return super().handle(event)  # type: ignore[no-any-return]
            if fault.drop == BEFORE:
                self.abort("a test wanted it so, before a request was carried out")
                return None
            if fault.error is not None:
                self._refuse(event, faults.code(fault.error))
                return None
            before = len(self._slots), len(self._ready)
            full: Room | None = super().handle(event)
            if full is None:
                self._lose_answer(*before)
            return full

        def _refuse(self, event: memoryview, code: int) -> None:
            key, version, correlation_id = _HEAD.unpack_from(event)
            served = self.factory.served[key]
            decode, flexible = served.reader(version)
            _, pos = read_client_id(event, len(event), flexible)
            request: Any = decode(event, pos, len(event))[0]
            if key == _PRODUCE and not request.acks:
                self.abort("a test wanted an error, and nobody waits for an answer")
                return
            self.answer(encode_answer(refusal(key, request, code), key, version, correlation_id))

        def _lose_answer(self, slots: int, ready: int) -> None:
            if len(self._slots) > slots:
                self._lost = self._slots[-1]
            else:
                del self._ready[ready:]
                self.abort("a test wanted it so, after a request was carried out")

        def _flush(self) -> None:
            if self._lost is not None and self._lost.parts is not None and not self.closed:
                self.abort("a test wanted it so, after a request was carried out")
            elif not (self._lost is not None and self.closed):
                super()._flush()

    return FaultyConnection


@implementer(IProtocolPlugin)
class FaultyKafka:
    """The descriptor of Kafka's protocol, with faults.

    Args:
        plugin: the real one.
    """

    def __init__(self, plugin: IProtocolPlugin, faults: Faults) -> None:
        self.name = plugin.name
        self.version = plugin.version
        self.default_endpoint = plugin.default_endpoint
        self.needs_tls = getattr(plugin, "needs_tls", True)
        self.own_ports = getattr(plugin, "own_ports", False)
        self._plugin = plugin
        self._faults = faults

    def settings_class(self) -> type[Any]:
        """IProtocolPlugin: the real one's."""
        return self._plugin.settings_class()

    def factory(self, broker: IBroker, settings: Any, listener: Listener) -> Any:
        """IProtocolPlugin: the real one's, with other connections."""
        made: Any = self._plugin.factory(broker, settings, listener)
        made.connection_class = _faulty(made.connection_class, self._faults)
        return made
