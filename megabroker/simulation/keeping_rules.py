"""Rules about how much is kept: no repeat more, no newest record less, nothing below a start that was told.

Pure, as ``rules`` is, which lists these as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from megabroker.simulation.excuses import (
    TROUBLE_SECONDS,
    Ranges,
    Violation,
    compacted,
    cuts_between,
    eras,
    final_names,
    forgot_at,
    losses_of,
    starts_forgotten,
)
from megabroker.simulation.history import (
    FINAL,
    Acked,
    Configured,
    DeletionAsked,
    Died,
    Fetched,
    History,
    Partition,
    PowerLost,
    Repeated,
    Sent,
    StartSeen,
    SyncFailed,
    TransactionEnded,
    Troubled,
)

__all__ = ["newest_kept", "start_regress", "stored_repeat", "vanished"]

_TORN_BYTES: Final = 4096


def stored_repeat(history: History) -> Iterator[Violation]:
    """A message without a number is stored once, unless its process died meanwhile.

    What the window knows is not synced, so a cut of the power may take it, and a disk that fails does not
    take it.
    """
    sent = {event.names: event for event in history.of(Sent)}
    sends: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for again in history.of(Repeated):
        sends[again.names].append(again.time)
    acked: dict[tuple[str, ...], float] = {}
    for done in history.of(Acked):
        acked.setdefault(done.names, done.time)
    deaths = [event.time for event in history.of(Died)]
    excuses = [event.time for event in history.events if isinstance(event, PowerLost | SyncFailed | Troubled)]
    copies = {
        partition: Counter(names.values())
        for partition, names in final_names(history, committed=False).items()
    }
    for names, times in sends.items():
        first = sent[names]
        if cuts_between(excuses, first.time - TROUBLE_SECONDS) or first.partition not in copies:
            continue
        known = acked.get(names, float("inf"))
        allowed = 1 + min(
            sum(time < known for time in times), sum(first.time <= time <= known for time in deaths)
        )
        found = copies[first.partition][names[0]]
        if found > allowed:
            message = f"{names[0]} of {first.partition} is there {found} times, {allowed} at most are excused"
            yield Violation("stored-repeat", message, (first,), names)


def newest_kept(history: History) -> Iterator[Violation]:
    """Of a compacted topic the newest record of each key is there, at the offset that was told."""
    keyed = compacted(history)
    final = final_names(history, committed=True)
    sent = {event.names: event for event in history.of(Sent)}
    outcomes = {event.transaction: event.outcome for event in history.of(TransactionEnded)}
    losses = losses_of(history)
    damaged = Ranges(history)
    newest: dict[Partition, dict[str, int]] = {
        partition: {_key(name): offset for offset, name in sorted(names.items())}
        for partition, names in final.items()
    }
    for event in history.of(Acked):
        first = sent[event.names]
        partition = event.partition
        if partition[0] not in keyed or partition not in final or event.base_offset < 0:
            continue
        if first.transaction and outcomes.get(first.transaction) != "committed":
            continue
        if cuts_between(losses(first), first.time) or damaged.touch(partition, event.base_offset, 1 << 62):
            continue
        for offset, name in enumerate(event.names, event.base_offset):
            there = newest[partition].get(_key(name), -1)
            if there < offset or (there == offset and final[partition][offset] != name):
                message = (
                    f"{name} was acknowledged at {partition} offset {offset}, and the newest of its key "
                    f"that is there is at {there}"
                )
                yield Violation("newest-kept", message, (first, event), (name,))
                return


def _key(name: str) -> str:
    return name.rpartition("@")[2]


def vanished(history: History) -> Iterator[Violation]:
    """A log begins no later than somebody had it deleted, or than leaves as much as is to be kept."""
    if forgot_at(history):
        return  # the files it began with may have gone with the power
    asked: dict[Partition, int] = defaultdict(int)
    for wish in history.of(DeletionAsked):
        asked[wish.partition] = max(asked[wish.partition], wish.before)
    kept: dict[str, list[int]] = defaultdict(list)
    for configured in history.of(Configured):
        kept[configured.topic].append(configured.retention_bytes)
    has_torn = next(history.of(PowerLost), None) is not None
    for event in history.of(Fetched):
        if event.reader != FINAL or event.committed or event.offset <= asked[event.partition]:
            continue
        if "#" in event.partition[0]:
            continue
        bounds = [one for one in kept[event.partition[0]] if one >= 0]
        left = sum(batch.size_bytes for batch in event.batches)
        if bounds and (has_torn or left + _TORN_BYTES >= min(bounds)):
            continue
        message = (
            f"{event.partition} begins at {event.offset} with {left} bytes, deleted was what is below "
            f"{asked[event.partition]}, to be kept are {min(bounds, default=-1)} bytes"
        )
        yield Violation("vanished", message, (event,))
        return


def start_regress(history: History) -> Iterator[Violation]:
    """Where a log begins, once told, is never less for who asks after that, unless it may be forgotten."""
    era = eras(history)
    forgotten = starts_forgotten(history)
    by_partition: dict[tuple[int, Partition], list[StartSeen]] = defaultdict(list)
    for event in history.of(StartSeen):
        by_partition[era(event.time), event.partition].append(event)
    for (_, partition), found in by_partition.items():
        for number, high in enumerate(found):
            for low in found[number + 1 :]:
                if low.sent < high.time or low.offset >= high.offset:
                    continue
                if forgotten(high.sent, high.time, low.time):
                    continue
                message = f"{partition} began at {high.offset} and begins at {low.offset}"
                yield Violation("start-regress", message, (high, low))
                return
