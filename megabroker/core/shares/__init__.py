"""Share groups (KIP-932): records handed out one by one, acknowledged, given back, counted.

The automata are pure: ``runs`` and ``share_partition`` know which record is where, ``membership`` and
``assignor`` who consumes which partitions. ``partitions``, ``members_service`` and ``service`` own time, rows
and who waits.
"""

from megabroker.core.shares.service import ShareService
from megabroker.core.shares.settings import ShareSettings

__all__ = ["ShareService", "ShareSettings"]
