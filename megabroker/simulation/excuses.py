"""What rules have in common: the violation they find, and what excuses one.

The excuses are the promises' own limits. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from megabroker.simulation.history import (
    FINAL,
    Configured,
    Damaged,
    Died,
    Event,
    Fetched,
    History,
    Partition,
    PowerLost,
    Sent,
    SyncFailed,
    Troubled,
)

__all__ = [
    "TROUBLE_SECONDS",
    "Ranges",
    "Rule",
    "Violation",
    "compacted",
    "cuts_between",
    "eras",
    "final_names",
    "forgot_at",
    "log_starts",
    "losses_of",
    "starts_forgotten",
]

_SAVED_SECONDS: Final = 1.0
"""By then it is written down where a log begins, if nothing is wrong with the disk."""

TROUBLE_SECONDS: Final = 15.0
"""For so long what went wrong with the disk may keep the broker from writing something down."""


class Violation(NamedTuple):
    """A broken promise.

    Attributes:
        rule: the name of the rule.
        events: those of the history that show it.
        words: what to look for in a trace, beside these.
    """

    rule: str
    message: str
    events: tuple[Event, ...] = ()
    words: tuple[str, ...] = ()


Rule = Callable[[History], Iterator[Violation]]


class Ranges:
    """The offsets that somebody damaged."""

    def __init__(self, history: History) -> None:
        self._found: dict[Partition, list[tuple[int, int]]] = defaultdict(list)
        for event in history.of(Damaged):
            self._found[event.partition].append((event.first_offset, event.last_offset))

    def touch(self, partition: Partition, first: int, last: int) -> bool:
        """Whether some of these offsets are damaged, of whatever topic had the name."""
        name = partition[0].partition("#")[0], partition[1]
        return any(low <= last and first <= high for low, high in self._found.get(name, ()))


def eras(history: History) -> Callable[[float], int]:
    """Return which era a time is in: one ends where the broker may forget what it has shown."""
    ends = forgot_at(history)
    return lambda time: sum(end <= time for end in ends)


def forgot_at(history: History) -> list[float]:
    """Return when the broker may have forgotten what it did lately, which without syncs is with the power."""
    return [] if history.synced else [event.time for event in history.of(PowerLost)]


def cuts_between(cuts: list[float], first: float, last: float = float("inf")) -> bool:
    """Whether one of these times lies between two others."""
    return any(first <= time <= last for time in cuts)


def final_names(history: History, *, committed: bool) -> dict[Partition, dict[int, str]]:
    """Return the names of the records that are there at the end, by their offsets."""
    found: dict[Partition, dict[int, str]] = {}
    for event in history.of(Fetched):
        if event.reader == FINAL and event.committed == committed:
            names = found.setdefault(event.partition, {})
            for batch in event.batches:
                names.update(batch.names)
    return found


def compacted(history: History) -> set[str]:
    """Return the topics of which only the newest record of each key is kept."""
    return {event.topic for event in history.of(Configured) if event.compact}


def log_starts(history: History) -> dict[Partition, int]:
    """Return where logs begin at the end."""
    return {event.partition: event.offset for event in history.of(Fetched) if event.reader == FINAL}


def losses_of(history: History) -> Callable[[Sent], list[float]]:
    """Return what tells, for a batch, the times at which it might be lost although it was acknowledged."""
    cuts = [event.time for event in history.of(PowerLost)]
    either = sorted(cuts + [event.time for event in history.of(SyncFailed)])
    if not history.synced:
        return lambda sent: cuts
    return lambda sent: either if sent.acks == 1 else []


def starts_forgotten(history: History) -> Callable[[float, float, float], bool]:
    """Return what tells whether a process may have forgotten where a log begins.

    That is written down soon after it changed: a process that dies before may have forgotten it. The three
    times are before it changed, when it was told, and when it was told otherwise.
    """
    deaths = [event.time for event in history.of(Died)]
    troubles = [
        event.time for event in history.events if isinstance(event, SyncFailed | Troubled | PowerLost)
    ]

    def forgotten(before: float, told: float, since: float) -> bool:
        died = [time for time in deaths if before <= time <= since]
        return bool(died) and (
            died[0] <= told + _SAVED_SECONDS or cuts_between(troubles, before - TROUBLE_SECONDS, died[-1])
        )

    return forgotten
