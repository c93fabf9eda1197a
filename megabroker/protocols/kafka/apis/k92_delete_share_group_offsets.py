"""DeleteShareGroupOffsets (92): forget how far a share group is in topics (KIP-932).

**Behaviour.** The group must have no members, else it is NON_EMPTY_GROUP; when it consumes a topic again it
begins where its configuration says. A topic that it knows nothing of is UNKNOWN_TOPIC_OR_PARTITION. Each is
answered once, when that is stored.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import code_of
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import delete_share_group_offsets
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Topic = delete_share_group_offsets.Response.Topic


async def handle(
    context: Context, request: delete_share_group_offsets.Request
) -> delete_share_group_offsets.Response:
    """Answer when that is stored or refused."""
    names = first_seen(topic.topic_name for topic in request.topics)[0]
    ids = {name: topic.id.bytes for name in names if (topic := context.broker.topics.get(name)) is not None}
    try:
        check_group(context, request.group_id)
        if not request.group_id:
            raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
        outcomes = await context.broker.shares.delete_offsets(request.group_id, names)
    except BrokerError as error:
        return delete_share_group_offsets.Response(error_code=group_error(error), error_message=error.message)
    rows = []
    for name, outcome in outcomes.items():
        row = _Topic(topic_name=name, error_code=code_of(outcome))
        if outcome is None:
            row.topic_id = ids[name]
        else:
            row.error_message = "there is no offset information to delete"
        rows.append(row)
    return delete_share_group_offsets.Response(responses=rows)
