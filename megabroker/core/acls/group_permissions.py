"""What members of groups may, where that is not asked once by their requests but again and again."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.interfaces import IAuthorizer
from megabroker.model import Principal

__all__ = ["GroupPermissions"]


class GroupPermissions:
    """Asks the access rules in the place of groups."""

    def __init__(self, authorizer: IAuthorizer) -> None:
        self._authorizer = authorizer

    def sees(self, principal: Principal, host: str, topic: str) -> bool:
        """Say whether a member of a consumer group may see a topic that its regular expression matches."""
        return self._authorizer.allowed(
            principal, host, Operation.DESCRIBE, ResourceType.TOPIC, topic, quiet=True
        )

    def may_not_create(self, principal: Principal, host: str, topics: Sequence[str]) -> Collection[str]:
        """Return which internal topics a member of a streams group may not create."""
        allowed = self._authorizer.allowed
        if allowed(principal, host, Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True):
            return ()
        return [
            name
            for name in topics
            if not allowed(principal, host, Operation.CREATE, ResourceType.TOPIC, name)
        ]
