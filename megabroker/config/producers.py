"""The sections ``dedup``, ``producers`` and ``transactions``: what is remembered of who sent what."""

from __future__ import annotations

import enum

import attrs

from megabroker.config import fields
from megabroker.config.units import DAY, LONGEST_MS, MINUTE, SECOND

__all__ = ["DedupScope", "DedupSettings", "ProducerSettings", "TransactionSettings"]


class DedupScope(enum.Enum):
    """How far a message id counts as seen."""

    TOPIC = "topic"
    GLOBAL = "global"
    OFF = "off"


@attrs.frozen(kw_only=True)
class DedupSettings:
    """Repeats of a message that are not stored again."""

    scope: DedupScope = fields.choice(
        DedupScope.TOPIC,
        DedupScope,
        doc="Which messages a message is compared with: those of its own topic, of all topics, "
        "or none (off).",
    )
    window_ms: int = fields.duration_ms(
        30 * MINUTE, minimum=SECOND, maximum=30 * DAY, doc="How long a message is remembered."
    )
    max_entries: int = fields.integer(
        1_000_000,
        minimum=1,
        maximum=1_000_000_000,
        unit="messages",
        doc="Maximum number of remembered messages, about 100 bytes of memory each; the oldest "
        "are forgotten first.",
    )


@attrs.frozen(kw_only=True)
class ProducerSettings:
    """Idempotent producers."""

    id_expiration_ms: int = fields.duration_ms(
        DAY,
        minimum=SECOND,
        maximum=LONGEST_MS,
        reloadable=True,
        doc="How long a partition remembers an idle idempotent producer.",
    )
    id_block_size: int = fields.integer(
        1000,
        minimum=1,
        maximum=1_000_000,
        unit="ids",
        doc="Number of producer ids reserved on disk at a time; the rest of a block is skipped "
        "after a restart.",
    )
    max_per_partition: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="producers",
        doc="Maximum number of idempotent producers that a partition remembers; those idle "
        "longest are forgotten first.",
    )
    max_producers: int = fields.integer(
        500_000,
        minimum=1,
        maximum=100_000_000,
        unit="producers",
        doc="The same for all partitions of a process together, at 0.5 to 1.5 KiB each.",
    )


@attrs.frozen(kw_only=True)
class TransactionSettings:
    """Kafka transactions."""

    max_timeout_ms: int = fields.duration_ms(
        15 * MINUTE,
        minimum=SECOND,
        maximum=DAY,
        doc="Longest transaction timeout that a producer may request; then its open transaction is aborted.",
    )
    max_transactional_ids: int = fields.integer(
        100_000,
        minimum=1,
        maximum=10_000_000,
        unit="ids",
        doc="Maximum number of remembered transactional ids; a producer with another one is refused.",
    )
    max_offsets: int = fields.integer(
        20_000,
        minimum=1,
        maximum=1_000_000,
        unit="offsets",
        doc="Maximum number of consumer offsets in one transaction.",
    )
    id_expiration_ms: int = fields.duration_ms(
        7 * DAY,
        minimum=SECOND,
        maximum=LONGEST_MS,
        doc="How long an unused transactional id is remembered.",
    )
