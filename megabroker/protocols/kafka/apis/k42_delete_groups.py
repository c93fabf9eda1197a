"""DeleteGroups (42): delete groups of any kind and their offsets.

**Behaviour.** Only a group without members is deleted, others are NON_EMPTY_GROUP. Each is answered once,
when its deletion is on disk.

**Version notes.** All versions say the same; 2 is flexible.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import delete_groups
from megabroker.protocols.kafka.topics import first_seen, settle

__all__ = ["handle"]


async def handle(context: Context, request: delete_groups.Request) -> delete_groups.Response:
    """Answer when all deletions are stored or refused."""
    rows = [
        delete_groups.Response.Group(group_id=group_id) for group_id in first_seen(request.groups_names)[0]
    ]
    wanted = []
    for row in rows:
        try:
            check_group(context, row.group_id)
            wanted.append(row)
        except BrokerError as error:
            row.error_code = group_error(error)
    groups, shares = context.broker.groups, context.broker.shares
    outcomes = await settle(
        [(shares if row.group_id in shares else groups).delete(row.group_id) for row in wanted]
    )
    for row, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, BrokerError):
            row.error_code = group_error(outcome)
    return delete_groups.Response(results=rows)
