"""InitProducerId (22): an identity for an idempotent or transactional producer.

**Behaviour.** Without a transactional id every call gets a fresh producer id with epoch 0; while no id can
be stored the answer is COORDINATOR_LOAD_IN_PROGRESS, which every client repeats. With one, the producers
before are fenced by a higher epoch; what they left open is aborted first, and until that is done the answer
is CONCURRENT_TRANSACTIONS.

**Version notes.** From 3 a producer may tell the id and epoch it has and, with a transactional id, is
fenced itself when they are not the present ones (KIP-360); telling only one of the two is INVALID_REQUEST.
4 knows PRODUCER_FENCED, which was INVALID_PRODUCER_EPOCH before. 6 can ask for two-phase commit (KIP-939),
which is not done here: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as from Apache Kafka where it is not allowed;
keeping a prepared transaction is UNSUPPORTED_VERSION.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.model import ProducerIdentity
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import init_producer_id
from megabroker.protocols.kafka.transactions import check_transactional_id, transaction_error

__all__ = ["handle"]

_NONE = -1
_KNOWS_FENCED = 4


async def handle(context: Context, request: init_producer_id.Request) -> init_producer_id.Response:
    """Answer when the identity is stored."""
    transactional_id = request.transactional_id
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        return _refuse(KafkaError.INVALID_REQUEST)
    if transactional_id and request.enable2_pc:
        return _refuse(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if transactional_id and request.keep_prepared_txn:
        return _refuse(KafkaError.UNSUPPORTED_VERSION)
    known = None
    if request.producer_id != _NONE:
        known = ProducerIdentity(request.producer_id, request.producer_epoch)
    try:
        if transactional_id is not None:
            check_transactional_id(context, transactional_id)
        identity = await context.broker.transactions.init_producer(
            transactional_id, request.transaction_timeout_ms, known
        )
    except BrokerError as error:
        if transactional_id is not None:
            return _refuse(transaction_error(error, fenced=context.version >= _KNOWS_FENCED))
        return _refuse(KafkaError.COORDINATOR_LOAD_IN_PROGRESS if error.retriable else kafka_error(error))
    return init_producer_id.Response(producer_id=identity.producer_id, producer_epoch=identity.producer_epoch)


def _refuse(code: int) -> init_producer_id.Response:
    return init_producer_id.Response(error_code=int(code), producer_id=_NONE, producer_epoch=_NONE)
