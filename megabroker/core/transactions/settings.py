"""How transactions are kept: limits and times.

Owns only numbers; the defaults are Apache Kafka's where it has one that bounds anything.
"""

from __future__ import annotations

import attrs

__all__ = ["TransactionSettings"]

MINUTES_MS = 60 * 1000
DAYS_MS = 24 * 60 * MINUTES_MS


@attrs.frozen
class TransactionSettings:
    """Settings of all transactions of one broker; the units are in the names.

    Attributes:
        max_timeout_ms: longest time a producer may ask for; Kafka's transaction.max.timeout.ms.
        max_transactional_ids: ids remembered; a producer with one more is refused.
        max_offsets: offsets pending in one transaction.
        id_expiration_ms: idleness after which an id is forgotten; Kafka's transactional.id.expiration.ms.
        check_interval_ms: how often idle ids are looked for; 0 is never.
    """

    max_timeout_ms: int = 15 * MINUTES_MS
    max_transactional_ids: int = 100_000
    max_offsets: int = 20_000
    id_expiration_ms: int = 7 * DAYS_MS
    check_interval_ms: int = 60 * MINUTES_MS
