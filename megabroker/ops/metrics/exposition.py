"""Metrics as Prometheus reads them: in its text format or, for whoever asks for it, OpenMetrics.

Owns the way from what was gathered to bytes, by ``prometheus_client``. Runs in any thread: it touches nothing
of the broker's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from megabroker.latency import BOUNDS_SECONDS
from megabroker.ops.metrics.table import HISTOGRAM, Family

__all__ = ["format_of", "written"]

_BOUNDS: Final = (*(str(bound) for bound in BOUNDS_SECONDS), "+Inf")
_TOTAL: Final = "_total"
_COMMENT: Final = b"#"
_END: Final = b"# EOF"
_AT_ONCE: Final = 256
"""Samples after which the thread rests: only then the reactor, which shares the interpreter, surely runs."""
_REST_SECONDS: Final = 0.0005


class _Gathered:
    """What ``prometheus_client`` collects from."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        return iter(self._metrics)


def format_of(accept: str) -> str:
    """Return the content type of the format that is to be written for an Accept header."""
    content_type: str = choose_encoder(accept)[1]
    return content_type


def written(form: str, gathered: Iterable[tuple[Family, Sequence[Any]]]) -> tuple[str, bytes]:
    """Return the content type, as it was asked for, and the text of what was gathered."""
    encode, content_type = choose_encoder(form)
    pieces: list[bytes] = []
    for family, samples in gathered:
        for first in range(0, len(samples) or 1, _AT_ONCE):
            text = encode(_Gathered([_metric(family, samples[first : first + _AT_ONCE])]))
            pieces.append(_without(_COMMENT if first else _END, text))
            if first:
                time.sleep(_REST_SECONDS)
    text = encode(_Gathered(list(ProcessCollector(registry=None).collect())))
    return content_type, b"".join([*pieces, text])  # with the end, where the format has one


def _without(begin: bytes, text: bytes) -> bytes:
    """Leave out lines that begin so."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(begin))


def _metric(family: Family, samples: Sequence[Any]) -> Metric:
    name = family.name.removesuffix(_TOTAL)
    metric = Metric(name, family.help, family.kind)
    names = family.labels
    for labels, value in samples:
        named = dict(zip(names, labels, strict=True))
        if family.kind != HISTOGRAM:
            metric.add_sample(family.name, named, value)
            continue
        counts, seconds = value
        total = 0
        for bound, count in zip(_BOUNDS, counts, strict=True):
            total += count
            metric.add_sample(f"{name}_bucket", {**named, "le": bound}, total)
        metric.add_sample(f"{name}_count", named, total)
        metric.add_sample(f"{name}_sum", named, seconds)
    return metric
