"""What a seed decides before anything happens: the configuration, who takes part, what goes wrong.

Owns the shape of runs. Numbers are small on purpose: small segments are rolled, small batches torn, few
partitions contended for.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import attrs

from megabroker.config.load import parse
from megabroker.config.schema import Config
from megabroker.model import Durability

__all__ = ["FAULTS", "Plan", "make_config"]

FAULTS: Final = (
    "kill",
    "power loss",
    "restart",
    "io error",
    "full disk",
    "reset",
    "stall",
    "clock jump",
    "bit flip",
)


@attrs.frozen
class Plan:
    """What is to happen.

    Attributes:
        partitions: of each topic.
        segment_bytes: after which a segment is rolled.
        clients: how many of each kind.
        faults: kinds of what goes wrong.
        pause_seconds: between two faults, on average.
        seconds: how long clients go on.
        kinds: of topics: plain, compact, trimmed; those it does not reach are plain.
        journaled: whether syncs go into the journal of many partitions from the beginning.
    """

    durability: Durability
    partitions: tuple[int, ...]
    segment_bytes: int
    clients: dict[str, int]
    faults: tuple[str, ...]
    pause_seconds: float
    seconds: float
    journaled: bool = False
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, dice: Random) -> Plan:
        """Let chance decide."""
        faults = [kind for kind in FAULTS if dice.random() < 0.5]
        return cls(
            durability=Durability.OS if dice.random() < 0.2 else Durability.FSYNC,
            partitions=tuple(dice.randrange(1, 4) for _ in range(dice.randrange(2, 4))),
            segment_bytes=dice.choice((1 << 20, 4096, 4096, 12_000)),
            clients={
                "plain": dice.randrange(0, 3),
                "idempotent": dice.randrange(0, 3),
                "transactional": dice.randrange(0, 3),
                "reader": dice.randrange(1, 4),
                "member": dice.choice((0, 0, 2, 3)),
                "consumer": dice.choice((0, 0, 0, 2, 3)),
                "administrator": dice.choice((0, 0, 1)),
                "mega producer": dice.choice((0, 0, 1, 2)),
                "mega consumer": dice.choice((0, 0, 1)),
                "cursus producer": dice.choice((0, 0, 1, 2)),
                "share member": dice.choice((0, 0, 0, 2, 3)),
                "trimmer": dice.choice((0, 1)),
            },
            faults=tuple(faults),
            pause_seconds=dice.choice((0.7, 2.0, 5.0)),
            seconds=dice.choice((6.0, 12.0, 20.0)),
            journaled=dice.random() < 0.5,
            kinds=("plain", *dice.sample(("plain", "compact", "trimmed"), 2)),
        )

    def kind(self, topic: int) -> str:
        """Return the kind of a topic by its number."""
        return self.kinds[topic] if topic < len(self.kinds) else "plain"


_TEXT: Final = """
data_dir: /data
durability: {durability}
topics: {{auto_create: false, segment_bytes: {segment}, max_message_bytes: {message}}}
retention_check_interval_ms: 1000
dedup: {{window_ms: 1d}}
shares: {{record_lock_duration_ms: 2s, session_timeout_ms: 3s, heartbeat_interval_ms: 500}}
groups:
  initial_rebalance_delay_ms: 50
  min_session_timeout_ms: 1000
  consumer_heartbeat_interval_ms: 1000
  consumer_session_timeout_ms: 6000
http: {{enabled: false}}
protocols:
  kafka: {{listeners: [{{endpoint: "tcp:9092:interface=10.0.0.2"}}]}}
  cursus: {{acks: all, listeners: [{{endpoint: "tcp:9000:interface=10.0.0.2"}}]}}
  mega: {{acks: all, listeners: [{{endpoint: "tcp:8080:interface=10.0.0.2"}}]}}
"""


def make_config(plan: Plan, plugins: Any) -> Config:
    """Return the broker's configuration."""
    return parse(
        _TEXT.format(
            durability=plan.durability.value,
            segment=plan.segment_bytes,
            message=min(plan.segment_bytes, 1 << 20),
        ),
        "simulation",
        plugins,
    )
