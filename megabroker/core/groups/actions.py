"""What the group automaton wants done, as values.

Owns the language between the automaton, which decides, and the service, which owns Deferreds, timers and
the metadata store. Nothing here does anything.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from megabroker.errors import BrokerError
from megabroker.model import JoinedGroup, SyncedGroup

__all__ = ["Action", "Answer", "CancelTimer", "Persist", "SetTimer", "Ticket", "TimerKey", "TimerKind"]

Ticket = Any
"""Stands for a request not yet answered; the automaton only keeps it and gives it back."""


class TimerKind(enum.Enum):
    """What a timer of a group is for."""

    SESSION = "session"
    JOIN = "join"
    SYNC = "sync"
    REVOKE = "revoke"
    REST = "rest"


class TimerKey(NamedTuple):
    """Names one timer of a group; ``member_id`` is empty for those of the group as a whole."""

    kind: TimerKind
    member_id: str = ""


class Answer(NamedTuple):
    """Answer the request behind ``ticket``; the automaton has forgotten it."""

    ticket: Ticket
    result: JoinedGroup | SyncedGroup | BrokerError


class SetTimer(NamedTuple):
    """Call ``timer_fired(key)`` in ``delay_ms``, instead of when it was set to before unless that is kept."""

    key: TimerKey
    delay_ms: int
    keep: bool = False


class CancelTimer(NamedTuple):
    """Do not call ``timer_fired(key)``."""

    key: TimerKey


class Persist(NamedTuple):
    """Keep what must survive a restart; ``empty`` says that the last member has gone."""

    generation: int
    protocol_type: str
    empty: bool


Action = Answer | SetTimer | CancelTimer | Persist
