"""InitProducerId (22): an identity for an idempotent producer.

**Behaviour.** Without a transactional id every call gets a fresh producer id with epoch 0. Transactions are
not served: a transactional id is UNSUPPORTED_VERSION, which clients report as a broker that lacks the
feature, and an empty one INVALID_REQUEST. While no id can be stored the answer is
COORDINATOR_LOAD_IN_PROGRESS, which every client repeats.

**Version notes.** From 3 a producer may tell the id and epoch it has; it gets a fresh id all the same, but
telling only one of the two is INVALID_REQUEST.
"""

from __future__ import annotations

from twisted.logger import Logger

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import init_producer_id

__all__ = ["handle"]

_log = Logger()

_NONE = -1


async def handle(context: Context, request: init_producer_id.Request) -> init_producer_id.Response:
    """Answer when the id is taken for good."""
    if request.transactional_id is not None:
        if not request.transactional_id:
            return _refuse(KafkaError.INVALID_REQUEST)
        # librdkafka repeats this every half second for as long as it lives: no line of it by default.
        _log.debug(
            "transactions are not served: {client} at {host} asks for the transactional id {id!r}",
            client=context.client_id[:100],
            host=context.client_host,
            id=request.transactional_id[:100],
        )
        return _refuse(KafkaError.UNSUPPORTED_VERSION)
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        return _refuse(KafkaError.INVALID_REQUEST)
    try:
        producer_id = await context.broker.allocate_producer_id()
    except BrokerError as error:
        return _refuse(KafkaError.COORDINATOR_LOAD_IN_PROGRESS if error.retriable else kafka_error(error))
    return init_producer_id.Response(producer_id=producer_id, producer_epoch=0)


def _refuse(code: int) -> init_producer_id.Response:
    return init_producer_id.Response(error_code=int(code), producer_id=_NONE, producer_epoch=_NONE)
