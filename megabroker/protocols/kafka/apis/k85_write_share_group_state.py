"""WriteShareGroupState (85): change the stored state of a share group in a partition (KIP-932).

**Behaviour.** The batches given are laid over those stored, and what lies below the start offset goes; a
start offset of -1 is the present one. What members have acquired is forgotten, as their locks were made on
the state before. A leader or state epoch below the present one is fenced, a partition that has not been
initialized INVALID_REQUEST. This broker writes its own state itself; the request is for other brokers and for
tests. Answered when stored.

**Version notes.** 1 tells how many records are done with, which is counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from megabroker.core.shares.runs import TERMINAL, RecordState, Run, Runs
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import ShareStateBatch
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import write_share_group_state
from megabroker.protocols.kafka.share_states import check_epochs, rows, stored, tell

__all__ = ["handle"]

_Topic = write_share_group_state.Response.Topic
_Wanted = write_share_group_state.Request.Topic.Partition

_STATES: Final = frozenset((RecordState.AVAILABLE, RecordState.ACKNOWLEDGED, RecordState.ARCHIVED))
_MAX_DELIVERIES: Final = (1 << 15) - 1
_LAST_OFFSET: Final = (1 << 63) - 1
_MAX_SPAN: Final = (1 << 31) - 1
"""Offsets from the start on; how many of them are done with has to fit 32 bits."""
_MAX_BATCHES: Final = 10_000
"""As many as a group can have records in flight in one partition."""


async def handle(
    context: Context, request: write_share_group_state.Request
) -> write_share_group_state.Response:
    """Answer when the state is stored or refused."""
    partitions = context.broker.shares.partitions
    topics, found = rows(_Topic, _Topic.Partition, request)
    for place, wanted, row in found:
        try:
            state = stored(context, request.group_id, place)
            check_epochs(state, wanted.state_epoch, wanted.leader_epoch)
            start_offset = state.start_offset if wanted.start_offset < 0 else wanted.start_offset
            batches = _laid_over(state.batches, _given(wanted, start_offset))
            await partitions.begin_at(request.group_id, {place: start_offset}, batches, state.state_epoch)
        except BrokerError as error:
            tell(row, error)
    return write_share_group_state.Response(results=topics)


def _given(wanted: _Wanted, start_offset: int) -> list[ShareStateBatch]:
    highest = min(start_offset + _MAX_SPAN, _LAST_OFFSET) - 1
    if len(wanted.state_batches) > _MAX_BATCHES:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected at most {_MAX_BATCHES} batches")
    batches = []
    for batch in wanted.state_batches:
        known = batch.delivery_state in _STATES and 0 <= batch.delivery_count <= _MAX_DELIVERIES
        if not known or not 0 <= batch.first_offset <= batch.last_offset <= highest:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"offsets {batch.first_offset} to {batch.last_offset} in state {batch.delivery_state},"
                f" delivered {batch.delivery_count} times, are no batch",
            )
        batches.append(
            ShareStateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
        )
    return batches


def _laid_over(former: Sequence[ShareStateBatch], given: Sequence[ShareStateBatch]) -> list[ShareStateBatch]:
    """Return batches in order without overlap; what is given later hides what was before."""
    runs = Runs()
    for first, last, state, deliveries in (*former, *given):
        end = runs.end or 0
        if last >= end:
            runs.append(Run(end, last, RecordState.AVAILABLE, 0))
        runs.change(first, last, partial(Run._replace, state=RecordState(state), deliveries=deliveries))
    return [
        ShareStateBatch(run.first, run.last, int(run.state), run.deliveries)
        for run in runs
        if run.deliveries or run.state in TERMINAL
    ]
