"""Consumer groups of both protocols: membership, rebalance, committed offsets. Knows no wire."""

from __future__ import annotations

from megabroker.core.groups.errors import MemberIdRequired
from megabroker.core.groups.service import GroupService
from megabroker.core.groups.settings import GroupSettings

__all__ = ["GroupService", "GroupSettings", "MemberIdRequired"]
