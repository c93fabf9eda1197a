"""What one process has another carry out for its client, or carries out itself.

A partition's leader, and the coordinator of groups and transactions, each have something to say that no other
process can. A ``Desk`` carries out such errands by name, wherever they come from; ``Office.run`` finds the
process, and asks it if it is not this one.

Owns the names and the form in which errands and their outcomes go between processes:

    errand    u32 length | JSON [name, fields] | blob
    outcome   u8 0 | u32 length | JSON fields | blob       or   u8 1 | a refusal's text

The client's permissions are checked before, where it is connected. Invariant: an errand has one outcome.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from struct import Struct
from typing import Any, Final

from zope.interface import implementer

from megabroker.codec.fnv import fnv1a_64
from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker, IErrands
from megabroker.model import Node, Topic, TopicPartition
from megabroker.protocols.cursus.later.refusals import Refusal, refusal_of

__all__ = ["Carried", "Desk", "Errand", "Office", "found_topic", "partition_of_key"]

_LENGTH = Struct(">I")
_DONE: Final = b"\0"
_REFUSED: Final = b"\1"
_WIRE: Final = "cursus"
_MAX_KEY_BYTES: Final = 32_767
_MODULES: Final = ("event_streams", "groups", "publishing", "transactions")

Carried = tuple[Mapping[str, Any], bytes]
"""What comes of an errand."""

Errand = Callable[[Mapping[str, Any], bytes], Awaitable[Carried]]
"""Carries one out: fields, and bytes beside them."""


@implementer(IErrands)
class Desk:
    """Carries out errands here; what does it is imported when there is one."""

    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._errands: dict[str, Errand] = {}

    async def carry_out(self, name: str, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Carry out one. Raises Refusal."""
        if not self._errands:
            for module in _MODULES:
                found = import_module(f"megabroker.protocols.cursus.later.{module}")
                self._errands.update(found.errands(self._broker))
        try:
            return await self._errands[name](fields, blob)
        except BrokerError as error:
            raise refusal_of(error) from None

    async def serve(self, request: bytes) -> bytes:
        """See ``IErrands``."""
        try:
            (name, fields), blob = _unpacked(request)
            return _DONE + _packed(*await self.carry_out(name, fields, blob))
        except Refusal as refusal:
            return _REFUSED + refusal.text.encode()


class Office:
    """Has errands carried out, for one broker process."""

    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._desk: Desk = broker.errands[_WIRE]  # type: ignore[assignment]

    async def run(self, node: Node, name: str, fields: Mapping[str, Any], blob: bytes = b"") -> Carried:
        """Have a process carry out an errand.

        Raises:
            Refusal: broker_not_available says that it may have been carried out all the same.
        """
        if node.id == self._broker.placement.me.id:
            return await self._desk.carry_out(name, fields, blob)
        assert self._broker.peers is not None
        try:
            answer = await self._broker.peers.errand(node.id, _WIRE, _packed([name, fields], blob))
        except BrokerError as error:
            raise refusal_of(error) from None
        if answer[:1] == _REFUSED:
            raise Refusal.told(answer[1:].decode())
        return _unpacked(answer[1:])

    async def at_coordinator(self, key: str, name: str, /, **fields: Any) -> Mapping[str, Any]:
        """Have whoever coordinates a group or a transactional id do something."""
        return (await self.run(self._broker.placement.coordinator(key), name, fields))[0]

    async def at_leader(
        self, topic: str, partition: int, name: str, blob: bytes = b"", /, **fields: Any
    ) -> Carried:
        """Have whoever leads a partition do something; it gets the partition's place as fields."""
        node = self._broker.placement.leader(TopicPartition(topic, partition))
        return await self.run(node, name, {"topic": topic, "partition": partition, **fields}, blob)


def found_topic(broker: IBroker, name: str) -> Topic:
    """Return a topic. Raises Refusal(topic_not_found)."""
    topic = broker.topics.get(name)
    if topic is None:
        raise Refusal("topic_not_found", topic=name)
    return topic


def partition_of_key(key: str, partitions: int) -> int:
    """Return the partition of a key. Raises Refusal for a key that would take long to hash."""
    data = key.encode()
    if len(data) > _MAX_KEY_BYTES:
        raise Refusal("malformed_input", f"a key has at most {_MAX_KEY_BYTES} bytes")
    return fnv1a_64(data) % partitions


def _packed(head: Any, blob: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(text)), text, blob))


def _unpacked(data: bytes) -> tuple[Any, bytes]:
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    return json.loads(data[_LENGTH.size : end]), data[end:]
