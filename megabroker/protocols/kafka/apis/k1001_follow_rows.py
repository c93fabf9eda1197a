"""FollowRows (1001, between processes): read rows again that the controller has changed.

**Behaviour.** Null stands for all rows of all tables that are followed. The answer comes when this process
goes by what the rows say.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import follow_rows
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]


async def handle(context: Context, request: follow_rows.Request) -> follow_rows.Response:
    """Answer when this process follows, or cannot."""
    tables = request.tables
    rows = None if tables is None else {table.name: frozenset(table.keys) for table in tables}
    try:
        await context.broker.following.follow(rows)
    except BrokerError as error:
        return follow_rows.Response(error=told(error))
    return follow_rows.Response()
