"""AlterConfigs (33): replace everything that is set on topics, groups or brokers.

**Behaviour.** What a request does not name goes back to its default. A topic that is refused keeps what it
has, whatever becomes of the others; ``validate_only`` tells what would be refused. What can only be changed
in a broker's file is INVALID_REQUEST, a name that is none INVALID_CONFIG. A resource or a name that comes
twice, a null value, and resources of other kinds are INVALID_REQUEST.

**Version notes.** All versions say the same; 2 is flexible. Superseded by IncrementalAlterConfigs.
"""

from __future__ import annotations

from collections.abc import Mapping

from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.altering import LOGGER, Resource, alter
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import alter_configs

__all__ = ["handle"]

_Wanted = alter_configs.Request.Resource
_Row = alter_configs.Response.Resource


async def handle(context: Context, request: alter_configs.Request) -> alter_configs.Response:
    """Answer when all changes are stored or refused."""
    wanted = [_resource(one) for one in request.resources]
    outcomes = await alter(context, wanted, request.validate_only)
    return alter_configs.Response(
        responses=[
            _Row(
                resource_type=one.resource_type,
                resource_name=one.resource_name,
                error_code=outcome.error_code,
                error_message=outcome.message,
            )
            for one, outcome in zip(request.resources, outcomes, strict=True)
        ]
    )


def _resource(wanted: _Wanted) -> Resource:
    def change(former: Mapping[str, str]) -> dict[str, str]:
        if wanted.resource_type == LOGGER:
            raise RequestError(ErrorCode.INVALID_REQUEST, "loggers are changed one by one")
        return {one.name: one.value for one in wanted.configs if one.value is not None}

    names = [one.name for one in wanted.configs]
    return Resource(wanted.resource_type, wanted.resource_name, wanted.configs, names, change)
