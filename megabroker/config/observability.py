"""The sections ``logging`` and ``metrics``: what is told of the broker."""

from __future__ import annotations

import attrs

from megabroker.config import fields

__all__ = [
    "LoggingSettings",
    "MetricsSettings",
]


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Metrics for Prometheus, which are read at ``/metrics`` of the HTTP port."""

    max_series: int = fields.integer(
        10_000,
        minimum=0,
        maximum=1_000_000,
        unit="series",
        reloadable=True,
        doc="Topics, partitions, groups and committed offsets that have metrics of their own, at most so "
        "many of each; those beyond are counted together. 0 is for none.",
    )


@attrs.frozen(kw_only=True)
class LoggingSettings:
    """The log of events, not of messages."""

    level: str = fields.choice(
        "info",
        ("debug", "info", "warn", "error", "critical"),
        reloadable=True,
        doc="Least important events that are written.",
    )
    format: str = fields.choice(
        "human",
        ("human", "json"),
        doc="How lines look: for people, or JSON with the names of the Elastic Common Schema.",
    )
    requests: int = fields.integer(
        0,
        minimum=0,
        maximum=1_000_000_000,
        unit="requests",
        reloadable=True,
        doc="One request in so many is logged, at most 50 a second; 0 is for none.",
    )
    slow_request_ms: int | None = fields.optional_integer(
        None,
        minimum=1,
        maximum=86_400_000,
        unit="milliseconds",
        reloadable=True,
        doc="Requests that take so long, what they wait for data left out, are logged; null is for none.",
    )
