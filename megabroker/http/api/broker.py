"""The broker itself: its nodes, where they listen, and which plugins there are."""

from __future__ import annotations

from typing import Any, Final

from megabroker import __version__
from megabroker.access import Operation
from megabroker.http.caller import Caller
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import FLAG, Integer, ListOf, Nullable, Object, Text, required
from megabroker.model import Node

__all__ = ["ROUTES", "describe_broker", "list_plugins"]

_LISTENER: Final = Object(
    {
        "protocol": required(Text(), "The protocol that is served."),
        "name": required(Text(), "Name of the listener."),
        "host": required(Text(), "Host name that clients are told to connect to."),
        "port": required(Integer(0, 65535), "Port on that host."),
    },
    "Listener",
)

_NODE: Final = Object(
    {
        "id": required(Integer(0), "Id of the node."),
        "rack": required(Nullable(Text()), "Rack of the node."),
        "is_controller": required(FLAG, "Whether it is the controller."),
        "listeners": required(ListOf(_LISTENER), "Addresses of the node."),
    },
    "Node",
)

_BROKER: Final = Object(
    {
        "version": required(Text(), "Version of megabroker."),
        "cluster_id": required(Text(), "Id of the cluster."),
        "node_id": required(Integer(0), "The node that answers this request."),
        "nodes": required(ListOf(_NODE), "All nodes."),
        "topics": required(Integer(0), "Number of topics."),
        "partitions": required(Integer(0), "Number of partitions of all topics."),
        "groups": required(Integer(0), "Number of groups."),
    },
    "Broker",
)

_PLUGIN: Final = Object(
    {
        "name": required(Text(), "Name of the protocol."),
        "is_enabled": required(FLAG, "Whether the protocol is served."),
        "default_endpoint": required(Text(), "Default endpoint."),
    },
    "Plugin",
)


def describe_broker(caller: Caller) -> Any:
    """Return what the broker is."""
    broker = caller.broker
    topics = broker.topics.all()
    return {
        "version": __version__,
        "cluster_id": broker.cluster_id,
        "node_id": broker.placement.me.id,
        "nodes": [_node(caller, node) for node in broker.placement.nodes()],
        "topics": len(topics),
        "partitions": sum(topic.partitions for topic in topics),
        "groups": len(broker.groups.all()) + len(broker.shares.all()),
    }


def _node(caller: Caller, node: Node) -> Any:
    return {
        "id": node.id,
        "rack": node.rack,
        "is_controller": node.id == caller.broker.placement.controller().id,
        "listeners": [
            {
                "protocol": one.protocol,
                "name": one.name,
                "host": one.address.host,
                "port": one.address.port,
            }
            for one in node.listeners
        ],
    }


def list_plugins(caller: Caller) -> Any:
    """Return the installed protocols."""
    protocols = caller.broker.settings.protocols
    return {
        "plugins": [
            {
                "name": name,
                "is_enabled": name in protocols and protocols[name].enabled,
                "default_endpoint": plugin.default_endpoint,
            }
            for name, plugin in sorted(caller.inside.plugins.items())
        ]
    }


def get_broker(call: Call) -> Any:
    """Return what the broker is."""
    return describe_broker(call.caller)


def get_plugins(call: Call) -> Any:
    """Return the installed protocols."""
    return list_plugins(call.caller)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/broker",
        get_broker,
        "The broker and its nodes.",
        _BROKER,
        needs=(Need(Operation.DESCRIBE),),
    ),
    Route(
        "GET",
        "/v1/plugins",
        get_plugins,
        "The installed protocols.",
        Object({"plugins": required(ListOf(_PLUGIN), "Plugins, sorted by name.")}, "Plugins"),
        needs=(Need(Operation.DESCRIBE_CONFIGS),),
    ),
)
