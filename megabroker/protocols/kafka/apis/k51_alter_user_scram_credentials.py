"""AlterUserScramCredentials (51): set and remove passwords.

**Behaviour.** What checks a password is kept, and never what it is. An empty name is
UNACCEPTABLE_CREDENTIAL, and so are fewer than 4096 or more than 16384 iterations and salts and salted
passwords of no or more than 1024 bytes; a kind of password that there is not is UNSUPPORTED_SASL_MECHANISM, a
user named twice DUPLICATE_RESOURCE, and removing what there is not RESOURCE_NOT_FOUND. One row a user; the
changes that are not refused are made together.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.core.authentication.scram import (
    MAX_ITERATIONS,
    MAX_SECRET_BYTES,
    MIN_ITERATIONS,
    credential,
)
from megabroker.errors import BrokerError
from megabroker.model import ScramChange
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import alter_user_scram_credentials
from megabroker.protocols.kafka.scram import MECHANISMS
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Deletion = alter_user_scram_credentials.Request.Deletion
_Upsertion = alter_user_scram_credentials.Request.Upsertion
_Row = alter_user_scram_credentials.Response.User
_Refusal = tuple[KafkaError, str]


async def handle(
    context: Context, request: alter_user_scram_credentials.Request
) -> alter_user_scram_credentials.Response:
    """Answer when the changes are stored."""
    asked: list[_Deletion | _Upsertion] = [*request.deletions, *request.upsertions]
    _, again = first_seen(one.name for one in asked)
    rows: dict[str, _Row] = {}
    changes = []
    for one in asked:
        refused = _refusal(context, one)
        if one.name in again:
            refused = KafkaError.DUPLICATE_RESOURCE, "the user is named twice"
        if refused is None:
            rows[one.name] = _Row(user=one.name, error_message=None)
            changes.append(_change(one))
        else:
            rows[one.name] = _Row(user=one.name, error_code=int(refused[0]), error_message=refused[1])
    try:
        if changes:
            await context.broker.credentials.change(changes)
    except BrokerError as error:
        for change in changes:
            rows[change.user].error_code = kafka_error(error)
            rows[change.user].error_message = error.message
    return alter_user_scram_credentials.Response(results=list(rows.values()))


def _change(asked: _Deletion | _Upsertion) -> ScramChange:
    mechanism = MECHANISMS[asked.mechanism]
    if isinstance(asked, _Deletion):
        return ScramChange(asked.name, mechanism.name, None)
    made = credential(mechanism.digest, asked.iterations, bytes(asked.salt), bytes(asked.salted_password))
    return ScramChange(asked.name, mechanism.name, made)


def _refusal(context: Context, asked: _Deletion | _Upsertion) -> _Refusal | None:
    if not asked.name:
        return KafkaError.UNACCEPTABLE_CREDENTIAL, "the name of a user is empty"
    mechanism = MECHANISMS.get(asked.mechanism)
    if mechanism is None:
        return KafkaError.UNSUPPORTED_SASL_MECHANISM, f"there is no SCRAM mechanism {asked.mechanism}"
    if isinstance(asked, _Deletion):
        if mechanism.name in context.broker.credentials.of(asked.name):
            return None
        return KafkaError.RESOURCE_NOT_FOUND, f"the user has no credential for {mechanism.name}"
    if not MIN_ITERATIONS <= asked.iterations <= MAX_ITERATIONS:
        sentence = f"{asked.iterations} iterations: expected {MIN_ITERATIONS} to {MAX_ITERATIONS}"
        return KafkaError.UNACCEPTABLE_CREDENTIAL, sentence
    for what, secret in (("salt", asked.salt), ("salted password", asked.salted_password)):
        if not 1 <= len(secret) <= MAX_SECRET_BYTES:
            sentence = f"{len(secret)} bytes of {what}: expected 1 to {MAX_SECRET_BYTES}"
            return KafkaError.UNACCEPTABLE_CREDENTIAL, sentence
    return None
