"""ApiVersions (18): what this broker serves.

**Behaviour.** Lists the table of ``dispatch``, by key. An unsupported version never reaches this
module: the connection answers it in version 0 with UNSUPPORTED_VERSION and the versions of this API.

**Version notes.** The response header is version 0 always. Version 3 adds features; those that can be absent,
with a lowest level of 0, are told as supported from version 4 on, since older clients refuse such a range.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import SERVED, Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import api_versions

__all__ = ["handle", "unsupported"]

_Key = api_versions.Response.Api
_Supported = api_versions.Response.SupportedFeature
_Finalized = api_versions.Response.FinalizedFeature

_FEATURES: Final = (
    ("group.version", 0, 1),
    ("share.version", 0, 1),
    ("streams.version", 0, 1),
    ("transaction.version", 0, 2),
)
"""Name, lowest and highest level; the highest is in force.

Level 1 of groups is KIP-848's, of shares KIP-932's, of streams KIP-1071's, level 2 of transactions KIP-890's.
"""

_FEATURES_EPOCH: Final = 1
_TELLS_LEVEL_0: Final = 4


def handle(context: Context, request: api_versions.Request) -> api_versions.Response:
    """Answer with every served API."""
    return api_versions.Response(
        api_keys=[
            _Key(api_key=key, min_version=row.first_version, max_version=row.last_version)
            for key, row in sorted(SERVED.items())
        ],
        supported_features=[
            _Supported(name=name, min_version=lowest, max_version=highest)
            for name, lowest, highest in _FEATURES
            if lowest or context.version >= _TELLS_LEVEL_0
        ],
        finalized_features_epoch=_FEATURES_EPOCH,
        finalized_features=[
            _Finalized(name=name, max_version_level=highest, min_version_level=highest)
            for name, _, highest in _FEATURES
        ],
    )


def unsupported() -> api_versions.Response:
    """Return the answer, to be encoded in version 0, to a version that is not served."""
    row = SERVED[18]
    return api_versions.Response(
        error_code=int(KafkaError.UNSUPPORTED_VERSION),
        api_keys=[_Key(api_key=18, min_version=row.first_version, max_version=row.last_version)],
    )
