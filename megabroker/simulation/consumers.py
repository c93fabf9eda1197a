"""Simulated readers of partitions, and the reading of what a broker answers.

Owns what a consumer makes of batches: whose CRC is right, which are of aborted transactions, which are
markers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from megabroker.codec.batch import BatchError, check_crc, read_header, read_marker, records, scan
from megabroker.protocols.kafka.schema import list_offsets
from megabroker.simulation.clients import Client, Refused
from megabroker.simulation.excuses import Violation, forgot_at
from megabroker.simulation.history import Batch, Damaged, Fetched, Partition, StartSeen
from megabroker.simulation.wire import Unanswered

__all__ = ["Reader", "name_of", "read_batches"]

_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_OUT_OF_RANGE: Final = 1
_EARLIEST: Final = -2


def read_batches(
    data: Any, aborted: Sequence[Any] | None, *, committed: bool
) -> tuple[tuple[Batch, ...], str]:
    """Return the batches a consumer would take, without the records of aborted ones, and what was wrong."""
    if data is None:
        return (), ""
    view = memoryview(data) if isinstance(data, bytes | bytearray | memoryview) else memoryview(bytes(data))
    waiting = sorted(((one.first_offset, one.producer_id) for one in aborted or ()), reverse=True)
    ended: set[int] = set()
    found: list[Batch] = []
    try:
        for position, header in scan(view, 0, len(view)):
            body = bytes(view[position : position + header.size_bytes])
            named = _names_in(body)
            if named is None:
                return tuple(found), f"the CRC of the batch at {header.base_offset} is wrong"
            while waiting and waiting[-1][0] <= header.last_offset:
                ended.add(waiting.pop()[1])
            control = bool(header.attributes & _CONTROL)
            names: tuple[tuple[int, str], ...] = ()
            if control:
                marker = read_marker(body, header)
                if marker is not None and not marker.commit:
                    ended.discard(header.producer_id)
            elif not (committed and header.attributes & _TRANSACTIONAL and header.producer_id in ended):
                names = named
            found.append(Batch(header.base_offset, header.last_offset, names, control, header.size_bytes))
    except BatchError as error:
        return tuple(found), repr(error)
    return tuple(found), ""


@functools.lru_cache(maxsize=4096)
def _names_in(body: bytes) -> tuple[tuple[int, str], ...] | None:
    """Return the names of a batch's records by offset, none of a control batch; None if its CRC is wrong.

    Everybody reads the same batches again and again, and of the same bytes this is always the same.

    Raises:
        BatchError: nothing can be made of it.
    """
    header = read_header(body, 0, len(body))
    if not check_crc(body, 0, header):
        return None
    if header.attributes & _CONTROL:
        return ()
    return tuple((one.offset, name_of(one.key, one.value)) for one in records(body, header))


def name_of(key: bytes | None, value: bytes | None) -> str:
    """Return the name of a record: the first word of its value."""
    return (key or b"" if value is None else value.split(b" ", 1)[0]).decode()


class Reader(Client):
    """Reads a partition from its beginning, now and then again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.committed = self.dice.random() < 0.5

    async def run(self) -> None:
        """Client: read."""
        partition = self.dice.choice(self.stage.partitions)
        offset = 0
        while self.stage.open:
            try:
                following = await self.read(partition, offset, committed=self.committed)
            except (Unanswered, Refused):
                await self.sleep(0.2)
                continue
            if following is None:
                offset = 0
                await self.sleep(0.2)
            else:
                offset = 0 if self.dice.random() < 0.03 else following
                await self.sleep(0.05)
            if self.dice.random() < 0.1:
                partition, offset = self.dice.choice(self.stage.partitions), 0

    async def read(
        self, partition: Partition, offset: int, *, committed: bool, reader: str = ""
    ) -> int | None:
        """Read once; return the offset to go on at, None after an error. Raises Unanswered, Refused."""
        sent = self.stage.now
        answer = await self.fetch(self.connection, partition, offset, committed=committed)
        if answer.error_code == _OUT_OF_RANGE:
            return max(offset, await self.start_of(partition)) or None
        if answer.error_code:
            return None
        batches, wrong = read_batches(answer.records, answer.aborted_transactions, committed=committed)
        self.stage.note(
            Fetched(
                self.stage.now,
                sent,
                reader or self.name,
                committed,
                partition,
                offset,
                answer.high_watermark,
                answer.last_stable_offset,
                batches,
            )
        )
        following = batches[-1].last_offset + 1 if batches else offset
        return self.after_damage(partition, following, wrong) if wrong else following

    async def start_of(self, partition: Partition) -> int:
        """Return where a log begins. Raises Unanswered, Refused."""
        kind = list_offsets.Request.Topic
        name, _, number = partition[0].partition("#")
        wanted = kind.Partition(partition_index=partition[1], timestamp=_EARLIEST)
        sent = self.stage.now

        def make() -> Any:
            nonlocal sent
            sent = self.stage.now
            return list_offsets.Request(replica_id=-1, topics=[kind(name=name, partitions=[wanted])])

        answer = await self.insist(2, 4, make, lambda answer: answer.topics[0].partitions[0].error_code)
        offset = max(0, int(answer.topics[0].partitions[0].offset))
        if not number:
            self.stage.note(StartSeen(self.stage.now, sent, self.name, partition, offset))
        return offset

    def after_damage(self, partition: Partition, offset: int, wrong: str) -> int | None:
        """Return where to go on after what cannot be read, which is nobody's fault if somebody damaged it."""
        name = partition[0].partition("#")[0], partition[1]
        for event in self.stage.history.of(Damaged):
            # Compaction may since have emptied what was before it.
            first = 0 if partition in self.stage.keyed else event.first_offset
            if event.partition == name and first <= offset <= event.last_offset:
                return event.last_offset + 1
        if forgot_at(self.stage.history):
            return offset + 1  # the power may have left holes, and what is left of batches in them
        message = f"{partition} at offset {offset}: {wrong}"
        self.stage.violated(Violation("unreadable", message))
        return None
