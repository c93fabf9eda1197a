"""ApiVersions (18): what this broker serves.

**Behaviour.** Lists the table of ``dispatch``, by key. An unsupported version never reaches this
module: the connection answers it in version 0 with UNSUPPORTED_VERSION and the versions of this API.

**Version notes.** The response header is version 0 always. Version 3 adds features: none are finalized,
since nothing here depends on one yet.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import SERVED, Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import api_versions

__all__ = ["handle", "unsupported"]

_Key = api_versions.Response.Api


def handle(context: Context, request: api_versions.Request) -> api_versions.Response:
    """Answer with every served API."""
    return api_versions.Response(
        api_keys=[
            _Key(api_key=key, min_version=row.first_version, max_version=row.last_version)
            for key, row in sorted(SERVED.items())
        ]
    )


def unsupported() -> api_versions.Response:
    """Return the answer, to be encoded in version 0, to a version that is not served."""
    row = SERVED[18]
    return api_versions.Response(
        error_code=int(KafkaError.UNSUPPORTED_VERSION),
        api_keys=[_Key(api_key=18, min_version=row.first_version, max_version=row.last_version)],
    )
