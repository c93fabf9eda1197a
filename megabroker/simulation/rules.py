"""What must not be in a history, one function each.

Pure: a history in, the violations in it out. Each rule says which promise it is about (docs/guarantees.md).
The excuses are the promises' own limits: with acks 1 a cut of the power or a failed sync may take a record,
with ``durability: os`` the cut may take anything recent; what somebody else damaged is lost; nothing else
is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from megabroker.simulation.excuses import (
    Ranges,
    Rule,
    Violation,
    compacted,
    cuts_between,
    eras,
    final_names,
    forgot_at,
    log_starts,
    losses_of,
    starts_forgotten,
)
from megabroker.simulation.history import (
    FINAL,
    Acked,
    Assigned,
    Batch,
    CommitAcked,
    CommitSent,
    DeletionAsked,
    Fetched,
    History,
    OffsetRead,
    Partition,
    PowerLost,
    Released,
    Sent,
    SyncFailed,
    TopicKnown,
    TransactionEnded,
    TransactionEnding,
    TransactionOffset,
)
from megabroker.simulation.keeping_rules import newest_kept, start_regress, stored_repeat, vanished
from megabroker.simulation.share_rules import accepted_again, two_hands

__all__ = ["RULES", "Violation", "check"]


def lost_write(history: History) -> Iterator[Violation]:
    """An acknowledged record is there at the end, at the offset that was told."""
    final = final_names(history, committed=False)
    damaged = Ranges(history)
    sent = {event.names: event for event in history.of(Sent)}
    losses = losses_of(history)
    starts = log_starts(history)
    keyed = compacted(history)
    for event in history.of(Acked):
        first = sent[event.names]
        if first.acks == 0 or event.partition not in final or event.partition[0] in keyed:
            continue
        if cuts_between(losses(first), first.time):
            continue
        names = final[event.partition]
        base = event.base_offset
        start = starts[event.partition]
        if base < 0:
            lost = set(event.names) - set(names.values())
            if lost and not start and not damaged.touch(event.partition, 0, 1 << 62):
                yield Violation("lost-write", f"{sorted(lost)} of {event.partition} is gone", (first, event))
            continue
        for offset, name in enumerate(event.names, base):
            if (
                offset >= start
                and names.get(offset) != name
                and not damaged.touch(event.partition, offset, offset)
            ):
                yield Violation(
                    "lost-write",
                    f"{name} was acknowledged at {event.partition} offset {offset}, "
                    f"where there is {names.get(offset)}",
                    (first, event),
                    (name,),
                )
                break


def duplicate(history: History) -> Iterator[Violation]:
    """A record of an idempotent producer is there once at most."""
    cuts = forgot_at(history)
    acked = {event.names: event.time for event in history.of(Acked)}
    once = {
        name: event
        for event in history.of(Sent)
        # Sent again after a cut: the state of producers may have gone, and records behind others that stay.
        if event.once and not cuts_between(cuts, event.time, acked.get(event.names, float("inf")))
        for name in event.names
    }
    for partition, names in final_names(history, committed=False).items():
        seen: dict[str, int] = {}
        for offset, name in sorted(names.items()):
            if name in seen and name in once:
                message = f"{name} of {partition} is at offsets {seen[name]} and {offset}"
                yield Violation("duplicate", message, (once[name],), (name,))
            seen.setdefault(name, offset)


def inconsistent_offset(history: History) -> Iterator[Violation]:
    """Whoever reads an offset finds the same record there."""
    era = eras(history)
    damaged = Ranges(history)
    seen: dict[tuple[int, Partition, int], tuple[str, Fetched]] = {}
    told: set[Partition] = set()
    for event in history.of(Fetched):
        for batch in event.batches:
            for offset, name in batch.names:
                former, by = seen.setdefault((era(event.time), event.partition, offset), (name, event))
                if (
                    former != name
                    and event.partition not in told
                    and not damaged.touch(event.partition, offset, offset)
                ):
                    told.add(event.partition)
                    message = f"offset {offset} of {event.partition} was {former} and is {name}"
                    yield Violation("inconsistent-offset", message, (by, event), (former, name))


def phantom(history: History) -> Iterator[Violation]:
    """Nothing is read that was not sent to that partition before."""
    sent = {name: event for event in history.of(Sent) for name in event.names}
    cuts = forgot_at(history)
    for event in history.of(Fetched):
        for batch in event.batches:
            for offset, name in batch.names:
                first = sent.get(name)
                if first is not None and first.time <= event.time:
                    if first.partition == event.partition:
                        continue
                    same = _topic_of(first) == _topic_of(event) and first.partition[1] == event.partition[1]
                    if same and cuts_between(cuts, first.time, event.time):
                        continue  # that the earlier topic of the name was deleted may have been forgotten
                message = f"offset {offset} of {event.partition} is {name}, which nobody has sent there"
                yield Violation("phantom", message, (event,), (name,))
                return


def _topic_of(event: Sent | Fetched) -> str:
    return event.partition[0].partition("#")[0]


def aborted_read(history: History) -> Iterator[Violation]:
    """Who reads committed records reads none of a transaction that was aborted or is not asked to end yet."""
    cuts = forgot_at(history)
    outcomes = {event.transaction: event.outcome for event in history.of(TransactionEnded)}
    commits = {event.transaction: event.time for event in history.of(TransactionEnding) if event.commit}
    owners = {name: event for event in history.of(Sent) if event.transaction for name in event.names}
    for event in history.of(Fetched):
        if not event.committed:
            continue
        for batch in event.batches:
            for offset, name in batch.names:
                sent = owners.get(name)
                if sent is None or cuts_between(cuts, sent.time, event.time):
                    continue  # its marker may have gone, and another have come since
                if outcomes.get(sent.transaction) == "aborted":
                    why = "was aborted"
                elif commits.get(sent.transaction, event.time) >= event.time:
                    why = "is not committed yet"
                else:
                    continue
                message = (
                    f"offset {offset} of {event.partition} is {name} of transaction {sent.transaction}, "
                    f"which {why}"
                )
                yield Violation("aborted-read", message, (sent, event), (name,))
                return


def torn_transaction(history: History) -> Iterator[Violation]:
    """Of a transaction there is everything at the end, offsets included, or nothing."""
    cuts = forgot_at(history)
    starts = log_starts(history)
    keyed = compacted(history)
    final = final_names(history, committed=True)
    damaged = Ranges(history)
    ended = {event.transaction: event for event in history.of(TransactionEnded)}
    sent: dict[int, list[Sent]] = defaultdict(list)
    acked = {event.names: event.base_offset for event in history.of(Acked)}
    for event in history.of(Sent):
        if event.transaction:
            sent[event.transaction].append(event)
    names = {partition: set(found.values()) for partition, found in final.items()}
    for transaction, end in ended.items():
        if any(cuts_between(cuts, batch.time) for batch in sent[transaction]):
            continue  # any part of it may have gone with the power
        there: list[Sent] = []
        missing: list[Sent] = []
        for batch in sent[transaction]:
            if batch.partition not in names or batch.names not in acked:
                continue
            if damaged.touch(batch.partition, 0, 1 << 62) or batch.partition[0] in keyed:
                continue
            if (
                starts[batch.partition] > acked[batch.names]
                or starts[batch.partition] > 0 > acked[batch.names]
            ):
                continue  # somebody had it deleted
            part = len(names[batch.partition].intersection(batch.names))
            (there if part == len(batch.names) else missing).append(batch)
            if 0 < part < len(batch.names):
                there.append(batch)
        if missing and (there or end.outcome == "committed"):
            message = (
                f"of transaction {transaction}, {end.outcome}, {len(there)} batches are there and "
                f"{len(missing)} are not"
            )
            yield Violation("torn-transaction", message, (*there[:2], *missing[:2], end))
    yield from _torn_offsets(history, ended)


def _torn_offsets(history: History, ended: dict[int, TransactionEnded]) -> Iterator[Violation]:
    cuts = forgot_at(history)
    offsets: dict[tuple[str, Partition], list[TransactionOffset]] = defaultdict(list)
    for event in history.of(TransactionOffset):
        offsets[event.group, event.partition].append(event)
    for read in history.of(OffsetRead):
        if read.reader != FINAL or (read.group, read.partition) not in offsets:
            continue
        allowed = [-1]
        last: TransactionOffset | None = None
        for event in offsets[read.group, read.partition]:
            outcome = ended[event.transaction].outcome if event.transaction in ended else "unknown"
            if cuts_between(cuts, event.time):
                outcome = "unknown"  # it may have gone with the power
            if outcome == "committed":
                allowed = [event.offset]
                last = event
            elif outcome == "unknown":
                allowed.append(event.offset)
        if read.offset not in allowed:
            message = (
                f"{read.group} stands at {read.offset} of {read.partition}, by its transactions at {allowed}"
            )
            yield Violation("torn-transaction", message, (read,) if last is None else (last, read))


def offset_gap(history: History) -> Iterator[Violation]:
    """A log has no holes, and what is read begins where it was asked for.

    A cut of the power may tear batches that nobody was promised and leave what is behind them, which is kept.
    """
    cuts = [event.time for event in history.of(PowerLost)]
    sent = {name: event.time for event in history.of(Sent) for name in event.names}
    damaged = Ranges(history)
    keyed = compacted(history)

    def was_there(batches: Sequence[Batch], time: float) -> bool:
        """Whether the last of these was there at a cut; when it was sent is not always known."""
        times = [sent.get(name, 0.0) for batch in batches[-1:] for _, name in batch.names]
        return cuts_between(cuts, min(times, default=0.0), time)

    for event in history.of(Fetched):
        if event.partition[0] in keyed:
            continue
        expected = event.offset
        for at, batch in enumerate(event.batches):
            begins = batch.base_offset == expected or (at == 0 and batch.base_offset <= expected)
            if not (begins and batch.last_offset >= expected) and not damaged.touch(
                event.partition, min(expected, batch.base_offset), max(expected, batch.base_offset)
            ):
                if batch.base_offset > expected and was_there(event.batches[:at], event.time):
                    expected = batch.last_offset + 1
                    continue
                message = (
                    f"{event.partition}: a batch from {batch.base_offset} to {batch.last_offset} was read "
                    f"where {expected} was expected"
                )
                yield Violation("offset-gap", message, (event,))
                return
            expected = batch.last_offset + 1


def watermark_regress(history: History) -> Iterator[Violation]:
    """High watermark and last stable offset, once told, are never less for who asks after that.

    When somebody had the beginning of an open transaction deleted the last stable offset is where the log
    begins, and goes back with that if it may be forgotten.
    """
    era = eras(history)
    forgotten = starts_forgotten(history)
    asked: dict[tuple[Partition, int], list[float]] = defaultdict(list)
    for wish in history.of(DeletionAsked):
        asked[wish.partition, wish.before].append(wish.time)
    answers: dict[tuple[int, Partition], list[Fetched]] = defaultdict(list)
    for event in history.of(Fetched):
        if event.high_watermark < 0:
            continue  # MEGA does not tell it
        answers[era(event.time), event.partition].append(event)

    def began_there(high: Fetched, low: Fetched) -> bool:
        times = [time for time in asked[high.partition, high.stable_offset] if time <= high.time]
        return any(forgotten(time, high.time, low.time) for time in times)

    damaged = Ranges(history)
    for partition, found in answers.items():
        if damaged.touch(partition[1], 0, 1 << 62):
            continue  # what was last in the log may be taken for a torn write
        for name, excused in (("high_watermark", None), ("stable_offset", began_there)):
            violation = _regress(partition[1], name, found, excused)
            if violation is not None:
                yield violation


def _regress(
    partition: Partition, name: str, found: list[Fetched], excused: Callable[[Fetched, Fetched], bool] | None
) -> Violation | None:
    highest: Fetched | None = None
    by_sent = sorted(found, key=lambda event: event.sent)
    at = 0
    for event in by_sent:
        while at < len(found) and found[at].time <= event.sent:
            if highest is None or getattr(found[at], name) > getattr(highest, name):
                highest = found[at]
            at += 1
        if highest is None or getattr(event, name) >= getattr(highest, name):
            continue
        for former in (highest,) if excused is None else found[:at]:
            higher = getattr(former, name) > getattr(event, name)
            if higher and (excused is None or not excused(former, event)):
                message = f"{name} of {partition} went from {getattr(former, name)} to {getattr(event, name)}"
                return Violation("watermark-regress", message, (former, event))
    return None


def committed_offset_regress(history: History) -> Iterator[Violation]:
    """A committed offset, once acknowledged, is what is read, or a later one."""
    era = eras(history)
    acked: dict[tuple[str, Partition], list[CommitAcked]] = defaultdict(list)
    sent: dict[tuple[str, Partition], set[int]] = defaultdict(set)
    for commit in history.of(CommitSent):
        sent[commit.group, commit.partition].add(commit.offset)
    for done in history.of(CommitAcked):
        acked[done.group, done.partition].append(done)
    for read in history.of(OffsetRead):
        key = read.group, read.partition
        if key not in sent:
            continue
        before = [one for one in acked[key] if one.time <= read.sent and era(one.time) == era(read.time)]
        highest = max(before, key=lambda one: one.offset, default=None)
        if (
            highest is not None
            and read.offset < highest.offset
            and not _committed_since(history, highest, read)
        ):
            message = f"{read.group} committed {highest.offset} of {read.partition} and is told {read.offset}"
            yield Violation("committed-offset-regress", message, (highest, read))
            return
        if read.offset >= 0 and read.offset not in sent[key]:
            message = f"{read.group} is told {read.offset} of {read.partition}, which nobody has committed"
            yield Violation("committed-offset-regress", message, (read,))
            return


def _committed_since(history: History, highest: CommitAcked, read: OffsetRead) -> bool:
    """Whether the lower offset was committed after the higher: by who began before that was to be seen."""
    same = [one for one in history.of(CommitSent) if one[1:3] == highest[1:3]]
    begun = min(one.time for one in same if one.offset == highest.offset)
    return any(one.offset == read.offset and one.time > begun for one in same)


def two_owners(history: History) -> Iterator[Violation]:
    """A partition has one owner in a generation, and with the consumer protocol at any time."""
    era = eras(history)
    owners: dict[tuple[int, str, int, Partition], Assigned] = {}
    holders: dict[tuple[str, Partition], Assigned] = {}
    for event in history.events:
        if isinstance(event, PowerLost) and not history.synced:
            holders.clear()  # members may know more of their group than it does
        elif isinstance(event, Released):
            kept = set(event.partitions)
            for held in [one for one, by in holders.items() if by.group == event.group]:
                if holders[held].member == event.member and held[1] not in kept:
                    del holders[held]
        elif isinstance(event, Assigned):
            for partition in event.partitions:
                if event.generation >= 0:
                    key = era(event.time), event.group, event.generation, partition
                    other = owners.setdefault(key, event)
                else:
                    other = holders.setdefault((event.group, partition), event)
                if other.member != event.member:
                    message = (
                        f"{partition} of {event.group} belongs to {other.member} and to {event.member}"
                        + (f" in generation {event.generation}" if event.generation >= 0 else "")
                    )
                    yield Violation("two-owners", message, (other, event))
                    return


def acked_order(history: History) -> Iterator[Violation]:
    """What a producer sent to a partition first is stored first."""
    order = {event.names: number for number, event in enumerate(history.of(Sent))}
    found: dict[tuple[str, Partition], list[tuple[int, Acked]]] = defaultdict(list)
    for event in history.of(Acked):
        if event.base_offset >= 0:
            found[event.producer, event.partition].append((order[event.names], event))
    era = eras(history)
    damaged = Ranges(history)
    for acked in found.values():
        last: Acked | None = None
        for _, event in sorted(acked):
            if (
                last is not None
                and event.base_offset < last.base_offset + len(last.names)
                and era(event.time) == era(last.time)
                and not _taken_back(history, last, event)
                and not damaged.touch(event.partition, event.base_offset, last.base_offset + len(last.names))
            ):
                message = (
                    f"{event.producer} sent {event.names[0]} after {last.names[-1]}, and it is at "
                    f"{event.partition} offset {event.base_offset}, not after {last.base_offset}"
                )
                yield Violation("acked-order", message, (last, event))
                return
            last = event


def _taken_back(history: History, first: Acked, then: Acked) -> bool:
    """Whether the broker may have lost the first meanwhile, having promised no more with acks 1."""
    acks = {event.names: event.acks for event in history.of(Sent)}
    return acks[first.names] == 1 and any(
        first.time <= event.time <= then.time
        for event in history.events
        if isinstance(event, PowerLost | SyncFailed)
    )


def lost_topic(history: History) -> Iterator[Violation]:
    """A topic whose making was acknowledged is there, one whose deleting was is not."""
    cuts = forgot_at(history)
    known: dict[str, TopicKnown] = {}
    for event in history.of(TopicKnown):
        before = known.get(event.topic)
        if (
            event.reader == FINAL
            and before is not None
            and before.exists != event.exists
            and not cuts_between(cuts, before.time)
        ):
            message = f"topic {event.topic} is {'there' if event.exists else 'gone'}"
            yield Violation("lost-topic", message, (before, event))
        known[event.topic] = event


RULES: Final[tuple[Rule, ...]] = (
    lost_write,
    duplicate,
    inconsistent_offset,
    phantom,
    aborted_read,
    torn_transaction,
    offset_gap,
    watermark_regress,
    committed_offset_regress,
    two_owners,
    acked_order,
    lost_topic,
    stored_repeat,
    newest_kept,
    vanished,
    start_regress,
    accepted_again,
    two_hands,
)
"""Every rule."""


def check(history: History) -> list[Violation]:
    """Return what is wrong with a history, by every rule."""
    return [violation for rule in RULES for violation in rule(history)]
