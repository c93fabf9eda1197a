"""What cleaning leaves of a log: the rules of compaction, batch by batch, without files or clocks.

Owns three things: the newest offset of each key (``OffsetMap``), which transactions the batches read so far
belong to (``CleanedTransactions``), and the judgement of one batch (``Cleaning``). Never changes an offset.

A cleaning has two passes. The first reads the dirty part and maps its keys, until that ends or the map is
full; the second reads the log from its beginning to there and judges every batch:

- A record stays if no later one of its key is mapped; one that the first pass did not get to stays.
- A tombstone that is the newest of its key stays until the delete horizon of its batch, which the first
  cleaning that meets it sets (KIP-534). So does a marker, once nothing of its transaction is left.
- Records of aborted transactions go.
- A batch without records left goes, except, as a head alone, the last one of a producer that is still
  remembered, whose sequence and epoch it keeps, and the one at the end of what is cleaned, which keeps the
  log's end.
- A batch whose records cannot be read stays as it is: nothing that was acknowledged is thrown away unread.

Source: Apache Kafka's documentation, "Log Compaction"; KIP-98, KIP-534.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import compress
from operator import attrgetter
from typing import Final

import attrs

from megabroker.codec.batch import MAX_DECOMPRESSED_BYTES, read_marker
from megabroker.codec.rewriting import (
    MAX_TIME,
    RawRecord,
    delete_horizon,
    emptied,
    payload_of,
    rebuilt,
    skim,
)
from megabroker.errors import ProtocolError
from megabroker.model import AbortedTransaction, BatchHeader, Buffer, ProducerSnapshot

__all__ = ["CleanedTransactions", "Cleaning", "Gone", "OffsetMap", "last_of_producers"]

_HASH_BYTES: Final = 16
_TABLES: Final = 256
_ENTRY_BYTES: Final = 192
"""What a key takes in the map at worst, while the table grows: 89 there, 64 for itself, 32 for the offset."""
_BREATH: Final = 0xFF
_GOES, _STAYS = 0, 1


class OffsetMap:
    """The newest offset of each key, within a bound of memory.

    Keys of 16 bytes and more are known by a hash of 128 bits that nobody can make collide (BLAKE2b), shorter
    ones by themselves. They are in many small tables: while one grows or is freed no other thread runs.

    Args:
        max_bytes: memory for the entries.

    Attributes:
        end_offset: every record below has been mapped.
    """

    def __init__(self, max_bytes: int) -> None:
        self.end_offset = 0
        self._limit = max(1, max_bytes // _ENTRY_BYTES)
        self._tables: list[dict[bytes, int]] = [{} for _ in range(_TABLES)]
        self._at_most = 0

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    @property
    def full(self) -> bool:
        """Whether the next key has to wait for another cleaning."""
        if self._at_most >= self._limit:
            self._at_most = len(self)
        return self._at_most >= self._limit

    def put(self, key: bytes, offset: int) -> None:
        """Note a record; offsets only rise."""
        if len(key) >= _HASH_BYTES:
            key = blake2b(key, digest_size=_HASH_BYTES).digest()
        self._tables[hash(key) % _TABLES][key] = offset
        self._at_most += 1

    def newest(self, key: bytes) -> int:
        """Return the offset of the newest record of a key, -1 if there is none."""
        if len(key) >= _HASH_BYTES:
            key = blake2b(key, digest_size=_HASH_BYTES).digest()
        return self._tables[hash(key) % _TABLES].get(key, -1)

    def free(self, rest: Callable[[], None]) -> None:
        """Forget everything, resting now and then; the map is of no use afterwards."""
        while self._tables:
            self._tables.pop()
            rest()


class CleanedTransactions:
    """Which transactions the batches belong to, told of them in offset order.

    Args:
        aborted: every aborted transaction with records in what is going to be read.

    Attributes:
        kept: aborted transactions of which a batch was read, since ``kept`` was last emptied by its reader:
            what the index of the new segment has to say.
    """

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        self.kept: list[AbortedTransaction] = []
        self._coming = sorted(aborted, key=attrgetter("first_offset"), reverse=True)
        self._aborted: dict[int, AbortedTransaction] = {}
        self._seen_aborted: set[int] = set()
        self._seen_committed: set[int] = set()

    def data(self, header: BatchHeader) -> bool:
        """Take note of a batch of records; return whether it was aborted."""
        if not header.is_transactional:
            return False
        self._come_to(header.last_offset)
        producer_id = header.producer_id
        aborted = self._aborted.get(producer_id)
        if aborted is not None:
            if header.base_offset < aborted.last_offset:
                self._seen_aborted.add(producer_id)
                return True
            self._forget(producer_id)  # its marker was not among what could be read
        self._seen_committed.add(producer_id)
        return False

    def control(self, header: BatchHeader, buf: Buffer, pos: int) -> bool:
        """Take note of a control batch; return whether it is a marker nothing depends on any more."""
        self._come_to(header.last_offset)
        if not header.record_count:
            return True
        marker = read_marker(buf, header, pos)
        if marker is None:
            return False
        producer_id = marker.producer_id
        if marker.commit:
            needed = producer_id in self._seen_committed
            self._seen_committed.discard(producer_id)
            return not needed
        aborted = self._aborted.get(producer_id)
        needed = aborted is not None and producer_id in self._seen_aborted
        if aborted is not None and needed:
            self.kept.append(aborted)
        self._forget(producer_id)
        return not needed

    def _come_to(self, offset: int) -> None:
        coming = self._coming
        while coming and coming[-1].first_offset <= offset:
            aborted = coming.pop()
            former = self._aborted.get(aborted.producer_id)
            if former is None or former.last_offset < aborted.first_offset:
                self._forget(aborted.producer_id)
                self._aborted[aborted.producer_id] = aborted

    def _forget(self, producer_id: int) -> None:
        self._aborted.pop(producer_id, None)
        self._seen_aborted.discard(producer_id)


def last_of_producers(producers: Iterable[ProducerSnapshot]) -> dict[int, tuple[int, int]]:
    """Return (last offset of its data or -1, epoch) of every producer that a partition remembers."""
    return {
        one.producer_id: (one.batches[-1][3] if one.batches else -1, one.producer_epoch) for one in producers
    }


class Gone:
    """What ``Cleaning.judge`` returns for a batch of which nothing stays."""


def _no_breath() -> None:
    """Go on at once."""


@attrs.define
class Cleaning:
    """One cleaning of one log; see the module.

    Attributes:
        start_offset: batches wholly below cannot be read any more and go.
        first_dirty_offset: below, every key is there once.
        end_offset: where what may be cleaned ends: a batch ends there.
        aborted: every aborted transaction with records below the end.
        last_of: as ``last_of_producers`` gives it.
        breathe: called every few hundred records; may raise to end the cleaning.
        unread: batches whose records could not be read, so far; of the second pass.
        keyless: records without a key that went.
    """

    start_offset: int
    first_dirty_offset: int
    end_offset: int
    now_ms: int
    delete_retention_ms: int
    aborted: list[AbortedTransaction]
    last_of: Mapping[int, tuple[int, int]]
    map: OffsetMap
    breathe: Callable[[], None] = _no_breath
    unread: int = 0
    keyless: int = 0

    def first_pass(self) -> CleanedTransactions:
        """Return what follows the transactions of the dirty part."""
        start = self.first_dirty_offset
        return CleanedTransactions(one for one in self.aborted if one.last_offset >= start)

    def second_pass(self) -> CleanedTransactions:
        """Return what follows the transactions of the whole log."""
        return CleanedTransactions(self.aborted)

    def learn(self, transactions: CleanedTransactions, header: BatchHeader, buf: Buffer, pos: int) -> bool:
        """Map the keys of a batch of the dirty part; return False when the map is full before its end."""
        offsets, start = self.map, self.first_dirty_offset
        if header.is_control:
            transactions.control(header, buf, pos)
        elif not transactions.data(header) and header.next_offset > start:
            put = offsets.put
            try:
                for number, record in enumerate(self._records(header, buf, pos)[1]):
                    if not number & _BREATH:
                        self.breathe()
                    if record.key is not None and record.offset >= start:
                        if offsets.full:
                            offsets.end_offset = record.offset
                            return False
                        put(record.key, record.offset)
            except ProtocolError:
                pass  # the second pass counts it
        offsets.end_offset = max(offsets.end_offset, header.next_offset)
        return True

    def judge(
        self, transactions: CleanedTransactions, header: BatchHeader, buf: Buffer, pos: int
    ) -> bytearray | type[Gone] | None:
        """Return what stays of a batch: a new batch, nothing (``Gone``), or None for all of it as it is."""
        horizon = delete_horizon(header)
        if header.is_control:
            unneeded = transactions.control(header, buf, pos)
            discard = unneeded and horizon is not None and horizon <= self.now_ms
        else:
            unneeded = False
            discard = transactions.data(header) or header.next_offset <= self.start_offset
        keeps_head = header.next_offset == self.end_offset or self._is_last_of_producer(header)
        if discard:
            return self._without_records(header, keeps_head)
        try:
            payload, walk = self._records(header, buf, pos)
            if header.is_control:
                stays, tombstones = bytearray(1 for _ in walk), False
            else:
                stays, tombstones = self._sift(walk, horizon)
        except ProtocolError:
            self.unread += 1
            return None
        if _STAYS not in stays:
            return self._without_records(header, keeps_head)
        if horizon is None and (tombstones or unneeded):
            horizon = min(self.now_ms + self.delete_retention_ms, MAX_TIME)
            return rebuilt(header, payload, self._kept(header, payload, stays), horizon)
        return rebuilt(header, payload, self._kept(header, payload, stays)) if _GOES in stays else None

    def _kept(self, header: BatchHeader, payload: bytes, stays: bytearray) -> Iterator[RawRecord]:
        """Walk the records that stay once more: to hold them would take four times what they take."""
        for number, record in enumerate(compress(skim(payload, header), stays)):
            if not number & _BREATH:
                self.breathe()
            yield record

    def _sift(self, walk: Iterable[RawRecord], horizon: int | None) -> tuple[bytearray, bool]:
        """Return for each record whether it stays, and whether a tombstone is among those that do."""
        newest, mapped_until = self.map.newest, self.map.end_offset
        tombstones_go = horizon is not None and horizon <= self.now_ms
        stays = bytearray()
        tombstones = False
        for number, record in enumerate(walk):
            if not number & _BREATH:
                self.breathe()
            if record.offset < mapped_until:
                if record.key is None:
                    self.keyless += 1
                    stays.append(_GOES)
                    continue
                if newest(record.key) > record.offset or (tombstones_go and not record.has_value):
                    stays.append(_GOES)
                    continue
            if not record.has_value:
                tombstones = True
            stays.append(_STAYS)
        return stays, tombstones

    def _records(self, header: BatchHeader, buf: Buffer, pos: int) -> tuple[bytes, Iterable[RawRecord]]:
        payload = payload_of(buf, header, pos, MAX_DECOMPRESSED_BYTES)
        self.breathe()
        return payload, skim(payload, header)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self.last_of.get(header.producer_id) if header.producer_id >= 0 else None
        if last is None:
            return False
        offset, epoch = last
        return header.last_offset == offset or (
            offset < 0 and header.is_control and header.producer_epoch == epoch
        )

    @staticmethod
    def _without_records(header: BatchHeader, keeps_head: bool) -> bytearray | type[Gone] | None:
        if not keeps_head:
            return Gone
        return emptied(header) if header.record_count else None
