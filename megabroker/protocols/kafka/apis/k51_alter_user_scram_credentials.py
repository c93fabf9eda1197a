"""AlterUserScramCredentials (51): set and remove passwords.

**Behaviour.** No listener authenticates, and a password nobody asks for would be false safety: setting one
is UNSUPPORTED_SASL_MECHANISM with that reason. There are no users, so deleting is RESOURCE_NOT_FOUND.
Before that come, as with Apache Kafka: an empty name is UNACCEPTABLE_CREDENTIAL, a kind of password that
there is not UNSUPPORTED_SASL_MECHANISM, and a user named twice DUPLICATE_RESOURCE. One row a user.

**Version notes.** There is one version.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import alter_user_scram_credentials
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_MECHANISMS: Final = (1, 2)
"""SCRAM-SHA-256 and SCRAM-SHA-512."""

_Row = alter_user_scram_credentials.Response.User


def handle(
    context: Context, request: alter_user_scram_credentials.Request
) -> alter_user_scram_credentials.Response:
    """Answer at once."""
    asked = [(one.name, one.mechanism, True) for one in request.deletions]
    asked += [(one.name, one.mechanism, False) for one in request.upsertions]
    _, again = first_seen((name, mechanism) for name, mechanism, _ in asked)
    rows: dict[str, _Row] = {}
    for name, mechanism, deletion in asked:
        code, message = _refusal(name, mechanism, deletion=deletion)
        if (name, mechanism) in again:
            code, message = KafkaError.DUPLICATE_RESOURCE, "the user is named twice"
        rows.setdefault(name, _Row(user=name, error_code=int(code), error_message=message))
    return alter_user_scram_credentials.Response(results=list(rows.values()))


def _refusal(name: str, mechanism: int, *, deletion: bool) -> tuple[KafkaError, str]:
    if not name:
        return KafkaError.UNACCEPTABLE_CREDENTIAL, "the name of a user is empty"
    if mechanism not in _MECHANISMS:
        return KafkaError.UNSUPPORTED_SASL_MECHANISM, f"there is no SCRAM mechanism {mechanism}"
    if deletion:
        return KafkaError.RESOURCE_NOT_FOUND, "there is no such user"
    return KafkaError.UNSUPPORTED_SASL_MECHANISM, "no listener of this broker authenticates"
