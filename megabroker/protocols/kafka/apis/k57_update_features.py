"""UpdateFeatures (57): change the levels of finalized features.

**Behaviour.** The levels are those of ApiVersions and belong to the release: what this broker can do is in
force. Asking for the level that is in force succeeds. A feature or level that is not supported, and an
unknown type of upgrade, is INVALID_UPDATE_VERSION; a supported level other than the one in force is
FEATURE_UPDATE_FAILED. The first refusal is that of the whole answer, which then has no results per feature;
so does Apache Kafka 4 answer. Only the controller is asked, other nodes answer NOT_CONTROLLER. As nothing
changes, ``validate_only`` makes no difference.

**Version notes.** 1 replaces the leave to downgrade by the type of upgrade; 2 has no results per feature.
"""

from __future__ import annotations

from typing import Final

import attrs

from megabroker.protocols.kafka.apis import k18_api_versions
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import api_versions, update_features
from megabroker.protocols.kafka.topics import is_controller

__all__ = ["handle"]

_INVALID_UPDATE_VERSION: Final = 95
_FEATURE_UPDATE_FAILED: Final = 96
_UPGRADE_TYPES: Final = (1, 2, 3)
_API_VERSIONS: Final = 18
_API_VERSIONS_WITH_ALL_FEATURES: Final = 4
_FIRST_WITH_UPGRADE_TYPES: Final = 1
_FIRST_WITHOUT_RESULTS: Final = 2

_Wanted = update_features.Request.FeatureUpdate
_Row = update_features.Response.Feature


def handle(context: Context, request: update_features.Request) -> update_features.Response:
    """Answer at once."""
    response = update_features.Response(error_message=None)
    if not is_controller(context.broker):
        response.error_code = int(KafkaError.NOT_CONTROLLER)
        response.error_message = "another node keeps the features"
        return response
    levels = _levels(context)
    rows = [_update(context.version, levels, one) for one in request.feature_updates]
    refused = next((row for row in rows if row.error_code), None)
    if refused is not None:
        response.error_code = refused.error_code
        response.error_message = refused.error_message
    elif context.version < _FIRST_WITHOUT_RESULTS:
        response.results = rows
    return response


def _levels(context: Context) -> dict[str, tuple[int, int, int]]:
    """Return by name the lowest and highest level supported and the one in force."""
    asked = attrs.evolve(context, key=_API_VERSIONS, version=_API_VERSIONS_WITH_ALL_FEATURES)
    told = k18_api_versions.handle(asked, api_versions.Request())
    in_force = {one.name: one.max_version_level for one in told.finalized_features}
    return {
        one.name: (one.min_version, one.max_version, in_force.get(one.name, 0))
        for one in told.supported_features
    }


def _update(version: int, levels: dict[str, tuple[int, int, int]], wanted: _Wanted) -> _Row:
    row = _Row(feature=wanted.feature, error_message=None)
    name = wanted.feature[:100]
    found = levels.get(wanted.feature)
    if found is None:
        row.error_code = _INVALID_UPDATE_VERSION
        row.error_message = f"{name!r} is no feature of this broker"
    elif version >= _FIRST_WITH_UPGRADE_TYPES and wanted.upgrade_type not in _UPGRADE_TYPES:
        row.error_code = _INVALID_UPDATE_VERSION
        row.error_message = f"there is no upgrade type {wanted.upgrade_type}"
    elif not found[0] <= wanted.max_version_level <= found[1]:
        row.error_code = _INVALID_UPDATE_VERSION
        row.error_message = f"{name}: expected a level from {found[0]} to {found[1]}"
    elif wanted.max_version_level != found[2]:
        row.error_code = _FEATURE_UPDATE_FAILED
        row.error_message = f"{name}: level {found[2]} is in force and cannot be changed"
    return row
