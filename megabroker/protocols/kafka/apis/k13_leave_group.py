"""LeaveGroup (13): take members out of a group.

**Behaviour.** A group nobody knows has no such members: each gets UNKNOWN_MEMBER_ID.

**Version notes.** Until 2 one member leaves, and its outcome is that of the request; from 3 several do, by
member id or static instance id, with an outcome each. 5 adds the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import LeavingMember
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import leave_group

__all__ = ["handle"]

_SEVERAL = 3


def handle(context: Context, request: leave_group.Request) -> leave_group.Response:
    """Answer at once."""
    several = context.version >= _SEVERAL
    if several:
        members = [LeavingMember(one.member_id, one.group_instance_id, one.reason) for one in request.members]
    else:
        members = [LeavingMember(request.member_id, None)]
    outcomes: Sequence[BrokerError | None]
    try:
        check_group(context, request.group_id)
        outcomes = context.broker.groups.leave(request.group_id, members)
    except BrokerError as error:
        if error.code is not ErrorCode.UNKNOWN_MEMBER:
            return leave_group.Response(error_code=group_error(error))
        outcomes = [error] * len(members)
    codes = [0 if outcome is None else group_error(outcome) for outcome in outcomes]
    if not several:
        return leave_group.Response(error_code=codes[0])
    return leave_group.Response(
        members=[
            leave_group.Response.Member(
                member_id=member.member_id, group_instance_id=member.instance_id, error_code=code
            )
            for member, code in zip(members, codes, strict=True)
        ]
    )
