"""``megabroker consume``: messages of topics, printed.

Owns the command line and when it ends: at the ends that the partitions had when it began, unless it follows;
after so many messages; or when it is interrupted. As a member of a group it commits what was printed, and
nothing else.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from megabroker.cli.cluster import LATEST, Cluster, Partition
from megabroker.cli.connecting import cluster_options
from megabroker.cli.group_reading import committed as committed_offsets
from megabroker.cli.membership import Member, join
from megabroker.cli.moments import START, Place, read_moment_ms, read_place
from megabroker.cli.offset_writing import commit
from megabroker.cli.placing import offsets_at
from megabroker.cli.reading import Reader
from megabroker.cli.record_forms import Form, form_named
from megabroker.cli.refusals import check
from megabroker.cli.topic_names import complete_topics, matching_any
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.model import Record
from megabroker.protocols.kafka.errors import KafkaError

__all__ = ["consume"]

_WAIT_MS: Final = 500
_COMMIT_SECONDS: Final = 5.0
_NOTHING_SECONDS: Final = 10.0
"""How long a member to whom nothing falls waits for something."""


@click.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True, shell_complete=complete_topics)
@click.option("--regex", is_flag=True, help="Topics are regular expressions that match whole names.")
@click.option(
    "-p", "--partition", "numbers", multiple=True, type=click.IntRange(0), help="Only these partitions."
)
@click.option(
    "-o",
    "--offset",
    metavar="PLACE",
    help="Where to start: start (the default), end, an offset, -N before the end, +N after the start, @TIME.",
)
@click.option("--until", metavar="@TIME", help="Stop before the first message of that time or later.")
@click.option("-F", "--follow", is_flag=True, help="Wait for more messages at the end.")
@click.option("-n", "--count", type=click.IntRange(1), help="Stop after this number of messages.")
@click.option(
    "-g", "--group", help="Consume as a member of this group, from its committed offsets, and commit."
)
@click.option(
    "--isolation",
    type=click.Choice(["committed", "uncommitted"]),
    default="committed",
    show_default=True,
    help="Whether messages of transactions are printed after the commit, or all messages.",
)
@click.option(
    "-f",
    "--format",
    "form",
    default="value",
    show_default=True,
    help="value, json, pretty, or kcat's: '%t %p %o %T %k %s %h\\n'.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: one object per line.")
@cluster_options
def consume(cluster: Cluster, topics: Sequence[str], as_json: bool, **given: Any) -> None:
    """Print the messages of topics.

    The command prints the messages that exist when it starts, and ends; --follow waits for more.
    """
    now_ms = time.time_ns() // 1_000_000
    try:
        made = form_named("json" if as_json else given["form"])
    except ValueError as error:
        raise click.UsageError(f"--format: {error}") from None
    place = _place(given["offset"], now_ms)
    until_ms = None if given["until"] is None else _until(given["until"], now_ms)
    committed = given["isolation"] == "committed"
    out = _Out(made, given["count"])
    names = _names(cluster, topics, regex=given["regex"])
    if given["group"] is not None:
        if given["numbers"] or until_ms is not None:
            raise click.UsageError("--group: cannot be combined with --partition and --until")
        _Grouped(cluster, given["group"], names, place, committed, out).run(follow=given["follow"])
        return
    partitions = _partitions(cluster, names, given["numbers"])
    reader = Reader(cluster, committed=committed)
    reader.assign(offsets_at(cluster, dict.fromkeys(partitions, place or START), committed=committed))
    ends: dict[Partition, int] = {}
    if until_ms is not None:
        ends = offsets_at(
            cluster, dict.fromkeys(partitions, Place(timestamp_ms=until_ms)), committed=committed
        )
    elif not given["follow"]:
        ends = _ends(cluster, partitions, committed)
    _print_until(reader, ends, out)


def _print_until(reader: Reader, ends: dict[Partition, int], out: _Out) -> None:
    """Print until all partitions that have an end are at it; without any, until there were enough."""
    bounded = bool(ends)
    while not out.full():
        if bounded:
            for one in [one for one, at in reader.positions.items() if at >= ends[one]]:
                reader.drop(one)
            if not reader.positions:
                break
        for one, found in reader.poll(_WAIT_MS):
            end = ends.get(one)
            out.write(one, found if end is None else [it for it in found if it.offset < end])
            if out.full():
                break
        out.flush()
    out.flush()


class _Out:
    """Prints records, so many at most; knows the offset behind the last of each partition that is out."""

    def __init__(self, form: Form, count: int | None) -> None:
        self._form = form
        self._left = count
        self._parts: list[bytes] = []
        self._unflushed: dict[Partition, int] = {}
        self.printed: dict[Partition, int] = {}

    def full(self) -> bool:
        """Whether there were as many as wanted."""
        return self._left == 0

    def write(self, one: Partition, found: Sequence[Record]) -> None:
        """Take records; what is too many is left out."""
        if self._left is not None:
            found = found[: self._left]
            self._left -= len(found)
        form = self._form
        self._parts += [form(one.topic, one.number, record) for record in found]
        if found:
            self._unflushed[one] = found[-1].offset + 1

    def flush(self) -> None:
        """Hand over what was taken. Raises BrokenPipeError."""
        data = memoryview(b"".join(self._parts))
        self._parts.clear()
        stream = sys.stdout.buffer
        while data:
            # With PYTHONUNBUFFERED it writes as much as the system takes at once.
            data = data[stream.write(data) :]
        stream.flush()
        self.printed.update(self._unflushed)
        self._unflushed.clear()


class _Grouped:
    """Prints what falls to a member of a group, and commits what was printed."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[str],
        place: Place | None,
        committed: bool,
        out: _Out,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._place = place or START
        self._isolated = committed
        self._out = out
        self._reader = Reader(cluster, committed=committed)
        self._member: Member = join(cluster, group, topics, self._give_up)
        self._committed: dict[Partition, int] = {}
        self._done: dict[Partition, int] = {}
        self._began = time.monotonic()
        self._commit_due = time.monotonic() + _COMMIT_SECONDS
        self._ends: dict[Partition, int] = {}

    def run(self, *, follow: bool) -> None:
        """Read until the end of what falls to this member, or until interrupted; then commit and leave."""
        try:
            while not self._out.full() and (follow or not self._at_end()):
                try:
                    self._step()
                except StateError as error:
                    if error.code is not ErrorCode.UNREACHABLE:
                        raise
                    self._reader.failed(error)
        except BaseException:
            # What ended it is what is to be told.
            with contextlib.suppress(BrokerError):
                self._end()
            raise
        self._end()

    def _step(self) -> None:
        if self._member.tend():
            self._begin()
        for one, found in self._reader.poll(_WAIT_MS):
            self._out.write(one, found)
            if self._out.full():
                break
        self._out.flush()
        self._done.update(self._out.printed if self._out.full() else self._reader.positions)
        if time.monotonic() >= self._commit_due:
            self._commit()

    def _begin(self) -> None:
        """Read the partitions of now, from what is committed or else from where it was said."""
        mine = self._member.partitions
        known = committed_offsets(self._cluster, self._group, (self._member.id, self._member.epoch))
        new = {one: self._place for one in mine if one not in known}
        self._committed.update(known)
        starts = {**offsets_at(self._cluster, new, committed=self._isolated), **known}
        positions = {one: self._reader.positions.get(one, starts[one]) for one in mine}
        self._reader.assign(positions)
        self._ends = _ends(self._cluster, list(mine), self._isolated)

    def _at_end(self) -> bool:
        if not self._ends:
            # Others may have them all, or be about to give some up.
            return time.monotonic() - self._began > _NOTHING_SECONDS
        return all(self._reader.positions.get(one, at) >= at for one, at in self._ends.items())

    def _give_up(self, lost: set[Partition]) -> None:
        self._commit()
        for one in lost:
            self._reader.drop(one)
            self._done.pop(one, None)

    def _commit(self) -> None:
        self._commit_due = time.monotonic() + _COMMIT_SECONDS
        mine = self._member.partitions
        fresh = {one: at for one, at in self._done.items() if one in mine and self._committed.get(one) != at}
        if not fresh:
            return
        code = commit(self._cluster, self._group, fresh, self._member.id, self._member.epoch)
        if code == KafkaError.NONE:
            self._committed.update(fresh)
        elif code not in (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH):
            check(code, None, f"group {self._group}")

    def _end(self) -> None:
        self._commit()
        self._member.leave()


