"""The sections ``logging`` and ``metrics``: what is told of the broker."""

from __future__ import annotations

import attrs

from megabroker.config import fields

__all__ = ["LoggingSettings", "MetricsSettings"]


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Metrics for Prometheus, which are read at ``/metrics`` of the HTTP port."""

    max_series: int = fields.integer(
        10_000,
        minimum=0,
        maximum=1_000_000,
        unit="series",
        reloadable=True,
        doc="Maximum number of topics, partitions, groups and committed offsets, each, with "
        "metrics of their own; further ones are only included in the totals. 0 for none.",
    )


@attrs.frozen(kw_only=True)
class LoggingSettings:
    """The log of events, not of messages."""

    level: str = fields.choice(
        "info",
        ("debug", "info", "warn", "error", "critical"),
        reloadable=True,
        doc="Lowest level of events that are written.",
    )
    format: str = fields.choice(
        "human",
        ("human", "json"),
        doc="Format of the lines: for people, or JSON with the field names of the Elastic Common Schema.",
    )
    requests: int = fields.integer(
        0,
        minimum=0,
        maximum=1_000_000_000,
        unit="requests",
        reloadable=True,
        doc="One in this number of requests is logged, at most 50 per second; 0 for none.",
    )
    slow_request_ms: int | None = fields.optional_integer(
        None,
        minimum=1,
        maximum=86_400_000,
        unit="milliseconds",
        reloadable=True,
        doc="Requests that take at least this long, without waiting for data, are logged; null for none.",
    )
