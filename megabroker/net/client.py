"""The client at the other end of a connection: what it may do, and how much it may use.

Owns how wires whose requests are of one topic each ask for that, and their words for refusals.
"""

from __future__ import annotations

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import ErrorCode, RequestError
from megabroker.interfaces import IBroker
from megabroker.model import Principal

__all__ = ["Client"]


class Client:
    """What connections are besides.

    Attributes:
        broker: the core.
        peer_host: the peer's address, without the port.
        principal: who the peer is; nobody in particular until it has authenticated.
    """

    broker: IBroker
    peer_host: str
    principal: Principal

    def mute(self, milliseconds: int) -> None:
        """Take no more requests for so long."""
        raise NotImplementedError

    def may(
        self, operation: Operation, resource_type: ResourceType, name: str, *, quiet: bool = False
    ) -> bool:
        """Say whether the client may do something; see ``IAuthorizer.allowed``."""
        return self.broker.authorizer.allowed(
            self.principal, self.peer_host, operation, resource_type, name, quiet=quiet
        )

    def check_topic(self, operation: Operation, name: str) -> None:
        """Refuse what the client may not do with a topic, for wires whose refusals are of one topic each.

        Raises:
            RequestError: TOPIC_NOT_ALLOWED; UNKNOWN_TOPIC if it may not even know whether there is one.
        """
        if not self.broker.authorizer.enabled or self.may(operation, ResourceType.TOPIC, name):
            return
        if self.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True):
            raise RequestError(ErrorCode.TOPIC_NOT_ALLOWED, f"{operation.name} of {name} is not allowed")
        raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {name}")

    def check_new_topic(self, name: str) -> None:
        """Raise RequestError(TOPIC_NOT_ALLOWED) unless the client may make a topic of that name."""
        if not self.may(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True) and not self.may(
            Operation.CREATE, ResourceType.TOPIC, name
        ):
            raise RequestError(ErrorCode.TOPIC_NOT_ALLOWED, f"CREATE of {name} is not allowed")

    def count_partitions(self, partitions: int) -> None:
        """Count partitions that a client without a client id is about to have made or deleted.

        Raises:
            StateError: OVERLOADED, it has to wait with that.
        """
        quotas = self.broker.quotas
        meter = quotas.meter(self.principal.name, "") if quotas.limits_clients else None
        mutations = None if meter is None else meter.mutations(strict=True)
        if mutations is not None:
            mutations.record(partitions)

    def count_produced(self, size_bytes: int) -> None:
        """Count what a client without a client id produces, and mute it while that is too much.

        Ask ``quotas.limits_clients`` first: mostly nothing has to be counted.
        """
        meter = self.broker.quotas.meter(self.principal.name, "")
        if meter is not None and (wait_ms := meter.produced(size_bytes)):
            self.mute(wait_ms)

    def count_consumed(self, size_bytes: int) -> int:
        """Do the same for what it is sent; return how long it must be sent nothing more, in milliseconds."""
        meter = self.broker.quotas.meter(self.principal.name, "")
        wait_ms = 0 if meter is None else meter.consumed(size_bytes)
        if wait_ms:
            self.mute(wait_ms)
        return wait_ms
