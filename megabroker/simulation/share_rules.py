"""Rules about share groups: who has a record, and who has it again.

Pure, as ``rules`` is, which lists these as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from megabroker.simulation.excuses import Violation, eras
from megabroker.simulation.history import Accepted, Acquired, History, LetGo, Partition

__all__ = ["accepted_again", "two_hands"]


def _overlap(one: Acquired | Accepted | LetGo, other: Acquired | Accepted | LetGo) -> bool:
    return one.first_offset <= other.last_offset and other.first_offset <= one.last_offset


def accepted_again(history: History) -> Iterator[Violation]:
    """What a member is done with, once that was acknowledged, is given to nobody any more."""
    era = eras(history)
    done: dict[tuple[int, str, Partition], list[Accepted]] = defaultdict(list)
    for event in history.of(Accepted):
        done[era(event.time), event.group, event.partition].append(event)
    for given in history.of(Acquired):
        for one in done[era(given.time), given.group, given.partition]:
            if one.time <= given.sent and _overlap(one, given):
                message = (
                    f"{given.partition} offsets {one.first_offset} to {one.last_offset} were done with, and "
                    f"{given.first_offset} to {given.last_offset} are given to {given.member}"
                )
                yield Violation("accepted-again", message, (one, given))
                return


def two_hands(history: History) -> Iterator[Violation]:
    """A record is in the hands of one member of a share group at a time."""
    given: dict[tuple[str, Partition], list[Acquired]] = defaultdict(list)
    for event in history.of(Acquired):
        given[event.group, event.partition].append(event)
    over: dict[tuple[str, Partition, str], list[LetGo]] = defaultdict(list)
    for left in history.of(LetGo):
        over[left.group, left.partition, left.member].append(left)
    for key, found in given.items():
        for first in found:
            ends = [
                one.time
                for one in over[(*key, first.member)]
                if one.time >= first.sent and _overlap(one, first)
            ]
            end = min([first.until, *ends])
            for then in found:
                if (
                    then is not first
                    and first.time <= then.sent
                    and then.time <= end
                    and _overlap(first, then)
                ):
                    message = (
                        f"{key[1]} offsets {then.first_offset} to {then.last_offset} were given to "
                        f"{then.member} while {first.member} had {first.first_offset} to {first.last_offset}"
                    )
                    yield Violation("two-hands", message, (first, then))
                    return
