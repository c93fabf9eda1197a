"""AlterClientQuotas (49): set and remove limits on users, clients and addresses.

**Behaviour.** Nothing here is limited by quotas, and a limit that is not kept would be a promise broken:
setting one is UNSUPPORTED_VERSION with that reason. Removing succeeds, for there is none. An entity or a
quota that Apache Kafka does not have, and a value that cannot be, is INVALID_REQUEST. As nothing changes,
``validate_only`` makes no difference.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

import math
from typing import Final

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.protocols.kafka.apis.k48_describe_client_quotas import ENTITY_TYPES
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import alter_client_quotas

__all__ = ["handle"]

_OF_CLIENTS: Final = frozenset(
    {"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"}
)
_OF_ADDRESSES: Final = frozenset({"connection_creation_rate"})

_Asked = alter_client_quotas.Request.Entry
_Row = alter_client_quotas.Response.Entry


def handle(context: Context, request: alter_client_quotas.Request) -> alter_client_quotas.Response:
    """Answer at once."""
    return alter_client_quotas.Response(entries=[_alter(one) for one in request.entries])


def _alter(asked: _Asked) -> _Row:
    row = _Row(
        error_message=None,
        entity=[
            _Row.Entity(entity_type=one.entity_type, entity_name=one.entity_name) for one in asked.entity
        ],
    )
    try:
        _check(asked)
    except BrokerError as error:
        row.error_code = kafka_error(error)
        row.error_message = error.message
    return row


def _check(asked: _Asked) -> None:
    """Raise RequestError: INVALID_REQUEST, UNSUPPORTED."""
    kinds = [one.entity_type for one in asked.entity]
    if not kinds:
        raise _invalid("expected at least one of user, client-id and ip")
    for kind in kinds:
        if kind not in ENTITY_TYPES:
            raise _invalid(f"there are no quotas for {kind[:100]!r}")
    if len(set(kinds)) < len(kinds) or ("ip" in kinds and len(kinds) > 1):
        raise _invalid("expected user, client-id, both, or ip alone")
    known = _OF_ADDRESSES if kinds == ["ip"] else _OF_CLIENTS
    for op in asked.ops:
        if op.remove:
            continue
        name = op.key[:100]
        if op.key not in known:
            raise _invalid(f"{name!r} is no quota: expected one of {', '.join(sorted(known))}")
        if not (op.value > 0 and math.isfinite(op.value)):
            raise _invalid(f"{name}: expected a number above 0")
        raise RequestError(ErrorCode.UNSUPPORTED, f"{name}: this broker limits no client by quotas")


def _invalid(what: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, what)
