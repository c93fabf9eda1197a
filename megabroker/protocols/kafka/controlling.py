"""The controller asked by another process of the broker, and the others told by the controller.

Owns which requests of clients only the controller carries out, and the two requests that processes make of
each other about what all of them go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.core.following import Rows
from megabroker.interfaces import IBroker, IPeers
from megabroker.model import Buffer, Principal, TopicChange
from megabroker.protocols.kafka.altering import BROKER, LOGGER
from megabroker.protocols.kafka.schema import carry_out as carry_out_messages
from megabroker.protocols.kafka.schema import change_topic, follow_rows
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["FORWARDED", "ask_controller", "carry_out", "is_for_controller", "longest_bytes", "tell_follower"]

_FOLLOW_ROWS: Final = 1001
_CHANGE_TOPIC: Final = 1002
_CARRY_OUT: Final = 1003
_ALTER_CONFIGS: Final = (33, 44)
_FOLLOW_SECONDS: Final = 30.0
_CHANGE_SECONDS: Final = 60.0
_MORE_BYTES: Final = 64 << 20

FORWARDED: Final = frozenset({19, 20, 30, 31, 33, 37, 43, 44, 45, 49, 51, 57, 64})
"""Requests that change what all processes go by; any process takes them, as brokers of Apache Kafka do."""


def is_for_controller(broker: IBroker, key: int, request: Any) -> bool:
    """Whether a request of ``FORWARDED`` is for another process to carry out."""
    placement = broker.placement
    me = placement.me.id
    if placement.controller().id == me:
        return False
    if key in _ALTER_CONFIGS:
        # What is set on this very node is its own business.
        return not all(
            one.resource_type in (BROKER, LOGGER) and one.resource_name == str(me)
            for one in request.resources
        )
    return True


def carry_out(
    broker: IBroker, frame: Buffer, principal: Principal, client_host: str, listener: str
) -> Deferred[Any]:
    """Have the controller carry out a client's whole request; fires with CarryOut's answer.

    Fails with BrokerError.
    """
    assert broker.peers is not None
    request = carry_out_messages.Request(
        frame=bytes(frame),
        principal_type=principal.type,
        principal_name=principal.name,
        client_host=client_host,
        listener=listener,
    )
    controller = broker.placement.controller().id
    return broker.peers.ask(
        controller, _CARRY_OUT, 0, request, timeout_seconds=_CHANGE_SECONDS, for_client=True
    )


def longest_bytes(max_request_bytes: int) -> int:
    """Return how long a request or an answer between processes may be.

    A client's longest request is part of one; others are gathered of many, or read ahead for many.
    """
    return max_request_bytes + _MORE_BYTES


def tell_follower(peers: IPeers, node_id: int, rows: Rows | None) -> Deferred[None]:
    """Tell a process which rows have changed; fires when it follows, fails with BrokerError."""
    tables = None
    if rows is not None:
        table = follow_rows.Request.Table
        tables = [table(name=name, keys=sorted(keys)) for name, keys in rows.items()]
    asked = peers.ask(
        node_id,
        _FOLLOW_ROWS,
        0,
        follow_rows.Request(tables=tables),
        timeout_seconds=_FOLLOW_SECONDS,
        repeat=True,
    )
    return asked.addCallback(_check)


def ask_controller(
    peers: IPeers,
    node_id: int,
    kind: TopicChange,
    name: str,
    partitions: int,
    configs: Mapping[str, str | None],
) -> Deferred[None]:
    """Have the controller change a topic; fires when that is done, fails with BrokerError."""
    config = change_topic.Request.Config
    request = change_topic.Request(
        kind=kind,
        name=name,
        partitions=partitions,
        configs=[config(name=key, value=value) for key, value in configs.items()],
    )
    asked = peers.ask(node_id, _CHANGE_TOPIC, 0, request, timeout_seconds=_CHANGE_SECONDS, for_client=True)
    return asked.addCallback(_check)


def _check(response: Any) -> None:
    error = error_of(response.error)
    if error is not None:
        raise error
