"""DescribeUserScramCredentials (50): who has a password, and of which kind.

**Behaviour.** Null, or none, asks for all users; one asked for by name who has none is RESOURCE_NOT_FOUND,
and asked for twice DUPLICATE_RESOURCE. Mechanisms and iterations are told, never what checks a password.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_user_scram_credentials
from megabroker.protocols.kafka.scram import MECHANISMS
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Row = describe_user_scram_credentials.Response.User


def handle(
    context: Context, request: describe_user_scram_credentials.Request
) -> describe_user_scram_credentials.Response:
    """Answer at once."""
    asked = [one.name for one in request.users or ()] or context.broker.credentials.users()
    names, again = first_seen(asked)
    return describe_user_scram_credentials.Response(
        error_message=None,
        results=[_row(context, name, twice=name in again) for name in names],
    )


def _row(context: Context, name: str, *, twice: bool) -> _Row:
    row = _Row(user=name, error_message=None)
    found = context.broker.credentials.of(name)
    if twice:
        row.error_code = int(KafkaError.DUPLICATE_RESOURCE)
        row.error_message = "the user is asked for twice"
    elif not found:
        row.error_code = int(KafkaError.RESOURCE_NOT_FOUND)
        row.error_message = "there is no such user"
    else:
        row.credential_infos = [
            _Row.Credential(mechanism=number, iterations=found[mechanism.name].iterations)
            for number, mechanism in MECHANISMS.items()
            if mechanism.name in found
        ]
    return row
