"""DescribeUserScramCredentials (50): who has a password, and of which kind.

**Behaviour.** There are no users. Null, or none, asks for all and gets an empty list; one asked for by name
is RESOURCE_NOT_FOUND, and asked for twice DUPLICATE_RESOURCE.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_user_scram_credentials
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Row = describe_user_scram_credentials.Response.User


def handle(
    context: Context, request: describe_user_scram_credentials.Request
) -> describe_user_scram_credentials.Response:
    """Answer at once."""
    names, again = first_seen(one.name for one in request.users or ())
    return describe_user_scram_credentials.Response(
        error_message=None,
        results=[_row(name, twice=name in again) for name in names],
    )


def _row(name: str, *, twice: bool) -> _Row:
    code = KafkaError.DUPLICATE_RESOURCE if twice else KafkaError.RESOURCE_NOT_FOUND
    message = "the user is asked for twice" if twice else "there is no such user"
    return _Row(user=name, error_code=int(code), error_message=message)
