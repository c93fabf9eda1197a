"""Who asks, and what of the broker they may have. Every answer is made through a ``Caller``.

Owns the one way from HTTP to the rules that every wire goes by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import ErrorCode, RequestError
from megabroker.interfaces import IBroker, IMeter, IMetrics, IProtocolPlugin
from megabroker.model import Principal
from megabroker.ops.health import StorageHealth

__all__ = ["Caller", "Inside"]

_REFUSED: Final = {
    ResourceType.TOPIC: ErrorCode.TOPIC_NOT_ALLOWED,
    ResourceType.GROUP: ErrorCode.GROUP_NOT_ALLOWED,
    ResourceType.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_NOT_ALLOWED,
}

_CLIENT_ID: Final = "http"
"""By which quotas know clients over HTTP."""


@attrs.frozen
class Inside:
    """What of the broker is administered.

    Attributes:
        broker: the core.
        factories: returns those of all listeners, for their connections.
        plugins: the installed protocols.
        stopping: says whether the broker is being stopped.
        metrics: the numbers of this process.
        health: what is out of order.
    """

    broker: IBroker
    factories: Callable[[], Sequence[Any]]
    plugins: Mapping[str, IProtocolPlugin]
    stopping: Callable[[], bool]
    metrics: IMetrics
    health: StorageHealth


@attrs.frozen
class Caller:
    """A client, and what it asks.

    Attributes:
        principal: who it is.
        host: the address it comes from.
    """

    inside: Inside
    principal: Principal
    host: str

    @property
    def broker(self) -> IBroker:
        """The core."""
        return self.inside.broker

    def may(
        self,
        operation: Operation,
        resource_type: ResourceType = ResourceType.CLUSTER,
        name: str = CLUSTER_NAME,
        *,
        quiet: bool = False,
    ) -> bool:
        """Say whether the client may do something; see ``IAuthorizer.allowed``."""
        return self.broker.authorizer.allowed(
            self.principal, self.host, operation, resource_type, name, quiet=quiet
        )

    def sees(self, resource_type: ResourceType, name: str) -> bool:
        """Say whether the client may know of something; what it may not is left out and not logged."""
        return self.may(Operation.DESCRIBE, resource_type, name, quiet=True)

    def need(
        self,
        operation: Operation,
        resource_type: ResourceType = ResourceType.CLUSTER,
        name: str = CLUSTER_NAME,
    ) -> None:
        """Raise RequestError unless the client may do something."""
        if not self.may(operation, resource_type, name):
            of = "the cluster" if resource_type is ResourceType.CLUSTER else f"{resource_type.name} {name!r}"
            raise RequestError(
                _REFUSED.get(resource_type, ErrorCode.CLUSTER_NOT_ALLOWED),
                f"{self.principal} may not {operation.name} {of}: expected a rule that allows it",
            )

    def meter(self) -> IMeter | None:
        """Return the quotas that hold for the client."""
        return self.broker.quotas.meter(self.principal.name, _CLIENT_ID)

    def charge(self, partitions: int) -> None:
        """Count partitions that are about to be made or deleted. Raises StateError(OVERLOADED)."""
        meter = self.meter()
        mutations = None if meter is None else meter.mutations(strict=True)
        if mutations is not None:
            mutations.record(partitions)

    def changed(self, what: str, *names: str) -> None:
        """Put a change into the audit log.

        Args:
            what: the kind of change.
            names: what was changed.
        """
        self.broker.audit.changed(self.principal, self.host, what, names)
