"""Configurations of groups as Kafka administrators see and change them (resource type GROUP).

Owns no state: what is set is ``megabroker.core.groups.configs``'. A value comes from the group, from the
broker's configuration file where that differs from the default, or is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from megabroker.core.groups.configs import GROUP_CONFIGS, GroupConfigs
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.configs import ConfigEntry, Source, Synonym
from megabroker.protocols.kafka.dispatch import Context

__all__ = ["GROUP", "GROUP_SOURCE", "check_group_configs", "group_entries"]

GROUP: Final = 32
GROUP_SOURCE: Final = 8


def group_entries(context: Context, group_id: str) -> list[ConfigEntry]:
    """Return all configurations of a group, which need not exist, by name.

    Raises:
        RequestError: INVALID_REQUEST.
    """
    if not group_id:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the group id must not be empty")
    configs: GroupConfigs = context.broker.shares.configs
    entries = []
    for name, row in sorted(GROUP_CONFIGS.items()):
        chain: tuple[Synonym, ...] = ()
        if row.synonym:
            chain = (Synonym(row.synonym, row.default, Source.DEFAULT),)
            if configs.default(name) != row.default:
                chain = (Synonym(row.synonym, configs.default(name), Source.BROKER_FILE), *chain)
        value = configs.of(group_id).get(name)
        if value is not None:
            chain = (Synonym(name, value, GROUP_SOURCE), *chain)
        entries.append(
            ConfigEntry(
                name=name,
                value=configs.value(group_id, name),
                source=chain[0].source if chain else Source.DEFAULT,
                type=int(row.type),
                doc=row.doc,
                read_only=False,
                synonyms=chain,
            )
        )
    return entries


def check_group_configs(context: Context, group_id: str, configs: Mapping[str, str]) -> None:
    """Accept what shall be set on a group. Raises RequestError (INVALID_GROUP, INVALID_CONFIG)."""
    if not group_id:
        raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
    context.broker.shares.configs.validate(configs)
