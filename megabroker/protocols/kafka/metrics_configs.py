"""Subscriptions to the metrics of clients as Kafka administrators see them (resource type CLIENT_METRICS).

Owns no state: what is set is ``megabroker.core.client_metrics``'. A value is set on the subscription or is
the default; one that does not exist has the defaults.
"""

from __future__ import annotations

from typing import Final

from megabroker.core.client_metrics import CLIENT_METRICS
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.configs import ConfigEntry, Source, Synonym
from megabroker.protocols.kafka.dispatch import Context

__all__ = ["METRICS", "check_metrics_name", "metrics_entries"]

METRICS: Final = 16
_METRICS_SOURCE: Final = 7


def metrics_entries(context: Context, name: str) -> list[ConfigEntry]:
    """Return the configurations of a subscription, by name. Raises RequestError(INVALID_REQUEST)."""
    check_metrics_name(name)
    configs = context.broker.client_metrics.of(name)
    entries = []
    for row in CLIENT_METRICS.values():
        value = configs.get(row.name)
        entries.append(
            ConfigEntry(
                name=row.name,
                value=row.default if value is None else value,
                source=Source.DEFAULT if value is None else _METRICS_SOURCE,
                type=int(row.type),
                doc=row.doc,
                read_only=False,
                synonyms=() if value is None else (Synonym(row.name, value, _METRICS_SOURCE),),
            )
        )
    return entries


def check_metrics_name(name: str) -> None:
    """Accept the name of a subscription. Raises RequestError(INVALID_REQUEST)."""
    if not name:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the name of a metrics subscription must not be empty")