def _ends(cluster: Cluster, partitions: Sequence[Partition], committed: bool) -> dict[Partition, int]:
    found = cluster.offsets(dict.fromkeys(partitions, LATEST), committed=committed)
    return {one: at or 0 for one, at in found.items()}


def _names(cluster: Cluster, topics: Sequence[str], *, regex: bool) -> list[str]:
    if not regex:
        return list(cluster.partitions(list(dict.fromkeys(topics))))
    return matching_any(cluster.metadata(), topics)


def _partitions(cluster: Cluster, names: Sequence[str], numbers: Sequence[int]) -> list[Partition]:
    return list(_chosen(cluster.partitions(names), numbers))


def _chosen(there: dict[str, list[int]], numbers: Sequence[int]) -> Iterator[Partition]:
    for topic, known in there.items():
        for number in numbers:
            if number not in known:
                raise RequestError(
                    ErrorCode.UNKNOWN_PARTITION,
                    f"topic {topic} has no partition {number}: expected 0 to {len(known) - 1}",
                )
        yield from (Partition(topic, number) for number in known if not numbers or number in numbers)


def _place(text: str | None, now_ms: int) -> Place | None:
    if text is None:
        return None
    try:
        return read_place(text, now_ms)
    except ValueError as error:
        raise click.UsageError(f"--offset {text}: {error}") from None


def _until(text: str, now_ms: int) -> int:
    try:
        return read_moment_ms(text.removeprefix("@"), now_ms)
    except ValueError as error:
        raise click.UsageError(f"--until {text}: {error}") from None
