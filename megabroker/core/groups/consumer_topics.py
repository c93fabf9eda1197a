"""The topics there are, as groups of the consumer protocol look at them.

Owns one picture of all topics, taken anew when they change, and what each regular expression in use matches
in it, so that a change costs the new names and not all of them. Subscribes nobody to anything. Of what an
expression matches a member has the topics that it may describe, by the rules there are when the picture is
taken; changed rules make a new picture.

Invariant: every remembered expression has been matched against exactly the names of the current picture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from uuid import UUID

from twisted.logger import Logger

from megabroker.core.groups.errors import refusal
from megabroker.core.name_pattern import NamePattern, PatternTooCostly
from megabroker.errors import ErrorCode
from megabroker.model import ANONYMOUS, Principal, Topic

__all__ = ["Sees", "TopicsView"]

Sees = Callable[[Principal, str, str], bool]
"""Says whether somebody at an address may see that there is a topic."""

_log = Logger()

_MAX_PATTERNS: Final = 256
"""Expressions remembered; others are compiled and matched each time."""


class TopicsView:
    """All topics at one moment.

    Args:
        topics: returns all topics.
    """

    def __init__(self, topics: Callable[[], Sequence[Topic]]) -> None:
        self._topics = topics
        self._seen: list[Topic] = []
        self._by_name: dict[str, Topic] = {}
        self._names: dict[UUID, str] = {}
        self._patterns: OrderedDict[str, tuple[NamePattern, set[str]]] = OrderedDict()
        self._sees: Sees | None = None
        self._generation: Callable[[], int] = int
        self._rules = 0

    def restrict(self, sees: Sees, generation: Callable[[], int]) -> None:
        """Have expressions match nothing that a member may not see.

        Args:
            generation: returns what changes whenever an answer of ``sees`` may.
        """
        self._sees, self._generation = sees, generation
        self._rules = generation()

    def look(self) -> bool:
        """Take the picture anew; return whether anything has changed."""
        found, rules = list(self._topics()), self._generation()
        if found == self._seen and rules == self._rules:
            return False
        self._rules = rules
        self._seen = found
        before = set(self._by_name)
        self._by_name = {topic.name: topic for topic in found}
        self._names = {topic.id: topic.name for topic in found}
        gone, fresh = before - set(self._by_name), set(self._by_name) - before
        for text, (pattern, matched) in list(self._patterns.items()):
            matched -= gone
            try:
                matched |= pattern.matching(fresh)
            except PatternTooCostly:
                _log.warn("topic-pattern-too-costly", pattern=text[:200], topics=len(fresh))
        return True

    def resolve(
        self, names: Iterable[str], pattern: str, principal: Principal = ANONYMOUS, host: str = ""
    ) -> frozenset[UUID]:
        """Return the ids of the topics named, and of those that ``pattern`` matches unless it is empty.

        Args:
            principal: who subscribes, from ``host``.

        Raises:
            RequestError: INVALID_PATTERN.
        """
        wanted = set(names)
        if pattern:
            matched, sees = self._matching(pattern), self._sees
            if sees is not None:
                matched = {name for name in matched if sees(principal, host, name)}
            wanted |= matched
        return frozenset(self._by_name[name].id for name in wanted if name in self._by_name)

    def _matching(self, text: str) -> set[str]:
        found = self._patterns.get(text)
        if found is None:
            compiled = NamePattern(text)
            try:
                found = compiled, compiled.matching(self._by_name)
            except PatternTooCostly:
                raise refusal(
                    ErrorCode.INVALID_PATTERN, "the regular expression takes too long on the topics there are"
                ) from None
            self._patterns[text] = found
            if len(self._patterns) > _MAX_PATTERNS:
                self._patterns.popitem(last=False)
        else:
            self._patterns.move_to_end(text)
        return found[1]

    def name(self, topic_id: UUID) -> str:
        """Return a topic's name, empty when it is gone."""
        return self._names.get(topic_id, "")

    def size(self, name: str) -> int | None:
        """Return how many partitions a topic has, by its name; None when there is no such topic."""
        topic = self._by_name.get(name)
        return None if topic is None else topic.partitions

    def partitions(self, topic_id: UUID) -> int:
        """Return how many partitions a topic has, 0 when it is gone."""
        name = self._names.get(topic_id)
        return 0 if name is None else self._by_name[name].partitions
