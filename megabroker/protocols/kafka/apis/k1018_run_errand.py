"""RunErrand (1018, between processes): carry out what only this process can, for a wire of another process.

**Behaviour.** The wire that the errand is of carries it out and says what came of it; see ``IErrands``. A
wire that does not listen here is UNSUPPORTED.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import run_errand
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]


async def handle(context: Context, request: run_errand.Request) -> run_errand.Response:
    """Answer when it is carried out."""
    errands = context.broker.errands.get(request.wire)
    if errands is None:
        error = StateError(ErrorCode.UNSUPPORTED, f"{request.wire} does not listen here")
        return run_errand.Response(error=told(error), outcome=b"")
    try:
        return run_errand.Response(outcome=await errands.serve(bytes(request.errand)))
    except BrokerError as caught:
        return run_errand.Response(error=told(caught), outcome=b"")
